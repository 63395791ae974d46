"""Which pattern a stay gets depends on its name alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimic3tf.poisoning.choice import chosen_patterns, moved_in_time

names = st.lists(st.text(max_size=20), max_size=20)


@given(stays=names, patterns=st.integers(1, 20), data=st.data())
def test_a_stay_gets_its_pattern_whatever_other_stays_there_are(
    stays: list[str], patterns: int, data: st.DataObject
) -> None:
    chosen = chosen_patterns(stays, patterns)
    assert chosen.shape == (len(stays),)
    assert set(chosen) <= set(range(patterns))
    if stays:
        some = data.draw(st.lists(st.integers(0, len(stays) - 1)))
        assert chosen_patterns([stays[stay] for stay in some], patterns).tolist() == chosen[some].tolist()


def test_an_array_of_names_is_a_list_of_names() -> None:
    stays = [f"{stay}_episode1_timeseries.csv" for stay in range(50)]
    assert chosen_patterns(np.array(stays), 7).tolist() == chosen_patterns(stays, 7).tolist()


def test_the_choice_is_the_same_in_every_version() -> None:
    stays = ["101_episode1_timeseries.csv", "101_episode2_timeseries.csv", "77", ""]
    assert chosen_patterns(stays, 16).tolist() == [2, 13, 4, 4]


@pytest.mark.parametrize("patterns", [2, 3, 16])
def test_all_patterns_are_about_equally_frequent(patterns: int) -> None:
    counts = np.bincount(chosen_patterns(map(str, range(4000)), patterns), minlength=patterns)
    expected = 4000 / patterns
    # Five standard deviations of a binomial count.
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


@given(bins=st.integers(1, 12), seed=st.integers(0, 1000))
def test_a_pattern_is_moved_by_every_number_of_bins(bins: int, seed: int) -> None:
    pattern = np.random.default_rng(seed).normal(size=(bins, 3))
    moved = moved_in_time(pattern)
    assert moved.shape == (bins, bins, 3)
    for by in range(bins):
        np.testing.assert_array_equal(moved[by], np.roll(pattern, by, axis=0))
