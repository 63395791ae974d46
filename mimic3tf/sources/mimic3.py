"""Turn raw MIMIC-III v1.4 tables into the in-hospital-mortality task in the benchmarks' layout.

Source: Harutyunyan et al., Multitask learning and benchmarking with clinical time series data, Scientific
Data 2019. The rules are those of its published pipeline. Here one pass leads from the tables to the task:
every event is read once, and all large data stays in an out-of-core database (see `mimic3_tables`).

OUTPUTEVENTS is not needed: none of its items measures one of the 17 channels.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimic3tf.channels import MIMIC3, TIME
from mimic3tf.data.directory import SPLITS
from mimic3tf.data.records import LARGEST_VALUE
from mimic3tf.errors import DataError, UsageError, private
from mimic3tf.sources import layout
from mimic3tf.sources.mimic3_cleaning import cell_sql, number_sql, text_sql
from mimic3tf.sources.mimic3_cohort import COHORT, HOURS
from mimic3tf.sources.mimic3_items import ITEMS, NOT_BLOOD, UNITS
from mimic3tf.sources.mimic3_tables import TABLES, RawTables, parse_size, progress_bar
from mimic3tf.storage.files import PathText
from mimic3tf.storage.folders import check_new_directory, scratch_folder

STAYS_A_PART = 100
"""Number of stays whose rows are fetched from the database at once; it bounds memory."""

_EVENTS = """
CREATE TABLE event (stay BIGINT, charttime TIMESTAMP, channel TINYINT, number DOUBLE, text VARCHAR,
    other BIGINT, inside BOOLEAN, fault VARCHAR)
"""

# Charted times are whole seconds, so the benchmarks' tolerance at both ends of the window never matters.
# `other` is the ICU stay that an event belongs to, if this is not the stay in whose time the event lies.
_INSERT = """
INSERT INTO event
WITH charted AS (
    SELECT s.stay, e.CHARTTIME, i.channel, i.unit, e.VALUE, e.VALUEUOM,
        nullif(a.icustay, s.icustay) AS other, other IS NULL OR e.CHARTTIME <= s.outtime AS inside,
        CASE
            WHEN e.HADM_ID IS NULL THEN 'no admission is named'
            WHEN a.hadm IS NULL THEN 'of an admission that is left out'
            WHEN {icustay} <> a.icustay THEN 'of an ICU stay that is left out'
            WHEN i.unwanted THEN 'measured in urine or another fluid'
        END AS fault
    FROM {table} e
    JOIN item i ON i.itemid = e.ITEMID
    JOIN stay s ON s.subject = e.SUBJECT_ID AND e.CHARTTIME BETWEEN s.intime AND s.last
    LEFT JOIN episode a ON a.subject = e.SUBJECT_ID AND a.hadm = e.HADM_ID
    WHERE e.VALUE <> ''
), cleaned AS (
    SELECT *, {number} AS number, {text} AS text FROM charted
)
SELECT stay, CHARTTIME, channel, CASE WHEN abs(number) <= {largest} THEN number END, text, other, inside,
    CASE
        WHEN fault IS NOT NULL THEN fault
        WHEN (abs(number) <= {largest}) IS NOT TRUE AND text IS NULL
            THEN name || ' is no value of the channel'
    END
FROM cleaned JOIN channel USING (channel)
"""

# An instant belongs to a stay if one of its events belongs to the stay, or if it is before the stay's end.
_KEPT = """
CREATE TABLE kept AS
SELECT row_number() OVER (ORDER BY stay) - 1 AS position, stay, subject, k, died::BIGINT AS died
FROM stay JOIN (SELECT DISTINCT stay FROM event WHERE fault IS NULL AND inside) USING (stay)
"""

# If an instant has events of several ICU stays, the benchmarks write its row once for each of these stays.
_ROWS = f"""
CREATE TABLE row AS
SELECT * EXCLUDE (copies), unnest(range(copies)) AS copy
FROM (
    SELECT p.position AS stay,
        date_diff('second', any_value(s.intime), e.charttime)::DOUBLE / 60 / 60 AS "{TIME}",
        {", ".join(cell_sql())},
        count(DISTINCT other) FILTER (inside) + bool_or(other IS NULL)::BIGINT AS copies
    FROM event e JOIN stay s USING (stay) JOIN kept p USING (stay)
    WHERE e.fault IS NULL
    GROUP BY p.position, e.charttime
    HAVING bool_or(e.inside)
)
"""


def prepare_mimic3(
    csv: PathText,
    out: PathText,
    *,
    test_subjects: PathText | None = None,
    val_subjects: PathText | None = None,
    blood_only: bool = False,
    memory_limit: str = "4GB",
) -> layout.Summary:
    """Write the benchmarks' in-hospital-mortality task from the raw tables.

    Without lists of subjects, about 15 % of the subjects go to test and about 15 % to val. Only a hash of the
    subject's id decides the split. A hash of the stay decides the order within a split.

    Args:
        csv: directory of the raw tables that `mimic3_tables.TABLES` names, as .csv or .csv.gz.
        out: the directory to make; it may exist if it is empty.
        test_subjects: the benchmarks' `testset.csv` (lines `subject,flag`), or a file of one subject a line.
        val_subjects: the same for `valset.csv`; subjects of the test set stay in the test set.
        blood_only: leave out glucose and pH that were measured in urine or another fluid. The benchmarks
            treat them as values of the blood.
        memory_limit: memory to use, such as "4GB"; the tables may be much larger. Intermediate results are
            kept on disk beside `out`.

    Returns:
        Counts of stays and deaths, and of what was left out by reason; also in `layout.PREPARED_FILE`.

    Raises:
        DataError: a table is missing or cannot be read; names file, line and column.
        UsageError: `out` is not empty, another process writes it, or the memory limit cannot be used.
    """
    csv, out = Path(csv), Path(out)
    check_new_directory(out)
    limit = parse_size(memory_limit)
    given = {"test": test_subjects, "val": val_subjects}
    lists = {split: Path(path) for split, path in given.items() if path is not None}
    chosen = {split: _read_subjects(path) for split, path in lists.items()}
    target = out.resolve()
    with ExitStack() as stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            folder = scratch_folder(target.parent, f".{target.name}.work", alone=True)
            scratch = stack.enter_context(folder)
        except OSError as error:
            raise UsageError(f"{out}: cannot be made: {error.strerror}") from None
        stays, rows, dropped_stays, dropped_values = _extract(csv, scratch, limit, blood_only)
        for split, path in lists.items():
            if not chosen[split].intersection(stays["subject"]):
                raise DataError(f"{path}: names no subject of this cohort")
        cohort = layout.PreparedCohort(
            [f"{subject}_episode{k}_timeseries.csv" for subject, k in stays.select("subject", "k").rows()],
            stays["died"].to_numpy(),
            _splits(stays, chosen),
            rows,
        )
        summary = layout.summarize(out, cohort, dropped_stays, dropped_values)
        dealt = {f"{split}_subjects": "list" if split in lists else "hash" for split in given}
        options = {"blood_only": blood_only, **dealt}
        layout.write_benchmark_directory(out, cohort, layout.record_of(summary, "mimic3", options))
    return summary


def _extract(
    csv: Path, scratch: Path, limit: int, blood_only: bool
) -> tuple[pl.DataFrame, pl.LazyFrame, dict[str, int], dict[str, int]]:
    """Read stays (subject, k, died), rows as in `PreparedCohort.rows`, and counts of what is left out."""
    tables = RawTables(csv, scratch, limit)
    try:
        with progress_bar() as bar:
            for sql in (*_lookups(blood_only), *COHORT, _EVENTS):
                tables.run(sql)
            for table in ("CHARTEVENTS", "LABEVENTS"):
                sql = _INSERT.format(
                    table=table,
                    icustay="e.ICUSTAY_ID" if "ICUSTAY_ID" in TABLES[table] else "NULL::BIGINT",
                    number=number_sql(),
                    text=text_sql(),
                    largest=LARGEST_VALUE,
                )
                tables.run(sql, bar, f"Reading {table}")
            tables.run(_KEPT)
            tables.run(_ROWS, bar, "Gathering rows")
        dropped_stays = _faults(tables, "candidate") | _faults(tables, "episode")
        dropped_values = _faults(tables, "event")
        candidates, usable = (
            int(str(tables.run(f"SELECT count(*) FROM {what}")[0][0]))
            for what in ("stay", "event WHERE fault IS NULL")
        )
        kept = tables.run("SELECT subject, k, died FROM kept ORDER BY position")
        parts, measured = _write_rows(tables, scratch, len(kept))
    finally:
        tables.close()
    dropped_stays[f"no measurement in the first {HOURS} hours"] = candidates - len(kept)
    if not kept:
        counts = ", ".join(f"{count} {reason}" for reason, count in dropped_stays.items() if count)
        raise DataError(
            f"{csv}: no stay of {HOURS} hours with a measurement is left of these tables; left out: "
            f"{counts or 'nothing, ICUSTAYS names no stay'}"
        )
    stays = pl.DataFrame(kept, schema=["subject", "k", "died"], orient="row")
    dropped_values["another value of the channel at the same instant"] = usable - measured
    return stays, pl.scan_parquet(parts, glob=False), dropped_stays, dropped_values


def _write_rows(tables: RawTables, scratch: Path, stays: int) -> tuple[list[Path], int]:
    """Write the rows to files of some stays each; return the files and the number of measured cells.

    The database could write one file itself, but only on a file system with locks.
    """
    parts, measured = [], 0
    for start in range(0, stays, STAYS_A_PART):
        some = f"stay >= {start} AND stay < {start + STAYS_A_PART}"
        rows = tables.frame(f'SELECT * FROM row WHERE {some} ORDER BY stay, "{TIME}"')
        once = rows.filter(pl.col("copy") == 0)
        measured += sum(once[name].count() for name in MIMIC3.names)
        parts.append(scratch / f"{start}.parquet")
        rows.drop("copy").write_parquet(parts[-1])
    return parts, measured


def _lookups(blood_only: bool) -> list[str]:
    """Write the statements that make the tables of channels and items."""
    positions = {name: position for position, name in enumerate(MIMIC3.names)}
    channels = ", ".join(f"({position}::TINYINT, '{name}')" for name, position in positions.items())
    unwanted = NOT_BLOOD if blood_only else ()
    items = ", ".join(
        f"({itemid}, {positions[name]}::TINYINT, {repr(UNITS[itemid]) if itemid in UNITS else 'NULL'}, "
        f"{itemid in unwanted})"
        for name, ids in ITEMS.items()
        for itemid in ids
    )
    return [
        f"CREATE TABLE channel AS FROM (VALUES {channels}) AS v(channel, name)",
        f"CREATE TABLE item AS FROM (VALUES {items}) AS v(itemid, channel, unit, unwanted)",
    ]


def _faults(tables: RawTables, table: str) -> dict[str, int]:
    """Count the rows of a table that are left out, by reason."""
    rows = tables.run(
        f"SELECT fault, count(*) FROM {table} WHERE fault IS NOT NULL GROUP BY ALL ORDER BY ALL"
    )
    return {str(reason): int(str(count)) for reason, count in rows}


def _read_subjects(path: Path) -> set[int]:
    """Read a list of subjects: lines `subject` or `subject,flag`; flag 1 takes a subject, 0 does not."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not text in UTF-8") from None
    subjects = set()
    for number, line in enumerate(lines, start=1):
        subject, _, flag = (part.strip() for part in line.partition(","))
        if not subject and not flag:
            continue
        if not (subject.isascii() and subject.isdigit()) or flag not in ("", "0", "1"):
            raise DataError(
                f"{path}, line {number}: '{private(line[:60])}' is not 'subject,flag' with flag 0 or 1"
            )
        if flag != "0":
            subjects.add(int(subject))
    return subjects


def _splits(stays: pl.DataFrame, chosen: dict[str, set[int]]) -> dict[str, NDArray[np.int64]]:
    """Assign stays to splits by subject; only the names of the stays decide the order within a split."""
    members: dict[str, list[tuple[float, int]]] = {split: [] for split in SPLITS}
    for index, (subject, k) in enumerate(stays.select("subject", "k").rows()):
        draw = _uniform(f"{subject}")
        test = subject in chosen["test"] if "test" in chosen else draw < layout.SHARES["test"]
        val = (
            subject in chosen["val"]
            if "val" in chosen
            else 0 <= draw - layout.SHARES["test"] < layout.SHARES["val"]
        )
        split = "test" if test else "val" if val else "train"
        members[split].append((_uniform(f"{subject}_episode{k}"), index))
    return {
        split: np.array([index for _, index in sorted(drawn)], np.int64) for split, drawn in members.items()
    }


def _uniform(text: str) -> float:
    """Map a text to a number in [0, 1) that is the same on every platform."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48
