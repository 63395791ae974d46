"""Measured events in the database -> a directory in the layout of the benchmarks.

A source fills two tables, whatever its records look like:

`stay`: one row for each ICU stay of the cohort
    stay BIGINT (0, 1, ...), subject (the patient), k BIGINT (1, 2, ... of the same patient), died (0 or 1);
    for tasks that read whole stays, also the columns that `cohort_sql` adds

`event`: one row for each measurement; see `EVENT`

For tasks with phenotypes, it fills `diagnosis` and `labelled`, too; see `diagnoses.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.progress import Progress

from mimic3tf.channels import MIMIC3, TIME, ChannelSet
from mimic3tf.described import Described
from mimic3tf.errors import DataError, UsageError
from mimic3tf.progress import track
from mimic3tf.sources import layout
from mimic3tf.sources.cohort_rules import HOURS
from mimic3tf.sources.database import Database, parse_size, progress_bar
from mimic3tf.sources.diagnoses import needs_diagnoses, read_phenotypes
from mimic3tf.sources.task_listfiles import WholeStays, samples_of
from mimic3tf.storage.files import write_parquet
from mimic3tf.storage.folders import check_new_directory, scratch_folder
from mimic3tf.tasks.registry import MORTALITY
from mimic3tf.tasks.task import Task

EVENTS_A_PART = 200_000
"""Number of events that are fetched from the database at once; it bounds memory."""

RESERVED = (TIME, "stay", "copy", "position")
"""Names that columns of the database have; a channel cannot have them, too."""

EVENT = """
CREATE TABLE event (stay BIGINT, second BIGINT, channel SMALLINT, number DOUBLE, text VARCHAR,
    fault VARCHAR, other BIGINT, inside BOOLEAN);
CREATE TABLE left_out (fault VARCHAR, count BIGINT)
"""
"""Measurements: stay and seconds since its start, position of the channel, cleaned value (see `cleaning.py`),
and why the event is left out, if it is.

`other` and `inside` are null except for events that MIMIC-III files under another ICU stay than the one in
whose time they lie: the id of that stay, and whether the event makes an instant of this stay all the same.

A source may count events in `left_out` by their fault, instead of adding each of them to `event`.
"""

# An instant belongs to a stay if one of its events belongs to the stay, or if it is before the stay's end.
_KEPT = """
CREATE TABLE kept AS
SELECT row_number() OVER (ORDER BY stay) - 1 AS position, *
FROM stay
JOIN (
    SELECT stay, count(*) AS events, min(second) / 60 / 60 AS first
    FROM event WHERE fault IS NULL AND inside IS NOT FALSE GROUP BY stay
) USING (stay)
"""

# Sorted, so that the engine finds the events of some stays without a look at those of all others.
_SORTED = """
CREATE TABLE sorted AS
SELECT p.position AS stay, second, channel, number, text, other, inside
FROM event e JOIN kept p USING (stay)
WHERE e.fault IS NULL
ORDER BY p.position;
DROP TABLE event
"""

_PART = """
FROM sorted WHERE stay >= {start} AND stay < {end} ORDER BY stay, second, channel, number, text
"""

Fill = Callable[[Database, Progress], Mapping[str, int]]
Splits = Callable[[pl.DataFrame], Mapping[str, NDArray[np.int64]]]


@dataclass(frozen=True)
class Source:
    """How a source's records become a cohort.

    Attributes:
        name: name of the source, as `mimic3tf prepare` takes it.
        place: where the records are; an error that no stay is left names it.
        fill: makes the tables `stay` and `event` in a database, and returns reason -> number of stays left
            out. It is handed a progress bar.
        splits: assigns the rows of the table `stay` that have a measurement to the splits, as indices in the
            order of the listfile.
        options: what `prepared.json` says about how the directory was made.
        channels: the channels of the events.
        as_charted: channels of numbers whose value is the event's `text`.
        task: the task to make.
    """

    name: str
    place: Path
    fill: Fill
    splits: Splits
    options: Mapping[str, object]
    channels: ChannelSet = MIMIC3
    as_charted: Collection[str] = ()
    task: Task = MORTALITY


def prepare_events(source: Source, out: Path, memory_limit: str) -> layout.Summary:
    """Write the cohort of a source.

    Args:
        source: the source.
        out: the directory to make; it may exist if it is empty.
        memory_limit: memory to use, such as "4GB"; intermediate results are kept on disk beside `out`.

    Returns:
        What was written, and what was left out by reason; also in `layout.SUMMARY_FILE`.

    Raises:
        DataError: the records cannot be read, or no stay is left.
        UsageError: `out` is not empty or cannot be written, another process writes it, the memory limit
            cannot be used, or a channel has a name of `RESERVED`.
    """
    check_new_directory(out)
    _check_names(source.channels)
    limit = parse_size(memory_limit)
    target = out.resolve()
    with ExitStack() as stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            folder = scratch_folder(target.parent, f".{target.name}.work", alone=True)
            found = _extract(source, stack.enter_context(folder), limit)
        except OSError as error:
            raise UsageError(f"{out}: cannot be made: {error.strerror or error}") from None
        options = {**source.options} if source.task.period is not None else _options(source, found)
        return layout.write_cohort(
            out, _cohort(source, found), source.name, options, found.dropped_stays, found.dropped_values
        )


def _check_names(channels: ChannelSet) -> None:
    seen = {name.casefold(): name for name in RESERVED}
    for name in channels.names:
        other = seen.setdefault(name.casefold(), name)
        if other is not name:
            raise UsageError(
                f"channel '{name}': '{other}' has this name already, as upper and lower case do not matter; "
                "rename it"
            )


def _options(source: Source, found: _Found) -> dict[str, object]:
    coded = {} if found.phenotypes is None else {"coded": found.coded}
    return {**source.options, "task": source.task.name, **coded}


def _cohort(source: Source, found: _Found) -> layout.PreparedCohort:
    names = [
        f"{subject}_episode{k}_timeseries.csv" for subject, k in found.stays.select("subject", "k").rows()
    ]
    died = found.stays["died"].cast(pl.Int64).to_numpy()
    splits = source.splits(found.stays)
    cohort = layout.PreparedCohort(names, died, splits, found.rows, source.channels, source.task)
    if source.task.period is not None:
        return cohort
    hours, first, lived = found.stays.select("hours", "first", pl.col("lived").fill_null(np.inf)).to_numpy().T
    whole = WholeStays(hours, first, lived, died, found.phenotypes)
    return replace(
        cohort,
        samples=samples_of(whole, names, splits, source.task),
        details=found.stays.select(
            *(
                "subject",
                pl.col("k").alias("episode"),
                pl.col("hours").alias("length_of_stay"),
                pl.col("first").alias("first_row"),
            ),
            *(pl.col("lived").alias("death"), pl.col("died").cast(pl.Int64)),
            *("intime", "outtime", "deathtime", pl.col("years").alias("age"), "sex"),
        ),
    )


def faults(database: Database, table: str) -> dict[str, int]:
    """Count the rows of a table that are left out, by reason: the column `fault`."""
    rows = database.run(
        f"SELECT fault, count(*) FROM {table} WHERE fault IS NOT NULL GROUP BY ALL ORDER BY ALL"
    )
    return {str(reason): int(str(count)) for reason, count in rows}


@dataclass(frozen=True, repr=False)
class _Found(Described):
    """What the tables hold.

    Attributes:
        stays: the stays with a measurement.
        rows: their rows as in `PreparedCohort.rows`.
        dropped_stays: reason -> number of stays left out.
        dropped_values: reason -> number of measurements left out.
        phenotypes: int8 [N, 25], if the task needs them.
        coded: version of ICD -> number of stays whose diagnoses it codes.
    """

    stays: pl.DataFrame
    rows: pl.LazyFrame
    dropped_stays: dict[str, int]
    dropped_values: dict[str, int]
    phenotypes: NDArray[np.int8] | None = None
    coded: Mapping[str, int] = field(default_factory=dict)


def _extract(source: Source, scratch: Path, limit: int) -> _Found:
    whole = source.task.period is None
    phenotypes, coded = None, dict[str, int]()
    with Database(scratch, limit) as database:
        with progress_bar() as bar:
            dropped_stays = {**source.fill(database, bar)}
            database.run(_KEPT)
        dropped_values = faults(database, "event")
        for reason, count in database.run("SELECT fault, count FROM left_out ORDER BY fault"):
            dropped_values[str(reason)] = dropped_values.get(str(reason), 0) + int(str(count))
        candidates, usable = (
            int(str(database.run(f"SELECT count(*) FROM {what}")[0][0]))
            for what in ("stay", "event WHERE fault IS NULL")
        )
        stays = database.frame("SELECT * FROM kept ORDER BY position")
        if needs_diagnoses(source.task):
            phenotypes, coded = read_phenotypes(database, len(stays))
        with progress_bar() as bar:
            database.run(_SORTED, bar, "Sorting values")
        parts, measured = _write_rows(database, scratch, stays, source.channels, source.as_charted)
    dropped_stays[f"no measurement in the {'stay' if whole else f'first {HOURS} hours'}"] = candidates - len(
        stays
    )
    if not len(stays):
        counts = _listed(dropped_stays)
        values = _listed(dropped_values)
        raise DataError(
            f"{source.place}: no stay {'' if whole else f'of {HOURS} hours '}with a measurement is left of "
            f"these tables; left out: {counts or 'nothing, as they name no stay'}"
            f"{'; of the values: ' if values else ''}{values}"
        )
    dropped_values["another value of the channel at the same instant"] = usable - measured
    rows = pl.scan_parquet(parts, glob=False)
    return _Found(stays, rows, dropped_stays, dropped_values, phenotypes, coded)


def _listed(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count)


def _write_rows(
    database: Database, scratch: Path, stays: pl.DataFrame, channels: ChannelSet, as_charted: Collection[str]
) -> tuple[list[Path], int]:
    """Write the rows to files of some stays each; return the files and the number of measured cells.

    The database could write one file itself, but only on a file system with locks.
    """
    parts, measured = [], 0
    for start, end in track(layout.batches(stays["events"].to_numpy(), EVENTS_A_PART), "Gathering rows"):
        events = database.frame(_PART.format(start=start, end=end))
        rows, cells = _rows(events, channels, as_charted)
        measured += cells
        parts.append(scratch / f"{start}.parquet")
        write_parquet(rows, parts[-1], compression="lz4")
    return parts, measured


def _rows(
    events: pl.DataFrame, channels: ChannelSet, as_charted: Collection[str]
) -> tuple[pl.DataFrame, int]:
    """Gather sorted events into rows: one for each instant of a stay. Also return the number of cells.

    Of several values of a channel the largest wins: the benchmarks sort the values and keep the last. Of
    categories, and in channels left as charted, this is the last as text.
    """
    row = events.select(pl.struct("stay", "second").rle_id()).to_series().to_numpy()
    first = np.flatnonzero(np.diff(row, prepend=-1))
    # If a channel has several values at an instant, the last assignment holds.
    cells = np.full((len(channels), len(first)), -1)
    cells[events["channel"].to_numpy(), row] = np.arange(len(events))
    instants = events[first]
    # Polars would multiply by the reciprocal, whose last digit differs.
    columns = {"stay": instants["stay"], TIME: pl.Series(instants["second"].to_numpy() / 60 / 60)}
    for channel, found in zip(channels, cells, strict=True):
        chosen = pl.Series(found).replace(-1, None)
        if channel.is_categorical:
            columns[channel.name] = events["text"].gather(chosen)
        elif channel.name in as_charted:
            columns[channel.name] = events["text"].gather(chosen).cast(pl.Float64)
        else:
            columns[channel.name] = events["number"].gather(chosen)
    copies = _copies(events, row)
    measured = int((cells[:, copies > 0] >= 0).sum())
    return pl.DataFrame(columns)[np.repeat(np.arange(len(first)), copies)], measured


def _copies(events: pl.DataFrame, row: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Count how often each row is written; `row` is the row of each event.

    If an instant has events of several ICU stays, the benchmarks write its row once for each of these stays.
    """
    copies = np.zeros(int(row[-1]) + 1, np.int64)
    own = events["other"].is_null().to_numpy()
    copies[row[own]] = 1
    if not own.all():
        others = events.select("other", "inside", row=pl.Series(row)).filter(
            pl.col("inside").ne_missing(False)
        )
        np.add.at(copies, others.drop_nulls("other").unique(["row", "other"])["row"].to_numpy(), 1)
    return copies
