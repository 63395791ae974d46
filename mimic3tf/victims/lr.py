"""Logistic regression on features (Joe et al. 2020)."""

from __future__ import annotations

import keras

from mimic3tf.tasks.targets import Head

TITLE = "LR"
READS = "features"


def build(input_shape: tuple[int, ...], head: Head) -> keras.Model:
    """Build the model that maps features [B, D], with `input_shape` (D,), to the logits of `head`."""
    inputs = keras.Input(input_shape, name="features")
    logits = head(inputs)
    return keras.Model(inputs, logits, name="lr")
