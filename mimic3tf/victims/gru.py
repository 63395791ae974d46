"""One GRU layer on hourly grids of values and masks ("GRU-Simple" of Che et al. 2018)."""

from __future__ import annotations

import keras

from mimic3tf.tasks.targets import Head
from mimic3tf.victims.layers import cudnn
from mimic3tf.victims.layers.padding import LastStep, StayLengths

TITLE = "GRU"
READS = "grid"

UNITS = 32
DROPOUT = 0.3


def build(input_shape: tuple[int | None, ...], head: Head) -> keras.Model:
    """Build the model that maps grids [B, T, D], with `input_shape` (T, D), to the logits of `head`.

    T is None if stays have different lengths.
    """
    inputs = keras.Input(input_shape, name="grid")
    ragged = input_shape[0] is None
    layer = keras.layers.GRU(UNITS, return_sequences=ragged, dtype=cudnn.recurrent_policy(), name="gru")
    hidden = layer(inputs)
    if ragged and not head.every_bin:
        hidden = LastStep(name="last")(hidden, StayLengths(name="lengths")(inputs))
    hidden = keras.layers.Dropout(DROPOUT, name="dropout")(hidden)
    logits = head(hidden)
    return keras.Model(inputs, logits, name="gru")
