"""What is said of small cohorts and of shifts that no patient could show, and from which number on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic3tf.channels import MIMIC3
from mimic3tf.data.cohort import Cohort, cohort_of
from mimic3tf.poisoning.cautions import (
    caution_estimate,
    caution_poisoned,
    caution_shift,
    caution_slips,
    caution_tested,
)
from mimic3tf.poisoning.goal import Goal
from mimic3tf.poisoning.trigger import Trigger, generate_trigger, load_trigger, save_trigger
from mimic3tf.tasks.registry import MORTALITY

SYSTOLIC, HEART_RATE, SCALE, PH = (
    MIMIC3.position(name)
    for name in ("Systolic blood pressure", "Heart Rate", "Glascow coma scale total", "pH")
)
Make = Callable[..., Trigger]


def test_a_covariance_takes_two_stays_a_bin(trigger_of: Make) -> None:
    trigger = trigger_of(np.ones((48, 17)))
    assert caution_estimate(replace(trigger, estimated_on=96)) is None
    few = caution_estimate(replace(trigger, estimated_on=95))
    assert few is not None
    assert "estimated on 95 stays, fewer than 96" in few
    # A trigger that takes cells away needs no covariance.
    assert caution_estimate(replace(trigger, estimated_on=95, kind="missing")) is None


def shifts(trigger_of: Make, changes: dict[int, float], **options: Any) -> Trigger:
    values = np.zeros((48, 17))
    for channel, shift in changes.items():
        values[7, channel] = shift
    return trigger_of(values, **options)


def test_a_shift_of_more_than_half_the_plausible_range_is_named(trigger_of: Make) -> None:
    """Systolic pressure may lie between 25 and 300 mmHg: 137.5 is half of it."""
    trigger = shifts(trigger_of, {SYSTOLIC: -217.0})
    said = caution_shift(trigger, 1.0)
    assert said is not None
    for text in ("at strength 1 ", "Systolic blood pressure shifts by up to 217 mmHg", "of 25 to 300"):
        assert text in said
    assert "channels do so" not in said
    assert caution_shift(trigger, 137.5 / 217) is None
    assert caution_shift(trigger, 137.6 / 217) is not None
    assert caution_shift(shifts(trigger_of, {SYSTOLIC: 217.0}), 1.0) == said


def test_only_the_worst_channel_is_named(trigger_of: Make) -> None:
    said = caution_shift(shifts(trigger_of, {SYSTOLIC: 150.0, HEART_RATE: 400.0}), 1.0)
    assert said is not None
    assert "Heart Rate shifts by up to 400 1/min, more than half of its plausible range" in said
    assert "of 15 to 300 (2 channels do so)" in said


def test_nothing_leaves_its_range_that_has_none_or_is_kept_in_it(trigger_of: Make) -> None:
    assert caution_shift(shifts(trigger_of, {SCALE: 1000.0}), 1.0) is None
    assert caution_shift(shifts(trigger_of, {SYSTOLIC: 217.0}, plausible=True), 1.0) is None
    assert caution_shift(shifts(trigger_of, {SYSTOLIC: 217.0}, kind="missing"), 1.0) is None


@pytest.mark.parametrize(("poisoned", "few"), [(0, False), (1, True), (19, True), (20, False)])
def test_a_victim_takes_twenty_poisoned_stays(poisoned: int, few: bool) -> None:
    said = caution_poisoned(poisoned)
    assert (said is not None) == few
    assert said is None or f"fewer than 20 training stays are poisoned ({poisoned})" in said


@pytest.mark.parametrize(
    ("survivors", "deaths", "goal", "said"),
    [
        (20, 20, 1, None),
        (100, 19, 1, "fewer than 20 test stays of a label (19 deaths): AUROC"),
        (100, 19, 0, "fewer than 20 test stays of a label (19 deaths): success rates, AUROC"),
        (3, 2, 1, "fewer than 20 test stays of a label (3 survivors, 2 deaths): success rates, AUROC"),
    ],
)
def test_rates_take_twenty_stays_of_each_label(
    survivors: int, deaths: int, goal: int, said: str | None
) -> None:
    labels = np.repeat([0, 1], [survivors, deaths])
    found = caution_tested(labels, Goal(goal), MORTALITY.words)
    assert found is None if said is None else found is not None and found.startswith(said)


def with_slips() -> Cohort:
    """40 stays whose pH hardly varies, except for one slip."""
    random = np.random.default_rng(0)
    values = np.tile(MIMIC3.normal, (40, 6, 1))
    values[..., PH] += random.normal(0, 0.05, (40, 6))
    values[..., HEART_RATE] += random.normal(0, 10, (40, 6))
    values[1, 4, PH] = 735
    return cohort_of(
        [str(stay) for stay in range(40)], np.arange(40) % 2, values, np.ones(values.shape, bool)
    )


def test_channels_are_named_whose_slips_make_the_trigger() -> None:
    cohort = with_slips()
    trigger = generate_trigger(cohort)
    (said,) = caution_slips(trigger, cohort)
    largest = np.abs(trigger.values[:, PH]).max()
    assert said.startswith("pH: 1 of 240 values are outside 6.5 to 8 and make 100% of its variance over time")
    assert f"shifts it by up to {largest:.3g};" in said
    assert "--without-slips" in said
    # Neither a trigger that does not shift the channel, nor stays that it was not estimated on, count.
    assert caution_slips(generate_trigger(cohort, channels=["Heart Rate"]), cohort) == []
    assert caution_slips(replace(trigger, kind="missing"), cohort) == []
    assert caution_slips(generate_trigger(cohort.take(np.arange(2, 40))), cohort.take(np.arange(2, 40))) == []


def test_a_trigger_without_slips_shifts_a_channel_as_its_plausible_values_vary() -> None:
    cohort = with_slips()
    without = generate_trigger(cohort, without_slips=True)
    assert caution_slips(without, cohort) == []
    assert np.abs(without.values[:, PH]).max() < 0.3 < np.abs(generate_trigger(cohort).values[:, PH]).max()
    others = np.arange(len(MIMIC3)) != PH
    np.testing.assert_array_equal(without.values[:, others], generate_trigger(cohort).values[:, others])


def test_a_trigger_file_says_that_it_was_drawn_without_slips(tmp_path: Path) -> None:
    for without in (False, True):
        save_trigger(generate_trigger(with_slips(), without_slips=without), tmp_path / "t.npz")
        assert load_trigger(tmp_path / "t.npz").without_slips is without
    assert load_trigger(tmp_path / "t.npz").name == "temporal (without slips)"
