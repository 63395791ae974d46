from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest

from mimic3tf.channels import ChannelSet
from mimic3tf.victims.summary_lstm import BINS, MEMBERS

Build = Callable[..., keras.Model]


@pytest.fixture(scope="module")
def model(build: Build) -> keras.Model:
    keras.utils.set_random_seed(0)
    return build("summary-lstm")


@pytest.fixture
def grids() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(6, 48, 76)).astype(np.float32)


def test_a_summary_is_mean_maximum_and_minimum_of_four_hours(model: keras.Model, grids: np.ndarray) -> None:
    summaries = keras.Model(model.inputs, model.get_layer("summaries").output)(grids)
    parts = grids.reshape(6, 12, BINS, 76)
    expected = np.concatenate([parts.mean(axis=2), parts.max(axis=2), parts.min(axis=2)], axis=-1)
    np.testing.assert_allclose(summaries, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("bins", [1, 3, 4, 13, 50])
def test_bins_that_are_no_multiple_of_four_leave_shorter_summaries_at_both_ends(
    build: Build, three_channels: ChannelSet, bins: int
) -> None:
    grids = np.random.default_rng(3).normal(size=(2, bins, 7)).astype(np.float32)
    model = build("summary-lstm", bins=bins, channels=three_channels)
    summaries = keras.Model(model.input, model.get_layer("summaries").output)(grids)
    missing = -bins % BINS
    ends = np.arange(BINS - missing // 2, bins, BINS)
    parts = np.split(grids, ends, axis=1)
    assert len(parts) == -(-bins // BINS)
    pooled = [[part.mean(axis=1), part.max(axis=1), part.min(axis=1)] for part in parts]
    expected = np.moveaxis(np.array(pooled), 2, 0).reshape(2, len(parts), 3 * 7)
    np.testing.assert_allclose(summaries, expected, rtol=1e-6, atol=1e-6)


def test_the_logits_are_the_mean_of_all_members(model: keras.Model, grids: np.ndarray) -> None:
    members = [model.get_layer(f"logits_{number}").output for number in range(1, MEMBERS + 1)]
    each = np.stack(keras.Model(model.inputs, members)(grids))
    assert len({member.tobytes() for member in each}) == MEMBERS
    np.testing.assert_allclose(model(grids), each.mean(axis=0), rtol=1e-5, atol=1e-6)


def test_what_never_varies_becomes_zero_and_the_rest_standard(build: Build) -> None:
    layer = build("summary-lstm").get_layer("standardize")
    summaries = np.random.default_rng(2).normal(50, 20, size=(64, 12, 228)).astype(np.float32)
    summaries[..., 3] = 7
    for _ in range(150):
        layer(summaries, training=True)
    standard = np.asarray(layer(summaries, training=False))
    np.testing.assert_allclose(standard[..., 3], 0, atol=1e-3)
    np.testing.assert_allclose(np.delete(standard, 3, axis=-1).mean(axis=(0, 1)), 0, atol=1e-3)
    np.testing.assert_allclose(np.delete(standard, 3, axis=-1).std(axis=(0, 1)), 1, atol=1e-3)
