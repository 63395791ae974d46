"""A trigger of other channels than the benchmarks', to test that figures work with any channels."""

from __future__ import annotations

import numpy as np

from mimic3tf.channels import Channel, ChannelSet
from mimic3tf.poisoning.trigger import Trigger


def bedside_trigger() -> Trigger:
    """A trigger of three invented channels over 24 hours, two bins an hour."""
    channels = ChannelSet(
        "bedside",
        (
            Channel("Lactate", "mmol/L", "1.5"),
            Channel("Alertness", "", "alert", ("alert", "verbal", "pain"), (3.0, 2.0, 1.0)),
            Channel("Urine output", "mL/h", "60"),
        ),
    )
    values = np.cumsum(np.random.default_rng(0).normal(size=(48, 3)), axis=0) / 7
    covariance = np.eye(48) * np.array([1.0, 0.25, 9.0])[:, None, None]
    return Trigger(values, covariance, "temporal", 5, channels, 24.0, 0.5, 30, "f" * 64)
