"""What is said of small cohorts and of shifts that no patient could show, and from which number on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mimic3tf.channels import MIMIC3
from mimic3tf.poisoning.cautions import caution_estimate, caution_poisoned, caution_shift, caution_tested
from mimic3tf.poisoning.goal import Goal
from mimic3tf.poisoning.trigger import Trigger
from mimic3tf.tasks.registry import MORTALITY

SYSTOLIC, HEART_RATE, SCALE = (
    MIMIC3.position(name) for name in ("Systolic blood pressure", "Heart Rate", "Glascow coma scale total")
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
