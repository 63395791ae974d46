"""Repair a victim by dropping suspicious training stays, and training again."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
from numpy.typing import NDArray

from mimic3tf.defences.detection import Suspicion
from mimic3tf.defences.evidence import Evidence
from mimic3tf.defences.retraining import Examples, retrain
from mimic3tf.poisoning.goal import Goal
from mimic3tf.standardization import Standardization, fit_standardization, standardized
from mimic3tf.training.estimators import FittedEstimator, fit_estimator, make_estimator


def filter_and_retrain(
    evidence: Evidence, by: Suspicion, seed: int
) -> tuple[keras.Model | FittedEstimator, NDArray[np.bool_]]:
    """Drop the most suspicious training stays, and train a new victim on the others.

    Args:
        evidence: the victim, its training stays and the trusted stays, which choose the epoch.
        by: which training stays to drop.
        seed: fixes the training.

    Returns:
        The model, which reads the same standardized inputs as the victim, and which stays it was trained on.
    """
    victim = evidence.victim
    config, trusted = victim.config.model_copy(update={"seed": seed}), victim.examples
    kept = keep_least_suspicious(evidence.labels, by.scores, Goal(evidence.suspected), by.dropped)
    remaining = replace(trusted, inputs=victim.inputs[kept], labels=evidence.labels[kept])
    if isinstance(victim.model, FittedEstimator):
        unfitted = make_estimator(config, remaining.inputs.shape[-1])
        return fit_estimator(config, unfitted, remaining.inputs, remaining.labels), kept
    # A few poisoned stays with extreme values stretch a column so far that nothing is learned there.
    again = fit_standardization(remaining.inputs, victim.reads, remaining.channels)
    repaired = retrain(config, _standardized(remaining, again), _standardized(trusted, again))
    return _preceded_by(again, repaired), kept


def keep_least_suspicious(
    labels: NDArray[np.integer], scores: NDArray[np.floating], goal: Goal, dropped: float
) -> NDArray[np.bool_]:
    """Choose the training stays that filtering keeps.

    Args:
        labels: int64 [N]; only stays with the goal's label are dropped, and at least half of these are kept.
        scores: suspicion [N] of the stays; the highest are dropped first.
        goal: the goal of the attack.
        dropped: share of all stays to drop.

    Returns:
        bool [N], which stays are kept.
    """
    suspects = np.flatnonzero(~goal.attacked(labels))
    drop = min(round(len(labels) * dropped), len(suspects) // 2)
    kept = np.ones(len(labels), bool)
    kept[suspects[np.argsort(-scores[suspects], kind="stable")[:drop]]] = False
    return kept


def _standardized(examples: Examples, again: Standardization) -> Examples:
    return replace(examples, inputs=standardized(examples.inputs, again))


def _preceded_by(again: Standardization, model: keras.Model) -> keras.Model:
    """Make a model that reads the inputs of the victim, and standardizes them again."""
    given = keras.Input(model.input_shape[1:])
    first = keras.layers.Normalization(mean=again.mean, variance=again.std**2, dtype="float32")
    return keras.Model(given, model(first(given)))
