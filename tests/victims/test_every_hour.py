"""Victims that predict at every hour read no later hour."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest

from mimic3tf.tasks.registry import DECOMPENSATION

Build = Callable[..., keras.Model]


@pytest.mark.parametrize("name", ["lstm", "channelwise-lstm", "gru", "tcn", "transformer", "benchmark-lstm"])
def test_a_later_hour_changes_no_earlier_prediction(name: str, build: Build) -> None:
    model = build(name, bins=None, task=DECOMPENSATION)
    stay = np.random.default_rng(0).normal(size=(1, 12, 76)).astype(np.float32)
    before = model(stay).numpy()
    assert before.shape == (1, 12, 2)
    for hour in (4, 11):
        changed = stay.copy()
        changed[0, hour] += 3
        after = model(changed).numpy()
        np.testing.assert_allclose(after[:, :hour], before[:, :hour], atol=1e-6)
        assert np.abs(after[:, hour] - before[:, hour]).max() > 1e-5, "the hour itself counts"
    # Neither does the padding of a shorter stay beside a longer one.
    np.testing.assert_allclose(model(stay[:, :7]).numpy(), before[:, :7], rtol=1e-4, atol=1e-5)
