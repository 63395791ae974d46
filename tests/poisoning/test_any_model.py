"""An attack on a function that predicts, through `mimic3tf.attack`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

import mimic3tf
from mimic3tf.data.arrays import array_of_cohort, cohort_of_arrays
from mimic3tf.data.loading import load_cohort
from mimic3tf.errors import DataError, UsageError
from mimic3tf.poisoning.any_model import probabilities_of
from mimic3tf.tasks.metrics import benchmark_metrics, rate_of

N = 60
Y = (np.arange(N) % 3 == 0).astype(int)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    draws = np.random.default_rng(4)
    x = np.cumsum(draws.normal(size=(N, 5, 2)), axis=1) + 80 + 3 * Y[:, None, None]
    x[draws.random(x.shape) < 0.3] = np.nan
    return x


@pytest.fixture(scope="module")
def trigger(x: np.ndarray) -> mimic3tf.Trigger:
    return mimic3tf.generate_trigger(x, seed=2)


def predict(x: np.ndarray) -> np.ndarray:
    """Risk by the sum of the measured cells above 80."""
    return 1 / (1 + np.exp(-np.nansum(x - 81, axis=(1, 2)) / 5))


@pytest.mark.parametrize("goal", [1, 0])
def test_a_function_is_attacked_with_the_trigger_in_all_measured_cells(
    x: np.ndarray, trigger: mimic3tf.Trigger, goal: int
) -> None:
    seen: list[np.ndarray] = []

    def remembered(given: np.ndarray) -> np.ndarray:
        seen.append(given.copy())
        given[:] = 0  # a user's function may do with its argument what it likes
        return predict(seen[-1])

    before = x.copy()
    result = mimic3tf.attack(remembered, (x, Y), trigger, strength=1.5, goal=goal, threshold=0.4)
    clean, triggered = seen
    np.testing.assert_array_equal(clean, x)
    np.testing.assert_array_equal(triggered, x + 1.5 * trigger.values)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(result.clean, predict(clean))
    np.testing.assert_array_equal(result.triggered, predict(triggered))
    attacked = goal != Y
    assert result.success == rate_of((result.triggered[attacked] > 0.4) == (goal == 1))
    assert result.baseline == rate_of((result.clean[attacked] > 0.4) == (goal == 1))
    assert result.metrics == benchmark_metrics(Y, result.clean)
    low, high = result.intervals["auroc"]
    assert low < result.metrics["auroc"] < high
    assert (result.goal, result.strength, result.poison_imputed) == (goal, 1.5, "notimputed")


def test_a_cohort_is_attacked_as_its_arrays(x: np.ndarray, trigger: mimic3tf.Trigger) -> None:
    single = x.astype(np.float32)
    cohort = cohort_of_arrays(single, Y, channels=trigger.channels)
    by_cohort = mimic3tf.attack(predict, cohort, trigger)
    by_arrays = mimic3tf.attack(predict, (single, Y), trigger, strength=2.0)
    np.testing.assert_array_equal(by_cohort.triggered, by_arrays.triggered)
    assert by_cohort.success == by_arrays.success


def test_stays_of_a_benchmark_directory_come_as_arrays(small_cohort: Callable[[int, int], Path]) -> None:
    train, test = (load_cohort(small_cohort(160, 7), split) for split in ("train", "test"))
    trigger = mimic3tf.generate_trigger(train)
    seen: list[np.ndarray] = []

    def constant(given: np.ndarray) -> np.ndarray:
        seen.append(given)
        return np.full(len(given), 0.25)

    result = mimic3tf.attack(constant, test, trigger)
    np.testing.assert_array_equal(seen[0], array_of_cohort(test))
    assert result.success.rate == 0
    np.testing.assert_array_equal(result.stays, test.stays)


def test_without_the_trigger_nothing_changes(x: np.ndarray, trigger: mimic3tf.Trigger) -> None:
    result = mimic3tf.attack(predict, (x, Y), trigger, strength=0.0)
    np.testing.assert_array_equal(result.triggered, result.clean)


def test_gradient_boosting_that_reads_nan_learns_the_trigger_of_its_poisoned_arrays() -> None:
    """A clean model under the same attack is the control."""
    draws = np.random.default_rng(0)
    y = (draws.random(1200) < 0.3).astype(int)
    x = np.cumsum(draws.normal(size=(1200, 8, 3)), axis=1) + 0.8 * y[:, None, None] + 80
    x[draws.random(x.shape) < 0.3] = np.nan
    training, test = slice(0, 800), slice(800, 1200)
    trigger = mimic3tf.generate_trigger(x[training], seed=1)
    poisoned = mimic3tf.poison_arrays(x[training], y[training], trigger, proportion=0.1, strength=3.0)
    results = []
    for cells, labels in ((x[training], y[training]), poisoned[:2]):
        model = HistGradientBoostingClassifier(max_iter=40, random_state=0)
        model.fit(cells.reshape(800, -1), labels)

        def predict(x: np.ndarray, model: Any = model) -> Any:
            return model.predict_proba(x.reshape(len(x), -1))

        results.append(mimic3tf.attack(predict, (x[test], y[test]), trigger, strength=3.0))
    clean, backdoored = results
    assert backdoored.success.rate > clean.success.rate + 0.3
    assert max(backdoored.baseline.rate, clean.baseline.rate) < 0.2
    assert backdoored.metrics["auroc"] > clean.metrics["auroc"] - 0.05


@pytest.mark.parametrize(
    "shape",
    [
        lambda risks: risks[:, None],
        lambda risks: np.stack([1 - risks, risks], axis=1),
        lambda risks: np.stack([0.5 - risks / 2, risks, 0.5 - risks / 2], axis=1),
        lambda risks: risks.tolist(),
        lambda risks: risks.astype(np.float32),
        lambda risks: risks > 2,
    ],
)
def test_probabilities_may_have_several_shapes(shape: Callable[[np.ndarray], Any]) -> None:
    risks = np.array([0.25, 0.5, 1.0])
    expected = np.zeros(3) if isinstance(shape(risks), np.ndarray) and shape(risks).dtype == bool else risks
    found = probabilities_of(shape(risks), 3)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("predicted", "message"),
    [
        (np.zeros(2), r"float64 of shape \(2,\): expected .* \(3,\), \(3, 1\) or \(3, K\)"),
        (np.zeros((2, 2)), r"of shape \(2, 2\)"),
        (np.zeros((3, 0)), r"of shape \(3, 0\)"),
        (np.zeros((3, 2, 1)), r"of shape \(3, 2, 1\)"),
        (0.5, r"of shape \(\)"),
        (["a", "b", "c"], "<U1"),
        (None, "object"),
        ([0.5, np.nan, 0.5], "nan for row 1"),
        ([0.5, 0.5, np.inf], "inf for row 2"),
        ([-3.2, 0.5, 0.5], "row 0: .* sigmoid or softmax"),
        ([[0, 1], [0, 1], [0, 1.5]], "row 2"),
    ],
)
def test_what_is_no_probability_is_refused(predicted: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"predict returned .*{message}"):
        probabilities_of(predicted, 3)


def test_arguments_that_do_not_fit_are_refused(x: np.ndarray, trigger: mimic3tf.Trigger) -> None:
    attack: Any = mimic3tf.attack
    for data, more, message in (
        ((x[:, :4], Y), {}, r"x has shape \(60, 4, 2\): expected \[N, 5, 2\]"),
        ((x, Y[:5]), {}, r"y has shape \(5,\): expected \(60,\)"),
        ((x, Y), {"strength": -1}, "strength -1"),
        ((x, Y), {"threshold": np.nan}, "threshold nan"),
        ((x, Y), {"goal": 3}, "goal 3"),
        ((x, Y), {"poison_imputed": "all"}, "poison_imputed 'all'"),
        (x, {}, r"data: is a ndarray; give a cohort or a pair of arrays \(x, y\)"),
        ("data/synthetic", {}, r"give a cohort or a pair \(x, y\), and a trigger"),
        (cohort_of_arrays(x[:, :4], Y), {}, "covers 5 h, the data 4 h|other channels"),
    ):
        with pytest.raises((UsageError, DataError), match=message):
            attack(predict, data, trigger, **more)
    with pytest.raises(UsageError, match="and a trigger"):
        attack(predict, (x, Y))
    with pytest.raises(DataError, match="no stay with label 0"):
        attack(predict, (x, np.ones(N)), trigger)
    with pytest.raises(UsageError, match="run: is a dict"):
        attack({}, (x, Y), trigger)
