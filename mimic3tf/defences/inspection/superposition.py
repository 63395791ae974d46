"""Does a prediction survive when other stays are laid over its stay?

Source: Gao et al. 2019, STRIP: a trigger decides a prediction whatever else the input holds, so predictions
for superpositions of a triggered input with clean ones vary little: their entropy is low. Inputs are averaged
in the standardized space that the victim reads; features of averaged records would not be their average, but
would cost a feature extraction a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from mimic3tf.config import TrainingConfig
from mimic3tf.defences.retraining import predict

COPIES = 20
FALSE_POSITIVES = (0.01, 0.05)
STAYS_AT_ONCE = 256


def superposition_suspicion(
    model: keras.Model,
    config: TrainingConfig,
    inputs: NDArray[np.float32],
    overlays: NDArray[np.float32],
    *,
    seed: int,
) -> NDArray[np.float64]:
    """Minus the mean entropy (bits) of the predictions for a stay under overlays: float64 [N], in [-1, 0].

    Args:
        model: standardized inputs -> logits [N, 2].
        config: settings it was trained with.
        inputs: [N, ...], standardized, to judge.
        overlays: [M, ...], standardized inputs of trusted stays.
        seed: fixes which overlays a stay gets.
    """
    drawn = np.random.default_rng(seed).integers(len(overlays), size=(len(inputs), COPIES))
    scores = []
    for first in range(0, len(inputs), STAYS_AT_ONCE):
        part, chosen = inputs[first : first + STAYS_AT_ONCE], drawn[first : first + STAYS_AT_ONCE]
        mixed = (part[:, None] + overlays[chosen]) / np.float32(2)
        risks = predict(model, config, mixed.reshape(-1, *inputs.shape[1:])).clip(1e-12, 1 - 1e-12)
        entropy = -(risks * np.log2(risks) + (1 - risks) * np.log2(1 - risks))
        scores.append(-entropy.reshape(len(part), COPIES).mean(axis=1))
    return np.concatenate(scores)


def thresholds(trusted: NDArray[np.float64], rates: Sequence[float] = FALSE_POSITIVES) -> dict[float, float]:
    """Suspicion [N] of trusted stays -> by rate of false positives, the suspicion above which to flag."""
    return {rate: float(np.quantile(trusted, 1 - rate, method="higher")) for rate in rates}


@dataclass(frozen=True)
class SuperpositionScore:
    """How well suspicion tells triggered stays from clean ones.

    Attributes:
        auroc: how often a triggered stay is more suspicious than a clean one.
        recall: share of triggered stays flagged, by rate of false positives on trusted stays.
        false_positives: share of clean stays flagged, by the same.
    """

    auroc: float
    recall: dict[float, float]
    false_positives: dict[float, float]


def score_suspicion(
    clean: NDArray[np.float64], triggered: NDArray[np.float64], limits: dict[float, float]
) -> SuperpositionScore:
    """Score suspicion of clean [N] and triggered [M] stays under the limits of `thresholds`."""
    carries = np.repeat([0, 1], [len(clean), len(triggered)])
    return SuperpositionScore(
        auroc=float(roc_auc_score(carries, np.concatenate([clean, triggered]))),
        recall={rate: float((triggered > limit).mean()) for rate, limit in limits.items()},
        false_positives={rate: float((clean > limit).mean()) for rate, limit in limits.items()},
    )
