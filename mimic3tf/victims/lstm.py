"""Two bidirectional LSTM layers on hourly grids (Joe et al. 2020)."""

from __future__ import annotations

from typing import Any

import keras

from mimic3tf.tasks.targets import Head
from mimic3tf.victims.layers.dropout import ByteDropout
from mimic3tf.victims.layers.padding import LastStep, StayLengths, both_ways
from mimic3tf.victims.layers.recurrence import Bidirectional, FusedLSTM

TITLE = "LSTM"
READS = "grid"

UNITS = 16
DROPOUT = 0.3


def build(input_shape: tuple[int | None, ...], head: Head) -> keras.Model:
    """Build the model that maps grids [B, T, D], with `input_shape` (T, D), to the logits of `head`.

    T is None if stays have different lengths. At every bin, only the forward directions can predict.
    """
    inputs = keras.Input(input_shape, name="grid")
    if head.every_bin:
        hidden = _lstm(inputs, "lstm_1_forward")
        hidden = ByteDropout(DROPOUT, name="dropout_1")(hidden)
        hidden = _lstm(hidden, "lstm_2_forward")
        return keras.Model(inputs, _logits(hidden, head), name="lstm")
    # The second layer reads only the outputs at the last time step. The backward direction has taken one step
    # there, so the backward LSTM gets the last step alone.
    if input_shape[0] is None:
        lengths = StayLengths(name="lengths")(inputs)
        hidden = both_ways(_lstm, inputs, lengths, "lstm_1")
        hidden = ByteDropout(DROPOUT, name="dropout_1")(hidden)
        forward = _lstm(hidden, "lstm_2_forward")
        forward = LastStep(name="last_forward")(forward, lengths)
        last_step = keras.ops.expand_dims(LastStep(name="last")(hidden, lengths), 1)
    else:
        sequence = FusedLSTM(UNITS, return_sequences=True, name="lstm_1")
        hidden = Bidirectional(sequence, name="bidirectional_1")(inputs)
        hidden = ByteDropout(DROPOUT, name="dropout_1")(hidden)
        forward = FusedLSTM(UNITS, name="lstm_2_forward")(hidden)
        # `split` and not an index: the gradient of an index would be written value by value.
        last_step = keras.ops.split(hidden, [hidden.shape[1] - 1], axis=1)[1]
    backward = FusedLSTM(UNITS, name="lstm_2_backward")(last_step)
    hidden = keras.layers.Concatenate(name="last_step")([forward, backward])
    return keras.Model(inputs, _logits(hidden, head), name="lstm")


def _lstm(hidden: Any, name: str) -> Any:
    return FusedLSTM(UNITS, return_sequences=True, name=name)(hidden)


def _logits(hidden: Any, head: Head) -> Any:
    """Map the outputs of the recurrent layers to the logits of `head`."""
    hidden = keras.layers.Dense(10, name="head")(hidden)
    hidden = ByteDropout(DROPOUT, name="dropout_2")(hidden)
    return head(keras.layers.ReLU(name="relu")(hidden))
