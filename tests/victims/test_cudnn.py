"""What layers give cuDNN: a stand-in reads weights where NVIDIA documents them, and takes step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from mimic3tf.victims.layers.channelwise import ChannelwiseBidirectionalLSTM
from mimic3tf.victims.layers.recurrence import Bidirectional, FusedLSTM

STAYS, STEPS, WIDTH, UNITS = 5, 7, 6, 3
LAYERS: dict[str, Callable[[], keras.Layer]] = {
    # Keras' own layer shows that the stand-in is right.
    "keras": lambda: keras.layers.LSTM(UNITS, return_sequences=True),
    "last step": lambda: FusedLSTM(UNITS),
    "all steps": lambda: FusedLSTM(UNITS, return_sequences=True),
    "backwards": lambda: FusedLSTM(UNITS, return_sequences=True, go_backwards=True),
    "both directions": lambda: Bidirectional(FusedLSTM(UNITS, return_sequences=True)),
    "channel-wise": lambda: ChannelwiseBidirectionalLSTM((1, 0, 1, 2, 0, 1), UNITS),
}


class CuDNN:
    """The operation CudnnRNNV3 for an LSTM. `params` holds the matrices of each direction:
    four for the inputs (i, f, c, o), each with a row a unit, and four for the outputs; then, of each
    direction, two biases a gate."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(
        self,
        *,
        input: tf.Tensor,
        input_h: tf.Tensor,
        input_c: tf.Tensor,
        params: tf.Tensor,
        sequence_lengths: tf.Tensor,
        time_major: bool,
        direction: str = "unidirectional",
        **_: Any,
    ) -> Any:
        self.calls += 1
        stays = input.shape[1 if time_major else 0]
        np.testing.assert_array_equal(sequence_lengths, [STEPS] * stays)
        inputs, start_h, start_c = (
            part if time_major else tf.transpose(part, [1, 0, 2]) for part in (input, input_h, input_c)
        )
        ways, units, width = (1 if direction == "unidirectional" else 2), input_h.shape[2], input.shape[2]
        sizes = ([units * width] * 4 + [units * units] * 4) * ways + [4 * units] * 2 * ways
        parts = tf.split(params, sizes)
        outputs, states = [], []
        for way in range(ways):
            matrices = [tf.reshape(part, [units, -1]) for part in parts[8 * way : 8 * way + 8]]
            by_inputs, by_outputs = tf.concat(matrices[:4], 0), tf.concat(matrices[4:], 0)
            first, second = parts[8 * ways + 2 * way :][:2]
            h, c, steps = start_h[way], start_c[way], []
            for x in tf.unstack(tf.reverse(inputs, [0]) if way else inputs):
                gates = tf.matmul(x, by_inputs, transpose_b=True) + tf.matmul(h, by_outputs, transpose_b=True)
                i, f, g, o = tf.split(gates + first + second, 4, 1)
                c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
                h = tf.sigmoid(o) * tf.tanh(c)
                steps.append(h)
            outputs.append(tf.stack(steps[::-1] if way else steps))
            states.append((h, c))
        found = [tf.concat(outputs, 2), *(tf.stack(state) for state in zip(*states, strict=True))]
        found = [part if time_major else tf.transpose(part, [1, 0, 2]) for part in found]
        return Outputs(*found, params, params)


class Outputs(tuple[tf.Tensor, ...]):
    """The named tuple that the operation returns."""

    def __new__(cls, *parts: tf.Tensor) -> Outputs:
        return super().__new__(cls, parts)

    @property
    def output(self) -> tf.Tensor:
        return self[0]


@pytest.mark.parametrize("name", LAYERS)
def test_cudnn_gets_the_weights_where_it_looks_for_them(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    keras.utils.set_random_seed(0)
    layer = LAYERS[name]()
    inputs = np.random.default_rng(0).normal(size=(STAYS, STEPS, WIDTH)).astype(np.float32)
    layer.build(inputs.shape)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    expected = keras.ops.convert_to_numpy(layer(inputs))
    cudnn = CuDNN()
    request.getfixturevalue("pretended_gpu")
    monkeypatch.setattr(tf.raw_ops, "CudnnRNNV3", cudnn)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(inputs)), expected, rtol=1e-5, atol=1e-6)
    assert cudnn.calls == 1


def test_a_bidirectional_layer_is_that_of_keras() -> None:
    """On a CPU, and where a direction cannot be fused; each can load the weights of the other."""
    inputs = np.random.default_rng(0).normal(size=(STAYS, STEPS, WIDTH)).astype(np.float32)
    for options in ({}, {"use_bias": False}):
        keras.utils.set_random_seed(0)
        ours, plain = (
            wrapper(kind(UNITS, return_sequences=True, **options))
            for wrapper, kind in (
                (Bidirectional, FusedLSTM),
                (keras.layers.Bidirectional, keras.layers.LSTM),
            )
        )
        ours(inputs)
        plain(inputs)
        plain.set_weights(ours.get_weights())
        np.testing.assert_allclose(ours(inputs), plain(inputs), rtol=1e-5, atol=1e-6)
