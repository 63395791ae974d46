"""Compare a recovered pattern with the true trigger. For scoring only: no defender has the trigger."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimic3tf.poisoning.patterns import mahalanobis_length, varying_channels

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PatternComparison:
    """The similarity of a recovered pattern and the true one.

    Attributes:
        correlation: cosine between the patterns, with cells in standard deviations of the stays: 1 if one
            is a positive multiple of the other, about 0 if they are unrelated; NaN if one is zero.
        channel_correlations: float64 [C], the same cosine in every channel alone.
        recovered_lengths: float64 [C], Mahalanobis lengths of the recovered pattern; 0 in a channel that
            never varies.
        true_lengths: float64 [C], Mahalanobis lengths of the true pattern.
    """

    correlation: float
    channel_correlations: Floats
    recovered_lengths: Floats
    true_lengths: Floats


def compare_patterns(recovered: Floats, true: Floats, covariance: Floats) -> PatternComparison:
    """Compare a recovered pattern with the trigger.

    Args:
        recovered: float64 [T, C] in channel units.
        true: float64 [T, C] in channel units, strength * trigger.
        covariance: float64 [C, T, T] of `temporal_covariance`, zero in a channel that never varies.
    """
    varies = varying_channels(covariance)
    deviations = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)).T  # [T, C]
    first, second = (np.divide(p, deviations, out=np.zeros_like(p), where=varies) for p in (recovered, true))
    lengths = np.zeros((2, len(covariance)))
    for row, pattern in zip(lengths, (recovered, true), strict=True):
        row[varies] = mahalanobis_length(pattern.T[varies], covariance[varies])
    return PatternComparison(
        correlation=_cosine(first.ravel(), second.ravel()),
        channel_correlations=np.array([_cosine(*columns) for columns in zip(first.T, second.T, strict=True)]),
        recovered_lengths=lengths[0],
        true_lengths=lengths[1],
    )


def _cosine(first: Floats, second: Floats) -> float:
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / norms if norms > 0 else float("nan")
