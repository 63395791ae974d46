"""An estimator of scikit-learn is asked for logits, saved without pickle, and read back as it was."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC

from mimic3tf.config import TrainingConfig
from mimic3tf.errors import UsageError
from mimic3tf.tasks.registry import MORTALITY
from mimic3tf.training.estimators import (
    FittedEstimator,
    dump_estimator,
    fit_estimator,
    load_estimator,
    make_estimator,
)
from mimic3tf.victims import Victim

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 5)).astype(np.float32)
Y = (X[:, 0] + RNG.normal(size=90) > 0).astype(np.int64)
Make = Callable[[], Any]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[[Make], Any]:
    """Make an estimator as the settings of a run ask for it."""

    def make(function: Make) -> Any:
        victim = Victim("a:make", "", "features", function, estimator=True)
        monkeypatch.setattr("mimic3tf.training.estimators.victim_of", lambda _: victim)
        return make_estimator(settings(), X.shape[1])

    return make


def settings(**changes: Any) -> TrainingConfig:
    known: dict[str, Any] = {"epochs": 1, "patience": 1, "batch_size": 1, "learning_rate": 1, "l2": 0}
    weights = {"class_weights": [1, 1]} | changes
    return TrainingConfig(model="a:make", data=Path(), seed=7, **known, **weights)


def risks_of(fitted: FittedEstimator) -> np.ndarray:
    return MORTALITY.targets.probabilities(fitted.logits(X))


@pytest.mark.parametrize(
    "unfitted",
    [
        LogisticRegression(),
        RandomForestClassifier(5),
        HistGradientBoostingClassifier(max_iter=5),
        GaussianNB(),
        make_pipeline(StandardScaler(), LogisticRegression()),
    ],
    ids=lambda each: type(each).__name__,
)
def test_risks_are_those_of_the_estimator_also_when_read_back(
    made: Callable[[Make], Any], unfitted: Any
) -> None:
    fitted = fit_estimator(settings(), made(lambda: unfitted), X, Y)
    np.testing.assert_allclose(risks_of(fitted), fitted.estimator.predict_proba(X)[:, 1], atol=1e-12)
    again = load_estimator(dump_estimator("a:make", fitted.estimator), unfitted, MORTALITY.targets)
    np.testing.assert_array_equal(again.logits(X), fitted.logits(X))


def test_certain_risks_are_finite_logits(made: Callable[[Make], Any]) -> None:
    fitted = fit_estimator(settings(), made(lambda: KNeighborsClassifier(1)), X, Y)
    assert np.isfinite(fitted.logits(X)).all()
    np.testing.assert_allclose(risks_of(fitted), Y, atol=1e-100)


def test_a_margin_is_the_logit(made: Callable[[Make], Any]) -> None:
    fitted = fit_estimator(settings(), made(LinearSVC), X, Y)
    margin = fitted.estimator.decision_function(X)
    np.testing.assert_allclose(risks_of(fitted), 1 / (1 + np.exp(-margin)))


def test_the_seed_is_given_to_parts_that_have_none(made: Callable[[Make], Any]) -> None:
    assert made(RandomForestClassifier).random_state == 7
    assert made(lambda: RandomForestClassifier(random_state=3)).random_state == 3
    pipeline = made(lambda: make_pipeline(StandardScaler(), RandomForestClassifier()))
    assert pipeline[-1].random_state == 7


def test_class_weights_are_those_of_the_settings(made: Callable[[Make], Any]) -> None:
    weighted = settings(class_weights=[0.2, 1.0])
    fitted = fit_estimator(weighted, made(LogisticRegression), X, Y)
    expected = LogisticRegression(class_weight={0: 0.2, 1: 1.0}).fit(X, Y)
    np.testing.assert_allclose(fitted.estimator.coef_, expected.coef_, rtol=1e-3)
    with pytest.raises(UsageError, match="KNeighborsClassifier takes no weights"):
        fit_estimator(weighted, made(KNeighborsClassifier), X, Y)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: 3, "returns a int; return an unfitted estimator"),
        (LinearRegression, "LinearRegression has neither predict_proba nor decision_function"),
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: make_pipeline(FunctionTransformer(lambda x: x), GaussianNB()), "cannot be saved"),
    ],
)
def test_what_is_no_estimator_is_refused(made: Callable[[Make], Any], function: Make, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        made(function)


def test_a_fit_that_fails_is_told_in_one_line(made: Callable[[Make], Any]) -> None:
    with pytest.raises(UsageError, match="InvalidParameterError"):
        fit_estimator(settings(), made(lambda: RandomForestClassifier(max_depth=-1)), X, Y)


class Theirs(ClassifierMixin, BaseEstimator):
    """An estimator of another package than those that a file may hold."""

    def fit(self, x: Any, y: Any) -> Theirs:
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, x: Any) -> Any:
        return np.full((len(x), 2), 0.5)


def test_a_file_holds_only_types_of_the_packages_that_the_code_uses() -> None:
    content = dump_estimator("a:make", Theirs().fit(X, Y))
    assert load_estimator(content, Theirs(), MORTALITY.targets).logits(X).shape == (90, 2)
    with pytest.raises(ValueError, match=r"holds .*Theirs, of another package"):
        load_estimator(content, LogisticRegression(), MORTALITY.targets)
    other = dump_estimator("a:make", LogisticRegression().fit(X, Y))
    with pytest.raises(ValueError, match="holds a LogisticRegression"):
        load_estimator(other, GaussianNB(), MORTALITY.targets)


def test_a_function_in_a_file_is_not_read_nor_called() -> None:
    content = dump_estimator("a:make", FunctionTransformer(np.log1p))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    schema = entries["schema.json"]
    assert b"log1p" in schema
    # The same file with a function of the operating system.
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, part in (entries | {"schema.json": _replaced(schema)}).items():
            archive.writestr(name, part)
    with pytest.raises(ValueError, match=r"system"):
        load_estimator(file.getvalue(), FunctionTransformer(), MORTALITY.targets)


def _replaced(schema: bytes) -> bytes:
    return schema.replace(b'"log1p"', b'"system"').replace(b'"numpy"', b'"os"')


def test_a_compressed_file_is_refused() -> None:
    content = dump_estimator("a:make", GaussianNB().fit(X, Y))
    file = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as whole,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    with pytest.raises(ValueError, match="compressed|larger than the file"):
        load_estimator(file.getvalue(), GaussianNB(), MORTALITY.targets)
