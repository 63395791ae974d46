"""How sound stays vary: one Gaussian over all cells of a stay, fitted to the measured cells.

Channels are scaled by their median and their 5th to 95th percentile. The mean of a channel is smooth in time.
The covariance of all cells comes from the pairs of cells that were measured together, and is shrunk towards
one that depends only on the two channels and the lag. Stays of unusual spread weigh less. Missing cells are
marginalized exactly: only the block of the measured cells is factorized.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from mimic3tf.defences.common_pattern.whitened import Whitened, whiten
from mimic3tf.described import Described

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

FEWEST_CELLS = 200
"""A channel with fewer measured cells than this is not used."""
LARGEST = 8.0
"""Scaled values are cut off here: a slip of the pen must not outweigh a stay."""
DEGREE, CELLS = 5, 20.0
"""Degree of the polynomial of a channel's mean over time; cells that its mean over all hours counts for."""
PAIRS = 2000.0
"""Pairs of cells that the stationary covariance counts for."""
SMOOTHED, FEW_PAIRS = 2.0, 200.0
"""Standard deviation in bins of the smoothing over lags, and the pairs that the smoothed value counts for."""
SMALLEST, NUGGET = 0.003, 0.01
"""Smallest eigenvalue of the covariance, and the variance that is added to every cell."""
DEGREES, HEAVIEST, ROUNDS = 4.0, 4.0, 2
"""Degrees of freedom of the weights, the largest weight, and how often weights are computed."""
MODES = 32
"""A pattern has so many coordinates in each channel: the main directions of the channel over time."""


@dataclass(frozen=True, repr=False)
class SoundStays(Described):
    """The distribution of sound stays, over the channels that are used.

    Channels are ordered from the most to the least measured one, because the whitened cells of a channel
    depend on it and on the channels before it only.

    Attributes:
        channels: int64 [U], positions of the channels that are used.
        center: float64 [U], what is subtracted from the values of each channel.
        scale: float64 [U], what they are then divided by.
        mean: float64 [U, T], mean of the scaled values.
        covariance: float64 [U * T, U * T] of the scaled values.
        basis: float64 [U, T, K], the main directions of each channel over time, each as long as its
            standard deviation; a pattern is `basis @ coordinates`, in scaled values.
    """

    channels: NDArray[np.int64]
    center: Floats
    scale: Floats
    mean: Floats
    covariance: Floats
    basis: Floats

    def pattern(self, coordinates: Floats, width: int) -> Floats:
        """Return the pattern [T, C] of some coordinates [U * K] in channel units; C is `width`."""
        used, bins, modes = self.basis.shape
        scaled = np.einsum("utk,uk->tu", self.basis, coordinates.reshape(used, modes))
        pattern = np.zeros((bins, width))
        pattern[:, self.channels] = scaled * self.scale
        return pattern

    @property
    def modes(self) -> int:
        """Number of coordinates of a pattern in each channel."""
        return self.basis.shape[2]

    def standard_error(self, covariance: Floats, width: int) -> Floats:
        """Return the standard error [T, C] of a pattern from the covariance of its coordinates."""
        used, bins, modes = self.basis.shape
        own = covariance.reshape(used, modes, used, modes)[np.arange(used), :, np.arange(used)]
        error = np.zeros((bins, width))
        variance = np.einsum("utj,ujk,utk->tu", self.basis, own, self.basis)
        error[:, self.channels] = np.sqrt(variance) * self.scale
        return error

    def whiten(self, values: NDArray[np.floating], mask: Flags) -> Whitened:
        """Whiten the measured cells of stays, and what every coordinate of a pattern adds to them.

        Args:
            values: [N, T, C] in channel units.
            mask: [N, T, C], which cells were measured.
        """
        cells, measured = _scaled(values, mask, self.channels, self.center, self.scale)
        cells = np.where(measured, cells - self.mean, 0.0)
        used, bins, modes = self.basis.shape
        design = np.zeros((used, bins, used, modes), np.float32)
        design[np.arange(used), :, np.arange(used)] = self.basis
        return whiten(cells, measured, self.covariance, design.reshape(used * bins, used * modes))


def fit_sound_stays(values: NDArray[np.floating], mask: Flags, usable: Flags) -> SoundStays | None:
    """Fit the distribution of sound stays.

    Args:
        values: [N, T, C] in channel units.
        mask: [N, T, C], which cells were measured.
        usable: bool [C], which channels hold numbers; categories are not used, because a shift of them is
            rounded to whole categories.

    Returns:
        The distribution; None if no usable channel is measured often enough and varies.
    """
    channels = _varying(values, mask, usable)
    if not len(channels):
        return None
    measured = [values[..., channel][mask[..., channel]] for channel in channels]
    low, center, high = np.transpose([np.percentile(cells, (5, 50, 95)) for cells in measured])
    spread = (high - low) / 3.29
    scale = np.where(spread > 0, spread, [cells.std(dtype=np.float64) for cells in measured])
    cells, present = _scaled(values, mask, channels, center, scale)
    stays, used, bins = cells.shape
    weights = np.ones((stays, used))
    for step in range(ROUNDS + 1):
        mean = np.stack([_smooth_mean(cells[:, c], present[:, c], weights[:, c]) for c in range(used)])
        centered = np.where(present, cells - mean, 0.0)
        covariance = _covariance(centered, present, weights)
        if step < ROUNDS:
            nothing = np.zeros((used * bins, 0), np.float32)
            weights = _weights(whiten(centered, present, covariance, nothing), used)
    blocks = covariance.reshape(used, bins, used, bins)[np.arange(used), :, np.arange(used)]
    variances, directions = np.linalg.eigh(blocks)
    modes = min(MODES, bins)
    basis = directions[..., ::-1][..., :modes] * np.sqrt(variances[:, None, ::-1][..., :modes])
    return SoundStays(channels, center, scale, mean, covariance, basis)


def _varying(values: NDArray[np.floating], mask: Flags, usable: Flags) -> NDArray[np.int64]:
    """Return the positions of the channels to use, from the most to the least measured one."""
    counts = mask.sum(axis=(0, 1)) * usable
    enough = [c for c in np.argsort(-counts, kind="stable") if counts[c] > FEWEST_CELLS]
    return np.array([c for c in enough if np.ptp(values[..., c][mask[..., c]]) > 0], np.int64)


def _scaled(
    values: NDArray[np.floating], mask: Flags, channels: NDArray[np.int64], center: Floats, scale: Floats
) -> tuple[Floats, Flags]:
    """Return scaled values and mask, both [N, U, T]."""
    cells = np.clip((values[..., channels] - center) / scale, -LARGEST, LARGEST)
    return cells.transpose(0, 2, 1), mask[..., channels].transpose(0, 2, 1)


def _smooth_mean(cells: Floats, present: Flags, weights: Floats) -> Floats:
    """Return the weighted mean [T] of a channel's cells [N, T], smooth in time."""
    bins = cells.shape[1]
    count = weights @ present
    total = weights @ (cells * present)
    shrunk = (total + CELLS * total.sum() / count.sum()) / (count + CELLS)
    powers = legendre.legvander(np.linspace(-1, 1, bins), min(DEGREE, bins - 1))
    weighted = powers * (count + CELLS)[:, None]
    return np.asarray(powers @ np.linalg.solve(weighted.T @ powers, weighted.T @ shrunk))


def _covariance(centered: Floats, present: Flags, weights: Floats) -> Floats:
    """Return the covariance [U * T, U * T] of centered cells [N, U, T]; missing ones are zero."""
    stays, used, bins = centered.shape
    root = np.sqrt(weights)[..., None]
    rows, measured = ((part * root).reshape(stays, -1).astype(np.float32) for part in (centered, present))
    products, pairs = ((part.T @ part).astype(np.float64) for part in (rows, measured))
    lags = np.arange(bins)[:, None] - np.arange(bins) + bins - 1
    group = (np.arange(used)[:, None, None, None] * used + np.arange(used)[:, None]) * (2 * bins - 1)
    group = (group + lags[:, None]).reshape(used * bins, -1)

    def by_lag(part: Floats) -> Floats:
        totals = np.bincount(group.ravel(), part.ravel(), used**2 * (2 * bins - 1))
        return np.asarray(totals, np.float64).reshape(used, used, -1)

    stationary = _over_lags(by_lag(products), by_lag(pairs)).ravel()[group]
    covariance = (products + PAIRS * stationary) / (pairs + PAIRS)
    variances, directions = np.linalg.eigh((covariance + covariance.T) / 2)
    floored = (directions * np.maximum(variances, SMALLEST)) @ directions.T
    return np.asarray(floored + NUGGET * np.eye(len(floored)))


def _over_lags(sums: Floats, counts: Floats) -> Floats:
    """Return the covariance [U, U, 2T - 1] of two channels by lag; rare lags are smoothed."""
    used, middle = len(sums), sums.shape[-1] // 2
    own = np.arange(used)
    # A cell's variance holds noise that no two cells share: it does not enter the smoothing.
    variance = sums[own, own, middle] / counts[own, own, middle]
    others = [part.copy() for part in (sums, counts)]
    for part in others:
        part[own, own, middle] = 0
    reach = np.arange(-3 * SMOOTHED, 3 * SMOOTHED + 1)
    kernel = np.exp(-((reach / SMOOTHED) ** 2) / 2)
    smoothed = [np.apply_along_axis(np.convolve, -1, part, kernel, "same") for part in others]
    # `np.convolve` returns as many numbers as the longer of its two arguments has.
    excess = (smoothed[0].shape[-1] - sums.shape[-1]) // 2
    smoothed = [part[..., excess : excess + sums.shape[-1]] for part in smoothed]
    overall = others[0].sum(axis=-1, keepdims=True) / np.maximum(others[1].sum(axis=-1, keepdims=True), 1)
    smooth = (smoothed[0] + FEW_PAIRS * overall) / (smoothed[1] + FEW_PAIRS)
    by_lag = (others[0] + FEW_PAIRS * smooth) / (others[1] + FEW_PAIRS)
    by_lag[own, own, middle] = variance
    return by_lag


def _weights(whitened: Whitened, used: int) -> Floats:
    """Return the weight [N, U] of every stay in every channel: little where it spreads unusually."""
    weights = np.ones((whitened.stays, used))
    for channel, part in enumerate(whitened.parts):
        counts, spread = part.counts[part.stays], part.squares(part.residuals)
        weights[part.stays, channel] = np.minimum((DEGREES + counts) / (DEGREES + spread), HEAVIEST)
    return weights
