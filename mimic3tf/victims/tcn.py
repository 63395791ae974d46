"""Temporal convolutional network: residual blocks of dilated causal convolutions (Bai et al. 2018)."""

from __future__ import annotations

import keras

FILTERS = 32
KERNEL = 3
DILATIONS = (1, 2, 4, 8)
"""Two convolutions a block: the last step sees 1 + 2 * (3 - 1) * (1 + 2 + 4 + 8) = 61 steps."""
DROPOUT = 0.2


def build(input_shape: tuple[int, ...]) -> keras.Model:
    """Build the model: inputs [B, T, 76] to float32 logits [B, 2]."""
    inputs = keras.Input(input_shape, name="grid")
    hidden = keras.layers.Conv1D(FILTERS, 1, name="channels")(inputs)
    for block, dilation in enumerate(DILATIONS, start=1):
        residual = hidden
        for half in ("a", "b"):
            name = f"{block}{half}"
            convolution = keras.layers.Conv1D(
                FILTERS,
                KERNEL,
                padding="causal",
                dilation_rate=dilation,
                activation="relu",
                name=f"convolution_{name}",
            )
            hidden = convolution(hidden)
            hidden = keras.layers.SpatialDropout1D(DROPOUT, name=f"dropout_{name}")(hidden)
        hidden = keras.layers.Add(name=f"residual_{block}")([residual, hidden])
        hidden = keras.layers.ReLU(name=f"relu_{block}")(hidden)
    logits = keras.layers.Dense(2, dtype="float32", name="logits")(hidden[:, -1])
    return keras.Model(inputs, logits, name="tcn")
