"""Prune the units that clean stays hardly activate, because a backdoor may use them.

Source: Liu et al. 2018, Fine-Pruning. The units are those of the penultimate layer.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from numpy.typing import NDArray

from mimic3tf.config import TrainingConfig
from mimic3tf.pipeline import Inputs
from mimic3tf.tasks.targets import Head
from mimic3tf.training.prediction import outputs_of

NO_UNITS = "the last layer is not a dense layer over hidden units"
"""Why a model cannot be pruned."""
TOLERATED = 0.01
"""Largest loss of AUROC by pruning, before fine-tuning."""


def has_units(model: keras.Model) -> bool:
    """Return whether the last layer is dense and reads hidden units, not the model's inputs."""
    last = model.layers[-1]
    return isinstance(last, keras.layers.Dense) and last.input is not model.inputs[0]


def prune_dormant(
    model: keras.Model, head: Head, inputs: Inputs, auroc: Callable[[NDArray[np.floating]], float]
) -> tuple[keras.Model, NDArray[np.bool_]]:
    """Prune units, the least active first, until the AUROC on trusted stays would fall by more than allowed.

    Args:
        model: a model for which `has_units` is true; it is not changed.
        head: makes a last layer like the model's.
        inputs: standardized inputs of clean stays.
        auroc: function of the model's outputs for these inputs [E, ...], to the AUROC.

    Returns:
        A copy of the model in which the pruned units are always 0, also in further training; and bool [U],
        which units are kept. The AUROC falls by at most `TOLERATED`.
    """
    last = model.layers[-1]
    hidden = keras.Model(model.inputs, last.input)
    activations = outputs_of(hidden, inputs).astype(np.float64)
    kernel, bias = last.get_weights()

    kept, outputs = np.ones(len(kernel), bool), activations @ kernel + bias
    least = auroc(outputs) - TOLERATED
    for unit in np.argsort(np.abs(activations).mean(axis=0), kind="stable"):
        outputs = outputs - np.outer(activations[:, unit], kernel[unit])
        if auroc(outputs) < least:
            break
        kept[unit] = False
    # The layers below are copied, because fine-tuning must not change the given model.
    below = keras.models.clone_model(hidden)
    below.set_weights(hidden.get_weights())
    silenced = keras.layers.Rescaling(kept.astype(np.float32).tolist(), name="kept_units")(below.output)
    pruned = keras.Model(below.inputs, head(silenced, name=last.name), name=model.name)
    pruned.get_layer(last.name).set_weights([kernel, bias])
    return pruned, kept


def pruning_in_words(kept: NDArray[np.bool_], config: TrainingConfig) -> str:
    """Say how many units were pruned, and how the model was trained afterwards."""
    return f"pruned {(~kept).sum()} of {len(kept)} units, then {config.epochs} epochs on trusted stays"
