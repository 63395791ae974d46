"""The hidden values that the last layer of a victim reads."""

from __future__ import annotations

import math

import keras


def penultimate(model: keras.Model) -> keras.Model:
    """Make a model that maps a victim's inputs to the values [B, H] that its last layer reads.

    The only layer of logistic regression reads the inputs, so its values are the inputs. The summary LSTM
    averages the logits of several last layers; the values that these layers read are concatenated. A model of
    one's own may have no layer "logits"; then its last layer counts.
    """
    heads = [
        layer.input
        for layer in model.layers
        if layer.name.startswith("logits") and isinstance(layer, keras.layers.Dense)
    ]
    heads = heads or [keras.ops.reshape(model.layers[-1].input, (-1, *_flat(model.layers[-1].input.shape)))]
    return keras.Model(model.input, keras.ops.concatenate(heads, axis=-1))


def _flat(shape: tuple[int | None, ...]) -> tuple[int]:
    return (math.prod(size or 1 for size in shape[1:]),)
