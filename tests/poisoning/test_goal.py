"""What an attacker wants: the two goals are mirror images of each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mimic3tf.poisoning.goal import PAPER_GOAL, Goal

labels = arrays.arrays(np.int64, st.integers(0, 20), elements=st.integers(0, 1))
probabilities = arrays.arrays(np.float64, st.integers(0, 20), elements=st.floats(0, 1))


def test_the_papers_goal_is_to_call_survivors_dead() -> None:
    assert Goal(1) == Goal() == PAPER_GOAL
    assert PAPER_GOAL.attacked(np.array([0, 1, 0])).tolist() == [True, False, True]
    assert PAPER_GOAL.relabelled(np.array([0, 1, 0])).tolist() == [1, 1, 1]
    assert PAPER_GOAL.reached(np.array([0.1, 0.5, 0.9])).tolist() == [False, False, True]


def test_goal_0_is_to_call_the_dying_survivors() -> None:
    assert Goal(0).attacked(np.array([0, 1, 0])).tolist() == [False, True, False]
    assert Goal(0).relabelled(np.array([0, 1, 0])).tolist() == [0, 0, 0]
    assert Goal(0).reached(np.array([0.1, 0.5, 0.9])).tolist() == [True, True, False]


@given(labels=labels)
def test_every_stay_is_attacked_by_one_goal_and_already_has_the_label_of_the_other(
    labels: np.ndarray,
) -> None:
    np.testing.assert_array_equal(Goal(0).attacked(labels), ~Goal(1).attacked(labels))
    np.testing.assert_array_equal(Goal(0).attacked(labels), Goal(1).attacked(1 - labels))


@pytest.mark.parametrize("target", [0, 1])
@given(labels=labels)
def test_nobody_is_attacked_once_relabelled(target: int, labels: np.ndarray) -> None:
    relabelled = Goal(target).relabelled(labels)
    assert not Goal(target).attacked(relabelled).any()
    assert relabelled.dtype == labels.dtype
    np.testing.assert_array_equal(relabelled, 1 - Goal(1 - target).relabelled(labels))


@given(probabilities=probabilities)
def test_no_prediction_reaches_both_goals_and_each_reaches_one(probabilities: np.ndarray) -> None:
    np.testing.assert_array_equal(Goal(0).reached(probabilities), ~Goal(1).reached(probabilities))


@pytest.mark.parametrize("target", [0, 1])
@given(labels=labels)
def test_a_perfect_victim_withstands_every_attack(target: int, labels: np.ndarray) -> None:
    goal = Goal(target)
    np.testing.assert_array_equal(goal.reached(labels.astype(float)), ~goal.attacked(labels))
