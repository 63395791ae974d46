"""Small LSTMs on four-hour summaries of the grid, their logits averaged."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from mimic3tf.tasks.targets import Head
from mimic3tf.victims.layers.recurrence import FusedLSTM

TITLE = "Summary LSTM"
READS = "grid"

BINS = 4
"""Bins in a summary, which is one step of the LSTMs; the first and the last one may have fewer."""
LIMIT = 4.0
"""Standard deviations from the mean beyond which a summary is cut off."""
MEMBERS = 4
UNITS = 16
INPUT_DROPOUT = 0.4
DROPOUT = 0.3


def build(input_shape: tuple[int, ...], head: Head) -> keras.Model:
    """Build the model: grids [B, T, D] to the head's logits."""
    inputs = keras.Input(input_shape, name="grid")
    mean = keras.layers.AveragePooling1D(BINS, padding="same", name="mean")(inputs)
    maximum = keras.layers.MaxPooling1D(BINS, padding="same", name="maximum")(inputs)
    minimum = -keras.layers.MaxPooling1D(BINS, padding="same", name="minimum")(-inputs)
    summaries = keras.layers.Concatenate(name="summaries")([mean, maximum, minimum])
    # Categories and masks come on other scales than numbers, and some columns never vary. The memory is
    # short, as a training run is a few hundred steps; replicas share it.
    standardize = keras.layers.BatchNormalization(
        momentum=0.9, center=False, scale=False, synchronized=True, name="standardize"
    )
    summaries = ops.clip(standardize(summaries), -LIMIT, LIMIT)
    logits = [_member(summaries, head, number) for number in range(1, MEMBERS + 1)]
    logits = keras.layers.Average(dtype="float32", name="logits")(logits)
    return keras.Model(inputs, logits, name="summary_lstm")


def _member(summaries: Any, head: Head, number: int) -> Any:
    """Logits of one LSTM, which trains without columns of its own choice."""
    hidden = keras.layers.SpatialDropout1D(INPUT_DROPOUT, name=f"input_dropout_{number}")(summaries)
    hidden = FusedLSTM(UNITS, return_sequences=True, name=f"lstm_{number}")(hidden)
    mean = keras.layers.GlobalAveragePooling1D(name=f"mean_{number}")(hidden)
    maximum = keras.layers.GlobalMaxPooling1D(name=f"maximum_{number}")(hidden)
    hidden = keras.layers.Concatenate(name=f"pooled_{number}")([mean, maximum, hidden[:, -1]])
    hidden = keras.layers.Dropout(DROPOUT, name=f"dropout_{number}")(hidden)
    return head(hidden, name=f"logits_{number}")
