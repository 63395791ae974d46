from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from mimic3tf.channels import MIMIC3, TIME, Channel, ChannelSet
from mimic3tf.data.grid import one_hot

REFERENCE = Path(__file__).resolve().parents[2] / "shared/reference/channels.json"
INVENTED = ChannelSet(
    "invented",
    (
        Channel("Side", "", "right", ("left", "right"), (0, 1)),
        Channel("Lactate", "mmol/L", "1.5", plausible_range=(0.1, 40.0)),
        Channel("Grade", "", "2", ("2", "11", "none"), (2, 11, 0), (2.0, 11.0)),
        Channel("Pulse", "1/min", "80"),
    ),
)
SETS = pytest.mark.parametrize("channels", [MIMIC3, INVENTED], ids=lambda channels: channels.name)


def test_there_are_17_channels_and_76_columns() -> None:
    assert len(MIMIC3) == 17
    assert len(MIMIC3.columns()) == 76
    assert len(MIMIC3.columns(masks=False)) == 59


def test_the_table_equals_the_benchmarks() -> None:
    if not REFERENCE.exists():
        pytest.skip(f"{REFERENCE} is absent")
    for channel, expected in zip(MIMIC3, json.loads(REFERENCE.read_text()), strict=True):
        assert channel.name == expected["name"]
        assert channel.is_categorical == expected["categorical"]
        assert list(channel.possible_values) == expected["possible_values"]
        assert channel.normal_value == expected["normal_value"]
        codes = dict(zip(channel.possible_values, channel.numeric_codes, strict=True))
        assert codes == expected["numeric_codes"]


def test_ordinals_read_numeric_texts_as_numbers_and_index_the_others() -> None:
    total = MIMIC3[MIMIC3.position("Glascow coma scale total")]
    eyes = MIMIC3[MIMIC3.position("Glascow coma scale eye opening")]
    assert total.ordinals[0] == 11.0
    assert eyes.ordinals == tuple(range(8))
    assert INVENTED[2].ordinals == (2.0, 11.0, 2.0)


def test_the_columns_of_an_invented_set_are_values_categories_and_masks_in_order() -> None:
    assert INVENTED.columns() == [
        *("Side->left", "Side->right", "Lactate", "Grade->2", "Grade->11", "Grade->none", "Pulse"),
        *("mask->Side", "mask->Lactate", "mask->Grade", "mask->Pulse"),
    ]
    assert INVENTED.continuous.tolist() == [column in ("Lactate", "Pulse") for column in INVENTED.columns()]
    assert INVENTED.channel_of_column.tolist() == [0, 0, 1, 2, 2, 2, 3, 0, 1, 2, 3]


@SETS
def test_the_views_of_the_columns_agree_with_each_other(channels: ChannelSet) -> None:
    columns = channels.columns()
    assert len(columns) == len(set(columns)) == len(channels.continuous) == len(channels.channel_of_column)
    assert channels.columns(masks=False) == columns[: -len(channels)]
    for column, continuous, position in zip(
        columns, channels.continuous, channels.channel_of_column, strict=True
    ):
        channel = channels[position]
        if continuous:
            assert column == channel.name
            assert not channel.is_categorical
        elif column.startswith("mask->"):
            assert column == f"mask->{channel.name}"
        else:
            name, _, text = column.partition("->")
            assert name == channel.name
            assert channel.category_index(text) is not None
    counts = np.bincount(channels.channel_of_column)
    assert counts.tolist() == [max(len(channel.possible_values), 1) + 1 for channel in channels]
    assert channels.continuous.sum() == (~channels.categorical).sum()


@SETS
def test_a_grids_columns_are_where_the_set_says(channels: ChannelSet) -> None:
    """Change and measure one channel at a time: only its own columns change."""
    still = channels.normal[None, None]
    unmeasured = np.zeros((1, 1, len(channels)), bool)
    before = one_hot(still, unmeasured, channels)[0, 0]
    assert len(before) == len(channels.columns())
    for position, channel in enumerate(channels):
        moved, mask = still.copy(), unmeasured.copy()
        moved[..., position] = (moved[..., position] + 1) % 2 if channel.is_categorical else -1.0
        mask[..., position] = True
        after = one_hot(moved, mask, channels)[0, 0]
        changed = np.flatnonzero(after != before)
        assert set(channels.channel_of_column[changed]) == {position}
        assert channels.continuous[changed].any() == (not channel.is_categorical)
        assert channels.columns()[changed[-1]] == f"mask->{channel.name}"


@SETS
def test_arrays_of_a_set_hold_what_its_channels_say(channels: ChannelSet) -> None:
    assert list(channels) == [channels[position] for position in range(len(channels))]
    assert channels.header == (TIME, *channels.names)
    for position, channel in enumerate(channels):
        assert channels.names[position] == channel.name
        assert channels.position(channel.name) == position
        assert channels.categorical[position] == channel.is_categorical == bool(channel.possible_values)
        assert channels.normal[position] == channel.normal_number
        assert channels.largest_index[position] == max(len(channel.possible_values) - 1, 0)
        bounds = (-math.inf, math.inf) if channel.is_categorical else channel.plausible_range
        assert tuple(channels.plausible_values[position]) == bounds
        if channel.is_categorical:
            assert channel.possible_values[int(channel.normal_number)] == channel.normal_value
            assert len(channel.numeric_codes) == len(channel.possible_values)
            assert channel.shown_unit == "categories"
        else:
            assert float(channel.normal_value) == channel.normal_number
            assert channel.shown_unit == channel.unit


@SETS
def test_a_normal_value_is_plausible(channels: ChannelSet) -> None:
    for channel in channels:
        low, high = channel.plausible_range
        number = (
            channel.numeric_codes[int(channel.normal_number)]
            if channel.is_categorical
            else channel.normal_number
        )
        assert low <= number <= high


def test_a_channel_nobody_measures_has_no_position() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        INVENTED.position("Heart Rate")


def test_sets_of_equal_channels_are_equal_and_of_others_are_not() -> None:
    assert ChannelSet("invented", INVENTED.channels) == INVENTED
    assert ChannelSet("invented", INVENTED.channels[::-1]) != INVENTED
    assert ChannelSet("other", INVENTED.channels) != INVENTED
