"""A learned vector for every time step (Vaswani et al. 2017, with learned positions)."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable("mimic3tf")
class PositionEmbedding(keras.layers.Layer):
    """Add a learned vector to every time step: [B, T, D] to [B, T, D]."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make one vector for each time step."""
        self.positions = self.add_weight(
            shape=input_shape[1:], initializer=keras.initializers.RandomNormal(stddev=0.02), name="positions"
        )

    def call(self, inputs: Any) -> Any:
        """Add the vectors to `inputs`."""
        return inputs + self.positions
