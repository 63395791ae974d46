from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from mimic3tf.victims import victim_names
from mimic3tf.victims.input_dropout import with_input_dropout

Build = Callable[..., keras.Model]
Draw = Callable[..., np.ndarray]


def _identity(shape: tuple[int, ...]) -> keras.Model:
    inputs = keras.Input(shape)
    return keras.Model(inputs, keras.layers.Identity()(inputs))


def test_no_rate_leaves_the_victim_as_it_is() -> None:
    victim = _identity((3,))
    assert with_input_dropout(victim, 0.0) is victim


@pytest.mark.parametrize("name", victim_names())
def test_nothing_is_dropped_at_prediction_nor_after_loading(
    name: str, tmp_path: Path, build: Build, draw: Draw
) -> None:
    victim = build(name)
    model = with_input_dropout(victim, 0.5)
    inputs = draw(name, 4)
    # First, as it moves the statistics of a normalization.
    training = keras.ops.convert_to_numpy(model(inputs, training=True))
    expected = keras.ops.convert_to_numpy(victim(inputs, training=False))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(inputs, training=False)), expected)
    assert (training != expected).any()
    model.save(tmp_path / "victim.keras")
    loaded = keras.models.load_model(tmp_path / "victim.keras", compile=False, safe_mode=True)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(loaded(inputs, training=False)), expected)


def test_a_feature_is_dropped_with_the_rate_and_the_rest_is_scaled_up() -> None:
    model = with_input_dropout(_identity((714,)), 0.75)
    outputs = keras.ops.convert_to_numpy(model(np.ones((50, 714), np.float32), training=True))
    assert set(np.unique(outputs)) == {0.0, 4.0}
    assert (outputs == 0).mean() == pytest.approx(0.75, abs=0.02)


def test_a_grid_loses_a_column_at_every_hour() -> None:
    model = with_input_dropout(_identity((48, 76)), 0.5)
    outputs = keras.ops.convert_to_numpy(model(np.ones((20, 48, 76), np.float32), training=True))
    np.testing.assert_array_equal(outputs, np.broadcast_to(outputs[:, :1], outputs.shape))
    assert 0.3 < (outputs == 0).mean() < 0.7
