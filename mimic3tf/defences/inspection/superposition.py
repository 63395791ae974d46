"""Find triggered stays by their predictions under overlays: averages of their inputs with clean inputs.

Source: Gao et al. 2019, STRIP. A trigger decides a prediction whatever else the input holds. So predictions
for averages of a triggered input and clean inputs vary little, and their entropy is low. The standardized
inputs are averaged, not the records: features of averaged records would need one feature extraction per
average.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from mimic3tf.data.flat import FlatGrids
from mimic3tf.pipeline import Inputs

COPIES = 20
"""Overlays for each stay."""
FALSE_POSITIVES = (0.01, 0.05)
"""Shares of trusted stays that thresholds flag."""
STAYS_AT_ONCE = 64


def superposition_suspicion(
    risks_of: Callable[[Inputs], NDArray[np.float64]], inputs: Inputs, overlays: Inputs, *, seed: int
) -> NDArray[np.float64]:
    """Compute the suspicion of stays: minus the mean entropy of their predictions under overlays.

    Args:
        risks_of: the model: standardized inputs of stays -> probability of label 1 [N].
        inputs: standardized inputs of the N stays to judge, float32 [N, ...] or of different lengths.
        overlays: standardized inputs of M trusted stays. One that is shorter than the judged stay holds its
            last bin; one that is longer is cut.
        seed: fixes which overlays each stay gets.

    Returns:
        Suspicion in bits, float64 [N] in [-1, 0]; higher is more suspicious.
    """
    drawn = np.random.default_rng(seed).integers(len(overlays), size=(len(inputs), COPIES))
    scores = []
    for first in range(0, len(inputs), STAYS_AT_ONCE):
        chosen = drawn[first : first + STAYS_AT_ONCE]
        stays = np.repeat(np.arange(first, first + len(chosen)), COPIES)
        risks = risks_of(_mixed(inputs, stays, overlays, chosen.ravel())).clip(1e-12, 1 - 1e-12)
        entropy = -(risks * np.log2(risks) + (1 - risks) * np.log2(1 - risks))
        scores.append(-entropy.reshape(chosen.shape).mean(axis=1))
    return np.concatenate(scores)


def _mixed(
    inputs: Inputs, stays: NDArray[np.integer], overlays: Inputs, chosen: NDArray[np.integer]
) -> Inputs:
    """Average the inputs of stays [K] with those of the chosen overlays [K]."""
    if not isinstance(inputs, FlatGrids):
        assert not isinstance(overlays, FlatGrids)
        return np.asarray((inputs[stays] + overlays[chosen]) / np.float32(2))
    assert isinstance(overlays, FlatGrids)
    lengths = np.diff(inputs.starts)[stays]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    hours = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
    last = np.repeat(np.diff(overlays.starts)[chosen] - 1, lengths)
    own = np.repeat(inputs.starts[stays], lengths) + hours
    other = np.repeat(overlays.starts[chosen], lengths) + np.minimum(hours, last)
    return FlatGrids((inputs.rows[own] + overlays.rows[other]) / np.float32(2), starts)


def thresholds(trusted: NDArray[np.float64], rates: Sequence[float] = FALSE_POSITIVES) -> dict[float, float]:
    """Choose thresholds of suspicion, one for each rate of false positives.

    Args:
        trusted: float64 [N], suspicion of trusted stays.
        rates: shares of the trusted stays that may lie above the thresholds.

    Returns:
        Rate -> threshold above which a stay is flagged.
    """
    return {rate: float(np.quantile(trusted, 1 - rate, method="higher")) for rate in rates}


@dataclass(frozen=True)
class SuperpositionScore:
    """How well suspicion tells triggered stays from clean ones.

    Attributes:
        auroc: how often a triggered stay is more suspicious than a clean one.
        recall: rate of false positives on trusted stays -> share of the triggered stays that is flagged.
        false_positives: the same rate -> share of the clean stays that is flagged.
    """

    auroc: float
    recall: dict[float, float]
    false_positives: dict[float, float]


def score_suspicion(
    clean: NDArray[np.float64], triggered: NDArray[np.float64], limits: dict[float, float]
) -> SuperpositionScore:
    """Score the suspicion of clean [N] and triggered [M] stays, with limits from `thresholds`."""
    carries = np.repeat([0, 1], [len(clean), len(triggered)])
    return SuperpositionScore(
        auroc=float(roc_auc_score(carries, np.concatenate([clean, triggered]))),
        recall={rate: float((triggered > limit).mean()) for rate, limit in limits.items()},
        false_positives={rate: float((clean > limit).mean()) for rate, limit in limits.items()},
    )
