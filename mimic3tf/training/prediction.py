"""Outputs of models for standardized inputs, outside of training."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mimic3tf.training.estimators import FittedEstimator

GRIDS_AT_ONCE, FEATURES_AT_ONCE = 32, 1024
"""Stays that a model reads at once. Recurrent models are compiled for every size anew; training uses 32."""


def outputs_of(model: keras.Model | FittedEstimator, inputs: NDArray[np.float32]) -> NDArray[np.floating]:
    """Compute the outputs [N, ...] of a model for standardized grids [N, T, D] or features [N, D]."""
    if isinstance(model, FittedEstimator):
        return model.logits(inputs)
    batch = GRIDS_AT_ONCE if inputs.ndim == 3 else FEATURES_AT_ONCE
    parts = np.split(inputs, range(batch, len(inputs), batch))
    # `Model.predict` would build a pipeline for every call, and would divide the stays among workers.
    return np.concatenate([_forward(model, tf.constant(part)).numpy() for part in parts])


@tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
def _forward(model: keras.Model, inputs: tf.Tensor) -> tf.Tensor:
    return model(inputs, training=False)
