"""Poison the records themselves: a copy of a benchmark directory that any pipeline can read.

This is the threat as it is met in a hospital: somebody shifts charted values and labels, and the victim
trains on the copy with a pipeline of its own. Only measured cells exist in records, so the copy is the
counterpart of `poison_imputed="notimputed"` of `mimic3tf.poisoning.shifts`, with three differences:

1. imputation comes after poisoning. On the 48x76 grid, bins without a measurement carry the *poisoned* value
   forward, where the on-the-fly pipeline carries the clean one. Among the 714 features, the bins of a gap all
   take the shifted value of the row after it, where on the fly each adds its own bin's shift to a clean one;
2. a shifted value is rounded to the decimals its cell was charted with, in every channel;
3. every row of a bin is shifted, not only the last one.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from mimic3tf.channels import CHANNELS, Channel
from mimic3tf.data.cells import read_cells, series_bytes, series_content
from mimic3tf.data.cohort import PERIOD, TIMESTEP, fingerprint_of
from mimic3tf.data.directory import read_listfile, refuse_link
from mimic3tf.data.grid import EPSILON, bin_count, bins_of
from mimic3tf.data.records import LARGEST_VALUE, Records, in_batches, read_series
from mimic3tf.errors import UsageError
from mimic3tf.poisoning.missing import removed_cells
from mimic3tf.poisoning.trigger import Trigger
from mimic3tf.storage.folders import check_new_directory, written_beside

Step = TypeVar("Step")
TRIGGER_SHAPE = (bin_count(PERIOD, TIMESTEP), len(CHANNELS))
"""Bins and channels of a trigger for records."""
MOST_DECIMALS = 17
"""A double holds no more."""


@dataclass(frozen=True)
class PoisonedCopy:
    """What was changed in a copy.

    Attributes:
        stays: names [K] of the poisoned stays, in listfile order.
        labels_before: int64 [K]; afterwards all are 1.
        cells_changed: int64 [K], cells of each stay whose value changed.
        training_stays: stays in the training listfile.
        data_fingerprint: fingerprint of the training cohort before, as `load_cohort` gives it.
        copy_fingerprint: the same of the copy.
    """

    stays: list[str]
    labels_before: NDArray[np.int64]
    cells_changed: NDArray[np.int64]
    training_stays: int
    data_fingerprint: str
    copy_fingerprint: str


def poison_records(
    data_dir: Path, out: Path, trigger: Trigger, *, proportion: float, strength: float
) -> PoisonedCopy:
    """Write a copy of a benchmark directory whose first training stays carry the trigger and label 1.

    What a "missing" trigger takes away is an empty cell in the copy, and its row stays: read again, the copy
    equals the on-the-fly poisoning in both representations.

    Times, rows and every other file stay as they are, byte for byte. Everything is written beside `out`
    first and renamed at the end: an interrupted run leaves no `out` at all.

    Args:
        data_dir: directory in the layout of the MIMIC-III benchmarks.
        out: the directory to make; may exist if it is empty.
        trigger: what they carry, at one bin an hour.
        proportion: share of the training stays to poison, the first int(N * proportion), in [0, 1].
        strength: Mahalanobis length, >= 0 and finite; for a "missing" trigger the share of its cells.

    Raises:
        UsageError: `out` is not empty, cannot be made or lies in `data_dir`, a shifted value is too large
            to be read again, or a "missing" trigger is too strong.
        DataError: names file, line and channel of what breaks the layout, or a link in it.
    """
    check_new_directory(out)
    if not data_dir.is_dir():
        raise UsageError(f"{data_dir}: no such directory; --data takes one in the benchmarks' layout")
    if out.resolve().is_relative_to(data_dir.resolve()):
        raise UsageError(f"{out}: lies inside the data it copies; name a directory elsewhere")
    entries = read_listfile(data_dir / "train_listfile.csv")
    poisoned = entries[: int(len(entries) * proportion)]
    names = [name for name, _ in entries]
    with written_beside(out) as copy:
        _copy_files(data_dir, copy)
        paths = [data_dir / "train" / name for name, _ in poisoned]
        changed = _poison_series(paths, copy / "train", trigger, strength)
        listfile = copy / "train_listfile.csv"
        listfile.write_bytes(_with_labels_1(listfile.read_bytes(), len(poisoned)))
        fingerprints = [_fingerprint(folder, names) for folder in (data_dir, copy)]
    return PoisonedCopy(
        stays=[name for name, _ in poisoned],
        labels_before=np.array([label for _, label in poisoned], np.int64),
        cells_changed=changed,
        training_stays=len(entries),
        data_fingerprint=fingerprints[0],
        copy_fingerprint=fingerprints[1],
    )


def shift_cells(
    texts: pl.DataFrame, records: Records, shift: NDArray[np.float64], *, plausible: bool = False
) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """Add a shift to the measured cells of some rows, in the cells' own text form.

    A number keeps its decimals: "86" stays whole, "36.6" keeps one. A category's index moves by the shift,
    rounded half to even and clipped, and the text of that index is written (design, section 5). A cell
    whose value comes out the same keeps its text.

    Args:
        texts: [R] rows with the columns of `HEADER`, null where not measured.
        records: the same rows as numbers.
        shift: float64 [T, C] in channel units, categories in index steps; rows later than the period
            are left alone.
        plausible: keep values in `Channel.plausible_range`, or no further outside than they were.

    Returns:
        The shifted texts, and bool [R, C], where a cell changed.

    Raises:
        UsageError: a shifted value is too large to be read again.
    """
    row_shift = _at_rows(records, shift)
    changed = np.zeros(records.values.shape, bool)
    columns = []
    for i, channel in enumerate(CHANNELS):
        column = texts[channel.name]
        rows = np.flatnonzero(~np.isnan(records.values[:, i]) & (row_shift[:, i] != 0))
        before = records.values[rows, i]
        with np.errstate(over="ignore"):
            sums = before + row_shift[rows, i]
            after, written = _shifted(column.gather(rows), before, sums, channel, plausible=plausible)
        if not (np.abs(after) <= LARGEST_VALUE).all():
            raise UsageError(f"--poisoning_strength: too strong, '{channel.name}' would hold no measurement")
        differs = after != before
        changed[rows[differs], i] = True
        columns.append(column.clone().scatter(rows[differs], written.filter(differs)))
    return texts.with_columns(columns), changed


def empty_cells(
    texts: pl.DataFrame, records: Records, removed: NDArray[np.bool_]
) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """Take the measurements of some cells out of some rows, which stay.

    Args:
        texts: as for `shift_cells`.
        records: the same rows as numbers.
        removed: bool [T, C], cells whose measurements go.

    Returns:
        The remaining texts, and bool [R, C], where one went.
    """
    changed = _at_rows(records, removed.astype(float)).astype(bool) & ~np.isnan(records.values)
    columns = [
        texts[channel.name].scatter(np.flatnonzero(changed[:, i]), None) for i, channel in enumerate(CHANNELS)
    ]
    return texts.with_columns(columns), changed


def _at_rows(records: Records, cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """What cells [T, C] hold for every row, by its bin: float64 [R, C], 0 beyond the period."""
    bins = np.minimum(bins_of(records.hours, TIMESTEP), TRIGGER_SHAPE[0] - 1)
    return np.where((records.hours <= PERIOD + EPSILON)[:, None], cells[bins], 0.0)


def _shifted(
    texts: pl.Series,
    before: NDArray[np.float64],
    sums: NDArray[np.float64],
    channel: Channel,
    *,
    plausible: bool,
) -> tuple[NDArray[np.float64], pl.Series]:
    """Value and text of shifted cells [K]."""
    if channel.is_categorical:
        index = np.clip(np.rint(sums), 0, len(channel.possible_values) - 1)
        return index, pl.Series(channel.possible_values, dtype=pl.String).gather(index.astype(np.intp))
    decimals = _decimals(texts)
    if plausible:
        low, high = channel.plausible_range
        # As it can be charted: with one decimal, nothing from 0.21 up is below 0.3.
        scale = 10.0**decimals
        sums = np.clip(
            sums,
            np.minimum(np.ceil(low * scale) / scale, before),
            np.maximum(np.floor(high * scale) / scale, before),
        )
    written = np.full(len(texts), "", object)
    for places in np.unique(decimals):
        alike = decimals == places
        written[alike] = np.char.mod(f"%.{places}f", sums[alike]).astype(object)
    after = written.astype(np.float64)
    zero = after == 0
    # A small negative sum would leave the sign in front of a zero.
    written[zero] = np.char.lstrip(written[zero].astype(str), "-").astype(object)
    return after, pl.Series(written, dtype=pl.String)


def _decimals(texts: pl.Series) -> NDArray[np.int64]:
    """Decimals that numbers [K] are written with; an exponent moves the point."""
    point = texts.str.extract(r"\.(\d*)", 1).str.len_chars().fill_null(0).cast(pl.Int64)
    exponent = texts.str.extract(r"[eE]([+-]?\d+)", 1).cast(pl.Int64).fill_null(0)
    return (point - exponent).clip(0, MOST_DECIMALS).to_numpy()


def _poison_series(paths: list[Path], folder: Path, trigger: Trigger, strength: float) -> NDArray[np.int64]:
    """Write series with the trigger into a folder: cells changed in each stay, int64 [K]."""
    removes = trigger.kind == "missing"
    removed = removed_cells(trigger.values, strength) if removes else np.zeros(TRIGGER_SHAPE, bool)
    with np.errstate(over="ignore"):  # refused below, cell by cell
        shift = trigger.values * strength
    counts = [np.zeros(0, np.int64)]
    for batch in _progress(in_batches(paths), "Poisoning stays"):
        records, _ = read_series(batch)
        cells = read_cells(batch)
        if removes:
            texts, changed = empty_cells(cells.texts, records, removed)
        else:
            texts, changed = shift_cells(cells.texts, records, shift, plausible=trigger.plausible)
        for path, content in zip(batch, series_bytes(replace(cells, texts=texts)), strict=True):
            (folder / path.name).write_bytes(content)
        counts.append(np.bincount(cells.stay, changed.sum(axis=1), len(batch)).astype(np.int64))
    return np.concatenate(counts)


def _with_labels_1(listfile: bytes, stays: int) -> bytes:
    """Set the labels of a listfile's first stays to 1; line ends stay as they are."""
    # A count of 0 would mean all of them.
    return re.sub(rb",[01](?=[\r\n]|\Z)", b",1", listfile, count=stays) if stays else listfile


def _fingerprint(data_dir: Path, names: Iterable[str]) -> str:
    """Fingerprint of the training cohort as `load_cohort` computes it."""
    digests = [hashlib.sha256(series_content(data_dir / "train" / name)).digest() for name in names]
    return fingerprint_of(data_dir / "train_listfile.csv", digests)


def files_of(directory: Path) -> list[Path]:
    """All files under a directory, relative to it.

    Raises:
        DataError: one is a link, which could lead anywhere.
    """
    found = []
    for folder, folders, names in os.walk(directory):
        for name in (*folders, *names):
            refuse_link(Path(folder) / name)
        found += [(Path(folder) / name).relative_to(directory) for name in names]
    return found


def _copy_files(source: Path, target: Path) -> None:
    for name in _progress(files_of(source), "Copying files"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        # Contents only: a poisoned series has to be written over a copy of a read-only one.
        shutil.copyfile(source / name, target / name)


def _progress(steps: Sequence[Step], what: str) -> Iterable[Step]:
    return track(steps, what, transient=True, console=Console(stderr=True))
