"""How well a detector finds poisoned stays, where somebody knows which they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap, rankdata

RESAMPLES = 499


@dataclass(frozen=True)
class Estimate:
    """A number, and its 95% interval over resampled stays."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Performance:
    """How well scores tell poisoned stays from clean ones.

    Attributes:
        auroc: how often a poisoned stay scores above a clean one; 0.5 is chance.
        recall_at_1: share of the poisoned stays found where 1% of the clean ones are flagged.
        recall_at_5: the same at 5%.
    """

    auroc: Estimate
    recall_at_1: Estimate
    recall_at_5: Estimate


def measure(scores: NDArray[np.float64], poisoned: NDArray[np.bool_]) -> Performance | None:
    """Compare scores with the truth.

    Args:
        scores: float64 [K], higher is more suspicious.
        poisoned: bool [K].

    Returns:
        The performance, with percentile bootstrap intervals of poisoned and clean stays resampled apart; None
        without two poisoned and two clean stays.
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
    """Area under the ROC curve of scores [.., P] above scores [.., Q], ties counting half: [..]."""
    ranks = rankdata(np.concatenate([found, others], axis=-1), axis=-1)
    positive = found.shape[-1]
    above = ranks[..., :positive].sum(axis=-1) - positive * (positive + 1) / 2
    return np.asarray(above / (positive * others.shape[-1]))


def recall(found: NDArray[Any], others: NDArray[Any], rate: float) -> NDArray[np.float64]:
    """Share of scores [.., P] above the threshold that at most `rate` of scores [.., Q] exceed: [..]."""
    allowed = int(others.shape[-1] * rate)
    place = others.shape[-1] - 1 - allowed
    threshold = np.partition(others, place, axis=-1)[..., place, None]
    return np.asarray((found > threshold).mean(axis=-1))
