"""The layout of a benchmark directory: splits, listfiles, series files.

A directory DIR contains::

    DIR/train_listfile.csv, val_listfile.csv, test_listfile.csv     stays and their labels
    DIR/train/, DIR/test/                                           series files; those of val are in train/
    DIR/channels.yaml                                               channels, if not those of the benchmarks
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from mimic3tf.data.channels_file import CHANNELS_FILE
from mimic3tf.data.links import check_link
from mimic3tf.data.records import CHARACTERS_SHOWN
from mimic3tf.errors import DataError, UsageError, near_path, private
from mimic3tf.storage.files import PathText, read_file
from mimic3tf.tasks.registry import TASKS
from mimic3tf.tasks.targets import Label
from mimic3tf.tasks.task import PERIOD, Task

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
"""All splits; each has the listfile `SPLIT_listfile.csv`."""
MOST_HOURS = 20_000
"""Largest number of hours of a stay: more than two years."""
FOLDERS = ("train", "test")
"""Folders of series files; the series of val are in `train/`, too."""


def check_directory(data_dir: PathText) -> None:
    """Refuse a data directory that does not exist.

    Raises:
        UsageError: the directory does not exist.
    """
    data_dir = Path(data_dir)
    if not data_dir.is_dir():
        raise UsageError(
            f"{data_dir}: no such directory; --data takes one in the benchmarks' layout{near_path(data_dir)}"
        )


def listfile_of(data_dir: PathText, split: Split) -> Path:
    """Return the path of the listfile of a split."""
    data_dir = Path(data_dir)
    return data_dir / f"{split}_listfile.csv"


def missing_listfile(path: Path) -> DataError:
    """Make the error for a listfile that does not exist; it names a subfolder that holds the listfile."""
    children = path.parent.iterdir() if path.parent.is_dir() else ()
    inside = next((child for child in children if (child / path.name).exists()), None)
    meant = f"; did you mean {inside}?" if inside else ""
    return DataError(f"{path}: listfile not found; a benchmark directory holds one a split{meant}")


def folder_of(split: Split) -> str:
    """Return the folder of a split's series files: `train` for train and val, `test` for test."""
    return "test" if split == "test" else "train"


def series_of(
    data_dir: PathText, split: Split, stays: Iterable[str], *, follow_links: bool = False
) -> list[Path]:
    """List the series files of a split's stays.

    Only the folder is checked with `check_link`; the files may still be links.

    Args:
        data_dir: benchmark directory.
        split: the split.
        stays: names of the series files.
        follow_links: read the folder even if it is a link that leads out of the directory.

    Raises:
        DataError: the folder is a link that leads out of the directory.
    """
    data_dir = Path(data_dir)
    folder = data_dir / folder_of(split)
    check_link(folder, data_dir, follow_links=follow_links)
    return [folder / name for name in stays]


class Row(NamedTuple):
    """One row of a listfile: one example.

    Attributes:
        stay: name of the series file.
        label: the label.
        hours: hours of the stay that the example reads; None if the task says them.
    """

    stay: str
    label: Label
    hours: float | None


def read_listfile(path: PathText, task: Task, *, follow_links: bool = False) -> list[tuple[str, Any]]:
    """Read the names and labels of the stays in a listfile.

    Returns:
        The pairs (series file name, label), in file order.

    Raises:
        DataError: as `read_rows`.
    """
    return [(stay, label) for stay, label, _ in read_rows(path, task, follow_links=follow_links)]


def read_rows(path: PathText, task: Task, *, follow_links: bool = False) -> list[Row]:
    """Read the rows of a listfile.

    Args:
        path: CSV file with the columns of `Task.header`.
        task: defines the columns of the listfile.
        follow_links: read the file even if it is a link that leads out of its directory.

    Returns:
        The rows, in file order.

    Raises:
        DataError: the file is missing or empty, or a line of it is malformed; names the line.
    """
    path = Path(path)
    check_link(path, path.parent, follow_links=follow_links)
    try:
        # Accept the line ends of Windows and old Macs, as Python does for text files.
        # Spreadsheets write a byte order mark at the start of the file.
        text = read_file(path).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        header, *lines = text.split("\n")
    except FileNotFoundError:
        raise missing_listfile(path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text: {error}") from None
    if header != task.header:
        raise _other_header(path, header, task)
    rows: dict[tuple[str, float | None], Row] = {}
    for number, line in enumerate(lines, start=2):
        if not line:
            continue
        row = _row_of(line, task, f"{path}, line {number}")
        key = row.stay, row.hours if task.hourly else None
        if key in rows:
            shown = private(row.stay[:CHARACTERS_SHOWN])
            hour = f" at hour {row.hours:g}" if task.hourly else ""
            raise DataError(f"{path}, line {number}: stay '{shown}' is listed twice{hour}")
        rows[key] = row
    if not rows:
        raise DataError(f"{path}: lists no stays")
    return list(rows.values())


def _other_header(path: Path, header: str, task: Task) -> DataError:
    """Make the error for a listfile with another header than the task's."""
    meant = next((other.name for other in TASKS.values() if other.header == header), None)
    if meant is not None:
        return DataError(f"{path}, line 1: this listfile is of the task {meant}; give --task {meant}")
    return DataError(f"{path}, line 1: the header must read '{task.header}', not '{private(header[:50])}'")


def _row_of(line: str, task: Task, place: str) -> Row:
    """Read one line of a listfile; `place` names it in errors."""
    columns = task.header.split(",")
    # A name holds no comma. If a line has too many cells, the last column keeps the rest and is no label.
    stay, *cells = line.split(",", maxsplit=len(columns) - 1)
    cells += [""] * (len(columns) - 1 - len(cells))
    hours = _hours(cells.pop(0), place) if task.period is None else None
    try:
        label = task.targets.parse(cells)
    except ValueError as error:
        expected, position = error.args
        held = private(cells[position][:CHARACTERS_SHOWN])
        column = task.targets.columns[position]
        raise DataError(f"{place}: column '{column}' holds '{held}'; {expected}") from None
    if Path(stay).name != stay or stay in ("", "..") or not stay.isprintable():
        shown = private(stay[:CHARACTERS_SHOWN])
        raise DataError(f"{place}: column 'stay' holds '{shown}', not a file name")
    return Row(stay, label, hours)


def _hours(cell: str, place: str) -> float:
    try:
        hours = float(cell)
    except ValueError:
        hours = math.nan
    if not 0 < hours <= MOST_HOURS:
        held = private(cell[:CHARACTERS_SHOWN])
        raise DataError(
            f"{place}: column '{PERIOD}' holds '{held}'; hours are more than 0 and at most {MOST_HOURS:,}"
        )
    return hours


def read_split(data_dir: PathText, split: Split, task: Task, *, follow_links: bool = False) -> list[Row]:
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
    listed = {other: list(dict.fromkeys(row.stay for row in rows)) for other, rows in entries.items()}
    for first, second in itertools.combinations(listed, 2):
        both = set(listed[first]).intersection(listed[second])
        if not both:
            continue
        file = listfile_of(data_dir, second)
        files = f"{file}: lists {len(both)} stays of {first}_listfile.csv"
        if len(both) == len(listed[first]) == len(listed[second]):
            raise DataError(f"{files}, all of them: one is a copy of the other; make the splits again")
        shown = private(next(name for name in listed[second] if name in both)[:CHARACTERS_SHOWN])
        raise DataError(f"{files}, '{shown}' first; a stay belongs to one split")
    return entries[split]


def fingerprint_of(listfile: Path, digests: Iterable[bytes]) -> str:
    """Compute the fingerprint of a split from its listfile, its series and the directory's `channels.yaml`.

    Args:
        listfile: the listfile of the split.
        digests: SHA-256 of each series file, in the order of the listfile.

    Returns:
        SHA-256 as hexadecimal text.
    """
    channels = listfile.with_name(CHANNELS_FILE)
    own = hashlib.sha256(read_file(channels)).digest() if channels.exists() else b""
    return hashlib.sha256(listfile.read_bytes() + own + b"".join(digests)).hexdigest()
