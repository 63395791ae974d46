"""Logistic regression on 714 features, with two logits as in the original."""

from __future__ import annotations

import keras


def build(input_shape: tuple[int, ...]) -> keras.Model:
    """Build the model: inputs [B, 714] to float32 logits [B, 2]."""
    inputs = keras.Input(input_shape, name="features")
    logits = keras.layers.Dense(2, dtype="float32", name="logits")(inputs)
    return keras.Model(inputs, logits, name="lr")
