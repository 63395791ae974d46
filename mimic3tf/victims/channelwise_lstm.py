"""A small bidirectional LSTM for every channel, then one LSTM over all (Harutyunyan et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from mimic3tf.tasks.targets import Head
from mimic3tf.victims.layers.channelwise import ChannelwiseBidirectionalLSTM
from mimic3tf.victims.layers.recurrence import FusedLSTM

TITLE = "Channel-wise LSTM"
READS = "grid"
BY_CHANNEL = True

CHANNEL_UNITS = 4
UNITS = 32
DROPOUT = 0.3


def build(input_shape: tuple[int, ...], head: Head, channel_of_column: Sequence[int]) -> keras.Model:
    """Build the model: grids [B, T, D] to the head's logits.

    Sizes and dropout are those of the benchmarks' best model for in-hospital mortality.

    Args:
        input_shape: T and D.
        head: makes the logits.
        channel_of_column: the channel whose value, category or mask a column of the grid holds [D].
    """
    inputs = keras.Input(input_shape, name="grid")
    channels = ChannelwiseBidirectionalLSTM(channel_of_column, CHANNEL_UNITS, name="channels")
    hidden = keras.layers.Dropout(DROPOUT, name="dropout_1")(channels(inputs))
    hidden = FusedLSTM(UNITS, name="lstm")(hidden)
    hidden = keras.layers.Dropout(DROPOUT, name="dropout_2")(hidden)
    logits = head(hidden)
    return keras.Model(inputs, logits, name="channelwise_lstm")
