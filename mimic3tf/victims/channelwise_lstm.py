"""A small bidirectional LSTM for every channel, then one LSTM over all channels (Harutyunyan et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from mimic3tf.tasks.targets import Head
from mimic3tf.victims.layers.channelwise import ChannelwiseBidirectionalLSTM
from mimic3tf.victims.layers.padding import LastStep, StayLengths
from mimic3tf.victims.layers.recurrence import FusedLSTM

TITLE = "Channel-wise LSTM"
READS = "grid"
BY_CHANNEL = True

CHANNEL_UNITS = 4
UNITS = 32
DROPOUT = 0.3


def build(input_shape: tuple[int | None, ...], head: Head, channel_of_column: Sequence[int]) -> keras.Model:
    """Build the model that maps grids [B, T, D] to the logits of `head`.

    Sizes and dropout are those of the benchmarks' best model for in-hospital mortality.

    Args:
        input_shape: (T, D); T is None if stays have different lengths.
        head: makes the layer of logits.
        channel_of_column: int [D], position of the channel that each column of the grid belongs to.
    """
    inputs = keras.Input(input_shape, name="grid")
    channels = ChannelwiseBidirectionalLSTM(channel_of_column, CHANNEL_UNITS, name="channels")
    if input_shape[0] is None:
        lengths = StayLengths(name="lengths")(inputs)
        hidden = channels(inputs, lengths)
        if head.every_bin:
            # The backward outputs read later bins.
            hidden = hidden[..., : hidden.shape[-1] // 2]
        hidden = keras.layers.Dropout(DROPOUT, name="dropout_1")(hidden)
        hidden = FusedLSTM(UNITS, return_sequences=True, name="lstm")(hidden)
        if not head.every_bin:
            hidden = LastStep(name="last")(hidden, lengths)
    else:
        hidden = keras.layers.Dropout(DROPOUT, name="dropout_1")(channels(inputs))
        hidden = FusedLSTM(UNITS, name="lstm")(hidden)
    hidden = keras.layers.Dropout(DROPOUT, name="dropout_2")(hidden)
    logits = head(hidden)
    return keras.Model(inputs, logits, name="channelwise_lstm")
