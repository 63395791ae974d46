"""The models that are attacked: one page each, and the registry that names them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import keras

OriginalVictim = Literal["lr", "mlp", "lstm"]
"""Those of Joe et al. 2020."""
VictimName = Literal[OriginalVictim, "gru", "tcn", "channelwise-lstm", "transformer", "summary-lstm"]


@dataclass(frozen=True)
class Victim:
    """A kind of model.

    Attributes:
        title: name in tables.
        representation: what it reads: hourly grids "48x76", or "714" features of a stay.
        input_shape: shape of one stay's input.
        build: makes a fresh model for an input shape.
    """

    title: str
    representation: Literal["48x76", "714"]
    input_shape: tuple[int, ...]
    build: Callable[[tuple[int, ...]], keras.Model]


def victim_of(name: VictimName) -> Victim:
    """Look a victim up.

    Keras is only imported here, so that names are known without it. With it come the victims' own layers,
    without which Keras cannot read their files.
    """
    from mimic3tf.victims import (
        channelwise_lstm,
        gru,
        lr,
        lstm,
        mlp,
        summary_lstm,
        tcn,
        transformer,
    )

    return {
        "lr": Victim("LR", "714", (714,), lr.build),
        "mlp": Victim("MLP", "714", (714,), mlp.build),
        "lstm": Victim("LSTM", "48x76", (48, 76), lstm.build),
        "gru": Victim("GRU", "48x76", (48, 76), gru.build),
        "tcn": Victim("TCN", "48x76", (48, 76), tcn.build),
        "channelwise-lstm": Victim("Channel-wise LSTM", "48x76", (48, 76), channelwise_lstm.build),
        "transformer": Victim("Transformer", "48x76", (48, 76), transformer.build),
        "summary-lstm": Victim("Summary LSTM", "48x76", (48, 76), summary_lstm.build),
    }[name]
