"""Temporal convolutional network: residual blocks of dilated causal convolutions (Bai et al. 2018)."""

from __future__ import annotations

import keras

from mimic3tf.tasks.targets import Head
from mimic3tf.victims.layers.padding import LastStep, StayLengths

TITLE = "TCN"
READS = "grid"

FILTERS = 32
KERNEL = 3
DROPOUT = 0.2
SEEN = 256
"""Number of steps that the last step sees if stays have different lengths; it does not see earlier ones."""


def build(input_shape: tuple[int | None, ...], head: Head) -> keras.Model:
    """Build the model that maps grids [B, T, D], with `input_shape` (T, D), to the logits of `head`.

    T is None if stays have different lengths.
    """
    inputs = keras.Input(input_shape, name="grid")
    hidden = keras.layers.Conv1D(FILTERS, 1, name="channels")(inputs)
    for block, dilation in enumerate(dilations(input_shape[0] or SEEN), start=1):
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
    if head.every_bin:
        logits = head(hidden)
    elif input_shape[0] is None:
        logits = head(LastStep(name="last")(hidden, StayLengths(name="lengths")(inputs)))
    else:
        logits = head(hidden[:, -1])
    return keras.Model(inputs, logits, name="tcn")


def dilations(steps: int) -> list[int]:
    """List one dilation for each block (1, 2, 4, ...), until the last step sees all `steps` steps.

    A block of dilation d has two convolutions and sees 2 * (KERNEL - 1) * d steps further back. For 48 steps
    the dilations are 1, 2, 4 and 8.
    """
    doubled = [1]
    while 1 + 2 * (KERNEL - 1) * sum(doubled) < steps:
        doubled.append(2 * doubled[-1])
    return doubled
