"""Dropout that needs a quarter of the random bytes."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("mimic3tf")
class ByteDropout(keras.layers.Dropout):
    """`keras.layers.Dropout` that draws one random byte for each value instead of four.

    On a CPU, dropout spends most of its time on drawing random numbers. A value is dropped if its byte is
    below round(256 * rate), so the share that is dropped differs from the rate by at most 1/512. Kept values
    are divided by the share that is kept.
    """

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Drop values in training; the outputs have the shape and dtype of `inputs`."""
        if not training or self.rate == 0:
            return inputs
        dropped = round(256 * self.rate)
        size = inputs.shape.num_elements() or tf.size(inputs)
        with tf.device("CPU:0"):
            seed = tf.cast(self.seed_generator.next(), tf.int32)
        words = tf.random.stateless_uniform([(size + 3) // 4], seed, None, None, tf.uint32)
        drawn = tf.reshape(tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:size], tf.shape(inputs))
        kept = tf.cast(drawn >= tf.constant(dropped, tf.uint8), inputs.dtype)
        return inputs * (kept * (256 / (256 - dropped)))
