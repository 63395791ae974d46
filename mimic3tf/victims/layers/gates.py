"""The gates of LSTM layers in Keras 2."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable("mimic3tf")  # type: ignore[untyped-decorator]
def hard_sigmoid(x: Any) -> Any:
    """Compute clip(0.2 x + 0.5, 0, 1). `keras.activations.hard_sigmoid` of Keras 3 has the slope 1/6."""
    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)
