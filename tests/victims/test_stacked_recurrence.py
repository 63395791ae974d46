"""The loop of a stack's LSTM layers does what each layer does alone."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from mimic3tf.victims.layers.recurrence import FusedLSTM, stacked_recurrence

VICTIMS, STAYS, BINS, COLUMNS = 2, 4, 3, 5


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_stacked_layers_have_the_outputs_and_gradients_of_each_alone(compiled: bool) -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((BINS, COLUMNS))
    model = keras.Model(inputs, FusedLSTM(2, go_backwards=True)(inputs))
    weights = [
        tf.stack([weight.value * factor for factor in (1.0, 1.5)]) for weight in model.trainable_variables
    ]
    states = [variable.value for variable in model.non_trainable_variables]
    x = tf.random.stateless_normal((VICTIMS, STAYS, BINS, COLUMNS), (0, 1))

    def gradients(given: tuple[list[tf.Tensor], tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        weights, x = given
        with tf.GradientTape() as tape:
            tape.watch(weights)
            outputs, _ = model.stateless_call(weights, states, x, training=True)
            loss = tf.reduce_sum(outputs**2)
        return outputs, tape.gradient(loss, weights)

    @tf.function(jit_compile=compiled)  # type: ignore[untyped-decorator]
    def together() -> tuple[tf.Tensor, list[tf.Tensor]]:
        with stacked_recurrence():
            return tf.vectorized_map(gradients, (weights, x), fallback_to_while_loop=False)

    outputs, slopes = together()
    for victim in range(VICTIMS):
        own, expected = gradients(([weight[victim] for weight in weights], x[victim]))
        np.testing.assert_allclose(outputs[victim], own, atol=1e-6)
        for slope, other in zip(slopes, expected, strict=True):
            np.testing.assert_allclose(slope[victim], other, atol=1e-6)
