"""Read the listfiles of all tasks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimic3tf.data.directory import SPLITS, Split, listfile_of, missing_listfile
from mimic3tf.data.links import check_link
from mimic3tf.data.records import CHARACTERS_SHOWN, ROUNDING
from mimic3tf.data.text_table import HOURS, LINE, TextTable, read_text_table
from mimic3tf.described import Described
from mimic3tf.errors import DataError, private
from mimic3tf.storage.files import PathText
from mimic3tf.tasks import registry as tasks
from mimic3tf.tasks.heads import UNKNOWN, Multitask
from mimic3tf.tasks.metrics_hours import custom_class
from mimic3tf.tasks.registry import TASKS
from mimic3tf.tasks.remaining import Classes
from mimic3tf.tasks.rules import LABEL, REMAINING, Rule
from mimic3tf.tasks.task import PERIOD, Task

STAY, LABELS = "stay", "y_true"
"""Columns of a listfile with one label a row."""
MULTITASK = tuple(tasks.MULTITASK.header.split(","))
"""Columns of the listfile of multitask learning."""
LONGEST_HEADER = 80
"""Largest number of characters of a header that an error shows; that of phenotyping has 1,000."""


@dataclass(frozen=True, repr=False)
class Listed(Described):
    """The samples that a listfile names.

    Attributes:
        table: the cells of the listfile.
        stays: names [N] of the series files.
        hours: float64 [N], hours of the stay that each sample reads; NaN if the listfile does not say them.
        labels: [N] or [N, K], the labels in the columns after the hours; float64 [N, K] if they are numbers
            of the file as they are.
        remaining: float64 [N], the hours of length of stay where the labels are their classes; else None.
    """

    table: TextTable
    stays: pl.Series
    hours: NDArray[np.float64]
    labels: NDArray[Any]
    remaining: NDArray[np.float64] | None = None


@dataclass(frozen=True, repr=False)
class HourlyLabels(Described):
    """Lists of masks and labels, one of each for every hour 0, 1, 2, ... of every stay.

    Attributes:
        numbers: float64, the masks and then the labels of each stay, stay after stay.
        offsets: int64 [N + 1], where each stay begins in `numbers`.
    """

    numbers: NDArray[np.float64]
    offsets: NDArray[np.int64]

    def masked(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return the stay, the hour and the label of every hour above 0 whose mask is 1, in order."""
        counts = np.diff(self.offsets) // 2
        stay = np.repeat(np.arange(len(counts)), counts)
        hour = np.arange(len(stay)) - np.repeat(np.cumsum(counts) - counts, counts)
        masks = self.offsets[stay] + hour
        kept = (self.numbers[masks] == 1) & (hour > 0)
        return stay[kept], hour[kept], self.numbers[masks + counts[stay]][kept]

    def of(self, stay: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the masks and the labels of a stay."""
        masks, labels = self.numbers[self.offsets[stay] : self.offsets[stay + 1]].reshape(2, -1)
        return masks, labels


def read_listfile(path: PathText, task: Task, *, follow_links: bool = False) -> list[tuple[str, Any]]:
    """Read the names and labels of the stays in a listfile.

    Returns:
        The pairs (series file name, label), in file order.

    Raises:
        DataError: as `read_rows`.
    """
    listed = read_rows(path, task, follow_links=follow_links)
    return list(zip(listed.stays.to_list(), listed.labels.tolist(), strict=True))


def read_rows(path: PathText, task: Task, *, follow_links: bool = False) -> Listed:
    """Read the examples of a task's listfile; but for multitask learning, each row is one.

    Returns:
        The examples, with labels as the task's targets have them.

    Raises:
        DataError: the listfile is missing, or lists nothing; or a line is malformed; names line and column.
    """
    path = Path(path)
    if isinstance(task.targets, Multitask):
        return _multitask_examples(path, task.targets, follow_links=follow_links)

    def check_header(header: list[str]) -> None:
        text = ",".join(header)
        if text != task.header:
            raise _other_header(path, text, task.header, task.name)

    table = _read(path, check_header, follow_links=follow_links)
    columns, rule = task.targets.columns, task.targets.rule
    labels = table.numbers(columns, rule)
    for column in columns if rule is LABEL else ():
        table.check(column, ~table.texts(column).is_in(["0", "1"]), rule[1])
    key = (STAY, PERIOD) if task.hourly else (STAY,)
    listed = _listed(table, key, labels, PERIOD if task.period is None else None)
    remaining = labels[:, 0] if isinstance(task.targets, Classes) else None
    return replace(listed, labels=task.targets.read(labels), remaining=remaining)


def rows_without(
    path: PathText, task: Task, stays: Sequence[str], *, follow_links: bool = False
) -> pl.DataFrame:
    """Read the rows of a task's listfile that are not of some stays, with the cells as texts."""
    table = read_rows(path, task, follow_links=follow_links).table
    rows = table.rows.filter(~table.rows["0"].is_in(list(stays))).drop(LINE)
    return rows.rename(dict(zip(rows.columns, table.header, strict=True)))


def read_numbers(
    path: PathText, task: Task, *, follow_links: bool = False
) -> tuple[pl.DataFrame, NDArray[np.float64]]:
    """Read all numbers in the label columns of a task's listfile, as the file has them.

    Returns:
        Stays and hours of its samples; and the numbers in file order, masks of multitask learning included.

    Raises:
        DataError: as `read_rows`.
    """
    if isinstance(task.targets, Multitask):
        listed, mortality, *lists = read_multitask(path, follow_links=follow_links)
        parts = [listed.labels.ravel(), mortality.ravel(), *(each.numbers for each in lists)]
        numbers = np.concatenate(parts, dtype=np.float64)
    else:
        listed = read_rows(path, task, follow_links=follow_links)
        numbers = listed.table.numbers(task.targets.columns, task.targets.rule).ravel()
    return pl.DataFrame({STAY: listed.stays, PERIOD: listed.hours}), numbers


def _multitask_examples(path: Path, targets: Multitask, *, follow_links: bool) -> Listed:
    """Make an example of every hour of a stay at which a head predicts."""
    listed, mortality, remaining, decompensation = read_multitask(path, follow_links=follow_links)
    _, _, stay_columns, phenotypes = targets.slices
    if listed.labels.shape[1] != phenotypes.stop - phenotypes.start:
        raise DataError(f"{path}, line 2: has {listed.labels.shape[1]} phenotypes; there are 25")
    # One row for every hour 1, 2, ... of a stay, and for what is left of its last hour.
    rows = np.ceil(listed.hours - ROUNDING).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(rows)])
    labels = np.full((starts[-1], phenotypes.stop), UNKNOWN, np.int8)
    for place, part in ((slice(1, 2), decompensation), (stay_columns, remaining)):
        stay, hour, known = part.masked()
        at = starts[stay] + hour - 1
        if place == stay_columns:
            labels[at, place] = 0
            labels[at, place.start + custom_class(known)] = 1
        else:
            labels[at, place.start] = known
    asked = (mortality[:, 1] == 1) & (rows > mortality[:, 0])
    labels[starts[:-1][asked] + mortality[asked, 0], 0] = mortality[asked, 2]
    labels[starts[1:] - 1, phenotypes] = listed.labels
    examples = np.flatnonzero((labels != UNKNOWN).any(axis=1))
    stay = np.searchsorted(starts, examples, side="right") - 1
    hours = np.minimum(examples - starts[stay] + 1.0, listed.hours[stay])
    return Listed(listed.table, listed.stays[stay], hours, labels[examples])


def read_split(data_dir: PathText, split: Split, task: Task, *, follow_links: bool = False) -> Listed:
    """Read the listfile of a split, and refuse a directory in which two splits share a stay.

    With a shared stay, a victim would be tested on stays from which it has learned.

    Returns:
        The rows, as `read_rows` gives them.

    Raises:
        DataError: `read_rows` refuses the listfile of any split, or two splits share stays.
    """
    entries = {
        other: read_rows(listfile_of(data_dir, other), task, follow_links=follow_links)
        for other in SPLITS
        if other == split or listfile_of(data_dir, other).exists()
    }
    listed = {other: rows.stays.unique(maintain_order=True) for other, rows in entries.items()}
    for first, second in itertools.combinations(listed, 2):
        both = listed[second].filter(listed[second].is_in(listed[first].implode()))
        if not len(both):
            continue
        file = listfile_of(data_dir, second)
        files = f"{file}: lists {len(both)} stays of {first}_listfile.csv"
        if len(both) == len(listed[first]) == len(listed[second]):
            raise DataError(f"{files}, all of them: one is a copy of the other; make the splits again")
        shown = private(both[0][:CHARACTERS_SHOWN])
        raise DataError(f"{files}, '{shown}' first; a stay belongs to one split")
    return entries[split]


def read_hourly(path: PathText, rule: Rule = LABEL, *, follow_links: bool = False) -> Listed:
    """Read a listfile of decompensation, or of length of stay (with `REMAINING`): a row for each hour.

    Raises:
        DataError: the listfile is missing, or lists nothing; or a line is malformed; names line and column.
    """
    table = _read(Path(path), follow_links=follow_links)
    _check_header(table, (STAY, PERIOD, LABELS))
    return _listed(table, (STAY, PERIOD), table.numbers([LABELS], rule))


def read_phenotyping(path: PathText, *, follow_links: bool = False) -> Listed:
    """Read a listfile of phenotyping: a row for each stay, and a column for each phenotype, of any names.

    Raises:
        DataError: as `read_hourly`.
    """
    table = _read(Path(path), follow_links=follow_links)
    phenotypes = table.header[2:]
    if len(set(phenotypes)) != len(phenotypes) or not phenotypes:
        raise DataError(
            f"{table.path}, line 1: the header must name every phenotype once, after {STAY},{PERIOD}"
        )
    _check_header(table, (STAY, PERIOD, *phenotypes))
    return _listed(table, (STAY,), table.numbers(phenotypes, LABEL))


def read_multitask(
    path: PathText, *, follow_links: bool = False
) -> tuple[Listed, NDArray[np.int64], HourlyLabels, HourlyLabels]:
    """Read a listfile of multitask learning: a row for each stay.

    Returns:
        The stays with their phenotypes as labels; position, mask and label of in-hospital mortality, int64
        [N, 3]; the hours of length of stay; and the hours of decompensation.

    Raises:
        DataError: as `read_hourly`.
    """
    table = _read(Path(path), follow_links=follow_links)
    _check_header(table, MULTITASK, "multitask")
    name, period, mortality, remaining, phenotypes, decompensation = MULTITASK
    labels = _lists(table, phenotypes, LABEL)
    widths = np.diff(labels.offsets)
    table.check(phenotypes, pl.Series(widths != widths[0]), f"the first stay has {widths[0]} labels")
    listed = _listed(table, (name,), labels.numbers.reshape(len(widths), -1), period=period)
    position = _lists(table, mortality, REMAINING)
    table.check(mortality, pl.Series(np.diff(position.offsets) != 3), "expected pos;mask;label")
    hours = np.floor(listed.hours + ROUNDING).astype(np.int64) + 1
    return (
        listed,
        position.numbers.reshape(-1, 3).astype(np.int64),
        _masked(table, remaining, REMAINING, hours),
        _masked(table, decompensation, LABEL, hours),
    )


def _masked(table: TextTable, column: str, rule: Rule, most: NDArray[np.int64]) -> HourlyLabels:
    """Read a column of masks and labels, and check that there are at most so many hours of each stay."""
    lists = _lists(table, column, rule)
    counts = np.diff(lists.offsets)
    table.check(column, pl.Series(counts % 2 == 1), "expected as many labels as masks")
    table.check(column, pl.Series(counts // 2 > most), "has more hours than the stay")
    stay = np.repeat(np.arange(len(counts)), counts)
    is_mask = np.arange(len(stay)) < (lists.offsets[:-1] + counts // 2)[stay]
    wrong = is_mask & ~np.isin(lists.numbers, (0.0, 1.0))
    table.check(column, _any(stay[wrong], len(counts)), "masks are 0 or 1")
    return lists


def _any(stays: NDArray[np.int64], count: int) -> pl.Series:
    """Tell of each of `count` stays whether it is among some stays: bool."""
    return pl.Series(np.bincount(stays, minlength=count) > 0)


def _read(
    path: Path, check_header: Callable[[list[str]], None] | None = None, *, follow_links: bool
) -> TextTable:
    check_link(path, path.parent, follow_links=follow_links)
    if not path.exists():
        raise missing_listfile(path)
    table = read_text_table(path, check_header)
    if not len(table.rows):
        raise DataError(f"{path}: lists no stays")
    return table


def _check_header(table: TextTable, columns: tuple[str, ...], asked: str = "") -> None:
    if table.header != list(columns):
        raise _other_header(table.path, ",".join(table.header), ",".join(columns), asked)


def _other_header(path: Path, held: str, expected: str, asked: str = "") -> DataError:
    meant = " or ".join(task.name for task in TASKS.values() if task.header == held)
    if meant and asked:
        return DataError(
            f"{path}, line 1: is of the task {meant}, not of {asked}; give --task {meant}, or a run that was "
            "trained for it"
        )
    shown = expected if len(expected) <= LONGEST_HEADER else f"{expected[:LONGEST_HEADER]}..."
    return DataError(f"{path}, line 1: the header must read '{shown}', not '{private(held[:50])}'")


def _listed(
    table: TextTable, key: tuple[str, ...], labels: NDArray[np.float64], period: str | None = PERIOD
) -> Listed:
    """Check names and hours, and that no two rows have the same `key`."""
    stays = table.texts(key[0])
    for stay in stays.unique(maintain_order=True).to_list():
        if Path(stay).name != stay or stay in ("", "..") or not stay.isprintable():
            table.check(key[0], stays == stay, "that is no file name")
    hours = np.full(len(stays), np.nan) if period is None else table.numbers([period], HOURS)[:, 0]
    check_distinct(table, pl.DataFrame({STAY: stays, PERIOD: hours})[:, : len(key)])
    return Listed(table, stays, hours, labels)


def check_distinct(table: TextTable, keys: pl.DataFrame) -> None:
    """Refuse a file that lists a sample twice.

    Args:
        table: the file.
        keys: names of the stays, and the hours where one stay has several samples.

    Raises:
        DataError: two rows have the same key; names the line of the second.
    """
    for row in (~keys.select(pl.struct(pl.all()).is_first_distinct()).to_series()).arg_true().head(1):
        stay, *hours = keys.row(row)
        at = f" at hour {private(f'{hours[0]:g}')}" if hours else ""
        raise DataError(f"{table.place(row)}: stay '{private(stay[:CHARACTERS_SHOWN])}' is listed twice{at}")


def _lists(table: TextTable, column: str, rule: Rule) -> HourlyLabels:
    """Read cells of numbers that are joined by semicolons; a lone semicolon is an empty list."""
    texts = table.texts(column)
    counts = texts.str.count_matches(";", literal=True).to_numpy().astype(np.int64) + 1
    counts[(texts == ";").to_numpy()] = 0
    cells = texts.filter(texts != ";").str.split(";").explode()
    numbers = cells.cast(pl.Float64, strict=False)
    sound, expected = rule
    faulty = np.flatnonzero(~sound(numbers).fill_null(value=False).to_numpy())
    stay = np.repeat(np.arange(len(counts)), counts)
    table.check(column, _any(stay[faulty], len(counts)), expected)
    return HourlyLabels(numbers.to_numpy(), np.concatenate([[0], np.cumsum(counts)]))
