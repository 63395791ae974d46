"""What a victim makes of its inputs before its last layer."""

from __future__ import annotations

import keras


def penultimate(model: keras.Model) -> keras.Model:
    """Model from the same inputs to what a victim's last layer reads [B, D].

    Of logistic regression these are its inputs; where several logits are averaged, one part beside the other.
    """
    heads = [
        layer.input
        for layer in model.layers
        if layer.name.startswith("logits") and isinstance(layer, keras.layers.Dense)
    ]
    return keras.Model(model.input, keras.ops.concatenate(heads, axis=-1))
