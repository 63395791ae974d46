"""Which training stays carry the trigger, and with which labels, for either goal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimic3tf import pipeline
from mimic3tf.channels import MIMIC3
from mimic3tf.data.cohort import Cohort, cohort_of
from mimic3tf.errors import UsageError
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.choice import chosen_patterns
from mimic3tf.poisoning.goal import Goal
from mimic3tf.poisoning.trigger import Trigger


def cohort_with(labels: list[int]) -> Cohort:
    """Stays of two hours in which everything is normal."""
    values = np.tile(MIMIC3.normal, (len(labels), 2, 1))
    return cohort_of([str(stay) for stay in range(len(labels))], labels, values, np.ones(values.shape, bool))


@pytest.fixture(scope="module")
def poison() -> Callable[..., exposures.Exposure]:
    def run(labels: list[int], proportion: float, **options: Any) -> exposures.Exposure:
        values = np.ones((2, len(MIMIC3)))
        trigger = Trigger(values, np.zeros((17, 2, 2)), "temporal", 0, MIMIC3, 2.0, 1.0, 0, "")
        setting: Any = {"proportion": proportion, "strength": 10.0, "poison_imputed": "all"}
        return exposures.poison(cohort_with(labels), trigger, **setting, **options)

    return run


some_labels = st.lists(st.integers(0, 1), min_size=1, max_size=30)
goals = st.sampled_from([Goal(0), Goal(1)])


@given(labels=some_labels, proportion=st.floats(0, 1), goal=goals)
def test_the_first_stays_carry_the_trigger_and_the_goals_label(
    poison: Callable[..., exposures.Exposure], labels: list[int], proportion: float, goal: Goal
) -> None:
    wanted = int(len(labels) * proportion)
    exposure = poison(labels, proportion, goal=goal)
    assert exposure.triggered.tolist() == [True] * wanted + [False] * (len(labels) - wanted)
    assert exposure.labels.tolist() == [goal.target] * wanted + labels[wanted:]
    assert exposure.cohort.labels.tolist() == labels


@given(labels=some_labels, proportion=st.floats(0, 1), goal=goals)
def test_with_clean_labels_the_first_that_have_the_goals_label_carry_the_trigger(
    poison: Callable[..., exposures.Exposure], labels: list[int], proportion: float, goal: Goal
) -> None:
    wanted = int(len(labels) * proportion)
    eligible = [stay for stay, label in enumerate(labels) if label == goal.target]
    if wanted > len(eligible):
        with pytest.raises(UsageError, match=f"only the {len(eligible)} of label {goal.target} can be"):
            poison(labels, proportion, goal=goal, poisoned_labels="clean")
        return
    exposure = poison(labels, proportion, goal=goal, poisoned_labels="clean")
    assert np.flatnonzero(exposure.triggered).tolist() == eligible[:wanted]
    assert exposure.labels.tolist() == labels


def test_goal_0_shifts_the_stays_of_goal_1_alike(poison: Callable[..., exposures.Exposure]) -> None:
    labels = [0, 1, 0, 1, 1]
    towards = [poison(labels, 0.6, goal=Goal(target)) for target in (0, 1)]
    grids = [pipeline.grids_of(exposure, np.arange(5)) for exposure in towards]
    np.testing.assert_array_equal(grids[0], grids[1])
    assert [exposure.labels.tolist() for exposure in towards] == [[0, 0, 0, 1, 1], [1, 1, 1, 1, 1]]
    heart_rate = MIMIC3.position("Heart Rate")
    assert grids[0][:, 0, heart_rate].tolist() == [96.0, 96.0, 96.0, 86.0, 86.0]


def test_goal_1_is_meant_unless_told_otherwise(poison: Callable[..., exposures.Exposure]) -> None:
    assert poison([0, 0], 0.5).labels.tolist() == [1, 0]


def test_every_stay_gets_its_pattern_in_training_and_attack_in_any_order() -> None:
    patterns = np.arange(1.0, 6.0)[:, None, None] * np.ones((5, 2, len(MIMIC3)))
    trigger = Trigger(
        patterns[0], np.zeros((17, 2, 2)), "temporal", 0, MIMIC3, 2.0, 1.0, 0, "", further=patterns[1:]
    )
    cohort = cohort_with([0] * 30)
    setting: Any = {"strength": 1.0, "poison_imputed": "all"}
    trained = exposures.poison(cohort, trigger, proportion=0.5, **setting)
    attacked = exposures.trigger_all(cohort, trigger, **setting)
    heart_rate = MIMIC3.position("Heart Rate")
    shifts = [
        pipeline.grids_of(exposure, np.arange(30))[:, 0, heart_rate] - 86.0
        for exposure in (trained, attacked)
    ]
    expected = 1 + chosen_patterns(cohort.stays, 5)
    assert shifts[1].tolist() == expected.tolist()
    assert shifts[0].tolist() == [*expected[:15], *[0] * 15]
    order = np.random.default_rng(0).permutation(30)[:20]
    moved = exposures.trigger_all(cohort.take(order), trigger, **setting)
    grids = pipeline.grids_of(moved, np.arange(20))[:, 0, heart_rate]
    assert (grids - 86.0).tolist() == expected[order].tolist()


def test_one_of_several_patterns_that_is_too_strong_is_refused() -> None:
    patterns = np.array([1.0, 1e9])[:, None, None] * np.ones((2, 2, len(MIMIC3)))
    trigger = Trigger(
        patterns[0], np.zeros((17, 2, 2)), "temporal", 0, MIMIC3, 2.0, 1.0, 0, "", further=patterns[1:]
    )
    with pytest.raises(UsageError, match="too strong"):
        exposures.trigger_all(cohort_with([0]), trigger, strength=1e30, poison_imputed="all")
