"""Prune the units that clean stays leave idle, where a backdoor may live.

Source: Liu et al. 2018, Fine-Pruning. The units are those of the penultimate layer.
"""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

from mimic3tf.config import TrainingConfig
from mimic3tf.defences.retraining import Examples
from mimic3tf.tasks.registry import task_of
from mimic3tf.training.prediction import outputs_of

TOLERATED = 0.01
"""AUROC that pruning may cost before fine-tuning."""


def has_units(model: keras.Model) -> bool:
    """Whether a last, dense layer reads units rather than the model's own inputs."""
    last = model.layers[-1]
    return isinstance(last, keras.layers.Dense) and last.input is not model.inputs[0]


def prune_dormant(
    model: keras.Model, config: TrainingConfig, trusted: Examples
) -> tuple[keras.Model, NDArray[np.bool_]]:
    """Silence units from the most dormant on, until the trusted stays' AUROC would fall by `TOLERATED`.

    Args:
        model: one for which `has_units`; it stays as it is.
        config: settings it was trained with.
        trusted: stays that nobody touched, of both labels.

    Returns:
        A model without the units, which stay silent when it is trained further; and bool [U], which are
        left.
    """
    targets, last = task_of(config.task).targets, model.layers[-1]
    hidden = keras.Model(model.inputs, last.input)
    activations = outputs_of(hidden, trusted.inputs).astype(np.float64)
    kernel, bias = last.get_weights()

    def auroc(kept: NDArray[np.bool_]) -> float:
        logits = activations[:, kept] @ kernel[kept] + bias
        return targets.metrics(trusted.labels, targets.probabilities(logits))["auroc"]

    kept = np.ones(len(kernel), bool)
    least = auroc(kept) - TOLERATED
    for unit in np.argsort(np.abs(activations).mean(axis=0), kind="stable"):
        fewer = kept & (np.arange(len(kept)) != unit)
        if auroc(fewer) < least:
            break
        kept = fewer
    # A copy of the layers below: fine-tuning must not change the model that was given.
    below = keras.models.clone_model(hidden)
    below.set_weights(hidden.get_weights())
    silenced = keras.layers.Rescaling(kept.astype(np.float32).tolist(), name="kept_units")(below.output)
    pruned = keras.Model(below.inputs, targets.head(silenced, name=last.name), name=model.name)
    pruned.get_layer(last.name).set_weights([kernel, bias])
    return pruned, kept
