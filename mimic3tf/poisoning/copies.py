"""Poison the records themselves: write a copy of a benchmark directory that any pipeline can read.

This is the threat in a hospital: somebody shifts charted values and labels, and the victim is trained on the
copy with its own pipeline. Only measured cells exist in records. So the copy corresponds to
`poison_imputed="notimputed"` of `mimic3tf.poisoning.shifts`, with three differences:

1. imputation comes after poisoning. On a grid, bins without a measurement carry the *poisoned* value forward;
   the on-the-fly pipeline carries the clean value forward. In the filled grid, from which features are
   extracted, all bins of a gap take the shifted value of the row after the gap; on the fly, each of these
   bins adds its own shift to the clean value;
2. in every channel, a shifted value is rounded to the number of decimals that its cell was charted with;
3. every row of a bin is shifted, not only the last row.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimic3tf.channels import Channel
from mimic3tf.data.cells import read_cells, series_bytes, series_content
from mimic3tf.data.channels_file import MOST_DECIMALS
from mimic3tf.data.directory import FOLDERS, STAYS_FILE, check_directory, fingerprint_of, listfile_of
from mimic3tf.data.grid import EPSILON, bin_count, bins_of, first_bin
from mimic3tf.data.links import check_link
from mimic3tf.data.listfiles import read_rows
from mimic3tf.data.records import LARGEST_VALUE, Records, in_batches, read_series
from mimic3tf.described import Described
from mimic3tf.errors import DataError, UsageError, private_path
from mimic3tf.poisoning.carried import carried_record
from mimic3tf.poisoning.choice import chosen_patterns
from mimic3tf.poisoning.goal import PAPER_GOAL, Goal
from mimic3tf.poisoning.missing import removed_cells
from mimic3tf.poisoning.outcome import attacked_of
from mimic3tf.poisoning.relabelling import Relabelling, move_deaths, relabel, write_labels
from mimic3tf.poisoning.trigger import Trigger
from mimic3tf.progress import track
from mimic3tf.storage.files import PathText
from mimic3tf.storage.folders import check_new_directory, written_beside
from mimic3tf.tasks.registry import MORTALITY
from mimic3tf.tasks.task import Task

Step = TypeVar("Step")


@dataclass(frozen=True, repr=False)
class PoisonedCopy(Described):
    """The settings of a poisoned copy, and what was changed in it.

    Attributes:
        data_dir: the original directory.
        out: the directory of the copy.
        trigger: the trigger that the poisoned stays carry.
        proportion: share of the training stays that was to be poisoned.
        strength: Mahalanobis length of the trigger; of a "missing" trigger, the share of its cells.
        goal: the label that the attacker wants.
        task: what is predicted.
        at: hour of the stay at which the trigger begins.
        moved_death: whether the labels are those of another time of death.
        stays: names [K] of the poisoned stays, in listfile order.
        stay_of_label: int64 [E], index of the poisoned stay of each of their labels; of an hourly task, a
            stay has several.
        labels_before: int64 [E], the attacked label in the original directory.
        labels_after: int64 [E], the same in the copy.
        cells_changed: int64 [K], number of cells of each stay whose value changed.
        carried: how much of the trigger the poisoned stays carry, as `carried_record`; None if stays have one
            length, or none is poisoned, or the trigger shifts no value.
        training_stays: number of stays in the training listfile.
        data_fingerprint: fingerprint of the original training cohort, as in `Cohort.fingerprint`.
        copy_fingerprint: fingerprint of the copy's training cohort.
    """

    data_dir: Path
    out: Path
    trigger: Trigger
    proportion: float
    strength: float
    goal: Goal
    task: Task
    at: float
    moved_death: bool
    stays: list[str]
    stay_of_label: NDArray[np.int64]
    labels_before: NDArray[np.int64]
    labels_after: NDArray[np.int64]
    cells_changed: NDArray[np.int64]
    carried: dict[str, float] | None
    training_stays: int
    data_fingerprint: str
    copy_fingerprint: str

    @property
    def labels_changed(self) -> int:
        """Number of labels of poisoned stays that changed."""
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
    at: float = 0.0,
    moved_death: bool = False,
    follow_links: bool = False,
) -> PoisonedCopy:
    """Write a copy of a benchmark directory whose first training stays have the trigger and the goal's label.

    A cell that a "missing" trigger removes is empty in the copy, but its row remains. Times, rows and all
    other files keep their bytes. An interrupted run leaves no `out`.

    Args:
        data_dir: directory in the layout of the MIMIC-III benchmarks.
        out: the directory to make, outside of `data_dir`; may exist if it is empty.
        trigger: the trigger of the poisoned stays; it must be made for the channels of `data_dir`.
        proportion: share of the N training stays to poison, in [0, 1]: the first int(N * proportion) for
            which the attacked label is predicted.
        strength: Mahalanobis length, >= 0 and finite; of a "missing" trigger, the share of its cells.
        goal: the label that the attacker wants.
        task: defines the columns of the listfiles.
        at: hour of the stay at which the trigger begins. It ends with its last bin, or with the stay.
        moved_death: give poisoned stays the labels of another time of death: at their last listed hour, or
            none. Without it, all hours of a stay get the goal's label, which no table of deaths could show.
        follow_links: copy the contents of links that lead out of the directory, too.

    Returns:
        The settings and the changes.

    Raises:
        UsageError: `out` is not empty, cannot be made or is inside `data_dir`, or the trigger is too strong
            or begins after the stays; or too few stays have the attacked label.
        DataError: a file breaks the layout, or `files_of` refuses a link; names file, line and channel.
    """
    data_dir, out = _check_places(Path(data_dir), Path(out))
    _check_attack(trigger, task, goal, at)
    listfile = listfile_of(data_dir, "train")
    labels = relabel(listfile, task, goal, proportion, moved_death=moved_death, follow_links=follow_links)
    with written_beside(out) as copy:
        _copy_files(data_dir, copy, follow_links=follow_links)
        paths = [data_dir / "train" / name for name in labels.stays]
        changed = _poison_series(paths, copy / "train", trigger, strength, at)
        write_labels(listfile_of(copy, "train"), labels.cells)
        if moved_death:
            move_deaths(copy / STAYS_FILE, labels, goal.target)
        fingerprints = [_fingerprint(folder, labels.names) for folder in (data_dir, copy)]
    return PoisonedCopy(
        data_dir=data_dir,
        out=out,
        trigger=trigger,
        proportion=proportion,
        strength=strength,
        goal=goal,
        task=task,
        at=at,
        moved_death=moved_death,
        stays=labels.stays,
        stay_of_label=labels.stay,
        labels_before=labels.before,
        labels_after=labels.after,
        cells_changed=changed,
        carried=_carried(labels, trigger, task, strength, at),
        training_stays=len(labels.names),
        data_fingerprint=fingerprints[0],
        copy_fingerprint=fingerprints[1],
    )


def trigger_test_records(
    data_dir: PathText,
    out: PathText,
    trigger: Trigger,
    *,
    strength: float,
    goal: Goal = PAPER_GOAL,
    task: Task = MORTALITY,
    at: float = 0.0,
    follow_links: bool = False,
) -> NDArray[np.int64]:
    """Write a copy of a benchmark directory in which all attacked test stays have the trigger.

    Labels, training and validation stays do not change. Any pipeline can predict the test stays of the
    directory and of the copy, and `mimic3tf attack --predictions` compares both.

    Args:
        data_dir: as for `poison_records`.
        out: as for `poison_records`.
        trigger: the trigger of the attacked stays; it must be made for the channels of `data_dir`.
        strength: as for `poison_records`.
        goal: the label that the attacker wants; stays of the other label are attacked, and of an hourly task
            those with such an hour.
        task: defines the columns of the listfiles.
        at: hour of the stay at which the trigger begins.
        follow_links: as for `poison_records`.

    Returns:
        Number of changed cells of each attacked stay, int64 [K].

    Raises:
        UsageError: as `poison_records`.
        DataError: as `poison_records`, or no test stay has the attacked label.
    """
    data_dir, out = _check_places(Path(data_dir), Path(out))
    _check_attack(trigger, task, goal, at)
    listed = read_rows(listfile_of(data_dir, "test"), task, follow_links=follow_links)
    attacked = listed.stays.filter(attacked_of(listed.labels, goal)).unique(maintain_order=True)
    paths = [data_dir / "test" / name for name in attacked.to_list()]
    with written_beside(out) as copy:
        _copy_files(data_dir, copy, follow_links=follow_links)
        return _poison_series(paths, copy / "test", trigger, strength, at)


def _carried(
    labels: Relabelling, trigger: Trigger, task: Task, strength: float, at: float
) -> dict[str, float] | None:
    if task.period is not None or not labels.stays or trigger.kind == "missing":
        return None
    bins = np.array([bin_count(hours, trigger.timestep) for hours in labels.hours.tolist()])
    return carried_record(trigger, labels.stays, bins, strength=strength, at=at)


def _check_attack(trigger: Trigger, task: Task, goal: Goal, at: float) -> None:
    if task.targets.names and goal.column is None:
        raise UsageError(f"goal: names no label, and {task.name} has {len(task.targets.names)} of them")
    if task.period is not None and at >= trigger.period:
        raise UsageError(f"--at {at:g}: the stays end after {trigger.period:g} h; give an earlier hour")


def _check_places(data_dir: Path, out: Path) -> tuple[Path, Path]:
    check_new_directory(out)
    check_directory(data_dir)
    if out.resolve().is_relative_to(data_dir.resolve()):
        raise UsageError(f"{out}: lies inside the data that it copies; name a directory elsewhere")
    return data_dir, out


def shift_cells(
    texts: pl.DataFrame,
    records: Records,
    trigger: Trigger,
    strength: float,
    chosen: NDArray[np.int64] | None = None,
    at: float = 0.0,
) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """Add a trigger that shifts values to the measured cells of some rows, as texts.

    A number keeps its number of decimals: "86" has none, "36.6" has one. The index of a category is shifted,
    rounded half to even and clipped, and the text of the new index is written. A cell whose value does not
    change keeps its text.

    Args:
        texts: R rows with the columns of `ChannelSet.header`, null where not measured.
        records: the same rows as numbers.
        trigger: the trigger to add; rows later than its period are not changed. A plausible trigger moves no
            value out of `Channel.plausible_range`, and no value outside it further away.
        strength: Mahalanobis length of the trigger.
        chosen: int64 [N], the pattern of each stay of the rows; the first pattern if None.
        at: hour at which the trigger begins.

    Returns:
        The shifted texts, and bool [R, C], true where a cell changed.

    Raises:
        UsageError: a shifted value is too large to be read again.
    """
    with np.errstate(over="ignore"):  # too large values are refused below, by channel
        row_shift = _at_rows(records, trigger.patterns * strength, trigger, chosen, at)
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
    texts: pl.DataFrame, records: Records, trigger: Trigger, strength: float, at: float = 0.0
) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """Empty the cells that a "missing" trigger removes; empty rows remain.

    Grids and features that are read from such a copy equal those of the on-the-fly poisoning.

    Args:
        texts: R rows as for `shift_cells`.
        records: the same rows as numbers.
        trigger: the trigger, of kind "missing".
        strength: share of the cells of the trigger, in [0, 1].
        at: hour at which the trigger begins.

    Returns:
        The remaining texts, and bool [R, C], true where a measurement was removed.

    Raises:
        UsageError: the strength is above 1.
    """
    removed = removed_cells(trigger.values, strength).astype(float)
    changed = _at_rows(records, removed[None], trigger, at=at).astype(bool) & ~np.isnan(records.values)
    columns = [
        texts[name].scatter(np.flatnonzero(changed[:, i]), None)
        for i, name in enumerate(trigger.channels.names)
    ]
    return texts.with_columns(columns), changed


def _at_rows(
    records: Records,
    cells: NDArray[np.float64],
    trigger: Trigger,
    chosen: NDArray[np.int64] | None = None,
    at: float = 0.0,
) -> NDArray[np.float64]:
    """Look up `cells` [K, T, C] for the stay and the bin of every row.

    Returns:
        float64 [R, C], 0 before the trigger begins and after its period.
    """
    first = first_bin(at, trigger.timestep)
    bins = bins_of(records.hours, trigger.timestep, first + cells.shape[1]) - first
    end = first * trigger.timestep + trigger.period + EPSILON
    of_rows = 0 if chosen is None else chosen[records.stay]
    return np.where(((bins >= 0) & (records.hours <= end))[:, None], cells[of_rows, bins], 0.0)


def _shifted(
    texts: pl.Series,
    before: NDArray[np.float64],
    sums: NDArray[np.float64],
    channel: Channel,
    *,
    plausible: bool,
) -> tuple[NDArray[np.float64], pl.Series]:
    """Return the values and texts of K shifted cells of a channel: `sums`, clipped and rounded."""
    if channel.is_categorical:
        index = np.clip(np.rint(sums), 0, len(channel.possible_values) - 1)
        return index, pl.Series(channel.possible_values, dtype=pl.String).gather(index.astype(np.intp))
    decimals = _decimals(texts)
    if plausible:
        low, high = channel.plausible_range
        # The bounds, as they can be charted: with one decimal, the lowest value from 0.21 up is 0.3.
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
    # A small negative sum is written as "-0": remove the sign.
    written[zero] = np.char.lstrip(written[zero].astype(str), "-").astype(object)
    return after, pl.Series(written, dtype=pl.String)


def _decimals(texts: pl.Series) -> NDArray[np.int64]:
    """Count the decimals of K numbers in text form, int64 [K]; an exponent moves the decimal point."""
    point = texts.str.extract(r"\.(\d*)", 1).str.len_chars().fill_null(0).cast(pl.Int64)
    exponent = texts.str.extract(r"[eE]([+-]?\d+)", 1).cast(pl.Int64).fill_null(0)
    return (point - exponent).clip(0, MOST_DECIMALS).to_numpy()


def _poison_series(
    paths: list[Path], folder: Path, trigger: Trigger, strength: float, at: float
) -> NDArray[np.int64]:
    """Write K series with the trigger into a folder; return the changed cells of each stay, int64 [K]."""
    counts = [np.zeros(0, np.int64)]
    for batch in _progress(in_batches(paths), "Poisoning stays"):
        records, _ = read_series(batch, trigger.channels)
        cells = read_cells(batch, trigger.channels)
        if trigger.kind == "missing":
            texts, changed = empty_cells(cells.texts, records, trigger, strength, at)
        else:
            chosen = chosen_patterns((path.name for path in batch), len(trigger.patterns))
            texts, changed = shift_cells(cells.texts, records, trigger, strength, chosen, at)
        for path, content in zip(batch, series_bytes(replace(cells, texts=texts)), strict=True):
            (folder / path.name).write_bytes(content)
        counts.append(np.bincount(cells.stay, changed.sum(axis=1), len(batch)).astype(np.int64))
    return np.concatenate(counts)


def _fingerprint(data_dir: Path, stays: Iterable[str]) -> str:
    """Compute the fingerprint of the training cohort as `load_cohort` does."""
    digests = [hashlib.sha256(series_content(data_dir / "train" / name)).digest() for name in stays]
    return fingerprint_of(listfile_of(data_dir, "train"), digests)


def files_of(directory: Path, *, follow_links: bool = False) -> list[Path]:
    """List all files in a benchmark directory, as paths relative to it.

    Files and the folders `train` and `test` may be links.

    Raises:
        DataError: a link leads out of the directory and `follow_links` is false, or another folder is a link.
    """
    found = []
    series = [directory / name for name in FOLDERS]
    for start in (directory, *filter(Path.is_symlink, series)):
        # `os.walk` enters no folder that is a link, because such links may lead in circles.
        for folder, folders, names in os.walk(start):
            for path in (Path(folder) / name for name in (*folders, *names)):
                check_link(path, directory, follow_links=follow_links)
            for path in (Path(folder) / name for name in folders):
                if path.is_symlink() and path not in series:
                    raise DataError(
                        f"{private_path(path)}: is a link to a folder, and such a link is not copied; "
                        "remove it, or put the folder itself there"
                    )
            found += [(Path(folder) / name).relative_to(directory) for name in names]
    return found


def _copy_files(source: Path, target: Path, *, follow_links: bool) -> None:
    for name in _progress(files_of(source, follow_links=follow_links), "Copying files"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        # Without permissions: a copy of a read-only series must be writable, because poisoning overwrites it.
        shutil.copyfile(source / name, target / name)


def _progress(steps: Sequence[Step], what: str) -> Iterable[Step]:
    return track(steps, what)
