"""Dropout of input columns in training steps."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from mimic3tf.training.input_dropout import drop_columns

SEED = tf.constant([3, 1], tf.int64)


def test_no_rate_leaves_the_inputs_as_they_are() -> None:
    inputs = tf.ones((4, 3))
    assert drop_columns(inputs, 0.0, SEED) is inputs


def test_a_feature_is_dropped_with_the_rate_and_the_rest_is_scaled_up() -> None:
    outputs = drop_columns(tf.ones((50, 714)), 0.75, SEED).numpy()
    assert set(np.unique(outputs)) == {0.0, 4.0}
    assert (outputs == 0).mean() == pytest.approx(0.75, abs=0.02)


def test_a_grid_loses_a_column_at_every_bin() -> None:
    outputs = drop_columns(tf.ones((20, 48, 76)), 0.5, SEED).numpy()
    np.testing.assert_array_equal(outputs, np.broadcast_to(outputs[:, :1], outputs.shape))
    assert 0.3 < (outputs == 0).mean() < 0.7


def test_a_seed_fixes_what_is_dropped() -> None:
    inputs = tf.ones((20, 30))
    first, again, other = (
        drop_columns(inputs, 0.5, tf.constant(seed, tf.int64)).numpy() for seed in ((1, 2), (1, 2), (1, 3))
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
