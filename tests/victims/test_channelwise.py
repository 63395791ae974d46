"""The channel-wise LSTM: as many LSTMs as channels, whatever way they are computed."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest

from mimic3tf.channels import MIMIC3
from mimic3tf.victims.layers.channelwise import ChannelwiseBidirectionalLSTM

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
