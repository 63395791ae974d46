"""Dropout at a quarter of the random numbers."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("mimic3tf")
class ByteDropout(keras.layers.Dropout):
    """`keras.layers.Dropout` that draws a byte for every value instead of four.

    On a CPU, drawing is what dropout spends its time on. A value is dropped where its byte is below
    256 * rate, so the share dropped is the rate to within 1/512; what is kept is scaled by the share that is.
    """

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Outputs of the inputs' shape and dtype."""
        if not training or self.rate == 0:
            return inputs
        dropped = round(256 * self.rate)
        size = tf.size(inputs)
        seed = tf.cast(self.seed_generator.next(), tf.int32)
        words = tf.random.stateless_uniform([(size + 3) // 4], seed, None, None, tf.uint32)
        drawn = tf.reshape(tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:size], tf.shape(inputs))
        kept = tf.cast(drawn >= tf.constant(dropped, tf.uint8), inputs.dtype)
        return inputs * (kept * (256 / (256 - dropped)))
