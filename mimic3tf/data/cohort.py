"""One split of a benchmark directory as arrays, loaded once and cached on disk."""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from mimic3tf.channels import CHANNELS, grid_columns
from mimic3tf.data import grid as grids
from mimic3tf.data.directory import Split, read_listfile, refuse_link, series_of
from mimic3tf.data.records import in_batches, read_series, unreadable_series
from mimic3tf.errors import DataError, UsageError, private_path
from mimic3tf.storage.cache import Layout, cache_folder, read_cache, write_cache

CACHE_FORMAT = 3
PERIOD = 48.0
TIMESTEP = 1.0


@dataclass(frozen=True)
class Cohort:
    """What was measured in N stays, on a grid of T bins and C channels.

    Attributes:
        stays: series file names [N], in listfile order.
        labels: int64 [N], 1 where the patient died in hospital.
        values: float32 [N, T, C] in channel units, category indices in categorical channels; empty bins
            carry the last measurement forward, or the normal value.
        mask: bool [N, T, C], where measured.
        filled: the other grid, for 714 features; None if the stays came as grids.
        timestep: hours a bin.
        fingerprint: SHA-256 (hex) of the listfile and series the arrays were made from.
    """

    stays: NDArray[np.str_]
    labels: NDArray[np.int64]
    values: NDArray[np.float32]
    mask: NDArray[np.bool_]
    filled: grids.FilledGrid | None
    timestep: float
    fingerprint: str

    def __len__(self) -> int:
        return len(self.stays)

    def take(self, stays: NDArray[Any]) -> Cohort:
        """The cohort of some of the stays, by index or boolean mask [N]."""
        filled = self.filled and grids.FilledGrid(
            self.filled.values[stays], self.filled.source[stays], self.filled.times[stays]
        )
        return Cohort(
            self.stays[stays],
            self.labels[stays],
            self.values[stays],
            self.mask[stays],
            filled,
            self.timestep,
            self.fingerprint,
        )


def load_cohort(data_dir: Path, split: Split) -> Cohort:
    """Load a split of a benchmark directory, from the cache if its files have not changed.

    The cache lies in the user's cache folder, or in the folder that MIMIC3TF_CACHE names. It is rebuilt
    when the listfile, or the size or modification time of any series, differs.

    Args:
        data_dir: directory in the layout of the MIMIC-III benchmarks.
        split: "train", "val" or "test"; the series of train and val both lie in `train/`.

    Returns:
        The cohort at one bin an hour for 48 hours; its arrays are memory-mapped.

    Raises:
        UsageError: the directory does not exist.
        DataError: names file, line and column of what breaks the layout.
    """
    if not data_dir.is_dir():
        raise UsageError(f"{data_dir}: no such directory; --data takes one in the benchmarks' layout")
    listfile = data_dir / f"{split}_listfile.csv"
    entries = read_listfile(listfile)
    paths = series_of(data_dir, split, entries)
    state = _state_of(listfile, paths)
    cache = cache_folder() / hashlib.sha256(f"{data_dir.resolve()}\n{split}".encode()).hexdigest()[:16]
    cached = _read_cohort(cache, state, np.array([name for name, _ in entries]))
    if cached is not None:
        return cached
    cohort = _build(listfile, paths, entries)
    _write_cohort(cache, state, cohort)
    return cohort


def _build(listfile: Path, paths: list[Path], entries: list[tuple[str, int]]) -> Cohort:
    batches = in_batches(paths)
    # Threads: the parser and NumPy work outside the interpreter's lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(
            track(
                pool.map(_read_batch, batches),
                f"Reading {listfile.stem}",
                total=len(batches),
                console=Console(stderr=True),
                transient=True,
            )
        )
    values, masks, filled, digests = zip(*parts, strict=True)
    return Cohort(
        stays=np.array([name for name, _ in entries]),
        labels=np.array([label for _, label in entries]),
        values=_join(values),
        mask=_join(masks),
        filled=grids.FilledGrid(
            _join([part.values for part in filled]),
            _join([part.source for part in filled]),
            _join([part.times for part in filled]),
        ),
        timestep=TIMESTEP,
        fingerprint=fingerprint_of(listfile, itertools.chain.from_iterable(digests)),
    )


def _read_batch(
    paths: Sequence[Path],
) -> tuple[NDArray[np.float32], NDArray[np.bool_], grids.FilledGrid, list[bytes]]:
    """Values, mask and filled grid of some of the stays, and the digests of their files."""
    records, digests = read_series(paths)
    stays = len(paths)
    within = np.zeros(stays, bool)
    within[records.stay[records.hours <= PERIOD + grids.EPSILON]] = True
    if not within.all():
        path = paths[int(np.flatnonzero(~within)[0])]
        raise DataError(
            f"{private_path(path)}: no row within the first {PERIOD:g} hours; leave the stay out of the "
            "listfile"
        )
    grid = grids.discretize(records, stays, period=PERIOD, timestep=TIMESTEP)
    return (
        grids.impute(grid, "previous").astype(np.float32),
        ~np.isnan(grid),
        grids.fill(records, stays, period=PERIOD, timestep=TIMESTEP),
        digests,
    )


def _join(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    # A stay lies together in memory, as batches are drawn; the parts may hold a channel together.
    return np.ascontiguousarray(np.concatenate(parts))


def fingerprint_of(listfile: Path, digests: Iterable[bytes]) -> str:
    """Fingerprint of a split: SHA-256 (hex) of its listfile and of its series' digests, in their order."""
    return hashlib.sha256(listfile.read_bytes() + b"".join(digests)).hexdigest()


def _state_of(listfile: Path, paths: list[Path]) -> str:
    digest = hashlib.sha256(f"{CACHE_FORMAT} {TIMESTEP} {PERIOD} {CHANNELS}".encode())
    digest.update(listfile.read_bytes())
    for path in paths:
        try:
            status = path.lstat()
        except OSError as error:
            raise unreadable_series(path, error) from None
        if not stat.S_ISREG(status.st_mode):
            refuse_link(path)
        digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _read_cohort(cache: Path, state: str, stays: NDArray[np.str_]) -> Cohort | None:
    """The cohort of some stays from its cache, if there is one."""
    cells = (len(stays), grids.bin_count(PERIOD, TIMESTEP), len(CHANNELS))
    layout: Layout = {
        "stays": (stays.dtype, stays.shape),
        "labels": (np.int64, stays.shape),
        "values": (np.float32, cells),
        "mask": (np.bool_, cells),
        "filled_values": (np.float64, cells),
        "filled_source": (np.int16, cells),
        "filled_times": (np.float64, cells[:2]),
    }
    found = read_cache(cache, state, layout)
    if found is None:
        return None
    arrays, notes = found
    filled = grids.FilledGrid(arrays["filled_values"], arrays["filled_source"], arrays["filled_times"])
    return Cohort(
        arrays["stays"],
        arrays["labels"],
        arrays["values"],
        arrays["mask"],
        filled,
        TIMESTEP,
        str(notes.get("fingerprint")),
    )


def _write_cohort(cache: Path, state: str, cohort: Cohort) -> None:
    assert cohort.filled is not None
    arrays = {
        "stays": cohort.stays,
        "labels": cohort.labels,
        "values": cohort.values,
        "mask": cohort.mask,
        "filled_values": cohort.filled.values,
        "filled_source": cohort.filled.source,
        "filled_times": cohort.filled.times,
    }
    write_cache(cache, state, arrays, {"fingerprint": cohort.fingerprint})


class _Batches(Protocol):
    steps: int

    def __next__(self) -> tuple[Any, Any]: ...


def cohort_from_batches(batches: _Batches) -> Cohort:
    """Take one epoch of a Keras batch generator as a cohort, so that the pipeline can poison it.

    Args:
        batches: any object with `steps` that yields `(X, y)`: X [B, T, 76] as `Discretizer` makes it with
            masks and `impute_strategy="previous"`, *not* standardized; y [B]. Do not shuffle it: the
            first stays of the cohort are the ones a poisoning proportion selects.

    Returns:
        The cohort of all stays, for victims of the 48x76 representation.
    """
    drawn = [next(batches) for _ in range(batches.steps)]
    return cohort_from_grid(np.concatenate([x for x, _ in drawn]), np.concatenate([y for _, y in drawn]))


def cohort_from_grid(
    X: NDArray[np.floating], y: Iterable[int], names: Iterable[str] | None = None, timestep: float = TIMESTEP
) -> Cohort:
    """Take grids from `load_data` as a cohort.

    Args:
        X: [N, T, 76] as `Discretizer` makes it with masks and `impute_strategy="previous"`, *not*
            standardized.
        y: labels [N], 0 or 1.
        names: stay names [N]; numbered if not given.
        timestep: hours a bin.

    Returns:
        The cohort, for victims of the 48x76 representation.

    Raises:
        DataError: X has other columns, or its categories are not one-hot (it was standardized, or made
            with another imputation).
    """
    X = np.asarray(X)
    width = len(grid_columns())
    if X.ndim != 3 or X.shape[-1] != width:
        raise DataError(f"X has shape {X.shape}; expected [N, T, {width}]")
    values = np.empty((*X.shape[:2], len(CHANNELS)), np.float32)
    column = 0
    for i, channel in enumerate(CHANNELS):
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
    stays = np.array([str(stay) for stay in range(len(X))] if names is None else list(names))
    fingerprint = hashlib.sha256(X.tobytes() + labels.tobytes()).hexdigest()
    return Cohort(stays, labels, values, X[..., column:] != 0, None, timestep, fingerprint)
