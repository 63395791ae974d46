"""One GRU layer on hourly grids that say what was measured ("GRU-Simple" of Che et al. 2018)."""

from __future__ import annotations

import keras

UNITS = 32
DROPOUT = 0.3


def build(input_shape: tuple[int, ...]) -> keras.Model:
    """Build the model: inputs [B, T, 76] to float32 logits [B, 2]."""
    inputs = keras.Input(input_shape, name="grid")
    hidden = keras.layers.GRU(UNITS, name="gru")(inputs)
    hidden = keras.layers.Dropout(DROPOUT, name="dropout")(hidden)
    logits = keras.layers.Dense(2, dtype="float32", name="logits")(hidden)
    return keras.Model(inputs, logits, name="gru")
