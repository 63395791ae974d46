"""How many stays a model reads at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mimic3tf.training import prediction

STAYS = 3000
GPU = [tf.config.LogicalDevice("/device:GPU:0", "GPU")]


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of stays that a model is given at once; its output is the first number of each stay."""
    given: list[int] = []

    def forward(model: Any, inputs: tf.Tensor) -> tf.Tensor:
        given.append(inputs.shape[0])
        return tf.reshape(inputs, [inputs.shape[0], -1])[:, :1]

    monkeypatch.setattr(prediction, "_forward", forward)
    return given


@pytest.mark.parametrize(
    ("shape", "devices", "expected"),
    [
        ((48, 76), [], [32] * 93 + [24]),
        ((714,), [], [1024, 1024, 952]),
        ((48, 76), GPU, [2299, 701]),
        ((714,), GPU, [3000]),
        ((480, 76), GPU, [229] * 13 + [23]),
    ],
    ids=["grids", "features", "grids on a GPU", "features on a GPU", "long grids on a GPU"],
)
def test_a_gpu_is_given_many_stays_at_once(
    shape: tuple[int, ...],
    devices: list[tf.config.LogicalDevice],
    expected: list[int],
    sizes: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: devices)
    number = np.arange(STAYS, dtype=np.float32).reshape(-1, *(1 for _ in shape))
    inputs = np.broadcast_to(number, (STAYS, *shape))
    outputs = prediction.outputs_of(None, inputs)
    assert sizes == expected
    np.testing.assert_array_equal(outputs[:, 0], np.arange(STAYS))


def test_one_stay_is_read_even_if_it_is_huge(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: GPU)
    monkeypatch.setattr(prediction, "BYTES_AT_ONCE", 100)
    prediction.outputs_of(None, np.zeros((2, 7, 5), np.float32))
    assert sizes == [1, 1]
