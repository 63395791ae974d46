"""Four small LSTMs on summaries of four bins of the grid; the model averages their logits."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from mimic3tf.tasks.targets import Head
from mimic3tf.victims.layers.recurrence import FusedLSTM

TITLE = "Summary LSTM"
READS = "grid"
ONE_LENGTH = True

BINS = 4
"""Bins in a summary. One summary is one step of the LSTMs; the first and the last may have fewer bins."""
LIMIT = 4.0
"""Summaries are clipped to this many standard deviations from the mean."""
MEMBERS = 4
UNITS = 16
INPUT_DROPOUT = 0.4
DROPOUT = 0.3


def build(input_shape: tuple[int, ...], head: Head) -> keras.Model:
    """Build the model that maps grids [B, T, D], with `input_shape` (T, D), to the logits of `head`."""
    inputs = keras.Input(input_shape, name="grid")
    mean = keras.layers.AveragePooling1D(BINS, padding="same", name="mean")(inputs)
    maximum = keras.layers.MaxPooling1D(BINS, padding="same", name="maximum")(inputs)
    minimum = -keras.layers.MaxPooling1D(BINS, padding="same", name="minimum")(-inputs)
    summaries = keras.layers.Concatenate(name="summaries")([mean, maximum, minimum])
    # Categories, masks and numbers have different scales, and some columns never vary. The momentum is low
    # because a training run has only a few hundred steps. All replicas share the mean and the variance.
    standardize = keras.layers.BatchNormalization(
        momentum=0.9, center=False, scale=False, synchronized=True, name="standardize"
    )
    summaries = ops.clip(standardize(summaries), -LIMIT, LIMIT)
    logits = [_member(summaries, head, number) for number in range(1, MEMBERS + 1)]
    logits = keras.layers.Average(dtype="float32", name="logits")(logits)
    return keras.Model(inputs, logits, name="summary_lstm")


def _member(summaries: Any, head: Head, number: int) -> Any:
    """Make the logits of one LSTM, which has its own dropout of input columns."""
    hidden = keras.layers.SpatialDropout1D(INPUT_DROPOUT, name=f"input_dropout_{number}")(summaries)
    hidden = FusedLSTM(UNITS, return_sequences=True, name=f"lstm_{number}")(hidden)
    mean = keras.layers.GlobalAveragePooling1D(name=f"mean_{number}")(hidden)
    maximum = keras.layers.GlobalMaxPooling1D(name=f"maximum_{number}")(hidden)
    hidden = keras.layers.Concatenate(name=f"pooled_{number}")([mean, maximum, hidden[:, -1]])
    hidden = keras.layers.Dropout(DROPOUT, name=f"dropout_{number}")(hidden)
    return head(hidden, name=f"logits_{number}")
