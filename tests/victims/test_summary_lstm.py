from __future__ import annotations

import keras
import numpy as np
import pytest

from mimic3tf.victims import victim_of
from mimic3tf.victims.summary_lstm import BINS, MEMBERS


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    victim = victim_of("summary-lstm")
    return victim.build(victim.input_shape)


@pytest.fixture
def grids() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(6, 48, 76)).astype(np.float32)


def test_a_summary_is_mean_maximum_and_minimum_of_four_hours(model: keras.Model, grids: np.ndarray) -> None:
    summaries = keras.Model(model.inputs, model.get_layer("summaries").output)(grids)
    parts = grids.reshape(6, 12, BINS, 76)
    expected = np.concatenate([parts.mean(axis=2), parts.max(axis=2), parts.min(axis=2)], axis=-1)
    np.testing.assert_allclose(summaries, expected, rtol=1e-6, atol=1e-6)


def test_the_logits_are_the_mean_of_all_members(model: keras.Model, grids: np.ndarray) -> None:
    members = [model.get_layer(f"logits_{number}").output for number in range(1, MEMBERS + 1)]
    each = np.stack(keras.Model(model.inputs, members)(grids))
    assert len({member.tobytes() for member in each}) == MEMBERS
    np.testing.assert_allclose(model(grids), each.mean(axis=0), rtol=1e-5, atol=1e-6)


def test_what_never_varies_becomes_zero_and_the_rest_standard() -> None:
    victim = victim_of("summary-lstm")
    layer = victim.build(victim.input_shape).get_layer("standardize")
    summaries = np.random.default_rng(2).normal(50, 20, size=(64, 12, 228)).astype(np.float32)
    summaries[..., 3] = 7
    for _ in range(150):
        layer(summaries, training=True)
    standard = np.asarray(layer(summaries, training=False))
    np.testing.assert_allclose(standard[..., 3], 0, atol=1e-3)
    np.testing.assert_allclose(np.delete(standard, 3, axis=-1).mean(axis=(0, 1)), 0, atol=1e-3)
    np.testing.assert_allclose(np.delete(standard, 3, axis=-1).std(axis=(0, 1)), 1, atol=1e-3)
