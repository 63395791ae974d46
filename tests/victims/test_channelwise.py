"""The channel-wise LSTM: as many LSTMs as channels, whatever way they are computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from mimic3tf.channels import MIMIC3
from mimic3tf.victims.layers.channelwise import ChannelwiseBidirectionalLSTM
from mimic3tf.victims.layers.recurrence import FusedLSTM

UNITS = 3
OWNERS = (1, 0, 1, 2, 0, 1)
"""Channels of six columns."""


def _layer() -> ChannelwiseBidirectionalLSTM:
    keras.utils.set_random_seed(0)
    return ChannelwiseBidirectionalLSTM(OWNERS, UNITS)


def _inputs(stays: int = 5, steps: int = 7) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(stays, steps, len(OWNERS))).astype(np.float32)


def test_it_equals_one_bidirectional_lstm_a_channel() -> None:
    layer, inputs = _layer(), _inputs()
    layer.build(inputs.shape)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    kernel, recurrent, bias = layer.get_weights()
    forward, backward = [], []
    for channel in range(3):
        columns = np.flatnonzero(np.array(OWNERS) == channel)
        lstm = keras.layers.Bidirectional(keras.layers.LSTM(UNITS, return_sequences=True))
        lstm.build((None, None, len(columns)))
        directions = [(kernel[way][columns], recurrent[way, channel], bias[way, channel]) for way in range(2)]
        lstm.set_weights([weight for direction in directions for weight in direction])
        outputs = keras.ops.convert_to_numpy(lstm(inputs[:, :, columns]))
        forward.append(outputs[..., :UNITS])
        backward.append(outputs[..., UNITS:])
    expected = np.concatenate(forward + backward, axis=-1)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(inputs)), expected, rtol=1e-5, atol=1e-6)


def _as_cudnn(
    input: tf.Tensor,
    input_h: tf.Tensor,
    input_c: tf.Tensor,
    params: tf.Tensor,
    time_major: bool,
    **_: Any,
) -> tuple[tf.Tensor, ...]:
    """The operation CudnnRNNV3 for an LSTM, step by step, as NVIDIA documents it.

    `params` holds four matrices for the inputs (i, f, c, o), each with a row a unit, four for the outputs and
    two biases a gate.
    """
    x = tf.unstack(input if time_major else tf.transpose(input, [1, 0, 2]))
    h, c = (tf.squeeze(state, 0 if time_major else 1) for state in (input_h, input_c))
    units, width = h.shape[1], x[0].shape[1]
    sizes = [units * width] * 4 + [units * units] * 4 + [4 * units] * 2
    *matrices, first, second = tf.split(params, sizes)
    by_inputs, by_outputs = (
        tf.concat([tf.reshape(part, [units, -1]) for part in four], 0)
        for four in (matrices[:4], matrices[4:])
    )
    outputs = []
    for part in x:
        gates = tf.matmul(part, by_inputs, transpose_b=True) + tf.matmul(h, by_outputs, transpose_b=True)
        i, f, g, o = tf.split(gates + first + second, 4, 1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        h = tf.sigmoid(o) * tf.tanh(c)
        outputs.append(h)
    steps = tf.stack(outputs, 0 if time_major else 1)
    return steps, *(tf.expand_dims(state, 0 if time_major else 1) for state in (h, c)), params, params


@pytest.mark.parametrize("fused", [True, False])
def test_cudnn_gets_the_weights_where_it_looks_for_them(
    fused: bool, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keras' own layer first, which shows that the stand-in for cuDNN is right."""
    keras.utils.set_random_seed(0)
    layer = FusedLSTM(UNITS, return_sequences=True) if fused else _layer()
    inputs = _inputs()
    layer.build(inputs.shape)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    expected = keras.ops.convert_to_numpy(layer(inputs))
    calls: list[tf.Tensor] = []

    def cudnn(**arguments: Any) -> tuple[tf.Tensor, ...]:
        calls.append(arguments["params"])
        np.testing.assert_array_equal(arguments["sequence_lengths"], [inputs.shape[1]] * len(inputs))
        return _as_cudnn(**arguments)

    request.getfixturevalue("pretended_gpu")
    monkeypatch.setattr(tf.raw_ops, "CudnnRNNV3", cudnn)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(inputs)), expected, rtol=1e-5, atol=1e-6)
    assert len(calls) == 1


def test_its_weights_are_drawn_as_those_of_single_lstms() -> None:
    layer = _layer()
    layer.build((None, None, len(OWNERS)))
    kernel, recurrent, bias = layer.get_weights()
    for channel in range(3):
        columns = np.flatnonzero(np.array(OWNERS) == channel)
        limit = np.sqrt(6 / (len(columns) + 4 * UNITS))
        largest = np.abs(kernel[:, columns]).max()
        assert 0.8 * limit < largest <= limit
        for way in range(2):
            square = recurrent[way, channel] @ recurrent[way, channel].T
            np.testing.assert_allclose(square, np.eye(UNITS), atol=1e-5)
    np.testing.assert_array_equal(bias, np.broadcast_to(np.repeat([0, 1, 0, 0], UNITS), bias.shape))


@pytest.mark.parametrize("changed", range(len(OWNERS)))
def test_a_column_reaches_its_own_channel_only(changed: int) -> None:
    layer, inputs = _layer(), _inputs()
    other = inputs.copy()
    other[:, :, changed] += 1
    difference = keras.ops.convert_to_numpy(layer(other)) != keras.ops.convert_to_numpy(layer(inputs))
    reached = difference.reshape(*inputs.shape[:2], 2, 3, UNITS).any(axis=(0, 1, 2, 4))
    np.testing.assert_array_equal(reached, np.arange(3) == OWNERS[changed])


def test_it_takes_any_number_of_stays_and_knows_its_output_shape() -> None:
    grid = keras.Input((7, len(OWNERS)))
    model = keras.Model(grid, _layer()(grid))
    assert model.output_shape == (None, 7, 2 * 3 * UNITS)
    for stays in (1, 4):
        assert model(_inputs(stays)).shape == (stays, 7, 2 * 3 * UNITS)


def test_every_channel_owns_its_values_and_its_mask(build: Callable[..., keras.Model]) -> None:
    owners = build("channelwise-lstm").get_layer("channels").channel_of_column
    widths = [len(channel.possible_values) or 1 for channel in MIMIC3]
    values = [channel for channel, width in enumerate(widths) for _ in range(width)]
    assert owners == values + list(range(17))
