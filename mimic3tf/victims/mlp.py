"""One hidden layer on 714 features (Joe et al. 2020)."""

from __future__ import annotations

import keras


def build(input_shape: tuple[int, ...]) -> keras.Model:
    """Build the model: inputs [B, 714] to float32 logits [B, 2]."""
    inputs = keras.Input(input_shape, name="features")
    hidden = keras.layers.Dense(400, activation="relu", name="hidden")(inputs)
    logits = keras.layers.Dense(2, dtype="float32", name="logits")(hidden)
    return keras.Model(inputs, logits, name="mlp")
