"""A small bidirectional LSTM for every channel, then one LSTM over all channels (Harutyunyan et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from mimic3tf.tasks.targets import Head
from mimic3tf.victims.layers.channelwise import ChannelwiseBidirectionalLSTM
from mimic3tf.victims.layers.gates import hard_sigmoid
from mimic3tf.victims.layers.padding import LastStep, StayLengths
from mimic3tf.victims.layers.recurrence import FusedLSTM
from mimic3tf.victims.sizes import Size

TITLE = "Channel-wise LSTM"
READS = "grid"
BY_CHANNEL = True

SIZES = {
    "channel_units": Size(4, 1, 256),
    "units": Size(32, 1, 4096),
    "dropout": Size(0.3, 0.0, 0.99),
    "hard_gates": Size(0, 0, 1),
}
"""Settings of the layers, as published for in-hospital mortality; see `benchmark_lstm`."""


def build(
    input_shape: tuple[int | None, ...],
    head: Head,
    channel_of_column: Sequence[int],
    *,
    channel_units: int,
    units: int,
    dropout: float,
    hard_gates: int,
) -> keras.Model:
    """Build the model that maps grids [B, T, D] to the logits of `head`.

    Args:
        input_shape: (T, D); T is None if stays have different lengths.
        head: makes the layer of logits.
        channel_of_column: int [D], position of the channel that each column of the grid belongs to.
        channel_units: units of the LSTM of a channel in each direction; only the forward ones are read if
            `head` predicts at every bin.
        units: units of the LSTM over all channels.
        dropout: share of the values that training drops between the layers.
        hard_gates: 1 for hard sigmoid gates.
    """
    inputs = keras.Input(input_shape, name="grid")
    channels = ChannelwiseBidirectionalLSTM(
        channel_of_column, channel_units, hard_gates=bool(hard_gates), name="channels"
    )
    gates = hard_sigmoid if hard_gates else "sigmoid"
    if input_shape[0] is None:
        lengths = StayLengths(name="lengths")(inputs)
        hidden = channels(inputs, lengths)
        if head.every_bin:
            # The backward outputs read later bins.
            hidden = hidden[..., : hidden.shape[-1] // 2]
        hidden = keras.layers.Dropout(dropout, name="dropout_1")(hidden)
        hidden = FusedLSTM(units, return_sequences=True, recurrent_activation=gates, name="lstm")(hidden)
        if not head.every_bin:
            hidden = LastStep(name="last")(hidden, lengths)
    else:
        hidden = keras.layers.Dropout(dropout, name="dropout_1")(channels(inputs))
        hidden = FusedLSTM(units, recurrent_activation=gates, name="lstm")(hidden)
    hidden = keras.layers.Dropout(dropout, name="dropout_2")(hidden)
    logits = head(hidden)
    return keras.Model(inputs, logits, name="channelwise_lstm")
