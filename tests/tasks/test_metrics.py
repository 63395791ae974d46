from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from golden_tasks import FIXTURES
from hypothesis import given
from hypothesis import strategies as st

from mimic3tf.poisoning.goal import PAPER_GOAL
from mimic3tf.tasks.metrics import benchmark_metrics, predicted_1, rate_of, threshold_at_prevalence

METRICS = ["acc", "prec0", "prec1", "rec0", "rec1", "auroc", "auprc", "minpse"]
RANKING = ["auroc", "auprc", "minpse"]


def test_the_eight_metrics_equal_the_reference(reference: Any) -> None:
    measured = benchmark_metrics(reference["metrics_y"], reference["metrics_p"])
    assert list(measured) == reference["metrics_names"].tolist() == METRICS
    # The original counts in float32 and ranks in float64.
    expected = dict(zip(METRICS, reference["metrics_values"].tolist(), strict=True))
    assert measured == pytest.approx(expected, rel=1e-7)
    assert [measured[name] for name in RANKING] == pytest.approx([expected[name] for name in RANKING], 1e-12)


def test_each_metric_is_the_one_its_name_says() -> None:
    """Three survivors, two of them predicted to survive; five deaths, four of them predicted."""
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    measured = benchmark_metrics(labels, np.array([0.1, 0.2, 0.7, 0.4, 0.6, 0.8, 0.9, 0.95]))
    assert measured["acc"] == 6 / 8
    assert measured["prec0"] == 2 / 3
    assert measured["prec1"] == 4 / 5
    assert measured["rec0"] == 2 / 3
    assert measured["rec1"] == 4 / 5
    assert measured["auroc"] == pytest.approx(13 / 15)  # pairs of a death and a survivor in right order
    assert measured["minpse"] == 5 / 6  # predicting death from 0.4 on


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_gives_nan_where_a_metric_needs_both(label: int) -> None:
    measured = benchmark_metrics(np.full(4, label), np.array([0.1, 0.4, 0.6, 0.9]))
    assert all(math.isnan(measured[name]) for name in RANKING)
    assert math.isnan(measured[f"rec{1 - label}"])
    assert measured["acc"] == measured[f"rec{label}"] == 0.5


def test_a_class_nobody_is_predicted_to_have_gives_nan_precision() -> None:
    measured = benchmark_metrics(np.array([0, 1]), np.array([0.1, 0.2]))
    assert math.isnan(measured["prec1"])
    assert (measured["prec0"], measured["rec1"], measured["auroc"]) == (0.5, 0.0, 1.0)


@pytest.mark.parametrize(
    ("risks", "deaths", "threshold", "predicted"),
    [
        ([0.1, 0.2, 0.3, 0.4], 1, 0.3, 1),
        ([0.1, 0.3, 0.3, 0.4], 2, 0.3, 1),  # two stays at the threshold: both are predicted 0
        ([0.3, 0.3, 0.3, 0.3], 2, 0.3, 0),
        ([0.1, 0.2, 0.3, 0.4], 0, 0.4, 0),
        ([0.1, 0.2, 0.3, 0.4], 4, 0.0, 4),
    ],
)
def test_the_threshold_at_the_prevalence_predicts_no_more_deaths_than_there_are(
    risks: list[float], deaths: int, threshold: float, predicted: int
) -> None:
    found = threshold_at_prevalence((np.arange(len(risks)) < deaths).astype(int), np.array(risks))
    assert found == threshold
    assert predicted_1(np.array(risks), found).sum() == predicted


def test_no_stays_give_nan_throughout() -> None:
    measured = benchmark_metrics(np.empty(0, np.int64), np.empty(0))
    assert list(measured) == METRICS
    assert all(math.isnan(value) for value in measured.values())


def test_a_half_counts_as_negative() -> None:
    above = np.nextafter(0.5, 1)
    assert rate_of(PAPER_GOAL.reached(np.array([0.5, above]))).rate == 0.5
    assert benchmark_metrics(np.array([1, 1]), np.array([0.5, above]))["rec1"] == 0.5


@given(stays=st.integers(1, 5000), share=st.floats(0, 1))
def test_the_interval_is_wilsons(stays: int, share: float) -> None:
    positive = round(stays * share)
    measured = rate_of(np.repeat([True, False], [positive, stays - positive]))
    z, p = 1.959963984540054, positive / stays
    centre = (p + z**2 / (2 * stays)) / (1 + z**2 / stays)
    half = z / (1 + z**2 / stays) * math.sqrt(p * (1 - p) / stays + z**2 / (4 * stays**2))
    assert (measured.rate, measured.stays) == (p, stays)
    assert measured.low == pytest.approx(max(centre - half, 0), abs=1e-9)
    assert measured.high == pytest.approx(min(centre + half, 1), abs=1e-9)


@pytest.mark.parametrize("flag", [False, True])
def test_where_all_examples_agree_the_interval_is_wilsons_by_the_stays(flag: bool) -> None:
    measured = rate_of(np.full(40, flag), np.repeat(np.arange(4), 10))
    assert measured == rate_of(np.full(4, flag))
    assert measured.high - measured.low > 0.4


def test_ties_are_scored_as_by_the_benchmarks_own_code() -> None:
    """Scores with p = 0.5, and what the benchmarks' functions make of them."""
    scores = np.load(FIXTURES / "metrics/scores.npz", allow_pickle=False)
    expected = json.loads((FIXTURES / "metrics/values.json").read_text())
    found = benchmark_metrics(scores["binary_y"], scores["f64_binary_p"])
    # The benchmarks give two columns of probabilities the same result.
    for kind in ("binary", "binary_two_columns"):
        assert list(found) == list(expected[kind])
        for name, value in found.items():
            # The benchmarks count shares in float32.
            exact = 1e-9 if name in RANKING else 1e-7
            assert value == pytest.approx(expected[kind][name], abs=exact), name
