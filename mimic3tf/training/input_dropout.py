"""Dropout of whole input columns in training steps, so that a victim relies on no single column.

The training step does it, not the model: a victim has the same layers with and without this dropout.
"""

from __future__ import annotations

import tensorflow as tf


def drop_columns(inputs: tf.Tensor, rate: float, seed: tf.Tensor) -> tf.Tensor:
    """Set a random part of the columns of each stay to 0, and scale the others up.

    Args:
        inputs: float [B, D] or [B, T, D]; a dropped column is 0 at every bin of the stay.
        rate: share of the columns that are dropped in each stay, in [0, 1).
        seed: int [2]; fixes which columns are dropped.

    Returns:
        float, of the shape of `inputs`.
    """
    if rate == 0:
        return inputs
    shape = tf.shape(inputs)
    drawn = tf.random.stateless_uniform(tf.stack([shape[0], shape[-1]]), seed)
    kept = tf.cast(drawn >= rate, inputs.dtype) / (1.0 - rate)
    return inputs * (kept[:, None, :] if inputs.shape.rank == 3 else kept)
