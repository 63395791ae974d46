"""Turn hourly Parquet files of YAIB (Yet Another ICU Benchmark) into a task in the benchmarks' layout.

Source: van de Water et al., Yet Another ICU Benchmark, ICLR 2024. `dyn.parquet` has a row for each hour of a
stay, `sta.parquet` and `outc.parquet` one for each stay. The values are medians of an hour. No file names the
patient. YAIB has the coma scale in none of its cohorts, nor the capillary refill.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from rich.progress import Progress

from mimic3tf.channels import MIMIC3
from mimic3tf.data.records import LARGEST_VALUE
from mimic3tf.errors import DataError, UsageError
from mimic3tf.sources import layout
from mimic3tf.sources.cleaning import quoted
from mimic3tf.sources.cohort_rules import HOURS
from mimic3tf.sources.database import Database
from mimic3tf.sources.events import EVENT, Source, faults, prepare_events
from mimic3tf.sources.outcomes import DIED, LABEL, SUBJECT, UNKNOWN, Outcomes, split_of
from mimic3tf.sources.stated_units import check_median, read_units
from mimic3tf.sources.table_file import TableFile, id_sql, number_of, open_table, readable
from mimic3tf.sources.units import convert_sql
from mimic3tf.storage.files import PathText
from mimic3tf.tasks.registry import (
    DECOMPENSATION,
    LENGTH_OF_STAY,
    LENGTH_OF_STAY_HOURS,
    LENGTH_OF_STAY_LOG,
    MORTALITY,
)
from mimic3tf.tasks.task import Task

COLUMNS: Mapping[str, tuple[str, str]] = {
    "hr": ("Heart Rate", ""),
    "sbp": ("Systolic blood pressure", ""),
    "dbp": ("Diastolic blood pressure", ""),
    "map": ("Mean blood pressure", ""),
    "o2sat": ("Oxygen saturation", ""),
    "resp": ("Respiratory rate", ""),
    "temp": ("Temperature", ""),
    "glu": ("Glucose", ""),
    "ph": ("pH", ""),
    "fio2": ("Fraction inspired oxygen", "%"),
    "height": ("Height", ""),
    "weight": ("Weight", ""),
}
"""Column -> its channel, and its unit if it is not that of the channel."""

STAY = ("stay_id", "icustay_id", "patientunitstayid", "stay")
"""Names of the column of the stay, the first one first."""

HOURLY = (DECOMPENSATION, LENGTH_OF_STAY, LENGTH_OF_STAY_LOG, LENGTH_OF_STAY_HOURS)
"""Tasks that read whole stays, and that these files suffice for."""

MOST_HOURS = 24 * 366 * 5
"""A later hour means that the numbers are no hours."""

# A row of hour h holds what was measured from h until before h + 1, so a stay of 48 hours has a row of hour
# 48, unless its file was cut there.
_STAYS = """
CREATE TABLE grid AS
SELECT {id} AS stay_id, max(hour) AS last FROM (SELECT stay_id, {hour} AS hour FROM dyn)
WHERE stay_id IS NOT NULL GROUP BY ALL;
CREATE TABLE candidate AS
SELECT g.stay_id, o.died, coalesce(o.subject, g.stay_id) AS subject{split}, CASE
    WHEN o.stay_id IS NULL THEN 'without an outcome'
    WHEN o.died IS NULL THEN '{unknown}'
    WHEN {age} < 18 THEN 'younger than 18'
    WHEN {age} IS NULL THEN 'of unknown age'
    {length}
END AS fault{details}
FROM grid g
LEFT JOIN (
    SELECT {id} AS stay_id, {label} AS died, {subject} AS subject{split}{times} FROM outcome
) o USING (stay_id)
{sta};
CREATE TABLE stay AS
SELECT row_number() OVER (ORDER BY subject, k) - 1 AS stay, * FROM (
    SELECT * EXCLUDE (fault), row_number() OVER (PARTITION BY subject ORDER BY stay_id) AS k
    FROM candidate WHERE fault IS NULL
)
"""

_LONG_ENOUGH = f"""
    WHEN (last >= least({HOURS}, greatest((SELECT max(last) FROM grid), {HOURS} - 1))) IS NOT TRUE
        THEN 'shorter than {HOURS} hours'
"""

# YAIB cuts its files after some days; nothing is known of the hours after that.
_WHOLE = "WHEN (last >= ceil(o.hours) - 1) IS NOT TRUE THEN 'longer than their rows'"

# No file tells the calendar, or the sex in the words of other sources.
_DETAILS = """,
    o.hours, o.lived, {age} AS years, NULL::VARCHAR AS sex, NULL::TIMESTAMP AS intime,
    NULL::TIMESTAMP AS outtime, NULL::TIMESTAMP AS deathtime
"""

_CELLS = """
SELECT s.stay, {hour} AS hour, {until} AS until, {position}::SMALLINT AS channel, {number} AS charted
FROM {view} d JOIN stay s ON s.stay_id = {id}
WHERE {number} IS NOT NULL
"""

_FAULT = """CASE
    WHEN hour IS NULL THEN 'without a time'
    WHEN hour < 0 OR hour >= until THEN 'outside of the {window}'
END"""


def prepare_yaib(
    data: PathText,
    out: PathText,
    *,
    outcomes: PathText | None = None,
    units: Sequence[str] = (),
    memory_limit: str = "4GB",
    task: Task = MORTALITY,
) -> layout.Summary:
    """Write a task of the benchmarks from hourly files of YAIB.

    For in-hospital mortality, stays of less than 48 hours are left out; for other tasks, stays that last
    longer than their rows. Where `outcomes` names the subjects, a subject's stays share a split, else each
    stay counts as a subject of its own.

    Args:
        data: directory of `dyn.parquet`, and of `sta.parquet` and `outc.parquet`, if they are there.
        out: the directory to make; it may exist if it is empty.
        outcomes: a table of labels of one's own, CSV or Parquet: columns stay_id, died, and subject and split
            if they are known; for other tasks also `hours`, the length of the stay, and `death_hour`, when
            the patient died. Without it, `outc.parquet` gives the labels, if it has one for each stay.
        units: as for `prepare_tables`, of files that were not made with YAIB's usual units.
        memory_limit: memory to use, such as "4GB"; intermediate results are kept on disk beside `out`.
        task: in-hospital mortality, or a task of `HOURLY`.

    Returns:
        Counts of stays, deaths and values, and of what was left out by reason.

    Raises:
        DataError: a file is missing or damaged, or holds no hourly values or labels; names the file.
        UsageError: an option cannot be used, `out` is not empty, or another process writes it.
    """
    data = Path(data)
    if task != MORTALITY and (task not in HOURLY or outcomes is None):
        raise UsageError(_refusal(task))
    stated = read_units(units, MIMIC3)
    dyn = open_table(_find(data, "dyn"))
    sta = _find(data, "sta", needed=False)
    labels = Path(outcomes) if outcomes is not None else _find(data, "outc")
    files = _Files(
        dyn,
        open_table(sta) if sta.exists() else None,
        open_table(labels),
        outcomes is not None,
        stated,
        task.period is None,
    )
    options = {"outcomes": "own" if outcomes is not None else "outc", "units": stated}
    source = Source("yaib", data, files.fill, split_of, options, task=task)
    return prepare_events(source, Path(out), memory_limit)


def _refusal(task: Task) -> str:
    """Say why a task cannot be made."""
    if task not in HOURLY:
        known = ", ".join(each.name for each in (MORTALITY, *HOURLY))
        return f"--task {task.name}: YAIB's files hold no diagnoses; known are {known}"
    return (
        f"--task {task.name}: needs the length of each stay; give --outcomes FILE (columns stay_id, died, "
        "hours and death_hour)"
    )


def _ticks_an_hour(database: Database, path: Path, column: str) -> int:
    """Return by how much a duration grows in an hour, as the database reads it: a bare whole number.

    Polars knows the unit of the column, but converts seconds to milliseconds and does not tell so.
    """
    longest = pl.scan_parquet(path, glob=False).select(pl.col(column).dt.total_seconds(fractional=True).max())
    with readable(path):
        seconds = longest.collect(engine="streaming").item()
    ((ticks,),) = database.run("SELECT max(time::BIGINT) FROM dyn")
    return 3600 * round(int(str(ticks)) / seconds) if seconds else 3600


def _find(data: Path, name: str, *, needed: bool = True) -> Path:
    """Return the path of a file of the data set.

    Raises:
        DataError: the file is needed and not there.
    """
    file = data / f"{name}.parquet"
    if not data.is_dir():
        raise DataError(f"{data}: no such directory")
    if needed and not file.exists():
        inside = sorted(path.parent for path in data.glob(f"*/**/{name}.parquet"))
        if name == "outc":
            meant = "; give the labels with --outcomes FILE (columns stay_id and died)"
        else:
            meant = f"; did you mean {inside[0]}?" if inside else "; name the folder of a YAIB cohort"
        raise DataError(f"{data}: holds no {file.name}{meant}")
    return file


@dataclass(frozen=True)
class _Files:
    """The files of a data set, and the units of channels that `--units` states.

    `own` tells that the labels are not YAIB's, `whole` that stays are read to their end.
    """

    dyn: TableFile
    sta: TableFile | None
    labels: TableFile
    own: bool
    stated: Mapping[str, str]
    whole: bool

    def fill(self, database: Database, bar: Progress) -> dict[str, int]:
        """Make the tables of stays and events; return the number of stays left out, by reason."""
        database.run(EVENT)
        measured = {"dyn": self._view(database, self.dyn, "dyn", ["time"])}
        hour = self._hour(database)
        if self.sta is not None:
            measured["sta"] = self._view(database, self.sta, "sta", ["age"])
        labels = self._open_labels(database)
        age = self.sta is not None and self.sta.find(["age"])
        times, length, details = "", _LONG_ENOUGH, ""
        if self.whole:
            lived = "NULL::DOUBLE"
            if "death_hour" in labels:
                lived = f"CASE WHEN {LABEL} = 1 THEN {number_of('death_hour')} END"
            times = f", {number_of('hours')} AS hours, {lived} AS lived"
            length, details = _WHOLE, _DETAILS.format(age="a.age" if age else "NULL::DOUBLE")
        database.run(
            _STAYS.format(
                id=id_sql("stay_id"),
                hour=hour,
                times=times,
                length=length,
                details=details,
                label=LABEL,
                unknown=UNKNOWN,
                subject=id_sql("subject") if "subject" in labels else "NULL::VARCHAR",
                split=", trim(split::VARCHAR) AS split" if "split" in labels else "",
                age="a.age" if age else "18",
                sta=f"LEFT JOIN (SELECT {id_sql('stay_id')} AS stay_id, min({number_of('age')}) AS age "
                "FROM sta GROUP BY ALL) a USING (stay_id)"
                if age
                else "",
            )
        )
        for view, columns in measured.items():
            self._add_events(database, view, columns, hour if view == "dyn" else "0", bar)
        return faults(database, "candidate")

    def _view(self, database: Database, file: TableFile, view: str, others: Sequence[str]) -> list[str]:
        """Add the view of a file; return its columns that have a channel."""
        columns = {"stay_id": file.column(*STAY)}
        columns |= {name: spelled for name in others if (spelled := file.find([name]))}
        measured = [name for name in COLUMNS if file.find([name])]
        for name in measured:
            columns[name] = file.column(name)
            kind = file.kinds[columns[name]]
            if not kind.is_numeric() and not isinstance(kind, pl.Null):
                raise DataError(f"{file.path}: column '{columns[name]}' is of type {kind}, not numbers")
        file.add_view(database, view, columns)
        return measured

    def _hour(self, database: Database) -> str:
        """Write the SQL of the hour of a row of `dyn`."""
        file = self.dyn
        column = file.column("time")
        kind = file.kinds[column]
        if not any(file.find([name]) for name in COLUMNS):
            raise DataError(
                f"{file.path}: no column has a channel; known are {', '.join(COLUMNS)}, and it has "
                f"{', '.join(file.kinds)}"
            )
        if isinstance(kind, pl.Duration):
            return f"(time::BIGINT / {_ticks_an_hour(database, file.path, column)})"
        if not kind.is_numeric():
            raise DataError(
                f"{file.path}: column '{column}' is of type {kind}; the hours since admission are needed, as "
                "a duration or a number"
            )
        hour = number_of("time")
        ((latest,),) = database.run(f"SELECT max({hour}) FROM dyn")
        if latest is not None and float(str(latest)) > MOST_HOURS:
            raise DataError(
                f"{file.path}: column '{column}' goes up to {float(str(latest)):g}, which are no hours; "
                "write the hours since admission, or a duration"
            )
        return hour

    def _open_labels(self, database: Database) -> dict[str, str]:
        """Add the view `outcome`, and check it; return its columns."""
        file = self.labels
        if not self.own and self._are_hourly(database):
            raise DataError(
                f"{file.path}: labels hours, not stays, as YAIB does for all tasks but mortality; give a "
                "table of deaths with --outcomes FILE (columns stay_id and died)"
            )
        columns = {"stay_id": file.column(*STAY), "died": file.column(*DIED)}
        if self.own:
            for name, names in {"subject": SUBJECT, "split": ("split",)}.items():
                if spelled := file.find(names):
                    columns[name] = spelled
        if self.whole:
            columns["hours"] = file.column("hours")
            if spelled := file.find(["death_hour"]):
                columns["death_hour"] = spelled
        outcomes = Outcomes(database, file, columns)
        if self.whole:
            self._check_times(outcomes, "death_hour" in columns)
        outcomes.refuse_repeated({"stay_id": id_sql("stay_id")}, "keep one row of each stay")
        return columns

    def _check_times(self, outcomes: Outcomes, timed: bool) -> None:
        """Refuse lengths and deaths that are no hours, and deaths without an hour."""
        hours = f"({number_of('hours')} > 0 AND {number_of('hours')} <= {MOST_HOURS})"
        outcomes.refuse(f"{hours} IS NOT TRUE", "hours", "expected the hours of the stay in the ICU")
        died = f"{LABEL} = 1"
        if not timed:
            outcomes.refuse(
                died, "died", "when? add the column death_hour: hours since the admission to the ICU"
            )
            return
        hour = f"({number_of('death_hour')} >= 0 AND {number_of('death_hour')} <= {MOST_HOURS})"
        expected = "a patient who died did so some hours after the admission to the ICU"
        outcomes.refuse(f"{died} AND {hour} IS NOT TRUE", "death_hour", expected)

    def _are_hourly(self, database: Database) -> bool:
        file = self.labels
        file.add_view(database, "labelled", {"stay_id": file.column(*STAY)})
        ((rows, stays),) = database.run("SELECT count(*), count(DISTINCT stay_id) FROM labelled")
        return file.find(["time"]) is not None and rows != stays

    def _add_events(
        self, database: Database, view: str, columns: Sequence[str], hour: str, bar: Progress
    ) -> None:
        fault = _FAULT.format(window="stay" if self.whole else f"first {HOURS} hours")
        path = (self.sta if view == "sta" and self.sta is not None else self.dyn).path
        for name in columns:
            channel_name, usual = COLUMNS[name]
            position = MIMIC3.position(channel_name)
            channel = MIMIC3[position]
            unit = self.stated.get(channel_name, usual)
            cells = _CELLS.format(
                hour=hour,
                until="s.hours" if self.whole else HOURS,
                position=position,
                number=number_of(f"d.{name}"),
                view=view,
                id=id_sql("d.stay_id"),
            )
            ((median,),) = database.run(
                f"SELECT approx_quantile(charted, 0.5) FROM ({cells}) WHERE ({fault}) IS NULL",
                bar,
                f"Checking {name}",
            )
            if median is not None and channel_name not in self.stated:
                check_median(database, path, channel, unit, float(str(median)))
            database.run(
                f"INSERT INTO left_out SELECT fault, count(*) FROM (SELECT {fault} AS fault FROM ({cells})) "
                "WHERE fault IS NOT NULL GROUP BY ALL"
            )
            number = convert_sql(unit, channel, "charted")
            database.run(
                f"""
INSERT INTO event BY NAME
SELECT stay, round(hour * 3600)::BIGINT AS second, channel, bounded AS number,
    CASE WHEN bounded IS NULL THEN {quoted(f"{channel_name} is no value of the channel")} END AS fault
FROM (SELECT *, CASE WHEN abs({number}) <= {LARGEST_VALUE} THEN {number} END AS bounded FROM ({cells}))
WHERE ({fault}) IS NULL
""",
                bar,
                f"Reading {name}",
            )
