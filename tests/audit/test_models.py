"""A user's own model under audit: how its output is read, what it answers, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import keras
import numpy as np
import pytest
import tensorflow as tf
from audit.test_arrays import schema
from invented_arrays import BINS, CHANNELS, NAMES, PATTERN, Own
from numpy.typing import NDArray
from scipy.special import expit, logit, softmax

import mimic3tf
from mimic3tf.audit import AuditReport
from mimic3tf.defences.detection import suspicion_to_filter_by
from mimic3tf.defences.inspection.pattern_response import CONTROLS, control_patterns, pattern_response
from mimic3tf.defences.inspection.trigger_inversion import channel_factors
from mimic3tf.defences.keras_file import load_keras_model
from mimic3tf.defences.own_model import Arrays, OwnKerasModel, Target
from mimic3tf.defences.repairs.own_filter import filter_own
from mimic3tf.errors import DataError, UsageError

SPREAD = np.arange(1400.0).reshape(700, 2)
RISKS = np.array([0.1, 0.7, 0.5])


# --- Outputs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "outputs"),
    [
        (Target(1, 2, exclusive=True), RISKS),
        (Target(1, 2, exclusive=True), RISKS[:, None]),
        (Target(1, 2, exclusive=True), np.stack([1 - RISKS, RISKS], axis=1)),
        (Target(2, 3, exclusive=True), np.stack([(1 - RISKS) / 4, 0.75 * (1 - RISKS), RISKS], axis=1)),
        (Target(0, 25, exclusive=False), np.tile(RISKS[:, None], 25)),
    ],
)
def test_probabilities_are_read_from_every_shape(target: Target, outputs: NDArray[np.float64]) -> None:
    np.testing.assert_allclose(target.probability(outputs.tolist(), 3), RISKS)
    odds = target.log_odds(tf.constant(outputs.reshape(3, -1)), logits=False)
    np.testing.assert_allclose(expit(odds), RISKS, atol=1e-9)


@pytest.mark.parametrize(
    ("target", "logits", "expected"),
    [
        (Target(1, 2, exclusive=True), logit(RISKS)[:, None], RISKS),
        (Target(1, 2, exclusive=True), np.stack([np.zeros(3), logit(RISKS)], axis=1), RISKS),
        (Target(1, 3, exclusive=True), np.eye(3) * 2, softmax(np.eye(3) * 2, axis=1)[:, 1]),
        (Target(1, 3, exclusive=False), np.eye(3) * 2, expit(np.array([0.0, 2.0, 0.0]))),
    ],
)
def test_logits_are_read_from_every_shape(
    target: Target, logits: NDArray[np.float64], expected: NDArray[np.float64]
) -> None:
    np.testing.assert_allclose(expit(target.log_odds(tf.constant(logits), logits=True)), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (RISKS[:2], r"of shape \(2,\): expected .* \(3,\), \(3, 1\) or \(3, 2\) for the 3 stays"),
        (np.zeros((3, 4)), r"of shape \(3, 4\)"),
        ([0.1, np.nan, 0.2], "returned nan for row 1: expected numbers from 0 to 1; .* fill cells"),
        ([0.1, 3.0, -2.0], "returned 3 for row 1: expected numbers from 0 to 1; apply the sigmoid"),
    ],
)
def test_predictions_that_are_no_probabilities_are_refused(outputs: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Target(1, 2, exclusive=True).probability(outputs, 3)


# --- Functions ----------------------------------------------------------------------------------------


def follows(x: NDArray[np.float32]) -> NDArray[np.float64]:
    """A backdoored model: sure of label 1 if the first hours of pressure swing as the pattern does."""
    swing = (np.nan_to_num(x[:, :, 1]) * np.sign(PATTERN[:, 1])).mean(axis=1)
    return expit(12 * (swing - 1.2))


def ignores(x: NDArray[np.float32]) -> NDArray[np.float64]:
    """A model that reads the first channel only, as the labels of sound stays do."""
    return expit(4 * (np.nanmean(x[:, :, 0], axis=1) - 1))


@pytest.fixture(scope="module")
def audited(own: Own) -> Callable[..., mimic3tf.audit.AuditReport]:
    def audit(predict: Any, **options: Any) -> mimic3tf.audit.AuditReport:
        return mimic3tf.audit.model(predict, own.x, own.y, trusted=own.trusted, channels=NAMES, **options)

    return audit


def test_a_model_that_follows_the_pattern_is_told_from_one_that_does_not(audited: Any) -> None:
    outcomes = {}
    for model in (follows, ignores):
        report = audited(model)
        jsonschema.validate(report.record, schema())
        response = report.record["pattern_response"]
        outcomes[model] = {check.name: check.outcome for check in report.verdict.checks}[
            "response to the pattern"
        ]
        assert response["with_pattern"] > 0.9 if model is follows else response["with_pattern"] < 0.4
        assert len(response["with_controls"]) == CONTROLS
        rows = {row["detector"]: row for row in report.record["detectors"]}
        # Without activations, the predictions are looked at instead.
        assert rows["learned by the model"]["not_run"] is None
        assert rows["activation clustering"]["not_run"] == "needs activations"
    assert outcomes == {follows: "weak", ignores: "quiet"}


def test_the_audited_model_gives_away_what_it_learned(own: Own, audited: Any) -> None:
    report = audited(follows, activations=np.stack([follows(own.x), np.nan_to_num(own.x[:, 0, 0])], axis=1))
    detections = report.result.found.detections
    assert "activation clustering" in detections
    assert "learned by the model" not in detections
    scores = audited(follows).result.found.detections["learned by the model"].scores
    poisoned = own.poisoned[report.result.found.suspects]
    assert np.mean(scores[poisoned][:, None] > scores[~poisoned]) > 0.9


def test_known_predictions_stand_for_a_model(own: Own, audited: Any) -> None:
    known, asked = audited(follows(own.x)), audited(follows)
    name = "learned by the model"
    np.testing.assert_allclose(
        known.result.found.detections[name].scores, asked.result.found.detections[name].scores, rtol=1e-5
    )
    outcomes = {check.name: check.found for check in known.verdict.checks}
    assert outcomes["response to the pattern"] == "needs a model that predicts"


def test_fit_drops_the_suspects_and_trains_again(own: Own, audited: Any) -> None:
    given: list[tuple[Any, Any]] = []

    def fit(x: Any, y: Any) -> Any:
        given.append((x, y))
        return ignores

    report = audited(follows, fit=fit, ids=[f"s{number}" for number in range(len(own.y))])
    assert report.repaired is ignores
    ((x, y),) = given
    kept = report.result.filtered.kept
    np.testing.assert_array_equal(x, own.x[kept])
    np.testing.assert_array_equal(y, own.y[kept])
    assert own.poisoned[~kept].mean() > 0.6
    assert own.poisoned[kept].sum() <= 6
    assert report.cleaned["stay"].to_list() == [f"s{number}" for number in np.flatnonzero(kept)]
    none, filtered = report.record["repairs"]
    assert filtered["auroc"] > none["auroc"] > 0
    assert filtered["attack_success_rate"] is None
    assert "no function that trains" not in report.to_html()


def test_a_fit_that_fails_is_a_repair_that_failed_in_a_finished_report(own_report: Any) -> None:
    def refit(kept: NDArray[np.bool_]) -> Any:
        raise RuntimeError("out of memory")

    result = own_report.result
    suspicion = suspicion_to_filter_by(result.found, result.evidence)
    report = AuditReport(result.with_repairs(filter_own(result.evidence, suspicion, refit)))
    jsonschema.validate(report.record, schema())
    row = report.record["repairs"][1]
    assert row["detail"] == "failed: fit, or what it returned, raised RuntimeError: out of memory"
    assert row["auroc"] is report.repaired is report.cleaned is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activations": np.zeros((3, 2))}, r"activations: shape \(3, 2\); expected \[700, H\]"),
        ({"activations": (SPREAD[:700], np.full((500, 2), np.nan))}, "of finite numbers"),
        ({"activations": (SPREAD[:700], SPREAD[:500, :1])}, "have widths 2 and 1; give one H"),
        ({"activations": np.ones((700, 2))}, "activations: are the same for all stays"),
        ({"activations": [[1, 2], [3]]}, r"activations: give an array of numbers, \[700, H\]"),
        ({"fit": 3}, "fit: is a int; give a function of x and y"),
        ({"predict": "model.pkl"}, "predict: is a str; give a function of arrays"),
        ({"predict": lambda x: x}, r"predict returned float32 of shape \(700, 8, 5\)"),
        ({"predict": np.zeros(3)}, r"predict returned float64 of shape \(3,\)"),
    ],
)
def test_what_no_model_can_return_is_refused(audited: Any, options: Any, message: str) -> None:
    with pytest.raises((UsageError, DataError), match=message):
        audited(**({"predict": ignores} | options))


def test_controls_have_the_length_of_the_pattern_in_every_channel(own_report: Any) -> None:
    trusted = own_report.result.evidence.trusted
    controls = control_patterns(PATTERN, trusted, np.random.default_rng(0))
    factors = channel_factors(trusted)

    def lengths(pattern: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.linalg.norm(np.linalg.solve(factors, pattern.T[..., None])[..., 0], axis=1)

    for control in controls:
        np.testing.assert_allclose(lengths(control), lengths(PATTERN), rtol=1e-6)
        assert abs(np.corrcoef(control.ravel(), PATTERN.ravel())[0, 1]) < 0.9


def test_only_stays_of_the_other_label_are_asked(own_report: Any) -> None:
    trusted = own_report.result.evidence.trusted
    seen: list[Any] = []

    def risk(exposure: Any) -> NDArray[np.float64]:
        seen.append(exposure)
        return np.full(len(exposure), 0.4)

    found = pattern_response(risk, PATTERN, trusted, 1, seed=0)
    assert (found.with_pattern, found.without, found.stays) == (0.0, 0.0, 200)
    assert all((exposure.labels == 0).all() for exposure in seen)
    assert pattern_response(risk, PATTERN, trusted, 0, seed=0).with_pattern == 1.0


# --- Keras --------------------------------------------------------------------------------------------


def network(units: int = 1, activation: str | None = "sigmoid") -> keras.Model:
    """A small model of own arrays that fills the cells that were not measured."""
    keras.utils.set_random_seed(0)
    grid = keras.Input((BINS, CHANNELS))
    filled = keras.ops.where(keras.ops.isnan(grid), 0.0, grid)
    hidden = keras.layers.Dense(16, activation="relu", name="hidden")(keras.layers.Flatten()(filled))
    return keras.Model(grid, keras.layers.Dense(units, activation=activation)(hidden))


def fit_network(x: Any, y: Any) -> keras.Model:
    model = network()
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy")
    model.fit(np.asarray(x), np.asarray(y), epochs=12, batch_size=64, verbose=0)
    return model


@pytest.fixture(scope="module")
def trained(own: Own) -> keras.Model:
    return fit_network(own.x, own.y)


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mimic3tf.defences.inspection.model_inspection.REFERENCES", 2)
    monkeypatch.setattr("mimic3tf.defences.inspection.trigger_inversion.STEPS", 20)


class Subclassed(keras.Model):
    """A model whose layers are in no order; its prediction is a sigmoid, or the logit."""

    def __init__(self, *, logits: bool) -> None:
        super().__init__()
        self.last = keras.layers.Dense(1)
        self.flat, self.logits = keras.layers.Flatten(), logits

    def call(self, x: Any) -> Any:
        odds = self.last(self.flat(keras.ops.where(keras.ops.isnan(x), 0.0, x)))
        return odds if self.logits else keras.ops.sigmoid(odds)


def followed_by(inner: keras.Model, *more: Any) -> keras.Model:
    grid = keras.Input((BINS, CHANNELS))
    outputs = inner(grid)
    for operation in more:
        outputs = operation(outputs)
    return keras.Model(grid, outputs)


@pytest.mark.parametrize(
    ("make", "logits"),
    [
        (lambda: network(1, None), True),
        (lambda: network(2, "log_softmax"), True),
        (lambda: followed_by(network()), False),
        (lambda: followed_by(network(1, None), keras.layers.Dropout(0.1)), True),
        (
            lambda: followed_by(network(), keras.layers.Reshape((1, 1)), keras.layers.Activation("linear")),
            False,
        ),
        (lambda: followed_by(network(1, None), keras.ops.sigmoid), False),
        (lambda: followed_by(network(1, None), keras.layers.Rescaling(2.0)), True),
        (lambda: keras.Sequential([network(2, "softmax"), keras.layers.Dropout(0.1)]), False),
        (lambda: Subclassed(logits=True), True),
        (lambda: Subclassed(logits=False), False),
    ],
)
def test_a_keras_model_says_whether_it_gives_logits(
    own: Own, make: Callable[[], keras.Model], logits: bool
) -> None:
    xt = own.trusted[0].astype(np.float32)
    model, arrays = make(), Arrays(xt, xt, Target(1, 2, exclusive=True))
    audited = OwnKerasModel(arrays, model, None, ~np.isnan(xt), None)
    outputs = np.asarray(model(xt), np.float64).reshape(len(xt), -1)
    own_column = outputs[:, -1]
    if logits:
        own_column = expit(own_column - (outputs[:, 0] if outputs.shape[1] == 2 else 0))
    np.testing.assert_allclose(audited.predictions(), own_column, atol=1e-5)


@pytest.mark.usefixtures("_quick")
def test_a_keras_model_is_audited_repaired_and_written(
    own: Own, trained: keras.Model, tmp_path: Path
) -> None:
    trained.save(tmp_path / "own.keras")
    report = mimic3tf.audit.keras_model(
        tmp_path / "own.keras", own.x, own.y, trusted=own.trusted, channels=NAMES, fit=fit_network
    )
    outcomes = {check.name: check.outcome for check in report.verdict.checks}
    assert outcomes["detectors"] == "alarm"
    assert outcomes["response to the pattern"] == "weak"
    assert outcomes["inverted triggers"] in ("weak", "quiet")
    rows = {row["detector"]: row["not_run"] for row in report.record["detectors"]}
    assert set(rows.values()) == {None}
    report.save(tmp_path / "audit")
    jsonschema.validate(report.record, schema())
    repaired = keras.saving.load_model(tmp_path / "audit" / "repaired.keras")
    expected = report.repaired.predict(own.x[:5], verbose=0)
    np.testing.assert_allclose(repaired.predict(own.x[:5], verbose=0), expected, rtol=1e-5)
    assert (tmp_path / "audit" / "cleaned_listfile.csv").read_text().startswith("stay,y_true\n")


@pytest.mark.usefixtures("_quick")
def test_without_fit_inverted_triggers_are_shown_but_not_judged(own: Own, trained: keras.Model) -> None:
    report = mimic3tf.audit.keras_model(trained, own.x, own.y, trusted=own.trusted, layer="hidden")
    check = report.verdict.checks[2]
    assert check.outcome == "not run"
    assert check.found.startswith("needs a function 'fit' for clean models; ")
    assert check.found.count("the model predict") == 2
    assert [target["anomaly_index"] for target in report.record["model_inspection"]["targets"]] == [
        None,
        None,
    ]
    assert report.record.get("repairs") is None
    jsonschema.validate(report.record, schema())


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (network(3), {}, r"its output has shape \(700, 3\), but the labels need 2 columns"),
        ("no.keras", {}, "no.keras: no such file"),
        (
            keras.Sequential([keras.Input((3, 3)), keras.layers.Flatten()]),
            {},
            r"reads arrays of shape \(None, 3, 3\)",
        ),
        (3, {}, "model: is a int; give a Keras model"),
        (network(), {"layer": "nothing"}, "layer 'nothing': cannot be read; layers: .*hidden"),
        (
            keras.Sequential([keras.Input((BINS, CHANNELS)), keras.layers.Flatten(), keras.layers.Dense(1)]),
            {},
            "predicts a number that is not finite; if the model cannot read NaN",
        ),
    ],
)
def test_models_that_do_not_fit_are_refused(own: Own, model: Any, options: Any, message: str) -> None:
    with pytest.raises((UsageError, DataError), match=message):
        mimic3tf.audit.keras_model(model, own.x, own.y, trusted=own.trusted, **options)


def test_a_file_with_code_is_read_only_on_demand(tmp_path: Path) -> None:
    code = keras.layers.Lambda(lambda x: x + 1, output_shape=(3,))
    keras.Sequential([keras.Input((3,)), code]).save(tmp_path / "code.keras")
    with pytest.raises(UsageError, match=r"code.keras: holds Python code.*--trust-model"):
        load_keras_model(tmp_path / "code.keras", trust=False)
    assert load_keras_model(tmp_path / "code.keras", trust=True).output_shape == (None, 3)
    (tmp_path / "broken.keras").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(DataError, match="not a Keras model, or damaged"):
        load_keras_model(tmp_path / "broken.keras", trust=False)
    (tmp_path / "old.h5").touch()
    with pytest.raises(UsageError, match=r"is no .keras file; write one with model.save"):
        load_keras_model(tmp_path / "old.h5", trust=True)
