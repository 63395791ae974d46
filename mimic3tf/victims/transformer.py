"""Small Transformer encoder on hourly grids (Vaswani et al. 2017; for ICU data Song et al. 2018, "SAnD")."""

from __future__ import annotations

from typing import Any

import keras

from mimic3tf.tasks.targets import Head
from mimic3tf.victims.layers.padding import StayLengths, Within
from mimic3tf.victims.layers.position_embedding import PositionEmbedding

TITLE = "Transformer"
READS = "grid"

WIDTH = 32
HEADS = 4
BLOCKS = 2
DROPOUT = 0.1


def build(input_shape: tuple[int | None, ...], head: Head) -> keras.Model:
    """Build the model that maps grids [B, T, D], with `input_shape` (T, D), to the logits of `head`.

    T is None if stays have different lengths.
    """
    inputs = keras.Input(input_shape, name="grid")
    hidden = keras.layers.Dense(WIDTH, name="channels")(inputs)
    hidden = PositionEmbedding(name="positions")(hidden)
    within = None
    if input_shape[0] is None and not head.every_bin:
        within = Within(name="within")(inputs, StayLengths(name="lengths")(inputs))
    for block in range(1, BLOCKS + 1):
        hidden = _encode(hidden, block, within, causal=head.every_bin)
    hidden = keras.layers.LayerNormalization(name="norm")(hidden)
    if not head.every_bin:
        hidden = keras.layers.GlobalAveragePooling1D(name="mean_over_time")(hidden, mask=within)
    logits = head(hidden)
    return keras.Model(inputs, logits, name="transformer")


def _encode(hidden: Any, block: int, within: Any, *, causal: bool) -> Any:
    """Add self-attention to [B, T, WIDTH], then two dense layers; both read normalized values.

    Bins that are padding, where `within` [B, T] is false, are not attended to; if `causal`, later bins are
    not, either.
    """
    attention = keras.layers.MultiHeadAttention(
        HEADS, WIDTH // HEADS, dropout=DROPOUT, name=f"attention_{block}"
    )
    normed = keras.layers.LayerNormalization(name=f"norm_{block}a")(hidden)
    change = keras.layers.Dropout(DROPOUT, name=f"dropout_{block}a")(
        attention(normed, normed, key_mask=within, use_causal_mask=causal)
    )
    hidden = keras.layers.Add(name=f"residual_{block}a")([hidden, change])
    change = keras.layers.LayerNormalization(name=f"norm_{block}b")(hidden)
    change = keras.layers.Dense(2 * WIDTH, activation="relu", name=f"expand_{block}")(change)
    change = keras.layers.Dense(WIDTH, name=f"contract_{block}")(change)
    change = keras.layers.Dropout(DROPOUT, name=f"dropout_{block}b")(change)
    return keras.layers.Add(name=f"residual_{block}b")([hidden, change])
