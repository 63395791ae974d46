"""Dropout at a quarter of the random numbers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from mimic3tf.victims.layers.dropout import ByteDropout

ONES = np.ones((41, 7, 31), np.float32)  # 8,897 values: no multiple of four


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.9])
def test_a_share_is_dropped_and_the_mean_stays(rate: float) -> None:
    out = ByteDropout(rate, seed=0)(ONES, training=True).numpy()
    dropped = round(256 * rate) / 256
    assert abs((out == 0).mean() - dropped) <= 4 * np.sqrt(dropped * (1 - dropped) / out.size)
    np.testing.assert_allclose(out[out != 0], 1 / (1 - dropped), rtol=1e-6)


def test_nothing_is_dropped_at_prediction() -> None:
    np.testing.assert_array_equal(ByteDropout(0.3)(ONES), ONES)


def test_values_are_dropped_alone() -> None:
    kept = ByteDropout(0.5, seed=1)(np.ones((4000, 8), np.float32), training=True).numpy() > 0
    correlation = np.corrcoef(kept.T)
    assert np.abs(correlation - np.eye(8)).max() < 5 / np.sqrt(4000)


def test_a_seed_fixes_the_draws_and_every_call_draws_anew() -> None:
    first, second = ByteDropout(0.3, seed=5), ByteDropout(0.3, seed=5)
    one, two = first(ONES, training=True), first(ONES, training=True)
    np.testing.assert_array_equal(one, second(ONES, training=True))
    assert (one.numpy() != two.numpy()).mean() > 0.3


def test_the_gradient_is_the_mask() -> None:
    x = tf.constant(ONES)
    with tf.GradientTape() as tape:
        tape.watch(x)
        out = ByteDropout(0.3, seed=2)(x, training=True)
    np.testing.assert_array_equal(tape.gradient(out, x), out)


def test_half_precision_and_a_saved_model_keep_it() -> None:
    layer = ByteDropout(0.3, seed=3, dtype="mixed_bfloat16")
    assert layer(ONES, training=True).dtype == tf.bfloat16
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert isinstance(again, ByteDropout)
    assert again.rate == 0.3
