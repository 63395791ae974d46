"""How like the true trigger a recovered pattern is. Only for scoring: no defender has the trigger."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimic3tf.poisoning.patterns import mahalanobis_length, varying_channels

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PatternComparison:
    """Two patterns side by side.

    Attributes:
        correlation: cosine between them, cells in standard deviations of the stays: 1 if one is a multiple
            of the other, 0 for unrelated ones; NaN if one is zero.
        channel_correlations: [C], the same for every channel alone.
        recovered_lengths: [C], Mahalanobis lengths, 0 where a channel never varies.
        true_lengths: [C].
    """

    correlation: float
    channel_correlations: Floats
    recovered_lengths: Floats
    true_lengths: Floats


def compare_patterns(recovered: Floats, true: Floats, covariance: Floats) -> PatternComparison:
    """Compare a recovered pattern with the trigger.

    Args:
        recovered: [T, C] in channel units.
        true: [T, C], strength * trigger.
        covariance: [C, T, T] of `temporal_covariance`, zero in a channel that never varies.
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
