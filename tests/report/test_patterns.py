"""The patient shown, and the tables behind the pictures of patterns."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mimic3tf.channels import CHANNELS
from mimic3tf.data.cohort import load_cohort
from mimic3tf.errors import UsageError
from mimic3tf.poisoning.trigger import Trigger, generate_trigger
from mimic3tf.report.patterns import stay_courses, stay_exhibits, trigger_courses
from mimic3tf.report.stay import most_measured_stay

HEART_RATE = [channel.name for channel in CHANNELS].index("Heart Rate")


@pytest.fixture
def trigger(synthetic_stays: Path) -> Trigger:
    return generate_trigger(load_cohort(synthetic_stays, "train"))


def test_the_patient_is_the_most_measured_survivor(synthetic_stays: Path, trigger: Trigger) -> None:
    stay = most_measured_stay(synthetic_stays, trigger, 2.0)
    test = load_cohort(synthetic_stays, "test")
    survivors = [int(test.mask[i].sum()) for i in range(len(test)) if test.labels[i] == 0]
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
    courses, cells = stay_exhibits(stay, trigger, "")
    assert "licence" in courses.caption  # type: ignore[union-attr]
    assert cells.table.height == 48 * len(CHANNELS)  # type: ignore[union-attr]
