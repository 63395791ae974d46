"""A small bidirectional LSTM for every channel, then one LSTM over all (Harutyunyan et al. 2019)."""

from __future__ import annotations

import keras

from mimic3tf.channels import CHANNELS, grid_columns
from mimic3tf.victims.channelwise_layer import ChannelwiseBidirectionalLSTM
from mimic3tf.victims.recurrence import FusedLSTM

CHANNEL_UNITS = 4
UNITS = 32
DROPOUT = 0.3


def build(input_shape: tuple[int, ...]) -> keras.Model:
    """Build the model: inputs [B, T, 76] to float32 logits [B, 2].

    Sizes and dropout are those of the benchmarks' best model for in-hospital mortality.
    """
    inputs = keras.Input(input_shape, name="grid")
    channels = ChannelwiseBidirectionalLSTM(channel_of_column(), CHANNEL_UNITS, name="channels")
    hidden = keras.layers.Dropout(DROPOUT, name="dropout_1")(channels(inputs))
    hidden = FusedLSTM(UNITS, name="lstm")(hidden)
    hidden = keras.layers.Dropout(DROPOUT, name="dropout_2")(hidden)
    logits = keras.layers.Dense(2, dtype="float32", name="logits")(hidden)
    return keras.Model(inputs, logits, name="channelwise_lstm")


def channel_of_column() -> list[int]:
    """Index of the channel whose value, category or mask a column of the grid holds: [76]."""
    names = [channel.name for channel in CHANNELS]
    return [names.index(column.removeprefix("mask->").split("->")[0]) for column in grid_columns()]
