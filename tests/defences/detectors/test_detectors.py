"""Every detector finds what is planted for it, and nothing where nothing was done."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mimic3tf.defences.detection import (
    DROPPED,
    Detection,
    DetectionResult,
    detect,
    suspicion_to_filter_by,
)
from mimic3tf.defences.detectors.registry import DETECTORS
from mimic3tf.defences.detectors.views import Scores
from mimic3tf.defences.evidence import Evidence
from mimic3tf.defences.scoring import auroc, measure, recall
from mimic3tf.defences.verdict import OwnTest, judge

OF_LABELS = {"unexpected death", "neighbours survived"}
"""Those that look for wrong labels only."""
TRAINED_ANEW = {"autoencoder", "confusion training"}
"""Those that take long, or go on from a victim that learned the labels."""
OF_GAPS = {"common gaps"}
"""Those that look for missing cells only."""


def _detectors(without: Set[str] = frozenset()) -> list[Any]:
    """Name all detectors but some; those that train a model take long."""
    return [
        pytest.param(name, marks=pytest.mark.slow) if name in TRAINED_ANEW else name
        for name in DETECTORS
        if name not in without
    ]


QUICK = ("activation clustering", "unexpected death", "Mahalanobis by channel")


@pytest.fixture(autouse=True)
def _short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these tests plant is obvious after a shorter training or search."""
    monkeypatch.setattr("mimic3tf.defences.detectors.autoencoder.EPOCHS", 12)
    monkeypatch.setattr("mimic3tf.defences.detectors.confusion_training.EPOCHS", 1)
    monkeypatch.setattr("mimic3tf.defences.detectors.confusion_training.CONFUSED", 1)
    monkeypatch.setattr("mimic3tf.defences.common_pattern.sound_stays.MODES", 4)
    monkeypatch.setattr("mimic3tf.defences.common_pattern.mixture.QUICK_STEPS", ((6, 4),))
    monkeypatch.setattr("mimic3tf.defences.common_pattern.mixture.STEPS", 5)


@cache
def scored(evidence: Evidence, name: str) -> Scores:
    """Scores of all stays at seed 0; once, as some detectors take seconds."""
    return DETECTORS[name].score(evidence, 0)


def found(planted: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the stays of the suspected label, and which of them are poisoned."""
    suspects = planted.evidence.labels == planted.evidence.suspected
    scores = scored(planted.evidence, name).training
    assert scores.shape == suspects.shape
    assert np.isfinite(scores).all()
    return scores[suspects], planted.poisoned[suspects]


@pytest.mark.parametrize("name", _detectors(OF_LABELS | OF_GAPS))
def test_an_obvious_trigger_is_found(triggered: Any, name: str) -> None:
    scores, poisoned = found(triggered, name)
    assert roc_auc_score(poisoned, scores) > 0.85


@pytest.mark.parametrize("name", sorted(OF_LABELS))
def test_survivors_labelled_1_are_found(mislabelled: Any, name: str) -> None:
    scores, poisoned = found(mislabelled, name)
    assert roc_auc_score(poisoned, scores) > 0.95


def swapped(planted: Any) -> Any:
    """The same stays and victim where 0 stands for 1 and 1 for 0: what is planted has the label 0."""
    evidence = planted.evidence
    trusted = evidence.trusted.with_grids(evidence.trusted.grids, labels=1 - evidence.trusted.labels)
    model = keras.models.clone_model(evidence.victim.network)
    model.set_weights(evidence.victim.network.get_weights())
    logits = model.get_layer("logits")
    logits.set_weights([weights[..., ::-1] for weights in logits.get_weights()])
    victim = replace(evidence.victim, model=model, trusted=trusted)
    mirrored = replace(evidence, labels=1 - evidence.labels, suspected=0, trusted=trusted, model=victim)
    return replace(planted, evidence=mirrored)


@pytest.fixture(scope="module")
def triggered_towards_0(triggered: Any) -> Any:
    return swapped(triggered)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in DETECTORS if name not in TRAINED_ANEW | OF_LABELS | OF_GAPS]
)
def test_an_obvious_trigger_is_found_among_stays_labelled_0(triggered_towards_0: Any, name: str) -> None:
    scores, poisoned = found(triggered_towards_0, name)
    assert len(scores) < 500  # few have the label, as few die
    assert roc_auc_score(poisoned, scores) > 0.85


@pytest.fixture(scope="module")
def mislabelled_as_0(mislabelled: Any) -> Any:
    return swapped(mislabelled)


@pytest.mark.parametrize("name", sorted(OF_LABELS))
def test_stays_labelled_0_by_mistake_are_found(mislabelled_as_0: Any, name: str) -> None:
    scores, poisoned = found(mislabelled_as_0, name)
    assert roc_auc_score(poisoned, scores) > 0.95


@pytest.mark.parametrize("name", sorted(OF_GAPS))
def test_stays_that_lack_the_same_cells_are_found(untouched: Any, name: str) -> None:
    random = np.random.default_rng(0)
    evidence, trusted = untouched.evidence, untouched.evidence.trusted
    masks, theirs = (random.random(part.shape) < 0.9 for part in (evidence.masks, trusted.masks))
    suspects = np.flatnonzero(evidence.labels == evidence.suspected)
    poisoned = np.isin(np.arange(len(masks)), suspects[:40])
    masks[poisoned] &= random.random(masks.shape[1:]) < 0.5
    changed = replace(
        evidence, masks=masks, trusted=trusted.with_grids(trusted.grids, mask=theirs, labels=trusted.labels)
    )
    scores = DETECTORS[name].score(changed, 0)
    assert scores.test is not None
    assert scores.test.p_value < 0.001
    assert (scores.training > scores.test.threshold)[~poisoned].mean() < 0.01
    assert (scores.training > scores.test.threshold)[poisoned].mean() > 0.5
    assert roc_auc_score(poisoned[suspects], scores.training[suspects]) > 0.9


@pytest.mark.parametrize("name", _detectors())
def test_nothing_is_found_where_nothing_was_done(untouched: Any, name: str) -> None:
    scores, poisoned = found(untouched, name)
    assert 0.38 < roc_auc_score(poisoned, scores) < 0.62
    assert recall(scores[poisoned], scores[~poisoned], 0.05) < 0.15


@pytest.mark.parametrize("name", ["activation clustering", "model disagreement", "isolation forest"])
def test_the_same_seed_gives_the_same_scores(triggered: Any, name: str) -> None:
    first, second = (DETECTORS[name].score(triggered.evidence, 3) for _ in range(2))
    np.testing.assert_array_equal(first.training, second.training)
    if first.trusted is not None:
        np.testing.assert_array_equal(first.trusted, second.trusted)


@pytest.fixture
def _scored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Detectors give the scores of `scored`."""

    def score_of(name: str) -> Callable[[Evidence, int], Scores]:
        return lambda evidence, _: scored(evidence, name)

    detectors = {name: replace(detector, score=score_of(name)) for name, detector in DETECTORS.items()}
    monkeypatch.setattr("mimic3tf.defences.detection.DETECTORS", detectors)


@pytest.mark.slow
@pytest.mark.usefixtures("_scored_once")
def test_an_audit_says_how_many_stays_are_poisoned(triggered: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # So few trusted stays cannot make an alarm certain if many detectors are asked.
    names = ("common pattern", "moving pattern")
    monkeypatch.setattr("mimic3tf.defences.detection.DETECTORS", {name: DETECTORS[name] for name in names})
    verdict = detect(triggered.evidence, triggered.poisoned, 0).verdict
    assert verdict.clearest is not None
    alarm = verdict.alarms[verdict.clearest]
    assert alarm.low <= 15 <= alarm.high
    assert alarm.low > 0


@pytest.mark.usefixtures("_scored_once")
def test_an_audit_of_clean_stays_finds_nothing(untouched: Any) -> None:
    result = detect(untouched.evidence, np.zeros(1000, bool), 0)
    assert result.verdict.clearest is None
    assert not result.verdict.share.raised
    assert not any(alarm.raised for alarm in result.verdict.alarms.values())
    assert all(found.performance is None for found in result.detections.values())


def test_the_truth_changes_no_score_and_no_verdict(triggered: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mimic3tf.defences.detection.DETECTORS", {name: DETECTORS[name] for name in QUICK})
    truths = triggered.poisoned, ~triggered.poisoned
    one, other = (detect(triggered.evidence, truth, 0) for truth in truths)
    assert one.verdict == other.verdict
    for name, detection in one.detections.items():
        np.testing.assert_array_equal(detection.scores, other.detections[name].scores)


def test_what_is_found_of_label_0_is_what_is_found_of_label_1(
    triggered: Any, triggered_towards_0: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mimic3tf.defences.detection.DETECTORS", {name: DETECTORS[name] for name in QUICK})
    one, zero = (
        detect(of.evidence, of.poisoned, 0, all_detectors=True) for of in (triggered, triggered_towards_0)
    )
    np.testing.assert_array_equal(one.suspects, zero.suspects)
    assert one.verdict.alarms == zero.verdict.alarms
    assert one.verdict.clearest == zero.verdict.clearest == "Mahalanobis by channel"
    assert one.verdict.share == zero.verdict.share
    (suspicion,) = suspicion_to_filter_by(zero, triggered_towards_0.evidence).values()
    assert (triggered_towards_0.evidence.labels[np.isfinite(suspicion.scores)] == 0).all()
    assert DROPPED <= suspicion.dropped < 3 * DROPPED


def test_a_filter_drops_all_above_the_trusted_stays_if_the_detector_makes_its_own_test() -> None:
    scores, trusted = np.r_[np.full(30, 5.0), np.linspace(-9, 0, 70)], np.linspace(-9, 0, 200)
    own = OwnTest(0.0, 0.001)
    labels = np.r_[np.ones(100, np.int64), np.zeros(300, np.int64)]
    verdict = judge({"own": (scores, trusted)}, labels, labels[:250], 1, {"own": own})
    found = DetectionResult(np.arange(100), {"own": Detection(scores, trusted, 1.0, None, own)}, {}, verdict)
    suspicion = suspicion_to_filter_by(found, SimpleNamespace(stays=labels.astype(str)))["own"]  # type: ignore[arg-type]
    assert suspicion.dropped == 31 / 400  # 30 of them, and the highest of the others
    assert np.argsort(-suspicion.scores, kind="stable")[:30].tolist() == list(range(30))
    assert (suspicion.scores[:100] > -1).sum() == 31
    assert verdict.alarms["own"].p_value == 0.001
    assert verdict.alarms["own"].flagged == 30


def test_a_filter_drops_what_any_detector_with_an_alarm_suspects() -> None:
    found_by_own = np.r_[np.full(30, 5.0), np.linspace(-9, 0, 70)]
    trusted, own = np.linspace(-9, 0, 200), OwnTest(0.0, 0.001)
    # The second detector sees the last 40 stays, the third one nothing.
    others = {"other": np.r_[np.linspace(-9, 0, 60), np.full(40, 7.0)], "quiet": np.linspace(-9, 0, 100)}
    labels = np.r_[np.ones(100, np.int64), np.zeros(300, np.int64)]
    scores = {"own": (found_by_own, trusted)} | {name: (each, trusted) for name, each in others.items()}
    verdict = judge(scores, labels, labels[:250], 1, {"own": own})
    assert [name for name, alarm in verdict.alarms.items() if alarm.raised] == ["own", "other"]
    detections = {
        name: Detection(of, known, 1.0, None, own if name == "own" else None)
        for name, (of, known) in scores.items()
    }
    found = DetectionResult(np.arange(100), detections, {}, verdict)
    suspicion = suspicion_to_filter_by(found, SimpleNamespace(stays=labels.astype(str)))["all alarms"]  # type: ignore[arg-type]
    dropped = np.flatnonzero(suspicion.scores > -1)
    # 30 stays and one more by the first detector's test, and a tenth of all 400 stays by the second one.
    assert set(range(30)) | set(range(60, 100)) <= set(dropped.tolist())
    assert len(dropped) <= 31 + 40
    assert suspicion.dropped == len(dropped) / 400


# --- Scoring ------------------------------------------------------------------------------------------


def test_auroc_is_that_of_scikit_learn_with_ties() -> None:
    random = np.random.default_rng(0)
    scores, poisoned = random.integers(0, 6, 200).astype(float), random.random(200) < 0.3
    expected = roc_auc_score(poisoned, scores)
    assert auroc(scores[poisoned], scores[~poisoned]) == pytest.approx(expected)


def test_recall_counts_what_lies_above_the_allowed_false_positives() -> None:
    clean = np.arange(100.0)
    # One clean stay of 100 may be flagged: the threshold is the second highest, 98. Of 5%, it is 94.
    assert recall(np.array([98.0, 98.5, 200.0, 1.0]), clean, 0.01) == 0.5
    assert recall(np.array([94.0, 94.5, 200.0, 1.0]), clean, 0.05) == 0.5


def test_intervals_hold_what_was_measured() -> None:
    random = np.random.default_rng(1)
    poisoned = np.arange(300) < 60
    performance = measure(random.normal(size=300) + poisoned, poisoned)
    assert performance is not None
    for estimate in vars(performance).values():
        assert estimate.low <= estimate.value <= estimate.high
    # Of a shift by one standard deviation the AUROC is 0.76.
    assert performance.auroc.low < 0.76 < performance.auroc.high
    assert performance.auroc.high - performance.auroc.low < 0.2
