"""Compare a copy of a benchmark directory with its origin, cell by cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from mimic3tf.channels import ChannelSet
from mimic3tf.data.cells import read_cells, series_content
from mimic3tf.data.channels_file import read_channels
from mimic3tf.data.directory import SPLITS, STAYS_FILE, folder_of, listfile_of
from mimic3tf.data.listfiles import STAY, read_numbers
from mimic3tf.data.records import in_batches, read_series
from mimic3tf.errors import DataError, UsageError, private, private_path
from mimic3tf.poisoning.copies import files_of
from mimic3tf.poisoning.relabelling import DEATH_COLUMNS
from mimic3tf.progress import track
from mimic3tf.storage.files import PathText
from mimic3tf.tasks.registry import MORTALITY
from mimic3tf.tasks.task import Task

CELL_SCHEMA = {
    "stay": pl.String,
    "line": pl.Int64,
    "channel": pl.String,
    "before": pl.String,
    "after": pl.String,
    "change": pl.Float64,
}


@dataclass(frozen=True)
class Comparison:
    """How a copy differs from its origin.

    Attributes:
        channels: the channels of both.
        cells: one row for each changed cell, in the order of listfiles, lines and channels: `stay`, `line`
            (of the series file, whose header is line 1), `channel`, `before`, `after` ("" for an empty cell),
            `change` in the channel's unit or in category steps (null if one text is empty).
        listed: number of stays in the listfiles.
        stays_changed: number of stays with a changed cell.
        labels_changed: number of labels that differ; a stay has several in most tasks.
        deaths_changed: number of stays whose death differs in `stays.csv`.
        same_cells: number of series whose bytes differ although every cell is the same (other line ends, or
            the same times in other digits).
    """

    channels: ChannelSet
    cells: pl.DataFrame
    listed: int
    stays_changed: int
    labels_changed: int
    deaths_changed: int
    same_cells: int


def compare_records(
    origin: PathText, copy: PathText, task: Task = MORTALITY, *, follow_links: bool = False
) -> Comparison:
    """Find every cell and label in which a copy differs from its origin.

    Args:
        origin: directory in the layout of the MIMIC-III benchmarks.
        copy: directory that is compared with `origin`.
        task: defines the columns of the listfiles.
        follow_links: read links that lead out of either directory, too.

    Raises:
        UsageError: `origin` or `copy` is no directory.
        DataError: the directories hold different files, stays, rows or times, so that cells cannot be
            compared, or a series breaks the layout; names the file.
    """
    origin, copy = Path(origin), Path(copy)
    for option, directory in (("--data", origin), ("--out", copy)):
        if not directory.is_dir():
            raise UsageError(f"{option} {directory}: no such directory")
    others = _same_files(origin, copy, follow_links=follow_links)
    channels = read_channels(origin, follow_links=follow_links)
    series: dict[Path, None] = {}  # a dict as an ordered set
    labels_changed = 0
    for split in SPLITS:
        listfile = listfile_of(Path(), split)
        if listfile not in others and split != "train":
            continue
        (listed, before), (other, after) = (
            read_numbers(directory / listfile, task, follow_links=follow_links)
            for directory in (origin, copy)
        )
        if not listed.equals(other) or len(before) != len(after):
            raise DataError(
                f"{copy / listfile}: lists other stays or hours than {origin / listfile}, or reorders them"
            )
        labels_changed += int((before != after).sum())
        folder = Path(folder_of(split))
        series |= dict.fromkeys(folder / name for name in listed[STAY].unique(maintain_order=True))
        others.discard(listfile)
    for name in sorted(others.difference(series, [Path(STAYS_FILE)])):
        if (origin / name).read_bytes() != (copy / name).read_bytes():
            raise DataError(
                f"{private_path(copy / name)}: differs from the same file in {origin}, and no listfile "
                "names it"
            )
    differing = [
        name
        for name in track(list(series), "Comparing stays")
        if series_content(origin / name) != series_content(copy / name)
    ]
    parts = [_changed_cells(origin, copy, batch, channels) for batch in in_batches(differing)]
    stays_changed = sum(part.select("folder", "stay").n_unique() for part in parts)
    cells = pl.concat([pl.DataFrame(schema=CELL_SCHEMA), *(part.drop("folder") for part in parts)])
    same_cells = len(differing) - stays_changed
    deaths_changed = _changed_deaths(origin / STAYS_FILE, copy / STAYS_FILE)
    return Comparison(channels, cells, len(series), stays_changed, labels_changed, deaths_changed, same_cells)


def summarize_cells(cells: pl.DataFrame, channels: ChannelSet) -> pl.DataFrame:
    """Count the changed cells of each channel.

    Args:
        cells: `Comparison.cells`.
        channels: `Comparison.channels`.

    Returns:
        One row for each channel, in the order of `channels`: `channel`, `cells`, and the `mean` and
        `largest` absolute change, null if no changed cell has a value both before and after.
    """
    order = pl.DataFrame({"channel": channels.names})
    change = pl.col("change").abs()
    counted = cells.group_by("channel").agg(cells=pl.len(), mean=change.mean(), largest=change.max())
    return order.join(counted, on="channel", how="left", maintain_order="left").with_columns(
        pl.col("cells").fill_null(0)
    )


def _same_files(origin: Path, copy: Path, *, follow_links: bool) -> set[Path]:
    """List the files of both directories, and refuse a file that only one of them holds."""
    here, there = (set(files_of(directory, follow_links=follow_links)) for directory in (origin, copy))
    for lost in sorted(here - there):
        raise DataError(f"{private_path(copy / lost)}: is missing; {origin} holds it")
    for extra in sorted(there - here):
        raise DataError(f"{private_path(copy / extra)}: is not in {origin}")
    return here


def _changed_deaths(origin: Path, copy: Path) -> int:
    """Count the rows of `stays.csv` that tell another death, and refuse any other difference."""
    if not origin.exists() or origin.read_bytes() == copy.read_bytes():
        return 0
    fault = DataError(f"{copy}: differs from {origin} in more than deaths")
    try:
        before, after = (pl.read_csv(file, infer_schema=False) for file in (origin, copy))
    except pl.exceptions.PolarsError as error:
        raise fault from error
    if before.columns != after.columns or not before.drop(DEATH_COLUMNS, strict=False).equals(
        after.drop(DEATH_COLUMNS, strict=False)
    ):
        raise fault
    changed = [before[name].ne_missing(after[name]) for name in DEATH_COLUMNS if name in before.columns]
    return int(np.any(changed, axis=0).sum())


def _changed_cells(origin: Path, copy: Path, names: Sequence[Path], channels: ChannelSet) -> pl.DataFrame:
    """Make the rows of `Comparison.cells` for some series, with the `folder` of every stay."""
    old_paths, new_paths = [origin / name for name in names], [copy / name for name in names]
    old, new = (read_series(paths, channels)[0] for paths in (old_paths, new_paths))
    rows, new_rows = (np.bincount(records.stay, minlength=len(names)) for records in (old, new))
    for stay in np.flatnonzero(rows != new_rows)[:1]:
        raise DataError(
            f"{private_path(new_paths[stay])}: has {new_rows[stay]} rows, that in {origin} has {rows[stay]}"
        )
    line = np.arange(len(old.stay)) - (np.cumsum(rows) - rows)[old.stay] + 2
    for row in np.flatnonzero(old.hours != new.hours)[:1]:
        found, expected = private(f"{new.hours[row]} h"), private(f"{old.hours[row]} h")
        path = private_path(new_paths[old.stay[row]])
        raise DataError(f"{path}, line {line[row]}: is at {found}, in {origin} at {expected}")
    before, after = (read_cells(paths, channels).texts.fill_null("") for paths in (old_paths, new_paths))
    place = pl.DataFrame(
        {
            "folder": pl.Series([name.parent.name for name in names], dtype=pl.String).gather(old.stay),
            "stay": pl.Series([name.name for name in names], dtype=pl.String).gather(old.stay),
            "line": line,
        }
    ).with_row_index("row")
    parts = [
        place.with_columns(
            channel=pl.lit(name),
            before=before[name],
            after=after[name],
            change=pl.Series(new.values[:, i] - old.values[:, i]).fill_nan(None),
        ).filter(pl.col("before") != pl.col("after"))
        for i, name in enumerate(channels.names)
    ]
    # A stable sort keeps the channels of a line in the order of `channels`.
    return pl.concat(parts).sort("row", maintain_order=True).drop("row")
