"""The linear baselines have the benchmarks' settings, and predict every kind of label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression, LogisticRegression

from mimic3tf.channels import MIMIC3
from mimic3tf.config import TrainingConfig, resolve_config
from mimic3tf.data.features import feature_names
from mimic3tf.errors import UsageError
from mimic3tf.tasks.registry import TASKS, task_of
from mimic3tf.training.estimators import dump_estimator, fit_estimator, load_estimator, make_estimator
from mimic3tf.victims.linear import MOST_EXAMPLES, Linear

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 12)).astype(np.float32)
USUAL = {
    "in-hospital-mortality": ("l2", 0.001),
    "decompensation": ("l2", 0.001),
    "length-of-stay": ("l2", 0.00001),
    "phenotyping": ("l1", 0.1),
    "length-of-stay-hours": ("none", 1.0),
}


def settings(task: str, **linear: Any) -> TrainingConfig:
    return resolve_config("linear", None, {"data": Path("data"), "task": task, "linear": linear or None})


@pytest.mark.parametrize("task", USUAL)
def test_the_usual_settings_are_the_benchmarks(task: str) -> None:
    assert Linear().completed(TASKS[task].targets) == USUAL[task]
    assert Linear(penalty="l1", C=2.0).completed(TASKS[task].targets) == ("l1", 2.0)


def test_the_grid_is_the_benchmarks() -> None:
    tried = [(each.penalty, each.C) for each in Linear(grid_search=True).tried()]
    assert tried == [
        *(("l2", strength) for strength in (1.0, 0.1, 0.01, 0.001, 0.0001, 0.00001)),
        *(("l1", strength) for strength in (1.0, 0.1, 0.01, 0.001, 0.0001)),
    ]
    assert list(Linear(C=3.0).tried()) == [Linear(C=3.0)]


def labels_of(task: str) -> NDArray[Any]:
    score = X[:, 0] + 0.5 * X[:, 1]
    if task == "phenotyping":
        # A label that no stay has is not learned, and no error.
        others = [X[:, number % 12] > number / 20 for number in range(23)]
        return np.stack([score > 0, *others, score > 99], axis=1).astype(np.int64)
    if task == "length-of-stay":
        return np.array([0, 2, 9])[np.digitize(score, (-0.5, 0.5))]
    return (score > 0).astype(np.int64) if task != "length-of-stay-hours" else (50 * score).astype(np.float32)


@pytest.mark.parametrize("task", USUAL)
def test_every_kind_of_label_is_predicted_also_after_reading_back(task: str) -> None:
    config, labels = settings(task), labels_of(task)
    unfitted = make_estimator(config, 12)
    fitted = fit_estimator(config, unfitted, X, labels)
    targets = task_of(task).targets
    found = targets.probabilities(fitted.logits(X))
    penalty, strength = USUAL[task]
    solver = "liblinear" if penalty == "l1" else "lbfgs"
    one = LogisticRegression(l1_ratio=float(penalty == "l1"), C=strength, solver=solver, max_iter=1000)
    if task == "length-of-stay-hours":
        expected = np.maximum(LinearRegression().fit(X, labels).predict(X), 0)
    elif task == "phenotyping":
        expected = np.stack([one.fit(X, y).predict_proba(X)[:, 1] for y in labels.T[:-1]], axis=1)
        assert (found[:, -1] < 1e-6).all()
        found = found[:, :-1]
    elif task == "length-of-stay":
        each = [one.fit(X, labels == number).predict_proba(X)[:, 1] for number in (0, 2, 9)]
        expected = np.zeros((len(X), 10))
        expected[:, [0, 2, 9]] = np.transpose(each) / np.sum(each, axis=0)[:, None]
    else:
        expected = one.fit(X, labels).predict_proba(X)[:, 1]
    # The solver of L1 draws random numbers.
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-4)
    again = load_estimator(dump_estimator("linear", fitted.estimator), unfitted, targets)
    np.testing.assert_array_equal(again.logits(X), fitted.logits(X))


@pytest.mark.parametrize("features", ["len", "all_but_len"])
def test_some_of_the_statistics_are_read(features: Any) -> None:
    estimator = make_estimator(settings("decompensation", features=features), 714)
    (_, _, columns), *_ = estimator[0].transformers
    counts = np.char.endswith(feature_names(MIMIC3), "|count")
    assert columns == np.flatnonzero(counts if features == "len" else ~counts).tolist()


def test_of_many_examples_so_many_are_drawn_as_the_benchmarks_take() -> None:
    class Counting(LogisticRegression):
        def fit(self, x: Any, y: Any) -> Counting:
            self.seen = len(x), y.sum()
            return super().fit(x[:50], y[:50])

    many = MOST_EXAMPLES + 1000
    y = (np.arange(many) % 2).astype(np.int64)
    fitted = fit_estimator(settings("decompensation"), Counting(), np.ones((many, 2), np.float32), y)
    seen, positive = fitted.estimator.seen
    assert seen == MOST_EXAMPLES
    assert abs(positive / seen - 0.5) < 0.01


@pytest.mark.parametrize(
    ("task", "linear", "message"),
    [
        ("multitask", {}, "multitask learning has no linear baseline"),
        ("decompensation", {"penalty": "none"}, "penalty none is for hours"),
    ],
)
def test_what_the_benchmarks_do_not_have_is_refused(task: str, linear: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_estimator(settings(task, **linear), 12)


def test_the_settings_are_for_the_baselines_only() -> None:
    with pytest.raises(UsageError, match="only for --model linear"):
        resolve_config("lr", None, {"data": Path("data"), "linear": {"C": 1.0}})
