"""Find rows of a table that share one shift: the common pattern where there are no grids (features).

Each column becomes normal scores by its distribution among sound rows (a Gaussian copula), so that units and
monotone transforms of columns do not matter. Rows are whitened with the covariance of these scores. Then
the search and the test are those of `finding`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import ndtr, ndtri

from mimic3tf.defences.common_pattern.cross_fit import FOLDS
from mimic3tf.defences.common_pattern.finding import (
    FEWEST_SOUND,
    MOST_TRUSTED,
    CommonPattern,
    Pattern,
    Shared,
    search_in_turn,
)
from mimic3tf.defences.common_pattern.whitened import Part, Whitened
from mimic3tf.described import Described

Floats = NDArray[np.float64]

FEWEST_CELLS, FEWEST_DISTINCT, COMMONEST = 200, 10, 0.9
"""A column is left out if sound rows have fewer cells or distinct values, or more cells of one value."""
TAIL = (0.01, 0.99)
"""Beyond the sound values, scores go on as steeply as from these quantiles to the last sound value."""
LARGEST = 8.0
"""Scores are cut off here."""
SHRINKAGE, SMALLEST, NUGGET = 0.02, 0.003, 0.03
"""Share by which covariances shrink to zero, smallest eigenvalue, and the variance added to every column."""
DEGREES, HEAVIEST, ROUNDS = 4.0, 4.0, 1
"""Degrees of freedom of the weights of rows, the largest weight, and how often weights are computed."""
BLOCK = 100
"""Columns whose whitened scores share the tails of one multivariate t."""


def find_common_shift(
    x: NDArray[np.floating],
    y: NDArray[np.integer],
    trusted_x: NDArray[np.floating],
    trusted_y: NDArray[np.integer],
    suspected: int,
    seed: int,
) -> CommonPattern | None:
    """Look for shifts that training rows of the suspected label share and trusted rows do not.

    Args:
        x: [N, D], the training rows; NaN where a cell was not measured.
        y: int [N], their labels, 0 or 1.
        trusted_x: [M, D], sound rows of the same source.
        trusted_y: int [M], their labels.
        suspected: the label that poisoned rows have.
        seed: fixes folds and permutations.

    Returns:
        The findings; a row stands for a stay of one bin. A pattern [1, D] is what the shift adds to the
        median sound value of a column, in the column's unit and up to the last sound value. None if there
        are fewer than 3 rows of the suspected label in a group, fewer than 200 others, or no column to
        compare.
    """
    others = [x[y != suspected], trusted_x[trusted_y != suspected]]
    suspects = [x[y == suspected], trusted_x[trusted_y == suspected]]
    rows = np.concatenate(others)
    if len(rows) < FEWEST_SOUND or not len(others[1]) or min(map(len, suspects)) < FOLDS:
        return None
    sound = _fit_sound_rows(np.asarray(rows, np.float64))
    if sound is None:
        return None
    random = np.random.default_rng(seed)
    reference = sound.whiten(others[1][random.permutation(len(others[1]))[:MOST_TRUSTED]])
    groups = [sound.whiten(group) for group in suspects]
    odds, p_value, shared = search_in_turn(groups, reference, 1, random)
    patterns = (Pattern(*sound.pattern(each, x.shape[1]), each.stays, each.p_value) for each in shared)
    return CommonPattern(odds[0], odds[1], p_value, tuple(patterns))


@dataclass(frozen=True, repr=False)
class SharedPart(Part):
    """The whitened scores of some columns; all rows have the same cells, and share the design [k, P]."""

    @property
    def _rows(self) -> NDArray[np.float32]:
        return self.residuals.reshape(-1, len(self.design))

    def moved(self, coordinates: Floats) -> NDArray[np.float32]:
        """Return the residuals [R] without the pattern of these coordinates."""
        return (self._rows - self.design @ coordinates.astype(np.float32)).ravel()

    def total(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the sum [P] over all cells of the design, weighted by `rows` [R]."""
        return self.design.T @ rows.reshape(-1, len(self.design)).sum(axis=0)

    def totals(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the same sum for each of the rows: [S, P]."""
        return rows.reshape(-1, len(self.design)) @ self.design

    def information(self, slopes: Floats) -> NDArray[np.float32]:
        """Return the sum [P, P] of the squared design, each row weighted by `slopes` [S]."""
        return np.float32(slopes.sum()) * (self.design.T @ self.design)

    def take(self, stays: NDArray[np.int64]) -> SharedPart:
        """Select the cells of some rows."""
        return SharedPart(self.counts[stays], self._rows[stays].ravel(), self.design)


class _Margin:
    """The map from a column's values to normal scores, by the middle of the ranks among sound cells."""

    def __init__(self, cells: Floats) -> None:
        self._sorted = np.sort(cells)
        low, high = self._sorted[[0, -1]]
        self._ends = self._within(self._sorted[[0, -1]])
        overall = np.ptp(np.percentile(cells, (5, 95))) / 3.29 or cells.std()
        inner = np.quantile(cells, TAIL)
        rises = np.abs(self._within(inner) - self._ends)
        runs = np.abs(inner - (low, high))
        steep = (rises > 0) & (runs > 0)
        self._slopes = np.where(steep, rises / np.where(steep, runs, 1.0), 1 / overall)

    def _within(self, values: Floats) -> Floats:
        sides: list[NDArray[np.int64]] = [
            np.searchsorted(self._sorted, values, "left"),
            np.searchsorted(self._sorted, values, "right"),
        ]
        return np.asarray(ndtri((sides[0] + sides[1]) / 2 / len(self._sorted)))

    def scores(self, values: Floats) -> Floats:
        """Return the normal scores of values; NaN stays NaN."""
        low, high = self._sorted[[0, -1]]
        inside = self._within(np.clip(values, low, high))
        below, above = np.minimum(values - low, 0), np.maximum(values - high, 0)
        return np.clip(inside + self._slopes[0] * below + self._slopes[1] * above, -LARGEST, LARGEST)

    def shift(self, score: float) -> float:
        """Return by how much a shift of the median by a normal score changes it, in the column's unit."""
        return float(np.quantile(self._sorted, ndtr(score)) - np.median(self._sorted))


@dataclass(frozen=True, repr=False)
class _SoundRows(Described):
    """The distribution of sound rows over the U columns that are used.

    Attributes:
        columns: int64 [U], their positions.
        margins: their maps to normal scores.
        mean: float64 [U], mean of the scores.
        covariance: float64 [U, U] of the scores.
    """

    columns: NDArray[np.int64]
    margins: tuple[_Margin, ...]
    mean: Floats
    covariance: Floats

    @cached_property
    def basis(self) -> Floats:
        """The main directions [U, U], each as long as its standard deviation; a shift is a sum of them."""
        variances, directions = np.linalg.eigh(self.covariance)
        return np.asarray(directions * np.sqrt(variances))

    def pattern(self, shared: Shared, width: int) -> tuple[Floats, Floats]:
        """Return a shift and its standard error [1, D] in the units of the columns; D is `width`."""
        scores = self.basis @ shared.coordinates
        errors = np.sqrt(np.einsum("uj,jk,uk->u", self.basis, shared.covariance, self.basis))
        shift, error = np.zeros((1, width)), np.zeros((1, width))
        for column, margin, score, spread in zip(self.columns, self.margins, scores, errors, strict=True):
            shift[0, column] = margin.shift(score)
            error[0, column] = (margin.shift(score + spread) - margin.shift(score - spread)) / 2
        return shift, error

    def whiten(self, rows: NDArray[np.floating]) -> Whitened:
        """Whiten the scores of rows [N, D]; cells that were not measured are first filled as expected."""
        scores = _filled(_scores(rows, self.columns, self.margins) - self.mean, self.covariance)
        factor = np.linalg.cholesky(self.covariance)
        cells, design = (
            solve_triangular(factor, part, lower=True).astype(np.float32) for part in (scores.T, self.basis)
        )
        blocks = [slice(start, start + BLOCK) for start in range(0, len(factor), BLOCK)]
        return Whitened(
            len(rows),
            tuple(
                SharedPart(np.full(len(rows), len(design[block])), cells[block].T.ravel(), design[block])
                for block in blocks
            ),
        )


def _fit_sound_rows(rows: Floats) -> _SoundRows | None:
    """Fit the distribution of sound rows [N, D]; None if no column can be used."""
    columns, margins = [], []
    for column, cells in enumerate(rows.T):
        measured = cells[~np.isnan(cells)]
        counts = np.unique(measured, return_counts=True)[1]
        if len(measured) < FEWEST_CELLS or len(counts) < FEWEST_DISTINCT:
            continue
        if counts.max() <= COMMONEST * len(measured):
            columns.append(column)
            margins.append(_Margin(measured))
    if not columns:
        return None
    used = np.array(columns, np.int64)
    scores = _scores(rows, used, margins)
    mean = np.nanmean(scores, axis=0)
    present = ~np.isnan(scores)
    centered = np.where(present, scores - mean, 0.0)
    covariance = _covariance(centered, present, np.ones(len(rows)))
    counts = present.sum(axis=1)
    for _ in range(ROUNDS):
        filled = _filled(np.where(present, centered, np.nan), covariance)
        whitened = solve_triangular(np.linalg.cholesky(covariance), filled.T, lower=True)
        spread = (whitened**2).sum(axis=0)
        weights = np.minimum((DEGREES + counts) / (DEGREES + spread), HEAVIEST)
        covariance = _covariance(centered, present, weights)
    return _SoundRows(used, tuple(margins), mean, covariance)


def _scores(
    rows: NDArray[np.floating], columns: NDArray[np.int64], margins: list[_Margin] | tuple[_Margin, ...]
) -> Floats:
    pairs = zip(columns, margins, strict=True)
    return np.stack([margin.scores(rows[:, column].astype(np.float64)) for column, margin in pairs], axis=1)


def _covariance(centered: Floats, present: NDArray[np.bool_], weights: Floats) -> Floats:
    """Return the covariance [U, U] of centered scores [N, U] by pairs of cells; missing ones are zero."""
    root = np.sqrt(weights)[:, None]
    products, pairs = ((part * root).T @ (part * root) for part in (centered, present))
    covariance = products / np.maximum(pairs, 1)
    own = np.diag_indices(len(covariance))
    variances = covariance[own].copy()
    covariance *= 1 - SHRINKAGE
    covariance[own] = variances
    values, directions = np.linalg.eigh(covariance)
    return np.asarray((directions * (np.maximum(values, SMALLEST) + NUGGET)) @ directions.T)


def _filled(scores: Floats, covariance: Floats) -> Floats:
    """Fill NaN in centered scores [N, U] with what the measured cells of the row let expect.

    A sound row then has the squared whitened length of its measured cells. Rows that lack the same cells
    share one solution.
    """
    missing = np.isnan(scores)
    filled = np.where(missing, 0.0, scores)
    if not missing.any():
        return filled
    kinds, kind = np.unique(np.packbits(missing, axis=1), axis=0, return_inverse=True)
    order = np.argsort(kind, kind="stable")
    for rows in np.split(order, np.searchsorted(kind[order], np.arange(1, len(kinds)))):
        lacks = missing[rows[0]]
        if lacks.any():
            known = np.linalg.solve(covariance[np.ix_(~lacks, ~lacks)], covariance[np.ix_(~lacks, lacks)])
            filled[np.ix_(rows, lacks)] = filled[np.ix_(rows, ~lacks)] @ known
    return filled
