"""The benchmarks' LSTM on hourly grids (Harutyunyan et al. 2019), at any size."""

from __future__ import annotations

from typing import Any

import keras

from mimic3tf.tasks.targets import Head
from mimic3tf.victims.layers.dropout import ByteDropout
from mimic3tf.victims.layers.gates import hard_sigmoid
from mimic3tf.victims.layers.padding import LastStep, StayLengths, both_ways
from mimic3tf.victims.layers.recurrence import FusedLSTM
from mimic3tf.victims.sizes import Size

TITLE = "Benchmark LSTM"
READS = "grid"
SIZES = {
    "units": Size(16, 2, 4096),
    "depth": Size(2, 1, 16),
    "dropout": Size(0.3, 0.0, 0.99),
    "hard_gates": Size(0, 0, 1),
}
"""Settings of the layers, as published for in-hospital mortality. With `hard_gates` 1, the gates are the hard
sigmoid of Keras 2, as in the benchmarks; a step then takes several times as long."""


def build(
    input_shape: tuple[int | None, ...],
    head: Head,
    *,
    units: int,
    depth: int,
    dropout: float,
    hard_gates: int,
) -> keras.Model:
    """Build the model that maps grids [B, T, D] to the logits of `head`.

    Args:
        input_shape: (T, D); T is None if stays have different lengths.
        head: makes the layer of logits.
        units: units of every layer; a bidirectional layer has half of them in each direction.
        depth: number of recurrent layers. All but the last are bidirectional, unless `head` predicts at every
            bin.
        dropout: share of the inputs of every layer that training drops.
        hard_gates: 1 for hard sigmoid gates.
    """
    inputs = keras.Input(input_shape, name="grid")
    lengths = StayLengths(name="lengths")(inputs)

    def lstm(hidden: Any, name: str, width: int = units // 2) -> Any:
        gates = hard_sigmoid if hard_gates else "sigmoid"
        return FusedLSTM(width, return_sequences=True, recurrent_activation=gates, name=name)(hidden)

    hidden = inputs
    for layer in range(1, depth + 1):
        hidden = ByteDropout(dropout, name=f"dropout_{layer}")(hidden)
        if head.every_bin or layer == depth:
            hidden = lstm(hidden, f"lstm_{layer}", units)
        else:
            hidden = both_ways(lstm, hidden, lengths, f"lstm_{layer}")
    if not head.every_bin:
        hidden = LastStep(name="last")(hidden, lengths)
    hidden = ByteDropout(dropout, name="dropout_of_head")(hidden)
    return keras.Model(inputs, head(hidden), name="benchmark_lstm")
