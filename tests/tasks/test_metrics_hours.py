"""Metrics of predicted remaining hours, against the benchmarks' functions, scikit-learn and known answers."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from golden_tasks import FIXTURES
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from mimic3tf.tasks.metrics_hours import (
    CLASSES,
    CUSTOM_MEANS,
    HOURS_METRICS,
    LOG_MEANS,
    custom_class,
    hours_measure,
    hours_metrics,
    hours_of,
    log_class,
    percentage_errors,
    targets_of,
)

SCORES = dict(np.load(FIXTURES / "metrics/scores.npz", allow_pickle=False))
VALUES = json.loads((FIXTURES / "metrics/values.json").read_text())
HOURS = SCORES["f64_los_y"]


def test_classes_at_the_edges_are_the_benchmarks() -> None:
    for name, classes in (("bin_custom", custom_class), ("bin_log", log_class)):
        hours = SCORES["f64_bin_hours" if name == "bin_custom" else "f64_bin_log_hours"]
        np.testing.assert_array_equal(classes(hours), SCORES[name])
        np.testing.assert_array_equal(np.eye(CLASSES)[classes(hours)], SCORES[f"{name}_one_hot"])


def test_classes_become_hours_by_the_benchmarks_means() -> None:
    np.testing.assert_array_equal(CUSTOM_MEANS, SCORES["f64_custom_means"])
    np.testing.assert_array_equal(LOG_MEANS, SCORES["f64_log_means"])
    probabilities = SCORES["f64_los_probabilities"]
    np.testing.assert_array_equal(hours_of(probabilities, "custom"), SCORES["f64_los_estimate_custom"])
    np.testing.assert_array_equal(hours_of(probabilities, "log"), SCORES["f64_los_estimate_log"])
    np.testing.assert_array_equal(hours_of(HOURS, "none"), HOURS)


@pytest.mark.parametrize(
    ("kind", "predicted"),
    [
        ("regression", SCORES["f64_los_prediction"]),
        ("custom_bins", SCORES["f64_los_estimate_custom"]),
        ("log_bins", SCORES["f64_los_estimate_log"]),
    ],
)
def test_the_four_metrics_are_the_benchmarks(kind: str, predicted: np.ndarray) -> None:
    assert (SCORES["f64_los_prediction"] < 0).any()
    assert hours_metrics(HOURS, predicted) == pytest.approx(VALUES[kind], rel=1e-9)


def test_the_percentage_error_alone_keeps_negative_predictions() -> None:
    found = percentage_errors(HOURS, SCORES["f64_los_prediction"]).mean()
    assert found == pytest.approx(VALUES["mape_alone"]["mape"], rel=1e-9)


def test_each_metric_is_the_one_its_name_says() -> None:
    """Errors of 10 hours within class 0, of none, and of 20 hours from class 4 to 3; no hours of class 2."""
    found = hours_metrics(np.array([0.0, 30.0, 99.9]), np.array([10.0, 30.0, 79.9]))
    assert found["mad"] == pytest.approx(10.0)
    assert found["mse"] == pytest.approx((100 + 400) / 3)
    assert found["mape"] == pytest.approx(100 * (10 / 0.1 + 20 / 100) / 3)
    assert found["kappa"] == pytest.approx(1 - (1 / 3) / (11 / 9))


@given(st.data())
def test_kappa_is_scikit_learns_over_the_classes_that_occur(data: st.DataObject) -> None:
    """A class that never occurs is no step between its neighbours: 0 and 9 may be next to each other."""
    count = data.draw(st.integers(2, 12))
    hours, predicted = (
        np.array(data.draw(st.lists(st.sampled_from(CUSTOM_MEANS.tolist()), min_size=count, max_size=count)))
        for _ in range(2)
    )
    times = np.array(data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)))
    (found,) = hours_measure(hours, predicted)(times[None])
    pairs = np.repeat(np.stack([custom_class(hours), custom_class(predicted)]), times, axis=1)
    if len(np.unique(pairs)) < 2:
        assert math.isnan(found[0])
    else:
        assert found[0] == pytest.approx(cohen_kappa_score(*pairs, weights="linear"), abs=1e-12)


def test_the_predictions_of_a_stay_are_counted_together() -> None:
    stay = np.arange(400) // 4
    times = np.random.default_rng(0).integers(0, 3, (5, 100))
    found = hours_measure(HOURS, SCORES["f64_los_prediction"], stay)(times)
    for row, counts in zip(found, times, strict=True):
        rows = np.repeat(np.arange(400), counts[stay])
        expected = hours_metrics(HOURS[rows], SCORES["f64_los_prediction"][rows])
        assert row.tolist() == pytest.approx([expected[name] for name in HOURS_METRICS])


def test_no_predictions_have_no_metric() -> None:
    (found,) = hours_measure(HOURS, HOURS)(np.zeros((1, 400), np.int64))
    assert np.isnan(found).all()


def test_a_partition_says_what_is_predicted() -> None:
    hours = np.array([[0.0, 30.0]])
    assert targets_of(hours, "custom").tolist() == [[0, 1]]
    assert targets_of(hours, "log").tolist() == [[0, 4]]
    assert targets_of(hours, "none").tolist() == [[0.0, 30.0]]
