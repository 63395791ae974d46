"""Layers for grids of stays of different lengths, which are padded with zeros at the end.

Keras' own masks are not used: what a layer of Keras does with the mask of its input changes between
versions, and compiled recurrent layers take none. A layer that goes forward in time needs no mask: padding
comes last, so it changes no step before it. What reads a whole stay takes the stays' lengths.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("mimic3tf")
class StayLengths(keras.layers.Layer):
    """Count the bins of every stay: [B, T, D] to int32 [B].

    A bin in which all D columns are 0 is padding if no other bin follows.
    """

    def call(self, inputs: Any) -> Any:
        """Find the last bin that is not 0; a stay has at least one bin."""
        filled = tf.reduce_any(inputs != 0, axis=-1)
        number = tf.range(1, tf.shape(inputs)[1] + 1)
        return tf.maximum(tf.reduce_max(tf.where(filled, number, 0), axis=1), 1)


@keras.saving.register_keras_serializable("mimic3tf")
class Reversed(keras.layers.Layer):
    """Reverse the order of the bins of every stay: [B, T, D] to [B, T, D]; padding stays at the end."""

    def call(self, inputs: Any, lengths: Any) -> Any:
        """Reverse the first `lengths` [B] bins."""
        return tf.reverse_sequence(inputs, lengths, seq_axis=1)


@keras.saving.register_keras_serializable("mimic3tf")
class LastStep(keras.layers.Layer):
    """Take the last bin of every stay: [B, T, D] to [B, D]."""

    def call(self, inputs: Any, lengths: Any) -> Any:
        """Take the bin before the padding, by the `lengths` [B]."""
        return tf.gather(inputs, lengths - 1, batch_dims=1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...], *_: Any) -> tuple[int | None, ...]:
        """Return the shape of the outputs."""
        return (input_shape[0], *input_shape[2:])


@keras.saving.register_keras_serializable("mimic3tf")
class Within(keras.layers.Layer):
    """Mark the bins that are no padding: [B, T, D] to bool [B, T]."""

    def call(self, inputs: Any, lengths: Any) -> Any:
        """Mark the first `lengths` [B] of the T bins."""
        return tf.sequence_mask(lengths, tf.shape(inputs)[1])


def both_ways(layer: Callable[[Any, str], Any], inputs: Any, lengths: Any, name: str) -> Any:
    """Run a recurrent layer forward and another backward over every stay, and join their outputs.

    Args:
        layer: maps [B, T, D] to [B, T, U], forward in time; its second argument names the layer.
        inputs: [B, T, D].
        lengths: number of bins of every stay [B].
        name: begins the names of all layers.

    Returns:
        [B, T, 2U], the outputs of the backward layer last.
    """
    forward = layer(inputs, f"{name}_forward")
    backward = layer(Reversed(name=f"{name}_reversed")(inputs, lengths), f"{name}_backward")
    backward = Reversed(name=f"{name}_back")(backward, lengths)
    return keras.layers.Concatenate(name=name)([forward, backward])
