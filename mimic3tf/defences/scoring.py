"""Measure how well a detector finds poisoned stays, if it is known which stays are poisoned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap, rankdata

RESAMPLES = 499


@dataclass(frozen=True)
class Estimate:
    """A measure, and its 95% bootstrap interval over stays."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Performance:
    """How well scores tell poisoned stays from clean ones.

    Attributes:
        auroc: how often a poisoned stay scores above a clean one; 0.5 is chance.
        recall_at_1: share of the poisoned stays above the score that 1% of the clean ones exceed.
        recall_at_5: the same share for 5% of the clean ones.
    """

    auroc: Estimate
    recall_at_1: Estimate
    recall_at_5: Estimate


def measure(scores: NDArray[np.float64], poisoned: NDArray[np.bool_]) -> Performance | None:
    """Compare scores with the truth.

    Args:
        scores: float64 [K], higher is more suspicious.
        poisoned: bool [K], which stays are poisoned.

    Returns:
        The performance, with percentile bootstrap intervals (poisoned and clean stays are resampled
        separately); None if there are fewer than two poisoned or two clean stays.
    """
    found, others = scores[poisoned], scores[~poisoned]
    if min(len(found), len(others)) < 2:
        return None
    shares = np.stack([auroc(found, others), *(recall(found, others, at) for at in (0.01, 0.05))])
    with np.errstate(invalid="ignore", divide="ignore"):
        intervals = bootstrap(
            (found, others),
            lambda a, b, axis: np.stack([auroc(a, b), *(recall(a, b, at) for at in (0.01, 0.05))]),
            n_resamples=RESAMPLES,
            method="percentile",
            vectorized=True,
            rng=np.random.default_rng(0),
        ).confidence_interval
    return Performance(
        *(Estimate(*map(float, row)) for row in zip(shares, intervals.low, intervals.high, strict=True))
    )


def auroc(found: NDArray[Any], others: NDArray[Any]) -> NDArray[np.float64]:
    """Compute how often scores of poisoned stays lie above scores of clean stays; ties count half.

    Args:
        found: scores [..., P] of poisoned stays.
        others: scores [..., Q] of clean stays.

    Returns:
        The area under the ROC curve, float64 [...].
    """
    ranks = rankdata(np.concatenate([found, others], axis=-1), axis=-1)
    positive = found.shape[-1]
    above = ranks[..., :positive].sum(axis=-1) - positive * (positive + 1) / 2
    return np.asarray(above / (positive * others.shape[-1]))


def recall(found: NDArray[Any], others: NDArray[Any], rate: float) -> NDArray[np.float64]:
    """Compute the share of poisoned stays above the threshold that at most a share of clean stays exceeds.

    Args:
        found: scores [..., P] of poisoned stays.
        others: scores [..., Q] of clean stays.
        rate: largest share of the clean stays above the threshold.

    Returns:
        The recall, float64 [...].
    """
    allowed = int(others.shape[-1] * rate)
    place = others.shape[-1] - 1 - allowed
    threshold = np.partition(others, place, axis=-1)[..., place, None]
    return np.asarray((found > threshold).mean(axis=-1))
