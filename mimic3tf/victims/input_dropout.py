"""Dropout of whole inputs, in front of any victim."""

from __future__ import annotations

import keras


def with_input_dropout(victim: keras.Model, rate: float) -> keras.Model:
    """Let a victim train without a random part of its inputs, so that it leans on none of them.

    A column is dropped for a whole stay: on grids [B, T, D] at every hour of it. At prediction nothing is
    dropped.

    Args:
        victim: the model.
        rate: share of the columns that a stay loses, in [0, 1).

    Returns:
        A model of the same inputs and weights, the victim itself for rate 0.
    """
    if rate == 0:
        return victim
    inputs = keras.Input(victim.input_shape[1:], name="inputs")
    layer = keras.layers.SpatialDropout1D if len(inputs.shape) == 3 else keras.layers.Dropout
    return keras.Model(inputs, victim(layer(rate, name="input_dropout")(inputs)), name=victim.name)
