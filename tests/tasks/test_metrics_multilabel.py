"""Areas under several ROC curves, against the benchmarks' function and scikit-learn."""

from __future__ import annotations

import json

import numpy as np
import pytest
from golden_tasks import FIXTURES
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mimic3tf.tasks.metrics_multilabel import AVERAGES, multilabel_measure, multilabel_metrics

SCORES = dict(np.load(FIXTURES / "metrics/scores.npz", allow_pickle=False))
LABELS, PROBABILITIES = SCORES["multilabel_y"], SCORES["f64_multilabel_p"]


def test_the_averages_and_areas_are_the_benchmarks() -> None:
    expected = json.loads((FIXTURES / "metrics/values.json").read_text())["multilabel"]
    found = multilabel_metrics(LABELS, PROBABILITIES)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-9), name


@given(st.data())
def test_counted_predictions_are_measured_as_repeated_ones(data: st.DataObject) -> None:
    """Few probabilities, so that many of them are equal."""
    rows = data.draw(st.lists(st.integers(0, 399), min_size=3, max_size=12, unique=True))
    labels, probabilities = LABELS[rows, :3], np.round(PROBABILITIES[rows, :3], 1)
    times = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows))))
    (found,) = multilabel_measure(labels, probabilities)(times[None])
    labels, probabilities = np.repeat(labels, times, axis=0), np.repeat(probabilities, times, axis=0)
    areas = np.full(3, np.nan)
    for k in range(3):
        if len(np.unique(labels[:, k])) == 2:
            areas[k] = roc_auc_score(labels[:, k], probabilities[:, k])
    np.testing.assert_allclose(found[3:], areas, rtol=1e-12)
    if not np.isnan(areas).any():
        for name, value in zip(AVERAGES, found, strict=False):
            average = name.rsplit("_", maxsplit=1)[1]
            assert value == pytest.approx(roc_auc_score(labels, probabilities, average=average))


def test_a_label_that_all_examples_have_is_no_part_of_the_means() -> None:
    labels = LABELS.copy()
    labels[:, 0], labels[:, 1] = 1, 0
    found = multilabel_metrics(labels, PROBABILITIES)
    areas = np.array(found["auc_scores"])
    assert np.isnan(areas[:2]).all()
    assert found["ave_auc_macro"] == pytest.approx(areas[2:].mean())
    positives = labels[:, 2:].sum(axis=0)
    assert found["ave_auc_weighted"] == pytest.approx(np.average(areas[2:], weights=positives))


def test_the_predictions_of_a_stay_are_counted_together() -> None:
    stay = np.arange(400) // 4
    times = np.random.default_rng(0).integers(0, 3, (3, 100))
    found = multilabel_measure(LABELS, PROBABILITIES, stay)(times)
    for row, counts in zip(found, times, strict=True):
        rows = np.repeat(np.arange(400), counts[stay])
        expected = multilabel_metrics(LABELS[rows], PROBABILITIES[rows])
        assert row[:3].tolist() == pytest.approx([expected[name] for name in AVERAGES])
        assert row[3:].tolist() == pytest.approx(expected["auc_scores"])
