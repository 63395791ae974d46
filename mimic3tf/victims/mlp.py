"""One hidden layer on features (Joe et al. 2020)."""

from __future__ import annotations

import keras

from mimic3tf.tasks.targets import Head

TITLE = "MLP"
READS = "features"

UNITS = 400
HALVES = ("hidden_1", "hidden_2")


def build(input_shape: tuple[int, ...], head: Head) -> keras.Model:
    """Build the model that maps features [B, D], with `input_shape` (D,), to the logits of `head`."""
    inputs = keras.Input(input_shape, name="features")
    # A training step spends nearly all its time in the two matrix products of the hidden layer. The layer is
    # built as two halves, so that two cores share the products.
    halves = [keras.layers.Dense(UNITS // 2, activation="relu", name=name)(inputs) for name in HALVES]
    hidden = keras.layers.Concatenate(name="hidden")(halves)
    logits = head(hidden)
    return keras.Model(inputs, logits, name="mlp")
