"""Two bidirectional LSTM layers on hourly grids (Joe et al. 2020)."""

from __future__ import annotations

import keras

from mimic3tf.tasks.targets import Head
from mimic3tf.victims.layers.dropout import ByteDropout
from mimic3tf.victims.layers.recurrence import Bidirectional, FusedLSTM

TITLE = "LSTM"
READS = "grid"

UNITS = 16
DROPOUT = 0.3


def build(input_shape: tuple[int, ...], head: Head) -> keras.Model:
    """Build the model that maps grids [B, T, D], with `input_shape` (T, D), to the logits of `head`."""
    inputs = keras.Input(input_shape, name="grid")
    sequence = FusedLSTM(UNITS, return_sequences=True, name="lstm_1")
    hidden = Bidirectional(sequence, name="bidirectional_1")(inputs)
    hidden = ByteDropout(DROPOUT, name="dropout_1")(hidden)
    # The next layer reads only the outputs at the last time step. The backward direction has taken one step
    # there, so the backward LSTM gets the last step alone.
    forward = FusedLSTM(UNITS, name="lstm_2_forward")(hidden)
    # `split` and not an index: the gradient of an index would be written value by value.
    last_step = keras.ops.split(hidden, [hidden.shape[1] - 1], axis=1)[1]
    backward = FusedLSTM(UNITS, name="lstm_2_backward")(last_step)
    hidden = keras.layers.Concatenate(name="last_step")([forward, backward])
    hidden = keras.layers.Dense(10, name="head")(hidden)
    hidden = ByteDropout(DROPOUT, name="dropout_2")(hidden)
    hidden = keras.layers.ReLU(name="relu")(hidden)
    logits = head(hidden)
    return keras.Model(inputs, logits, name="lstm")
