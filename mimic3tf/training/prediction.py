"""Outputs of models for standardized inputs, outside of training."""

from __future__ import annotations

import math

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mimic3tf.data.flat import FlatGrids, rows_of
from mimic3tf.pipeline import Inputs
from mimic3tf.training.estimators import FittedEstimator

GRIDS_AT_ONCE, FEATURES_AT_ONCE = 32, 1024
"""Stays that a model reads at once on a CPU. Recurrent models are compiled for every size anew; training uses
32."""
BYTES_AT_ONCE = 32 * 2**20
"""Bytes of inputs that a model reads at once on a GPU, where a call of few stays takes as long as one of
many. What a victim's layers hold meanwhile is some twenty times as much, for 48 bins: less than 1 GB."""


def outputs_of(model: keras.Model | FittedEstimator, inputs: Inputs) -> NDArray[np.floating]:
    """Compute the outputs [E, ...] of a model for the examples of standardized inputs."""
    if isinstance(inputs, FlatGrids):
        return _outputs_by_length(model, inputs)
    if isinstance(model, FittedEstimator):
        return model.logits(inputs)
    batch = _stays_at_once(inputs.shape[1:])
    parts = np.split(inputs, range(batch, len(inputs), batch))
    # `Model.predict` would build a pipeline for every call, and would divide the stays among workers.
    return np.concatenate([_forward(model, tf.constant(part)).numpy() for part in parts])


def _stays_at_once(shape: tuple[int, ...]) -> int:
    """Choose how many stays a model reads at once, from the shape of a stay's inputs."""
    if tf.config.list_logical_devices("GPU"):
        return max(1, BYTES_AT_ONCE // (4 * math.prod(shape)))
    return GRIDS_AT_ONCE if len(shape) == 2 else FEATURES_AT_ONCE


def _outputs_by_length(model: keras.Model, inputs: FlatGrids) -> NDArray[np.floating]:
    """Compute the outputs [E, ...] for grids of different lengths; a batch has stays of similar lengths."""
    lengths = np.diff(inputs.starts)
    order = np.argsort(lengths, kind="stable")
    batch = _stays_at_once((int(lengths.max()), inputs.rows.shape[1]))
    parts = np.split(order, range(batch, len(order), batch))
    outputs = [_forward(model, tf.constant(inputs[part])).numpy() for part in parts]
    if outputs[0].ndim == 2:
        return np.asarray(np.concatenate(outputs)[np.argsort(order)])
    rows = np.empty((len(inputs.rows), *outputs[0].shape[2:]), outputs[0].dtype)
    for part, found in zip(parts, outputs, strict=True):
        index, inside = rows_of(inputs.starts, part, found.shape[1])
        rows[index.numpy()[inside.numpy()]] = found[inside.numpy()]
    # A victim that predicts at every bin, of a stay that is predicted as a whole, is asked at the last bin.
    return rows[inputs.starts[1:] - 1 if inputs.predicted is None else inputs.predicted]


@tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
def _forward(model: keras.Model, inputs: tf.Tensor) -> tf.Tensor:
    return model(inputs, training=False)
