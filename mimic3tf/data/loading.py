"""Read a split of a benchmark directory as a cohort, and keep it in the cache."""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimic3tf.channels import ChannelSet
from mimic3tf.data import grid as binning
from mimic3tf.data.channels_file import CHANNELS_FILE, read_channels
from mimic3tf.data.cohort import TIMESTEP, Cohort, Examples
from mimic3tf.data.directory import (
    SPLITS,
    Split,
    check_directory,
    fingerprint_of,
    folder_of,
    listfile_of,
    series_of,
)
from mimic3tf.data.links import check_link
from mimic3tf.data.listfiles import Listed, read_split
from mimic3tf.data.lost_none import note_lost_none
from mimic3tf.data.records import FILES_A_BATCH, Records, read_series, unreadable_series
from mimic3tf.errors import DataError, UsageError, near, private_path
from mimic3tf.progress import track
from mimic3tf.storage.cache import ANY, Layout, cache_folder, read_cache, write_cache
from mimic3tf.storage.files import PathText
from mimic3tf.tasks.registry import MORTALITY, task_of
from mimic3tf.tasks.remaining import Classes
from mimic3tf.tasks.task import Task

CACHE_FORMAT = 7
_REMAINING = "example_remaining"
RAGGED_A_BATCH = 100
"""Number of files that are read together if stays have different lengths."""


def load_cohort(
    data_dir: PathText,
    split: Split,
    *,
    task: str = MORTALITY.name,
    period: float | None = None,
    timestep: float = TIMESTEP,
    follow_links: bool = False,
) -> Cohort:
    """Load a split of a benchmark directory, from the cache if its files have not changed.

    The cache is in the user's cache folder, or in the folder that MIMIC3TF_CACHE names. The cohort is read
    again if the listfile, the channels, or the size or modification time of a series has changed.

    Args:
        data_dir: directory in the layout of the MIMIC-III benchmarks; its `channels.yaml`, if it has one,
            describes its channels.
        split: "train", "val" or "test"; the series of train and val are both in `train/`.
        task: name of the task: what is predicted.
        period: hours of a stay that are read; the task's own period if not given.
        timestep: hours of a bin.
        follow_links: read links that lead out of the directory, too; only if you trust who made it.

    Returns:
        The cohort; its arrays are memory-mapped.

    Raises:
        UsageError: the directory, the split or the task does not exist.
        DataError: a file breaks the layout; names file, line and column.
    """
    data_dir = Path(data_dir)
    if split not in SPLITS:
        raise UsageError(f"no split '{split}'; known: {', '.join(SPLITS)}{near(split, SPLITS)}")
    check_directory(data_dir)
    reading = _Reading(read_channels(data_dir, follow_links=follow_links), task_of(task), period, timestep)
    place = _Place(data_dir, split, follow_links)
    key = f"{data_dir.resolve()}\n{split}\n{task}\n{reading.most}\n{timestep}"
    cache = cache_folder() / hashlib.sha256(key.encode()).hexdigest()[:16]
    # Parsing the listfile of millions of hours would take longer than reading the cache.
    listed = place.listfiles_state(reading)
    cohort = None if listed is None else _read_cohort(cache, listed, place, reading)
    if cohort is None:
        entries = read_split(data_dir, split, reading.task, follow_links=follow_links)
        stays = entries.stays.unique(maintain_order=True).to_list()
        paths = series_of(data_dir, split, stays, follow_links=follow_links)
        series = place.series_state(stays)
        cohort = _build(listfile_of(data_dir, split), paths, entries, reading)
        assert listed is not None
        _write_cohort(
            cache, listed, cohort, {"data": str(data_dir.resolve()), "split": split, "series": series}
        )
    note_lost_none(data_dir, cohort)
    return cohort


@dataclass(frozen=True)
class _Reading:
    """The settings with which series become grids."""

    channels: ChannelSet
    task: Task
    asked: float | None
    timestep: float

    @property
    def period(self) -> float | None:
        """Hours that are read of every stay; None if every stay has hours of its own."""
        return self.asked if self.asked is not None and self.task.period is not None else self.task.period

    @property
    def most(self) -> float | None:
        """Most hours that are read of a stay; None if every stay is read to its end."""
        return self.asked if self.period is None else self.period

    def examples_of(self, entries: Listed) -> tuple[NDArray[np.str_], Examples, NDArray[np.float64]]:
        """Gather the rows of a listfile by stay.

        Returns:
            Names of the stays [N], in the order of their first rows; the examples, sorted by stay and hour;
            and the hours that are read of each stay, to its last example: float64 [N].
        """
        names = entries.stays.unique(maintain_order=True)
        place = entries.stays.cast(pl.Enum(names)).to_physical()
        stay = place.to_numpy().astype(np.int32)
        hours = entries.hours if self.period is None else np.full(len(stay), self.period)
        order = np.lexsort((hours, stay))
        if self.task.hourly and self.asked is not None:
            order = order[hours[order] <= self.asked + binning.EPSILON]
        elif self.asked is not None:
            hours = np.minimum(hours, self.asked)
        examples = Examples(stay, self.bins_of(hours).astype(np.int16), entries.labels, entries.remaining)
        last = np.zeros(len(names))
        np.maximum.at(last, stay[order], hours[order])
        return names.to_numpy().astype(np.str_), examples.take(order, stay), last

    def bins_of(self, hours: NDArray[np.float64]) -> NDArray[np.int64]:
        """Count the bins of each stay: int64 [N].

        Raises:
            DataError: a stay has no bin, or too many.
        """
        different, place = np.unique(hours, return_inverse=True)
        return np.array([binning.bin_count(each, self.timestep) for each in different.tolist()])[place]


@dataclass(frozen=True)
class _Place:
    """The files of a split, and the fingerprints by which the cache knows them again."""

    data_dir: Path
    split: Split
    follow_links: bool

    def listfiles_state(self, reading: _Reading) -> str | None:
        """Hash the settings and the listfiles of all splits, which share no stay; None without a listfile."""
        settings = f"{CACHE_FORMAT} {reading.timestep} {reading.most} {reading.channels}"
        digest = hashlib.sha256(settings.encode())
        files = {split: listfile_of(self.data_dir, split) for split in SPLITS}
        if not files[self.split].exists():
            return None
        for split, file in files.items():
            if file.exists():
                check_link(file, self.data_dir, follow_links=self.follow_links)
                digest.update(f"{split}\n".encode() + file.read_bytes())
        # The cache holds the fingerprint, which changes with every byte of `channels.yaml`.
        own = self.data_dir / CHANNELS_FILE
        digest.update(own.read_bytes() if own.exists() else b"")
        return digest.hexdigest()

    def series_state(self, stays: Sequence[str]) -> str:
        """Hash names, sizes and times of the series files.

        Raises:
            DataError: a file is absent, or a link that leads out of the directory.
        """
        digest = hashlib.sha256()
        series_of(self.data_dir, self.split, (), follow_links=self.follow_links)
        # A path object for each of many stays would take longer than to look at its file.
        folder = str(self.data_dir / folder_of(self.split))
        for name in stays:
            file = f"{folder}/{name}"
            try:
                status = os.lstat(file)
                if stat.S_ISLNK(status.st_mode):
                    check_link(Path(file), self.data_dir, follow_links=self.follow_links)
                    # A store names files by their contents, and may give all files the same time.
                    digest.update(os.fsencode(os.readlink(file)))  # noqa: PTH115
                    status = os.stat(file)  # noqa: PTH116
            except OSError as error:
                raise unreadable_series(Path(file), error) from None
            digest.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
        return digest.hexdigest()


def _build(listfile: Path, paths: list[Path], entries: Listed, reading: _Reading) -> Cohort:
    stays, examples, hours = reading.examples_of(entries)
    # A batch takes the memory of its longest stay for each of its stays.
    size = FILES_A_BATCH if reading.period is not None else RAGGED_A_BATCH
    batches = [slice(first, first + size) for first in range(0, len(paths), size)]
    # Threads are enough, because the parser and NumPy release the interpreter's lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(
            track(
                pool.map(
                    _read_batch,
                    [paths[batch] for batch in batches],
                    [hours[batch] for batch in batches],
                    itertools.repeat(reading),
                ),
                f"Reading {listfile.stem}",
                total=len(batches),
            )
        )
    values, masks, filled, digests = zip(*parts, strict=True)
    bins = reading.bins_of(hours)
    return Cohort(
        reading.channels,
        reading.task,
        stays,
        np.concatenate([[0], np.cumsum(bins)]).astype(np.int64),
        np.concatenate(values),
        np.concatenate(masks),
        binning.FilledGrid(
            np.concatenate([part.values for part in filled]),
            np.concatenate([part.source for part in filled]),
            np.concatenate([part.times for part in filled]),
        ),
        examples,
        reading.period,
        reading.timestep,
        fingerprint_of(listfile, itertools.chain.from_iterable(digests)),
    )


def _read_batch(
    paths: Sequence[Path], hours: NDArray[np.float64], reading: _Reading
) -> tuple[NDArray[np.float32], NDArray[np.bool_], binning.FilledGrid, list[bytes]]:
    """Read some of the stays: values and mask [R, C], filled grid, and the SHA-256 of their files."""
    records, digests = read_series(paths, reading.channels)
    stays = len(paths)
    kept = records.hours <= hours[records.stay] + binning.EPSILON
    within = np.zeros(stays, bool)
    within[records.stay[kept]] = True
    if not within.all():
        missing = int(np.flatnonzero(~within)[0])
        raise DataError(
            f"{private_path(paths[missing])}: no row within the first {hours[missing]:g} hours; leave the "
            "stay out of the listfile"
        )
    if reading.period is None:
        stay = records.stay[kept]
        # A row that is later than its stay by less than EPSILON belongs to the last bin of the stay.
        own = np.minimum(records.hours[kept], hours[stay])
        records = Records(stay, own, records.values[kept])
    period, bins = float(hours.max()), reading.bins_of(hours)
    inside = np.arange(bins.max()) < bins[:, None]
    grid = binning.discretize(records, stays, period=period, timestep=reading.timestep)
    filled = binning.fill(records, stays, reading.channels, period=period, timestep=reading.timestep)
    return (
        binning.impute(grid, "previous", reading.channels).astype(np.float32)[inside],
        ~np.isnan(grid)[inside],
        binning.FilledGrid(filled.values[inside], filled.source[inside], filled.times[inside]),
        digests,
    )


def _read_cohort(cache: Path, state: str, place: _Place, reading: _Reading) -> Cohort | None:
    """Read a cohort from the cache; return None if the cache does not hold it."""
    targets = reading.task.targets
    y = targets.read(np.zeros((0, len(targets.columns))))
    cells = (ANY, len(reading.channels))
    layout: Layout = {
        "stays": (np.str_, (ANY,)),
        "starts": (np.int64, (ANY,)),
        "values": (np.float32, cells),
        "mask": (np.bool_, cells),
        "filled_values": (np.float64, cells),
        "filled_source": (np.int16, cells),
        "filled_times": (np.float64, (ANY,)),
        "example_stay": (np.int32, (ANY,)),
        "example_end": (np.int16, (ANY,)),
        "example_y": (y.dtype, (ANY,) * y.ndim),
    }
    if isinstance(targets, Classes):
        layout = {**layout, _REMAINING: (np.float64, (ANY,))}
    found = read_cache(cache, state, layout)
    if found is None:
        return None
    arrays, notes = found
    if notes.get("series") != place.series_state(arrays["stays"].tolist()):
        return None
    return Cohort(
        reading.channels,
        reading.task,
        arrays["stays"],
        arrays["starts"],
        arrays["values"],
        arrays["mask"],
        binning.FilledGrid(arrays["filled_values"], arrays["filled_source"], arrays["filled_times"]),
        Examples(arrays["example_stay"], arrays["example_end"], arrays["example_y"], arrays.get(_REMAINING)),
        reading.period,
        reading.timestep,
        str(notes.get("fingerprint")),
    )


def _write_cohort(cache: Path, state: str, cohort: Cohort, origin: dict[str, str]) -> None:
    assert cohort.filled is not None
    arrays = {
        "stays": cohort.stays,
        "starts": cohort.starts,
        "values": cohort.values,
        "mask": cohort.mask,
        "filled_values": cohort.filled.values,
        "filled_source": cohort.filled.source,
        "filled_times": cohort.filled.times,
        "example_stay": cohort.examples.stay,
        "example_end": cohort.examples.end,
        "example_y": cohort.examples.y,
    }
    if cohort.examples.remaining is not None:
        arrays[_REMAINING] = cohort.examples.remaining
    write_cache(cache, state, arrays, {"fingerprint": cohort.fingerprint, **origin})
