"""One hidden layer on 714 features (Joe et al. 2020)."""

from __future__ import annotations

import keras

UNITS = 400
HALVES = ("hidden_1", "hidden_2")


def build(input_shape: tuple[int, ...]) -> keras.Model:
    """Build the model: inputs [B, 714] to float32 logits [B, 2]."""
    inputs = keras.Input(input_shape, name="features")
    # Nearly all of a training step is this layer's two products: as two layers, two cores share them.
    halves = [keras.layers.Dense(UNITS // 2, activation="relu", name=name)(inputs) for name in HALVES]
    hidden = keras.layers.Concatenate(name="hidden")(halves)
    logits = keras.layers.Dense(2, dtype="float32", name="logits")(hidden)
    return keras.Model(inputs, logits, name="mlp")
