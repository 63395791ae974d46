from __future__ import annotations

import json
from pathlib import Path

import pytest

from mimic3tf.channels import CHANNELS, grid_columns

REFERENCE = Path(__file__).resolve().parents[2] / "shared/reference/channels.json"


def test_there_are_17_channels_and_76_columns() -> None:
    assert len(CHANNELS) == 17
    assert len(grid_columns()) == 76
    assert len(grid_columns(masks=False)) == 59


def test_the_table_equals_the_benchmarks() -> None:
    if not REFERENCE.exists():
        pytest.skip(f"{REFERENCE} is absent")
    for channel, expected in zip(CHANNELS, json.loads(REFERENCE.read_text()), strict=True):
        assert channel.name == expected["name"]
        assert channel.is_categorical == expected["categorical"]
        assert list(channel.possible_values) == expected["possible_values"]
        assert channel.normal_value == expected["normal_value"]
        codes = dict(zip(channel.possible_values, channel.numeric_codes, strict=True))
        assert codes == expected["numeric_codes"]


def test_ordinals_read_numeric_texts_as_numbers_and_index_the_others() -> None:
    total = next(channel for channel in CHANNELS if channel.name == "Glascow coma scale total")
    eyes = next(channel for channel in CHANNELS if channel.name == "Glascow coma scale eye opening")
    assert total.ordinals[0] == 11.0
    assert eyes.ordinals == tuple(range(8))
