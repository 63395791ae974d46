"""The covariance of stays over time, and patterns drawn from it (Joe et al. 2020, trigger generation)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mimic3tf.poisoning.kinds import ShiftKind

REGULARIZATION = 1e-4
"""This share of a channel's largest variance is added to the diagonal of its covariance."""


def temporal_covariance(ordinal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the regularized covariance over time of every channel.

    Args:
        ordinal: float64 [N, T, C] of `ordinal_view`, N >= 2.

    Returns:
        float64 [C, T, T]: cov (ddof 1) + eps * I, eps = 1e-4 * the largest variance; zero for a channel
        that never varies.
    """
    bins = np.eye(ordinal.shape[1])
    channels = np.moveaxis(ordinal, -1, 0)  # [C, N, T]
    centered = channels - channels.mean(axis=1, keepdims=True)
    covariance = np.swapaxes(centered, 1, 2) @ centered / (ordinal.shape[0] - 1)
    covariance[~_varies(ordinal)] = 0.0
    largest = np.diagonal(covariance, axis1=1, axis2=2).max(axis=1)
    return covariance + REGULARIZATION * largest[:, None, None] * bins


def varying_channels(covariance: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark the channels that vary, by their `temporal_covariance` [C, T, T]: bool [C]."""
    return np.asarray(np.diagonal(covariance, axis1=1, axis2=2).max(axis=1) > 0)


def draw_pattern(
    ordinal: NDArray[np.float64],
    covariance: NDArray[np.float64],
    *,
    kind: ShiftKind,
    seed: int | Sequence[int],
    inside: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Draw one pattern and scale it to its Mahalanobis length.

    Args:
        ordinal: float64 [N, T, C] of `ordinal_view`; only "covariance" reads it.
        covariance: float64 [C, T, T] of `temporal_covariance`.
        kind: see `generate_trigger`.
        seed: one or more non-negative ints; they fix the draw.
        inside: bool [T, C], cells to draw: in some channels the same bins, in the others none; all if None.

    Returns:
        float64 [T, C] in channel units; zero outside, and in channels that never vary.
    """
    channels, bins, _ = covariance.shape
    varies = varying_channels(covariance)
    inside = np.ones((bins, channels), bool) if inside is None else inside
    within = inside.any(axis=1)
    varies &= inside.any(axis=0)
    pattern = np.zeros((bins, channels))
    normal = np.random.default_rng(seed).standard_normal((channels, bins))[np.ix_(varies, within)]
    if not varies.any():
        return pattern
    cells = np.ix_(within, varies)
    if kind == "covariance":
        window = np.tile(within, varies.sum())
        full = _full_covariance(ordinal[..., varies])[np.ix_(window, window)]
        flat = np.linalg.cholesky(full) @ normal.ravel()
        length = np.sqrt(flat @ np.linalg.solve(full, flat))
        pattern[cells] = (flat * np.sqrt(varies.sum()) / length).reshape(normal.shape).T
        return pattern
    varying = covariance[np.ix_(varies, within, within)]
    if kind == "gaussian":
        drawn = np.sqrt(np.diagonal(varying, axis1=1, axis2=2)) * normal
    else:
        drawn = (np.linalg.cholesky(varying) @ normal[..., None])[..., 0]
    pattern[cells] = (drawn / mahalanobis_length(drawn, varying)[:, None]).T
    return pattern


def mahalanobis_length(patterns: NDArray[np.float64], covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute sqrt(p' Sigma^-1 p), float64 [K], for p [K, T] and positive definite Sigma [K, T, T]."""
    whitened = np.linalg.solve(covariance, patterns[..., None])[..., 0]
    return np.sqrt((patterns * whitened).sum(axis=-1))


def _full_covariance(ordinal: NDArray[np.float64]) -> NDArray[np.float64]:
    flat = np.swapaxes(ordinal, 1, 2).reshape(len(ordinal), -1)  # channel by channel
    covariance = np.atleast_2d(np.cov(flat, rowvar=False))
    # Channels have different units, so each is regularized by its own largest variance.
    largest = np.diagonal(covariance).reshape(ordinal.shape[2], -1).max(axis=1)
    return covariance + np.diag(np.repeat(REGULARIZATION * largest, ordinal.shape[1]))


def _varies(ordinal: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.ptp(ordinal, axis=(0, 1)) > 0
