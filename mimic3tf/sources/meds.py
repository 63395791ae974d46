"""Turn a MEDS data set (0.3.3 to 0.4) into a task in the benchmarks' layout.

MEDS fixes the columns of events, but hardly any code. `meds_mapping.py` says what the codes mean; mappings of
MIMIC-IV and eICU come with the package. The cohort and the cleaning are those of `mimic4.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.progress import Progress

from mimic3tf.channels import MIMIC3, ChannelSet
from mimic3tf.data.channels_file import read_channels
from mimic3tf.errors import DataError, UsageError, private
from mimic3tf.sources import layout
from mimic3tf.sources.cleaning import quoted
from mimic3tf.sources.codes import charted_sql, insert_sql
from mimic3tf.sources.cohort_rules import cohort_sql
from mimic3tf.sources.database import Database
from mimic3tf.sources.diagnoses import diagnosed_sql, label_admissions, needs_diagnoses
from mimic3tf.sources.events import EVENT, Source, faults, prepare_events
from mimic3tf.sources.meds_files import Shards, add_views, find_shards, read_splits, scan_events, splits_file
from mimic3tf.sources.meds_mapping import SHIPPED, Resolved, resolve_mapping
from mimic3tf.sources.splits import in_order, split_by_subject
from mimic3tf.storage.files import PathText
from mimic3tf.storage.notes import command_line, note
from mimic3tf.tasks.registry import DECOMPENSATION, LENGTH_OF_STAY, MORTALITY
from mimic3tf.tasks.task import Task

UNKNOWN = "no discharge from the hospital that tells of survival"

_LANDMARKS = """
CREATE TABLE landmark AS
SELECT e.subject, e.time, e.icustay, e.hadm, m.kind, m.unit, m.years, m.died, m.sex
FROM event_stream e JOIN (FROM (VALUES {marks}) AS v(code, kind, unit, years, died, sex)) m ON m.code = e.code
"""

# With the id of an ICU stay, its events tell when it begins and ends, in any order and however often they are
# there. Without, a stay ends with the next event if that is a discharge: at one instant, discharges come
# first. If another admission comes first, the end is not known.
_STAYS = """
WITH person AS (
    SELECT subject, max(years) AS years, min(time) FILTER (kind = 'birth') AS birth,
        min(time) FILTER (kind = 'death') AS death, min(sex) AS sex
    FROM landmark GROUP BY subject
), named AS (
    SELECT subject, icustay, any_value(hadm) AS hadm, min(time) FILTER (kind = 'icu_admission') AS intime,
        max(time) FILTER (kind = 'icu_discharge') AS outtime,
        arg_min(unit, time) FILTER (kind = 'icu_admission') AS first_unit,
        arg_max(unit, time) FILTER (kind = 'icu_discharge') AS last_unit
    FROM landmark WHERE kind IN ('icu_admission', 'icu_discharge') AND icustay IS NOT NULL
    GROUP BY subject, icustay HAVING bool_or(kind = 'icu_admission')
), unnamed AS (
    SELECT subject, icustay, hadm, time AS intime, next.time AS outtime, unit AS first_unit,
        next.unit AS last_unit
    FROM (
        SELECT *, lead(CASE WHEN kind = 'icu_discharge' THEN {'time': time, 'unit': unit} END) OVER (
            PARTITION BY subject ORDER BY time, kind = 'icu_admission'
        ) AS next
        FROM (
            SELECT subject, icustay, any_value(hadm) AS hadm, time, kind, min(unit) AS unit FROM landmark
            WHERE kind IN ('icu_admission', 'icu_discharge') AND icustay IS NULL AND time IS NOT NULL
            GROUP BY subject, icustay, time, kind
        )
    )
    WHERE kind = 'icu_admission'
), icu AS (
    FROM named UNION ALL BY NAME FROM unnamed
), outcome AS (
    SELECT subject, hadm, bool_or(died) AS died, min(time) FILTER (died) AS left_dead
    FROM landmark WHERE kind = 'hospital_discharge' GROUP BY subject, hadm
), discharge AS (
    SELECT subject, time, bool_or(died) AS died
    FROM landmark WHERE kind = 'hospital_discharge' GROUP BY subject, time
), joined AS (
    SELECT i.*, CASE WHEN i.hadm IS NULL THEN d.died ELSE o.died END AS died, d.time AS discharged,
        CASE WHEN i.hadm IS NULL THEN d.time ELSE o.left_dead END AS left_dead
    FROM icu i
    LEFT JOIN outcome o ON o.subject = i.subject AND o.hadm = i.hadm
    ASOF LEFT JOIN discharge d ON d.subject = i.subject AND d.time >= i.intime
)
SELECT subject, concat_ws(' ', subject, coalesce(hadm::VARCHAR, 'until ' || discharged)) AS hadm, icustay,
    intime, outtime, date_diff('microsecond', intime, outtime) / 86_400_000_000 AS los,
    -- Without the admission's id, the next discharge might belong to a later admission.
    died IS NOT NULL AND NOT (hadm IS NULL AND EXISTS (
        FROM landmark l WHERE l.kind = 'hospital_admission' AND l.subject = joined.subject
            AND l.time > joined.outtime AND l.time < joined.discharged
    )) AS known,
    (first_unit = last_unit) IS NOT FALSE AS unmoved, true AS diagnosed,
    coalesce(years, date_sub('year', birth, intime)) AS age, died,
    CASE WHEN died THEN coalesce(death, left_dead) END AS deathtime, sex
FROM joined LEFT JOIN person USING (subject)
"""

_DIAGNOSES = """
CREATE TABLE diagnosis AS
SELECT DISTINCT e.subject, concat_ws(' ', e.subject, e.hadm::VARCHAR) AS hadm, c.version, c.icd AS code
FROM event_stream e JOIN diagnosis_code c ON c.code = e.code
WHERE e.hadm IS NOT NULL
"""

EVENTS = """
SELECT e.* EXCLUDE (code), i.code AS found, i.entry AS code, i.of_categories, i.at_admission
FROM event_stream e JOIN item i ON i.code = e.code
WHERE CASE WHEN i.of_categories THEN coalesce(e.text <> '', e.number IS NOT NULL)
    ELSE e.number IS NOT NULL OR e.text <> '' END
"""
"""SQL of the events of all codes in the table `item` that have a value, as `charted_sql` takes them."""

VALUE = """
CASE WHEN e.of_categories THEN coalesce(e.text, regexp_replace(e.number::VARCHAR, '\\.0$', ''))
    ELSE coalesce(e.number::VARCHAR, e.text) END
"""

# Of a number in 32 bits, the shortest text that means it is what was charted: 97.8, not 97.80000305. Between
# two neighbours below 8192 lies one number of three decimals at most, which is then the shortest; it is found
# without making a text.
_NUMBER = """
CASE WHEN e.number IS NULL THEN TRY_CAST(e.text AS DOUBLE)
    WHEN typeof(e.number) = 'DOUBLE' THEN e.number
    WHEN abs(e.number) < 8192 AND (round(e.number::DOUBLE * 1000) / 1000)::FLOAT = e.number
        THEN round(e.number::DOUBLE * 1000) / 1000
    ELSE e.number::VARCHAR::DOUBLE END
"""


def prepare_meds(
    data: PathText,
    out: PathText,
    *,
    mapping: str | None = None,
    all_stays: bool = False,
    memory_limit: str = "4GB",
    task: Task = MORTALITY,
) -> layout.Summary:
    """Write a task of the benchmarks from a MEDS data set.

    The data set's file of splits decides the split (tuning becomes val, held_out test); without the file, a
    hash of the subject's id does, as in `split_by_subject`.

    Args:
        data: directory of the data set, with the folders data and metadata. A `channels.yaml` in metadata
            names channels other than the benchmarks', for a mapping that is a file.
        out: the directory to make; it may exist if it is empty.
        mapping: "mimic4", "eicu", or a file as `meds_mapping.py` describes it. Without it, the codes of the
            data set tell whether it is MIMIC-IV or eICU.
        all_stays: keep stays that change the unit, and several stays of an admission; the benchmarks' rules
            leave them out.
        memory_limit: memory to use, such as "4GB"; intermediate results are kept on disk beside `out`.
        task: the task; all but in-hospital mortality read whole stays of any length.

    Returns:
        Counts of stays and deaths, and of what was left out by reason.

    Raises:
        DataError: the data set cannot be read; names the file.
        UsageError: no mapping fits, or finds the diagnoses that the task needs; `out` is not empty, another
            process writes it, or the memory limit cannot be used.
    """
    data = Path(data)
    shards, chosen, channels = find_shards(data), read_splits(data), channels_of(data, mapping)

    def splits(stays: pl.DataFrame) -> dict[str, NDArray[np.int64]]:
        if chosen is None:
            return split_by_subject(stays)
        lacking = stays.filter(~pl.col("subject").is_in(list(chosen)))["subject"].unique(maintain_order=True)
        if len(lacking):
            raise DataError(
                f"{splits_file(data)}: has no split of subject {private(lacking[0])} and {len(lacking) - 1} "
                "others of the cohort; add them, or move the file away: then a hash decides all splits"
            )
        return in_order(stays, [chosen[subject] for subject in stays["subject"]])

    options = {"mapping": mapping, "all_stays": all_stays, "splits": "hash" if chosen is None else "file"}

    def fill(database: Database, bar: Progress) -> dict[str, int]:
        resolved = resolve(database, shards, mapping, bar, channels)
        _check_fit(data, resolved, mapping)
        if needs_diagnoses(task):
            _add_diagnoses(database, shards, resolved, task, bar)
        options["mapping"] = resolved.name
        _tell(shards, resolved)
        return _fill(database, shards, resolved, all_stays, task, bar)

    source = Source("meds", data, fill, splits, options, channels, task=task)
    return prepare_events(source, Path(out), memory_limit)


def channels_of(data: Path, mapping: str | None) -> ChannelSet:
    """Return the channels that a mapping maps to: a file maps to those of the data set, if it names any."""
    return MIMIC3 if mapping is None or mapping in SHIPPED else read_channels(data / "metadata")


def resolve(
    database: Database, shards: Shards, chosen: str | None, bar: Progress, channels: ChannelSet
) -> Resolved:
    """Count the codes of a data set, and apply the mapping that is chosen, or fits best.

    Raises:
        UsageError: the mapping cannot be read.
    """
    add_views(database, shards)
    rows = database.run(
        "SELECT code, count(*) FROM shard WHERE code IS NOT NULL GROUP BY code", bar, "Reading codes"
    )
    return resolve_mapping(chosen, {str(code): int(str(count)) for code, count in rows}, channels)


def add_items(database: Database, resolved: Resolved) -> None:
    """Add the table `item`: the codes of measurements, and what they are."""
    database.run(
        "CREATE TABLE item (code VARCHAR, entry INTEGER, of_categories BOOLEAN, at_admission BOOLEAN)"
    )
    items = ", ".join(
        f"({quoted(code)}, {index}, {bool(resolved.codes[index].categories)}, "
        f"{resolved.codes[index].at_admission})"
        for code, index in resolved.measured.items()
    )
    if items:
        database.run(f"INSERT INTO item VALUES {items}")


def _near_stays(events: pl.LazyFrame, stays: pl.DataFrame, resolved: Resolved) -> pl.LazyFrame:
    """Leave out most events that no stay has, before the database copies them; `charted_sql` decides."""
    spans = stays.group_by("subject").agg(pl.col("intime").min(), pl.col("last").max())
    anytime = [code for code, index in resolved.measured.items() if resolved.codes[index].at_admission]
    time = pl.col("time")
    near = time.is_between("intime", "last") | time.is_null() | pl.col("code").is_in(anytime)
    return events.join(spans.lazy(), on="subject").filter(near).drop("intime", "last", "hadm")


def own_mapping(data: Path) -> Path | None:
    """Return the mapping that a data set of `mimic3tf export meds` brings along; None if there is none."""
    path = data / "metadata" / "mapping.yaml"
    return path if path.is_file() else None


def _check_fit(data: Path, resolved: Resolved, chosen: str | None) -> None:
    if resolved.fits:
        return
    explain = command_line("prepare", "meds", "--data", data, "--explain")
    own = own_mapping(data)
    if chosen is None and own is not None:
        raise UsageError(
            f"{data}: its codes fit no shipped mapping, and it brings its own; give --mapping {own}"
        )
    fault = f"do not fit the mapping {chosen}" if chosen else f"fit no shipped mapping ({', '.join(SHIPPED)})"
    raise UsageError(
        f"{data}: its codes {fault}: no ICU admission, or no measurement; '{explain}' shows the codes and a "
        "mapping to begin with; give yours with --mapping FILE.yaml"
    )


def _add_diagnoses(database: Database, shards: Shards, resolved: Resolved, task: Task, bar: Progress) -> None:
    """Make the tables of diagnoses and phenotypes; see `diagnoses.py`."""
    column = resolved.stays.admission_id
    lacking = None
    if resolved.stays.diagnosis is None:
        lacking = f"the mapping {resolved.name} names no codes of diagnoses ('diagnosis')"
    elif not resolved.diagnoses:
        lacking = f"no code is a diagnosis by the mapping {resolved.name}"
    elif column is None or column not in shards.columns:
        lacking = "no column tells the admission of a diagnosis ('admission_id' of the mapping)"
    if lacking is not None:
        raise UsageError(
            f"{shards.data}: {lacking}, and --task {task.name} needs phenotypes; take --task "
            f"{DECOMPENSATION.name} or {LENGTH_OF_STAY.name}, or give a mapping with --mapping FILE.yaml"
        )
    versions, icd = zip(*resolved.diagnoses.values(), strict=True)
    codes = pl.DataFrame({"code": list(resolved.diagnoses), "version": versions, "icd": icd})
    database.add_stream("diagnosis_codes", codes.lazy())
    database.run("CREATE TABLE diagnosis_code AS FROM diagnosis_codes")
    database.add_stream("event_stream", scan_events(shards, resolved.stays, resolved.diagnoses))
    database.run(_DIAGNOSES, bar, "Reading diagnoses")
    label_admissions(database)


def _tell(shards: Shards, resolved: Resolved) -> None:
    ids = (resolved.stays.icu_stay_id, resolved.stays.admission_id)
    lacking = ", ".join(name for name in ids if name is not None and name not in shards.columns)
    channels = len(resolved.channels) - len(resolved.missing)
    told = (
        f"{shards.data}: mapping {resolved.name}; {len(resolved.measured)} codes measure {channels} channels"
    )
    if resolved.missing:
        told += f"; no code measures {', '.join(resolved.missing)}"
    if not resolved.tells_ages:
        told += "; no code tells an age: all patients are taken for adults"
    if lacking:
        told += f"; no column {lacking}: the order of events tells which stay they belong to"
    note(told)


def _fill(
    database: Database, shards: Shards, resolved: Resolved, all_stays: bool, task: Task, bar: Progress
) -> dict[str, int]:
    """Make the tables of stays and events; return the number of stays left out, by reason."""
    marks = ", ".join(
        f"({quoted(mark.code)}, {quoted(mark.kind)}, {'NULL' if mark.unit is None else quoted(mark.unit)}"
        f"::VARCHAR, {'NULL' if mark.years is None else mark.years}::BIGINT, {mark.died}, "
        f"{'NULL' if mark.sex is None else quoted(mark.sex)}::VARCHAR)"
        for mark in resolved.landmarks
    )
    told = {mark.code for mark in resolved.landmarks}
    database.add_stream("event_stream", scan_events(shards, resolved.stays, told))
    database.run(_LANDMARKS.format(marks=marks), bar, "Reading stays")
    stays = _STAYS if resolved.tells_ages else f"SELECT * REPLACE (18 AS age) FROM ({_STAYS})"
    stays = diagnosed_sql(stays) if needs_diagnoses(task) else stays
    cohort = cohort_sql(stays, all_stays=all_stays, unknown=UNKNOWN, whole=task.period is None)
    for sql in (*cohort, EVENT):
        database.run(sql)
    add_items(database, resolved)
    events = scan_events(shards, resolved.stays, resolved.measured)
    cohort_stays = database.frame("SELECT subject, intime, last FROM stay")
    database.add_stream("event_stream", _near_stays(events, cohort_stays, resolved))
    charted = charted_sql(EVENTS, VALUE, _NUMBER)
    database.run(insert_sql(charted, resolved.codes, resolved.channels), bar, "Reading measurements")
    return faults(database, "candidate") | faults(database, "episode")
