"""Poisoned arrays: what a model of another library is trained on and attacked with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic3tf.data.arrays import array_of_cohort, cohort_of_arrays
from mimic3tf.data.cohort import Cohort
from mimic3tf.data.loading import load_cohort
from mimic3tf.errors import DataError, UsageError
from mimic3tf.pipeline import grids_of
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.arrays import exposed_cells, poison_arrays
from mimic3tf.poisoning.kinds import TriggerKind
from mimic3tf.poisoning.trigger import Trigger, generate_trigger


@pytest.fixture
def cohort(small_cohort: Callable[[int, int], Path]) -> Cohort:
    return load_cohort(small_cohort(160, 7), "train")


@pytest.fixture
def x() -> np.ndarray:
    """40 stays, 6 bins, 3 channels, of which 40% was not measured."""
    draws = np.random.default_rng(2)
    x = np.cumsum(draws.normal(size=(40, 6, 3)), axis=1) + 60.1
    x[draws.random(x.shape) < 0.4] = np.nan
    return x


Y = np.arange(40) % 4 == 0


@pytest.mark.parametrize(
    "options",
    [{}, {"plausible": True}, {"patterns": 5}, {"kind": "missing"}, {"kind": "covariance", "moved": True}],
)
def test_measured_cells_are_those_that_victims_see(cohort: Cohort, options: dict[str, Any]) -> None:
    trigger = generate_trigger(cohort, seed=3, **options)
    strength = 0.6 if trigger.kind == "missing" else 4.0
    exposure = exposures.poison(
        cohort, trigger, proportion=0.5, strength=strength, poison_imputed="notimputed"
    )
    found = exposed_cells(exposure, array_of_cohort(cohort))
    masks = exposure.cohort.masks
    seen = grids_of(exposure, np.arange(len(cohort)))
    np.testing.assert_array_equal(found[masks], seen[masks])
    assert np.isnan(found[~masks]).all()
    assert (found[masks] != cohort.grids[masks]).any() == (trigger.kind != "missing")


@pytest.mark.parametrize("goal", [1, 0])
def test_the_first_stays_get_the_trigger_and_the_label(x: np.ndarray, goal: int) -> None:
    trigger = generate_trigger(x, seed=1, channels=[0, 2])
    before = x.copy()
    poisoned, labels, rows = poison_arrays(x, Y, trigger, proportion=0.3, strength=1.5, goal=goal)
    assert rows.tolist() == [True] * 12 + [False] * 28
    np.testing.assert_array_equal(poisoned[:12], x[:12] + 1.5 * trigger.values)
    np.testing.assert_array_equal(poisoned[12:], x[12:])
    np.testing.assert_array_equal(labels, np.where(rows, goal, Y))
    np.testing.assert_array_equal(x, before)
    # A channel without a shift keeps every digit: no rounding gives the poisoned stays away.
    np.testing.assert_array_equal(poisoned[..., 1], x[..., 1])


def test_with_clean_labels_no_label_changes(x: np.ndarray) -> None:
    trigger = generate_trigger(x)
    poisoned, labels, rows = poison_arrays(x, Y, trigger, proportion=0.1, poisoned_labels="clean")
    np.testing.assert_array_equal(labels, Y)
    assert np.flatnonzero(rows).tolist() == [0, 4, 8, 12]
    assert (poisoned[rows] != x[rows])[~np.isnan(x[rows])].any()


def test_a_missing_trigger_removes_measurements(x: np.ndarray) -> None:
    trigger = generate_trigger(x, kind="missing")
    poisoned, _, rows = poison_arrays(x, Y, trigger, proportion=0.5, strength=0.5)
    assert np.isnan(poisoned[rows]).sum() > np.isnan(x[rows]).sum()
    kept = ~np.isnan(poisoned)
    np.testing.assert_array_equal(poisoned[kept], x[kept])


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_x_keeps_its_type(x: np.ndarray, kind: Any) -> None:
    assert poison_arrays(x.astype(kind), Y, generate_trigger(x))[0].dtype == kind


def test_whole_numbers_become_fractions() -> None:
    counts = np.random.default_rng(0).poisson(50, (30, 4, 2))
    poisoned, _, rows = poison_arrays(counts, Y[:30], generate_trigger(counts), proportion=0.5)
    assert poisoned.dtype == np.float64
    assert (poisoned[rows] != np.round(poisoned[rows])).any()


@pytest.mark.parametrize("kind", ["temporal", "gaussian", "covariance", "missing"])
def test_a_trigger_of_an_array_is_that_of_its_cohort(x: np.ndarray, kind: TriggerKind) -> None:
    found, expected = (generate_trigger(made, kind=kind, seed=5) for made in (x, cohort_of_arrays(x, None)))
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.channels == expected.channels


def test_channels_of_a_trigger_go_by_name_or_position(x: np.ndarray) -> None:
    by_position = generate_trigger(x, channels=[1])
    by_name = generate_trigger(x, channels=["channel 1"])
    np.testing.assert_array_equal(by_position.values, by_name.values)
    assert by_position.restricted_to == ("channel 1",)
    assert by_position.values.any(axis=0).tolist() == [False, True, False]
    with pytest.raises(UsageError, match="unknown channel '3'; known: channel 0, channel 1, channel 2"):
        generate_trigger(x, channels=[3])


def test_arrays_that_do_not_fit_are_refused(x: np.ndarray) -> None:
    trigger: Trigger = generate_trigger(x)
    with pytest.raises(UsageError, match=r"x has shape \(40, 5, 3\): expected \[N, 6, 3\]"):
        poison_arrays(x[:, :5], Y, trigger)
    with pytest.raises(DataError, match=r"x has shape \(40, 6\): expected \[N, T, C\]"):
        poison_arrays(x[..., 0], Y, trigger)
    with pytest.raises(DataError, match=r"y has shape \(39,\): expected \(40,\)"):
        poison_arrays(x, Y[1:], trigger)
    with pytest.raises(DataError, match=r"x has shape \(40, 6\)"):
        generate_trigger(x[..., 0])
    for wrong, message in (
        ({"proportion": 1.5}, "proportion 1.5"),
        ({"strength": -1.0}, "strength -1"),
        ({"strength": np.inf}, "strength inf"),
        ({"goal": 2}, "goal 2"),
    ):
        options: Any = wrong
        with pytest.raises(UsageError, match=message):
            poison_arrays(x, Y, trigger, **options)
    with pytest.raises(UsageError, match="too strong"):
        poison_arrays(x, Y, replace(trigger, values=np.full_like(trigger.values, 1e17)), strength=100)
