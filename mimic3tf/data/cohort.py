"""One split of a benchmark directory as arrays, loaded once and cached on disk."""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from mimic3tf.channels import MIMIC3, ChannelSet
from mimic3tf.data import grid as binning
from mimic3tf.data.channels_file import CHANNELS_FILE, read_channels
from mimic3tf.data.directory import (
    Split,
    check_directory,
    fingerprint_of,
    listfile_of,
    read_listfile,
    refuse_link,
    series_of,
)
from mimic3tf.data.records import in_batches, read_series, unreadable_series
from mimic3tf.errors import DataError, private_path
from mimic3tf.storage.cache import Layout, cache_folder, read_cache, write_cache
from mimic3tf.tasks.registry import MORTALITY, task_of
from mimic3tf.tasks.task import Task

CACHE_FORMAT = 4
TIMESTEP = 1.0
"""Hours of a bin, unless told otherwise."""


@dataclass(frozen=True)
class Examples:
    """What is predicted of a cohort's stays: E examples, for mortality one of each stay.

    Attributes:
        stay: int32 [E], the stay of an example.
        end: int16 [E], the number of its stay's bins that an example reads.
        y: int8 [E], labels.
    """

    stay: NDArray[np.int32]
    end: NDArray[np.int16]
    y: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Cohort:
    """What was measured in N stays, R bins in all, of C channels.

    The bins of all stays lie one behind the other: stay i has the rows `starts[i]` to `starts[i + 1] - 1`.
    Nothing is padded.

    Attributes:
        channels: the channels.
        task: what is predicted.
        stays: series file names [N], in listfile order.
        starts: int64 [N + 1], first row of every stay, and R.
        values: float32 [R, C] in channel units, category indices in categorical channels; empty bins carry
            the last measurement forward, or the normal value.
        mask: bool [R, C], where measured.
        filled: the other grid, from which features are extracted, with rows as here; None if the stays came
            as grids.
        examples: what is predicted of which stay.
        period: hours of a stay that were read.
        timestep: hours of a bin.
        fingerprint: SHA-256 (hex) of the listfile and series the arrays were made from.
    """

    channels: ChannelSet
    task: Task
    stays: NDArray[np.str_]
    starts: NDArray[np.int64]
    values: NDArray[np.float32]
    mask: NDArray[np.bool_]
    filled: binning.FilledGrid | None
    examples: Examples
    period: float
    timestep: float
    fingerprint: str

    def __len__(self) -> int:
        return len(self.stays)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Labels of the examples: int64 [E], which is [N] where every stay is one example."""
        return self.examples.y.astype(np.int64)

    @property
    def bins(self) -> int:
        """Bins T of every stay.

        Raises:
            ValueError: the stays differ in length.
        """
        lengths = np.diff(self.starts)
        if not len(lengths) or (lengths != lengths[0]).any():
            raise ValueError("stays of different lengths have no common number of bins")
        return int(lengths[0])

    @property
    def grids(self) -> NDArray[np.float32]:
        """Values of stays of equal length: a view [N, T, C]."""
        return self.values.reshape(len(self), self.bins, len(self.channels))

    @property
    def masks(self) -> NDArray[np.bool_]:
        """Mask of stays of equal length: a view [N, T, C]."""
        return self.mask.reshape(len(self), self.bins, len(self.channels))

    @property
    def filled_grids(self) -> binning.FilledGrid:
        """The filled grid of stays of equal length: views [N, T, C] and [N, T].

        Raises:
            DataError: the stays came as grids.
        """
        if self.filled is None:
            raise DataError("this cohort came as grids; features need the records (use load_cohort)")
        return self.filled.reshape(len(self), self.bins)

    def with_grids(
        self,
        values: NDArray[np.floating],
        *,
        mask: NDArray[np.bool_] | None = None,
        filled: binning.FilledGrid | None = None,
        labels: NDArray[np.integer] | None = None,
    ) -> Cohort:
        """The same stays with other contents.

        Args:
            values: [N, T, C].
            mask: [N, T, C]; the cohort's own if not given.
            filled: [N, T, C] and [N, T]; the cohort's own if not given.
            labels: [E]; the cohort's own if not given.
        """
        rows = len(self.values)
        return replace(
            self,
            values=values.reshape(rows, -1).astype(np.float32, copy=False),
            mask=self.mask if mask is None else mask.reshape(rows, -1),
            filled=self.filled if filled is None else filled.reshape(rows),
            examples=self.examples
            if labels is None
            else replace(self.examples, y=np.asarray(labels, np.int8)),
        )

    def take(self, stays: NDArray[Any]) -> Cohort:
        """The cohort of some of the stays and their examples, by index or boolean mask [N].

        Args:
            stays: each at most once.
        """
        chosen = np.arange(len(self))[stays]
        lengths = np.diff(self.starts)[chosen]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        rows = np.repeat(self.starts[chosen] - starts[:-1], lengths) + np.arange(starts[-1])
        place = np.full(len(self), -1, np.int32)
        place[chosen] = np.arange(len(chosen))
        stay = place[self.examples.stay]
        # Examples follow their stays, in the order that was asked for.
        kept = np.argsort(stay, kind="stable")[(stay < 0).sum() :]
        return replace(
            self,
            stays=self.stays[chosen],
            starts=starts,
            values=self.values[rows],
            mask=self.mask[rows],
            filled=self.filled and self.filled.take(rows),
            examples=Examples(stay[kept], self.examples.end[kept], self.examples.y[kept]),
        )


def cohort_of(
    stays: Sequence[str] | NDArray[np.str_],
    labels: Iterable[int],
    values: NDArray[np.floating],
    mask: NDArray[np.bool_],
    *,
    filled: binning.FilledGrid | None = None,
    channels: ChannelSet = MIMIC3,
    task: Task = MORTALITY,
    timestep: float = TIMESTEP,
    period: float | None = None,
    fingerprint: str = "",
) -> Cohort:
    """Put grids of equal length together as a cohort with one example a stay.

    Args:
        stays: names [N].
        labels: [N].
        values: [N, T, C] in channel units, category indices in categorical channels, imputed.
        mask: [N, T, C], where measured.
        filled: the other grid, [N, T, C] and [N, T].
        channels: the channels of the last axis.
        task: what is predicted.
        timestep: hours of a bin.
        period: hours of a stay; all bins' hours if not given.
        fingerprint: of what the arrays were made from.
    """
    count, bins, _ = values.shape
    examples = Examples(
        np.arange(count, dtype=np.int32),
        np.full(count, bins, np.int16),
        np.asarray(list(labels), np.int8),
    )
    return Cohort(
        channels,
        task,
        np.array(stays),
        np.arange(count + 1, dtype=np.int64) * bins,
        np.ascontiguousarray(values, np.float32).reshape(count * bins, -1),
        np.ascontiguousarray(mask).reshape(count * bins, -1),
        filled and filled.reshape(count * bins),
        examples,
        bins * timestep if period is None else period,
        timestep,
        fingerprint,
    )


def load_cohort(
    data_dir: Path,
    split: Split,
    *,
    task: str = MORTALITY.name,
    period: float | None = None,
    timestep: float = TIMESTEP,
) -> Cohort:
    """Load a split of a benchmark directory, from the cache if its files have not changed.

    The cache lies in the user's cache folder, or in the folder that MIMIC3TF_CACHE names. It is rebuilt
    when the listfile, the channels, or the size or modification time of any series differs.

    Args:
        data_dir: directory in the layout of the MIMIC-III benchmarks; its channels are those of its
            `channels.yaml`, or the benchmarks' own.
        split: "train", "val" or "test"; the series of train and val both lie in `train/`.
        task: name of what is predicted.
        period: hours of a stay to read; the task's own if not given.
        timestep: hours of a bin.

    Returns:
        The cohort; its arrays are memory-mapped.

    Raises:
        UsageError: the directory does not exist, or there is no such task.
        DataError: names file, line and column of what breaks the layout.
    """
    check_directory(data_dir)
    reading = _Reading(read_channels(data_dir), task_of(task), period, timestep)
    listfile = listfile_of(data_dir, split)
    entries = read_listfile(listfile, reading.task)
    paths = series_of(data_dir, split, entries)
    state = _state_of(reading, listfile, paths)
    key = f"{data_dir.resolve()}\n{split}\n{task}\n{reading.hours}\n{timestep}"
    cache = cache_folder() / hashlib.sha256(key.encode()).hexdigest()[:16]
    cached = _read_cohort(cache, state, np.array([name for name, _ in entries]), reading)
    if cached is not None:
        return cached
    cohort = _build(listfile, paths, entries, reading)
    _write_cohort(cache, state, cohort)
    return cohort


@dataclass(frozen=True)
class _Reading:
    """How series become grids."""

    channels: ChannelSet
    task: Task
    period: float | None
    timestep: float

    @property
    def hours(self) -> float:
        """Hours of every stay that are read."""
        return self.task.period if self.period is None else self.period

    @property
    def bins(self) -> int:
        return binning.bin_count(self.hours, self.timestep)


def _build(listfile: Path, paths: list[Path], entries: list[tuple[str, int]], reading: _Reading) -> Cohort:
    batches = in_batches(paths)
    # Threads: the parser and NumPy work outside the interpreter's lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(
            track(
                pool.map(_read_batch, batches, itertools.repeat(reading)),
                f"Reading {listfile.stem}",
                total=len(batches),
                console=Console(stderr=True),
                transient=True,
            )
        )
    values, masks, filled, digests = zip(*parts, strict=True)
    return cohort_of(
        [name for name, _ in entries],
        [label for _, label in entries],
        np.concatenate(values),
        np.concatenate(masks),
        filled=binning.FilledGrid(
            np.concatenate([part.values for part in filled]),
            np.concatenate([part.source for part in filled]),
            np.concatenate([part.times for part in filled]),
        ),
        channels=reading.channels,
        task=reading.task,
        timestep=reading.timestep,
        period=reading.hours,
        fingerprint=fingerprint_of(listfile, itertools.chain.from_iterable(digests)),
    )


def _read_batch(
    paths: Sequence[Path], reading: _Reading
) -> tuple[NDArray[np.float32], NDArray[np.bool_], binning.FilledGrid, list[bytes]]:
    """Values, mask and filled grid of some of the stays, and the digests of their files."""
    records, digests = read_series(paths, reading.channels)
    stays = len(paths)
    within = np.zeros(stays, bool)
    within[records.stay[records.hours <= reading.hours + binning.EPSILON]] = True
    if not within.all():
        path = paths[int(np.flatnonzero(~within)[0])]
        raise DataError(
            f"{private_path(path)}: no row within the first {reading.hours:g} hours; leave the stay out of "
            "the listfile"
        )
    grid = binning.discretize(records, stays, period=reading.hours, timestep=reading.timestep)
    return (
        binning.impute(grid, "previous", reading.channels).astype(np.float32),
        ~np.isnan(grid),
        binning.fill(records, stays, reading.channels, period=reading.hours, timestep=reading.timestep),
        digests,
    )


def _state_of(reading: _Reading, listfile: Path, paths: list[Path]) -> str:
    digest = hashlib.sha256(f"{CACHE_FORMAT} {reading.timestep} {reading.hours} {reading.channels}".encode())
    digest.update(listfile.read_bytes())
    # Every byte of it counts in the fingerprint, which comes from the cache.
    own = listfile.with_name(CHANNELS_FILE)
    digest.update(own.read_bytes() if own.exists() else b"")
    for path in paths:
        try:
            status = path.lstat()
        except OSError as error:
            raise unreadable_series(path, error) from None
        if not stat.S_ISREG(status.st_mode):
            refuse_link(path)
        digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _read_cohort(cache: Path, state: str, stays: NDArray[np.str_], reading: _Reading) -> Cohort | None:
    """The cohort of some stays from its cache, if there is one."""
    count = len(stays)
    rows = count * reading.bins
    cells = (rows, len(reading.channels))
    layout: Layout = {
        "stays": (stays.dtype, stays.shape),
        "starts": (np.int64, (count + 1,)),
        "values": (np.float32, cells),
        "mask": (np.bool_, cells),
        "filled_values": (np.float64, cells),
        "filled_source": (np.int16, cells),
        "filled_times": (np.float64, (rows,)),
        "example_stay": (np.int32, (count,)),
        "example_end": (np.int16, (count,)),
        "example_y": (np.int8, (count,)),
    }
    found = read_cache(cache, state, layout)
    if found is None:
        return None
    arrays, notes = found
    return Cohort(
        reading.channels,
        reading.task,
        arrays["stays"],
        arrays["starts"],
        arrays["values"],
        arrays["mask"],
        binning.FilledGrid(arrays["filled_values"], arrays["filled_source"], arrays["filled_times"]),
        Examples(arrays["example_stay"], arrays["example_end"], arrays["example_y"]),
        reading.hours,
        reading.timestep,
        str(notes.get("fingerprint")),
    )


def _write_cohort(cache: Path, state: str, cohort: Cohort) -> None:
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
    write_cache(cache, state, arrays, {"fingerprint": cohort.fingerprint})


class _Batches(Protocol):
    steps: int

    def __next__(self) -> tuple[Any, Any]: ...


def cohort_from_batches(batches: _Batches, channels: ChannelSet = MIMIC3) -> Cohort:
    """Take one epoch of a Keras batch generator as a cohort, so that the pipeline can poison it.

    Args:
        batches: any object with `steps` that yields `(X, y)`: X [B, T, D] as `Discretizer` makes it with
            masks and `impute_strategy="previous"`, *not* standardized; y [B]. Do not shuffle it: the
            first stays of the cohort are the ones a poisoning proportion selects.
        channels: the channels of X.

    Returns:
        The cohort of all stays, for victims that read grids.
    """
    drawn = [next(batches) for _ in range(batches.steps)]
    X, y = (np.concatenate(part) for part in zip(*drawn, strict=True))
    return cohort_from_grid(X, y, channels=channels)


def cohort_from_grid(
    X: NDArray[np.floating],
    y: Iterable[int],
    names: Iterable[str] | None = None,
    timestep: float = TIMESTEP,
    channels: ChannelSet = MIMIC3,
) -> Cohort:
    """Take grids from `load_data` as a cohort.

    Args:
        X: [N, T, D] as `Discretizer` makes it with masks and `impute_strategy="previous"`, *not*
            standardized; columns as `ChannelSet.columns` names them.
        y: labels [N], 0 or 1.
        names: stay names [N]; numbered if not given.
        timestep: hours of a bin.
        channels: the channels of X.

    Returns:
        The cohort, for victims that read grids.

    Raises:
        DataError: X has other columns, or its categories are not one-hot (it was standardized, or made
            with another imputation).
    """
    X = np.asarray(X)
    width = len(channels.columns())
    if X.ndim != 3 or X.shape[-1] != width:
        raise DataError(f"X has shape {X.shape}; expected [N, T, {width}]")
    values = np.empty((*X.shape[:2], len(channels)), np.float32)
    column = 0
    for i, channel in enumerate(channels):
        categories = len(channel.possible_values)
        block = X[..., column : column + max(categories, 1)]
        if categories:
            if not (np.isin(block, (0, 1)).all() and (block.sum(axis=-1) == 1).all()):
                raise DataError(
                    f"X: channel '{channel.name}' is not one-hot; pass grids before standardization"
                )
            values[..., i] = block.argmax(axis=-1)
        else:
            values[..., i] = block[..., 0]
        column += max(categories, 1)
    labels = np.asarray(list(y), np.int64)
    if labels.shape != X.shape[:1] or not np.isin(labels, (0, 1)).all():
        raise DataError(f"y: expected {len(X)} labels, 0 or 1")
    return cohort_of(
        [str(stay) for stay in range(len(X))] if names is None else list(names),
        labels,
        values,
        X[..., column:] != 0,
        channels=channels,
        timestep=timestep,
        fingerprint=hashlib.sha256(X.tobytes() + labels.tobytes()).hexdigest(),
    )
