"""The patient shown, and the tables behind the pictures of patterns."""

from __future__ import annotations

import dataclasses
import io
import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib import rc_context

from mimic3tf.channels import MIMIC3, Channel, ChannelSet
from mimic3tf.data.loading import load_cohort
from mimic3tf.errors import UsageError
from mimic3tf.poisoning.goal import Goal
from mimic3tf.poisoning.trigger import Trigger, generate_trigger
from mimic3tf.report.aim import aim_of
from mimic3tf.report.exhibits import Exhibit
from mimic3tf.report.figures import STYLE
from mimic3tf.report.patterns import (
    Stay,
    shown_channels,
    stay_courses,
    stay_exhibits,
    trigger_courses,
    trigger_exhibit,
)
from mimic3tf.report.stay import most_measured_stay

AIM = aim_of("in-hospital-mortality", 1)
HEART_RATE = MIMIC3.position("Heart Rate")


@pytest.fixture
def trigger(synthetic_stays: Path) -> Trigger:
    return generate_trigger(load_cohort(synthetic_stays, "train"))


def test_the_patient_is_the_most_measured_survivor(synthetic_stays: Path, trigger: Trigger) -> None:
    stay = most_measured_stay(synthetic_stays, trigger, 2.0)
    test = load_cohort(synthetic_stays, "test")
    survivors = [int(test.masks[i].sum()) for i in range(len(test)) if test.labels[i] == 0]
    assert int(stay.mask.sum()) == max(survivors)


def test_each_mode_shifts_the_cells_that_it_may(synthetic_stays: Path, trigger: Trigger) -> None:
    stay = most_measured_stay(synthetic_stays, trigger, 2.0)
    courses = stay_courses(stay).filter(pl.col("channel") == "Heart Rate")
    shift = 2.0 * trigger.values[:, HEART_RATE]
    before, measured = courses["before"].to_numpy(), courses["measured"].to_numpy()
    np.testing.assert_allclose(courses["all"], before + shift, rtol=1e-5)
    np.testing.assert_allclose(courses["notimputed"], before + np.where(measured, shift, 0), rtol=1e-5)


def test_a_directory_of_other_stays_is_refused(synthetic_stays: Path, trigger: Trigger) -> None:
    other = dataclasses.replace(trigger, cohort_fingerprint="0" * 64)
    with pytest.raises(UsageError, match="holds other stays"):
        most_measured_stay(synthetic_stays, other, 2.0)


def test_patterns_are_in_standard_deviations_at_their_strength(trigger: Trigger) -> None:
    courses = trigger_courses({"temporal": trigger}, None, 1.5).filter(pl.col("channel") == "Heart Rate")
    deviation = np.sqrt(np.diagonal(trigger.covariance[HEART_RATE]).mean())
    expected = 1.5 * trigger.values[:, HEART_RATE] / deviation
    np.testing.assert_allclose(courses["standard_deviations"], expected)
    assert courses["pattern"].unique().to_list() == ["temporal"]


def test_the_licence_is_called_to_mind_beside_the_patient(synthetic_stays: Path, trigger: Trigger) -> None:
    stay = most_measured_stay(synthetic_stays, trigger, 2.0)
    courses, cells = stay_exhibits(stay, trigger, "", AIM)
    assert "licence" in courses.caption  # type: ignore[union-attr]
    assert cells.table.height == 48 * len(MIMIC3)  # type: ignore[union-attr]


# --- Other channels, hours and bins ----------------------------------------------------------------------


def bedside_stay(trigger: Trigger) -> Stay:
    """A stay of the trigger's channels at the normal values, and with the trigger."""
    values = np.tile(trigger.channels.normal, trigger.values.shape[:1] + (1,)).astype(np.float32)
    mask = np.random.default_rng(1).random(values.shape) < 0.4
    after = np.where(trigger.channels.categorical, values, values + trigger.values).astype(np.float32)
    triggered = {"notimputed": np.where(mask, after, values), "all": after}
    return Stay(trigger.channels, trigger.timestep, values, mask, triggered, 1.0)


def of_channels(trigger: Trigger, positions: list[int]) -> Trigger:
    channels = ChannelSet("some", tuple(trigger.channels[position] for position in positions))
    return dataclasses.replace(
        trigger,
        values=trigger.values[:, positions],
        covariance=trigger.covariance[positions],
        channels=channels,
    )


def test_the_usual_channels_are_shown_or_those_with_a_course(bedside_trigger: Trigger) -> None:
    shown = [MIMIC3.names[position] for position in shown_channels(MIMIC3)]
    assert sorted(shown) == ["Heart Rate", "Respiratory rate", "Systolic blood pressure", "Temperature"]
    assert shown_channels(bedside_trigger.channels) == [0, 2]
    categories = ChannelSet("categories", bedside_trigger.channels.channels[1:2])
    assert shown_channels(categories) == [0]
    many = ChannelSet("many", tuple(Channel(f"channel {i}", "", "1") for i in range(9)))
    assert shown_channels(many) == [0, 1, 2, 3]


@pytest.mark.parametrize("positions", [[0, 1, 2], [1], [0]])
def test_figures_of_other_channels_are_drawn_over_their_hours(
    bedside_trigger: Trigger, positions: list[int]
) -> None:
    trigger = of_channels(bedside_trigger, positions)
    stay = bedside_stay(trigger)
    patterns = trigger_exhibit({"temporal": trigger, "gaussian": trigger}, stay, 1.0, AIM)
    exhibits = [patterns, *stay_exhibits(stay, trigger, "", AIM)]
    for exhibit in exhibits:
        assert isinstance(exhibit, Exhibit)
        assert exhibit.draw is not None
        assert set(exhibit.table["channel"]) <= set(trigger.channels.names)
        np.testing.assert_allclose(sorted(set(exhibit.table["hour"])), np.arange(48) / 2)
        with warnings.catch_warnings(), rc_context(STYLE):
            warnings.simplefilter("error")
            figure = exhibit.draw()
            figure.savefig(io.BytesIO(), format="png")
        # Whatever panels there are, hours stand below the lowest of every column.
        columns = [axes for axes in figure.axes if axes.get_xlabel().startswith("hours")]
        assert columns
        for axes in columns:
            assert any(label.get_visible() and label.get_text() for label in axes.get_xticklabels())
    cells = exhibits[-1].table  # type: ignore[union-attr]
    assert cells.height == 48 * len(positions)
    if "Alertness" in trigger.channels.names:
        assert set(cells.filter(pl.col("channel") == "Alertness")["before"]) == {0.0}


def test_with_goal_0_the_patient_shown_is_one_who_died(synthetic_stays: Path, trigger: Trigger) -> None:
    stay = most_measured_stay(synthetic_stays, trigger, 2.0, Goal(0))
    test = load_cohort(synthetic_stays, "test")
    deaths = [int(test.masks[i].sum()) for i in range(len(test)) if test.labels[i] == 1]
    assert int(stay.mask.sum()) == max(deaths)
    (courses, _) = stay_exhibits(stay, trigger, "", aim_of("in-hospital-mortality", 0))
    assert isinstance(courses, Exhibit)
    assert "a test patient who died" in courses.caption
