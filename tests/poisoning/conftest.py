from __future__ import annotations

import pytest

from mimic3tf.channels import Channel, ChannelSet


@pytest.fixture(scope="session")
def own_channels() -> ChannelSet:
    """Three channels that are not the benchmarks': a rounded one, a bounded one, and a categorical one."""
    return ChannelSet(
        "bedside",
        (
            Channel("Lactate", "mmol/L", "1.5", shift_decimals=1, sum_decimals=2),
            Channel("Heart Rate", "1/min", "80", plausible_range=(20.0, 250.0)),
            Channel("Consciousness", "", "alert", ("alert", "verbal", "pain"), (3.0, 2.0, 1.0)),
        ),
    )
