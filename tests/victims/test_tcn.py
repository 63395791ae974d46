"""The temporal convolutional network sees a whole stay, however long it is."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from mimic3tf.channels import ChannelSet
from mimic3tf.victims.tcn import KERNEL, dilations


def test_48_bins_take_the_four_blocks_of_the_paper() -> None:
    assert dilations(48) == [1, 2, 4, 8]


@given(steps=st.integers(1, 40_000))
def test_the_last_step_sees_all_steps_and_no_block_is_idle(steps: int) -> None:
    found = dilations(steps)
    assert found == [2**block for block in range(len(found))]

    def seen(blocks: list[int]) -> int:
        return 1 + sum(2 * (KERNEL - 1) * dilation for dilation in blocks)

    assert seen(found) >= steps
    assert len(found) == 1 or seen(found[:-1]) < steps


@pytest.mark.parametrize("bins", [1, 13, 48, 200])
def test_the_logits_depend_on_every_bin(
    build: Callable[..., keras.Model], three_channels: ChannelSet, bins: int
) -> None:
    keras.utils.set_random_seed(0)
    model = build("tcn", bins=bins, channels=three_channels)
    grids = tf.constant(np.random.default_rng(0).normal(size=(32, bins, 7)).astype(np.float32))
    with tf.GradientTape() as tape:
        tape.watch(grids)
        difference = tf.reduce_sum(model(grids, training=False) * [1.0, -2.0])
    assert np.any(tape.gradient(difference, grids), axis=(0, 2)).all()
