"""One hidden layer on features (Joe et al. 2020)."""

from __future__ import annotations

import keras

from mimic3tf.tasks.targets import Head

TITLE = "MLP"
READS = "features"

UNITS = 400
HALVES = ("hidden_1", "hidden_2")


def build(input_shape: tuple[int, ...], head: Head) -> keras.Model:
    """Build the model: features [B, D] to the head's logits."""
    inputs = keras.Input(input_shape, name="features")
    # Nearly all of a training step is this layer's two products: as two layers, two cores share them.
    halves = [keras.layers.Dense(UNITS // 2, activation="relu", name=name)(inputs) for name in HALVES]
    hidden = keras.layers.Concatenate(name="hidden")(halves)
    logits = head(hidden)
    return keras.Model(inputs, logits, name="mlp")
