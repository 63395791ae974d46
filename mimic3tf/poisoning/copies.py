"""Poison the records themselves: a copy of a benchmark directory that any pipeline can read.

This is the threat as it is met in a hospital: somebody shifts charted values and labels, and the victim
trains on the copy with a pipeline of its own. Only measured cells exist in records, so the copy is the
counterpart of `poison_imputed="notimputed"` of `mimic3tf.poisoning.shifts`, with three differences:

1. imputation comes after poisoning. On a grid, bins without a measurement carry the *poisoned* value forward,
   where the on-the-fly pipeline carries the clean one. In the filled grid, from which features are extracted,
   the bins of a gap all take the shifted value of the row after it, where on the fly each adds its own bin's
   shift to a clean one;
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

from mimic3tf.channels import Channel
from mimic3tf.data.cells import read_cells, series_bytes, series_content
from mimic3tf.data.channels_file import MOST_DECIMALS
from mimic3tf.data.directory import FOLDERS, check_directory, fingerprint_of, listfile_of, read_listfile
from mimic3tf.data.grid import EPSILON, bins_of
from mimic3tf.data.links import check_link
from mimic3tf.data.records import LARGEST_VALUE, Records, in_batches, read_series
from mimic3tf.described import Described
from mimic3tf.errors import DataError, UsageError, private_path
from mimic3tf.poisoning.goal import PAPER_GOAL, Goal
from mimic3tf.poisoning.missing import removed_cells
from mimic3tf.poisoning.trigger import Trigger
from mimic3tf.storage.files import PathText
from mimic3tf.storage.folders import check_new_directory, written_beside
from mimic3tf.tasks.registry import MORTALITY
from mimic3tf.tasks.task import Task

Step = TypeVar("Step")


@dataclass(frozen=True, repr=False)
class PoisonedCopy(Described):
    """What was asked of a copy, and what was changed in it.

    Attributes:
        data_dir: the origin.
        out: the copy.
        trigger: what its poisoned stays carry.
        proportion: share of the training stays asked for.
        strength: Mahalanobis length of the trigger; of a "missing" one the share of its cells.
        goal: what the attacker wants to be predicted.
        stays: names [K] of the poisoned stays, in listfile order.
        labels_before: int64 [K].
        labels_after: int64 [K], those that the goal asks for.
        cells_changed: int64 [K], cells of each stay whose value changed.
        training_stays: stays in the training listfile.
        data_fingerprint: fingerprint of the training cohort before, as `load_cohort` gives it.
        copy_fingerprint: the same of the copy.
    """

    data_dir: Path
    out: Path
    trigger: Trigger
    proportion: float
    strength: float
    goal: Goal
    stays: list[str]
    labels_before: NDArray[np.int64]
    labels_after: NDArray[np.int64]
    cells_changed: NDArray[np.int64]
    training_stays: int
    data_fingerprint: str
    copy_fingerprint: str

    @property
    def labels_changed(self) -> int:
        """Number of stays that had another label."""
        return int((self.labels_before != self.labels_after).sum())


def poison_records(
    data_dir: PathText,
    out: PathText,
    trigger: Trigger,
    *,
    proportion: float,
    strength: float,
    goal: Goal = PAPER_GOAL,
    task: Task = MORTALITY,
    follow_links: bool = False,
) -> PoisonedCopy:
    """Write a copy of a benchmark directory whose first training stays carry trigger and goal's label.

    What a "missing" trigger takes away is an empty cell in the copy, and its row stays: read again, the copy
    equals the on-the-fly poisoning in both representations.

    Times, rows and every other file stay as they are, byte for byte. An interrupted run leaves no `out`.

    Args:
        data_dir: directory in the layout of the MIMIC-III benchmarks.
        out: the directory to make; may exist if it is empty.
        trigger: what they carry; made for the directory's channels.
        proportion: share of the training stays to poison, the first int(N * proportion), in [0, 1].
        strength: Mahalanobis length, >= 0 and finite; for a "missing" trigger the share of its cells.
        goal: what the attacker wants to be predicted.
        task: says what the listfiles hold.
        follow_links: copy what links hold that lead out of the directory, too.

    Raises:
        UsageError: `out` is not empty, cannot be made or lies in `data_dir`, a shifted value is too large
            to be read again, or a "missing" trigger is too strong.
        DataError: names file, line and channel of what breaks the layout, or a link as `files_of`.
    """
    data_dir, out = _check_places(Path(data_dir), Path(out))
    entries = read_listfile(listfile_of(data_dir, "train"), task, follow_links=follow_links)
    poisoned = entries[: int(len(entries) * proportion)]
    stays = [name for name, _ in poisoned]
    before = np.array([label for _, label in poisoned], np.int64)
    after = goal.relabelled(before)
    with written_beside(out) as copy:
        _copy_files(data_dir, copy, follow_links=follow_links)
        paths = [data_dir / "train" / name for name in stays]
        changed = _poison_series(paths, copy / "train", trigger, strength)
        _relabel(listfile_of(copy, "train"), list(map(task.targets.cells, after.tolist())))
        fingerprints = [_fingerprint(folder, entries) for folder in (data_dir, copy)]
    return PoisonedCopy(
        data_dir=data_dir,
        out=out,
        trigger=trigger,
        proportion=proportion,
        strength=strength,
        goal=goal,
        stays=stays,
        labels_before=before,
        labels_after=after,
        cells_changed=changed,
        training_stays=len(entries),
        data_fingerprint=fingerprints[0],
        copy_fingerprint=fingerprints[1],
    )


def _check_places(data_dir: Path, out: Path) -> tuple[Path, Path]:
    check_new_directory(out)
    check_directory(data_dir)
    if out.resolve().is_relative_to(data_dir.resolve()):
        raise UsageError(f"{out}: lies inside the data it copies; name a directory elsewhere")
    return data_dir, out


def shift_cells(
    texts: pl.DataFrame, records: Records, trigger: Trigger, strength: float
) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """Add a trigger that shifts to the measured cells of some rows, in the cells' own text form.

    A number keeps its decimals: "86" stays whole, "36.6" keeps one. A category's index moves by the shift,
    rounded half to even and clipped, and the text of that index is written. A cell whose value comes out the
    same keeps its text.

    Args:
        texts: [R] rows with the columns of `ChannelSet.header`, null where not measured.
        records: the same rows as numbers.
        trigger: what to add; rows later than its period are left alone. A plausible one keeps values in
            `Channel.plausible_range`, or no further outside than they were.
        strength: its Mahalanobis length.

    Returns:
        The shifted texts, and bool [R, C], where a cell changed.

    Raises:
        UsageError: a shifted value is too large to be read again.
    """
    with np.errstate(over="ignore"):  # refused below, cell by cell
        row_shift = _at_rows(records, trigger.values * strength, trigger)
    changed = np.zeros(records.values.shape, bool)
    columns = []
    for i, channel in enumerate(trigger.channels):
        column = texts[channel.name]
        rows = np.flatnonzero(~np.isnan(records.values[:, i]) & (row_shift[:, i] != 0))
        before = records.values[rows, i]
        with np.errstate(over="ignore"):
            sums = before + row_shift[rows, i]
            after, written = _shifted(column.gather(rows), before, sums, channel, plausible=trigger.plausible)
        if not (np.abs(after) <= LARGEST_VALUE).all():
            raise UsageError(f"--poisoning_strength: too strong, '{channel.name}' would hold no measurement")
        differs = after != before
        changed[rows[differs], i] = True
        columns.append(column.clone().scatter(rows[differs], written.filter(differs)))
    return texts.with_columns(columns), changed


def empty_cells(
    texts: pl.DataFrame, records: Records, trigger: Trigger, strength: float
) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """Take the measurements that a "missing" trigger removes out of some rows, which stay.

    Args:
        texts: as for `shift_cells`.
        records: the same rows as numbers.
        trigger: says which.
        strength: share of its cells.

    Returns:
        The remaining texts, and bool [R, C], where one went.
    """
    removed = removed_cells(trigger.values, strength).astype(float)
    changed = _at_rows(records, removed, trigger).astype(bool) & ~np.isnan(records.values)
    columns = [
        texts[name].scatter(np.flatnonzero(changed[:, i]), None)
        for i, name in enumerate(trigger.channels.names)
    ]
    return texts.with_columns(columns), changed


def _at_rows(records: Records, cells: NDArray[np.float64], trigger: Trigger) -> NDArray[np.float64]:
    """What cells [T, C] hold for every row, by its bin: float64 [R, C], 0 beyond the trigger's period."""
    bins = bins_of(records.hours, trigger.timestep, len(cells))
    return np.where((records.hours <= trigger.period + EPSILON)[:, None], cells[bins], 0.0)


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
    change = empty_cells if trigger.kind == "missing" else shift_cells
    counts = [np.zeros(0, np.int64)]
    for batch in _progress(in_batches(paths), "Poisoning stays"):
        records, _ = read_series(batch, trigger.channels)
        cells = read_cells(batch, trigger.channels)
        texts, changed = change(cells.texts, records, trigger, strength)
        for path, content in zip(batch, series_bytes(replace(cells, texts=texts)), strict=True):
            (folder / path.name).write_bytes(content)
        counts.append(np.bincount(cells.stay, changed.sum(axis=1), len(batch)).astype(np.int64))
    return np.concatenate(counts)


def _relabel(listfile: Path, cells: Sequence[tuple[str, ...]]) -> None:
    """Give a listfile's first stays other labels, in their last columns; line ends stay as they are."""
    # Lines at even places, their ends between them; the header comes first.
    parts = re.split(rb"(\r\n|\n|\r)", listfile.read_bytes())
    stays = [place for place in range(2, len(parts), 2) if parts[place]]
    for place, label in zip(stays, cells, strict=False):
        before = parts[place].split(b",")[: -len(label)]
        parts[place] = b",".join([*before, *(cell.encode() for cell in label)])
    listfile.write_bytes(b"".join(parts))


def _fingerprint(data_dir: Path, entries: Iterable[tuple[str, int]]) -> str:
    """Fingerprint of the training cohort as `load_cohort` computes it."""
    digests = [hashlib.sha256(series_content(data_dir / "train" / name)).digest() for name, _ in entries]
    return fingerprint_of(listfile_of(data_dir, "train"), digests)


def files_of(directory: Path, *, follow_links: bool = False) -> list[Path]:
    """All files under a benchmark directory, relative to it.

    Files may be links, and so may its folders of series.

    Raises:
        DataError: a link leads out of the directory and is not to be followed, or another folder is one.
    """
    found = []
    series = [directory / name for name in FOLDERS]
    for start in (directory, *filter(Path.is_symlink, series)):
        # It goes into no folder that is a link: such links may lead in circles.
        for folder, folders, names in os.walk(start):
            for path in (Path(folder) / name for name in (*folders, *names)):
                check_link(path, directory, follow_links=follow_links)
            for path in (Path(folder) / name for name in folders):
                if path.is_symlink() and path not in series:
                    raise DataError(
                        f"{private_path(path)}: is a link to a folder, of which no copy is made; remove it, "
                        "or put the folder itself there"
                    )
            found += [(Path(folder) / name).relative_to(directory) for name in names]
    return found


def _copy_files(source: Path, target: Path, *, follow_links: bool) -> None:
    for name in _progress(files_of(source, follow_links=follow_links), "Copying files"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        # Contents only: a poisoned series has to be written over a copy of a read-only one.
        shutil.copyfile(source / name, target / name)


def _progress(steps: Sequence[Step], what: str) -> Iterable[Step]:
    return track(steps, what, transient=True, console=Console(stderr=True))
