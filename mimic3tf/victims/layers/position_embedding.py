"""A learned vector for every time step (Vaswani et al. 2017, with learned positions)."""

from __future__ import annotations

from typing import Any

import keras

POSITIONS = 512
"""Number of vectors if stays have different lengths."""


@keras.saving.register_keras_serializable("mimic3tf")
class PositionEmbedding(keras.layers.Layer):
    """Add a learned vector to every time step: [B, T, D] to [B, T, D].

    If T is not known, there are `POSITIONS` vectors, and later steps share the last one.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make one vector for each time step."""
        self.positions = self.add_weight(
            shape=(input_shape[1] or POSITIONS, input_shape[2]),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="positions",
        )

    def call(self, inputs: Any) -> Any:
        """Add the vectors to `inputs`."""
        if inputs.shape[1] == self.positions.shape[0]:
            return inputs + self.positions
        steps = keras.ops.minimum(keras.ops.arange(keras.ops.shape(inputs)[1]), self.positions.shape[0] - 1)
        return inputs + keras.ops.take(self.positions, steps, axis=0)
