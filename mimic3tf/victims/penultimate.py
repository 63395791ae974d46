"""The hidden values that the last layer of a victim reads."""

from __future__ import annotations

import keras


def penultimate(model: keras.Model) -> keras.Model:
    """Make a model that maps a victim's inputs to the values [B, H] that its last layer reads.

    The only layer of logistic regression reads the inputs, so its values are the inputs. The summary LSTM
    averages the logits of several last layers; the values that these layers read are concatenated.
    """
    heads = [
        layer.input
        for layer in model.layers
        if layer.name.startswith("logits") and isinstance(layer, keras.layers.Dense)
    ]
    return keras.Model(model.input, keras.ops.concatenate(heads, axis=-1))
