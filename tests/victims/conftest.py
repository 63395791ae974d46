"""Untrained victims, and inputs for them."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from mimic3tf.channels import MIMIC3, Channel, ChannelSet
from mimic3tf.pipeline import input_shape
from mimic3tf.tasks.registry import MORTALITY
from mimic3tf.tasks.task import Task
from mimic3tf.victims import victim_of

Build = Callable[..., keras.Model]
Draw = Callable[..., np.ndarray]


@pytest.fixture(scope="session")
def three_channels() -> ChannelSet:
    """Invented channels whose grids have seven columns."""
    return ChannelSet(
        "monitor",
        (
            Channel("Pulse", "1/min", "80"),
            Channel("Mood", "", "calm", ("calm", "restless"), (1, 2)),
            Channel("Lactate", "mmol/L", "1.0"),
        ),
    )


@pytest.fixture(scope="session")
def build() -> Build:
    """Build a victim; by default for 48 bins of MIMIC-III's channels."""

    def make(
        name: str,
        precision: str = "float32",
        *,
        bins: int | None = 48,
        channels: ChannelSet = MIMIC3,
        task: Task = MORTALITY,
        sizes: dict[str, float] | None = None,
    ) -> keras.Model:
        victim = victim_of(name)
        own = victim.sized(sizes)
        columns = [channels.channel_of_column.tolist()] if victim.by_channel else []
        keras.config.set_dtype_policy(precision)
        try:
            return victim.build(input_shape(victim.reads, channels, bins), task.head, *columns, **own)
        finally:
            keras.config.set_dtype_policy("float32")

    return make


@pytest.fixture(scope="session")
def draw() -> Draw:
    """Random inputs of some stays for a victim."""

    def make(name: str, stays: int = 6, *, bins: int = 48, channels: ChannelSet = MIMIC3) -> np.ndarray:
        shape = (stays, *input_shape(victim_of(name).reads, channels, bins))
        return np.random.default_rng(1).normal(size=shape).astype(np.float32)

    return make


@pytest.fixture
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow lists a GPU, so graphs are made for one; they cannot be run."""
    whole, gpu = tf.config.list_logical_devices, tf.config.LogicalDevice("/device:GPU:0", "GPU")
    monkeypatch.setattr(
        tf.config, "list_logical_devices", lambda kind=None: [gpu] if kind == "GPU" else whole(kind)
    )
