"""Whitened stays: the measured cells of each stay as independent residuals, channel by channel."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mimic3tf.data.cohort import ranges
from mimic3tf.described import Described

Floats = NDArray[np.float64]
BLOCK = 32
"""Cells that are factorized at once."""
BATCH = 32
"""Stays that are factorized at once."""


@dataclass(frozen=True, repr=False)
class Part(Described):
    """The whitened cells of one channel, stay after stay.

    Attributes:
        counts: int64 [N], how many cells each stay has.
        residuals: float32 [R], the whitened cells.
        design: float32 [R, P], what each coordinate of a pattern adds to them. A channel is whitened given
            the channels before it, so that it has the coordinates of these channels and its own.
    """

    counts: NDArray[np.int64]
    residuals: NDArray[np.float32]
    design: NDArray[np.float32]

    @cached_property
    def stays(self) -> NDArray[np.int64]:
        """The S stays that have a cell: int64 [S]."""
        return np.flatnonzero(self.counts)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """The first row of each of these stays: int64 [S]."""
        counts = self.counts[self.stays]
        return np.cumsum(counts) - counts

    def moved(self, coordinates: Floats) -> NDArray[np.float32]:
        """Return the residuals [R] without the pattern of these coordinates."""
        return self.residuals - self.design @ coordinates[: self.design.shape[1]].astype(np.float32)

    def squares(self, residuals: NDArray[np.float32]) -> Floats:
        """Return the sum of squares of each stay's residuals: [S]."""
        if not len(self.stays):
            return np.zeros(0)
        return np.add.reduceat(residuals.astype(np.float64) ** 2, self.starts)

    def total(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the sum [P] over all cells of the design, weighted by `rows` [R]."""
        return self.design.T @ rows

    def totals(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the same sum for each of the stays: [S, P]."""
        return np.asarray(np.add.reduceat(self.design * rows[:, None], self.starts, axis=0))

    def information(self, slopes: Floats) -> NDArray[np.float32]:
        """Return the sum [P, P] of the squared design, each stay weighted by `slopes` [S]."""
        root = np.repeat(np.sqrt(slopes), self.counts[self.stays])
        rows = self.design * root[:, None].astype(np.float32)
        return rows.T @ rows

    def take(self, stays: NDArray[np.int64]) -> Part:
        """Select the cells of some stays."""
        counts = self.counts[stays]
        rows = ranges((np.cumsum(self.counts) - self.counts)[stays], counts)
        return Part(counts, self.residuals[rows], self.design[rows])


@dataclass(frozen=True, repr=False)
class Whitened(Described):
    """Whitened stays.

    Attributes:
        stays: their number N.
        parts: their cells, by channel.
    """

    stays: int
    parts: tuple[Part, ...]

    @property
    def width(self) -> int:
        """Number of coordinates of a pattern."""
        return self.parts[-1].design.shape[1]

    def take(self, stays: NDArray[np.int64]) -> Whitened:
        """Select some stays, by index."""
        return Whitened(len(stays), tuple(part.take(stays) for part in self.parts))

    def without(self, coordinates: Floats) -> Whitened:
        """Take a pattern away from every stay."""
        parts = (replace(part, residuals=part.moved(coordinates)) for part in self.parts)
        return Whitened(self.stays, tuple(parts))


def whiten(
    cells: Floats, mask: NDArray[np.bool_], covariance: Floats, design: NDArray[np.float32]
) -> Whitened:
    """Whiten the measured cells of stays with the factor of their block of a covariance.

    Stays of one batch that have the same measured cells share a factorization; batches run in threads.

    Args:
        cells: [N, C, T], centered; the cells that were not measured do not matter.
        mask: [N, C, T], which cells were measured.
        covariance: [C * T, C * T] of all cells.
        design: [C * T, P], what each coordinate of a pattern adds to the cells; the coordinates of a channel
            follow those of the channel before.
    """
    stays, channels, bins = cells.shape
    width = design.shape[1] // channels
    counts = mask.sum(axis=2)
    offsets = np.cumsum(counts, axis=0) - counts
    parts = tuple(
        Part(
            counts[:, channel],
            np.empty(total, np.float32),
            np.empty((total, width * (channel + 1)), np.float32),
        )
        for channel, total in enumerate(counts.sum(axis=0))
    )
    rows, measured = cells.reshape(stays, -1).astype(np.float32), mask.reshape(stays, -1)
    single = covariance.astype(np.float32)
    _, kind = np.unique(np.packbits(measured, axis=1), axis=0, return_inverse=True)
    # Stays of one size need no padding, and stays of one kind come into one batch.
    order = np.lexsort((kind, measured.sum(axis=1)))

    def work(batch: NDArray[np.int64]) -> None:
        batch = batch[np.argsort(kind[batch], kind="stable")]
        _, first, of = np.unique(kind[batch], return_index=True, return_inverse=True)
        places, real = _padded(measured[batch[first]])
        blocks = single[places[:, :, None], places[:, None, :]] * (real[:, :, None] & real[:, None, :])
        diagonal = np.arange(places.shape[1])
        blocks[:, diagonal, diagonal] += ~real
        # The design is whitened once for each set of measured cells, with all stays that have this set.
        member = np.arange(len(batch)) - np.searchsorted(of, of)
        values = np.zeros((*places.shape, member.max() + 1), np.float32)
        values[of, :, member] = np.take_along_axis(rows[batch], places[of], axis=1) * real[of]
        added = np.concatenate([design[places] * real[..., None], values], axis=2)
        whitened = _solved(blocks, added)
        for channel, part in enumerate(parts):
            stay, cell = np.nonzero((real & (places // bins == channel))[of])
            to = ranges(offsets[batch, channel], counts[batch, channel])
            part.residuals[to] = whitened[of[stay], cell, design.shape[1] + member[stay]]
            part.design[to] = whitened[of[stay], cell, : part.design.shape[1]]

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(work, [order[start : start + BATCH] for start in range(0, stays, BATCH)]))
    return Whitened(stays, parts)


def _solved(covariance: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """Solve with the Cholesky factors of covariances [K, D, D] for right-hand sides [K, D, P].

    NumPy factorizes slowly, and has no triangular solver. Here most of the work is products of blocks.
    """
    factor, solved = np.zeros_like(covariance), np.empty_like(right)
    for start in range(0, covariance.shape[1], BLOCK):
        block, end = slice(start, start + BLOCK), start + BLOCK
        before = factor[:, block, :start]
        rest = covariance[:, start:, block] - factor[:, start:, :start] @ before.transpose(0, 2, 1)
        inverse = np.linalg.inv(np.linalg.cholesky(rest[:, :BLOCK]))
        factor[:, end:, block] = rest[:, BLOCK:] @ inverse.transpose(0, 2, 1)
        solved[:, block] = inverse @ (right[:, block] - before @ solved[:, :start])
    return solved


def _padded(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the positions of the cells of masks [K, D], and which of them are no padding: both [K, most]."""
    sizes = mask.sum(axis=1)
    real = np.arange(sizes.max()) < sizes[:, None]
    places = np.zeros(real.shape, np.int64)
    places[real] = np.nonzero(mask)[1]
    return places, real
