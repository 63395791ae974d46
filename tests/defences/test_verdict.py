"""A verdict without the truth is wrong as rarely as it says."""

from __future__ import annotations

import numpy as np
import pytest

from mimic3tf.defences.verdict import judge

STAYS, TRUSTED = 600, 150


def test_clean_stays_raise_an_alarm_once_in_twenty_audits() -> None:
    random = np.random.default_rng(0)
    alarms = 0
    for _ in range(120):
        pairs = {name: (random.exponential(size=STAYS), random.exponential(size=TRUSTED)) for name in "ab"}
        alarms += judge(pairs, STAYS, 1).clearest is not None
    assert 1 <= alarms <= 12  # 6 expected at most


def test_the_interval_holds_the_number_of_poisoned_stays() -> None:
    random = np.random.default_rng(1)
    held, spans = 0, []
    for _ in range(80):
        scores = random.normal(size=STAYS)
        scores[:90] += 9.0
        alarm = judge({"a": (scores, random.normal(size=TRUSTED))}, STAYS, 1).alarms["a"]
        assert alarm.raised
        held += alarm.low <= 90 <= alarm.high
        spans.append(alarm.poisoned)
    assert held >= 72
    assert np.mean(spans) == pytest.approx(90, abs=3)


def test_thresholds_and_counts_are_those_of_a_worked_case() -> None:
    trusted = np.arange(1.0, 20.0)  # 19 stays: the highest is the threshold
    scores = np.concatenate([np.zeros(80), np.full(20, 50.0)])
    alarm = judge({"a": (scores, trusted)}, 100, 1).alarms["a"]
    assert alarm.threshold == 19.0
    assert alarm.flagged == 20
    assert alarm.expected == pytest.approx(5.0)
    # 20 = poisoned + 0.05 * (100 - poisoned)
    assert alarm.poisoned == pytest.approx(15 / 0.95)
    # All orders of 19 trusted and 100 training stays are equally likely: 20 of the latter on top have the
    # chance that the 20 highest of all are none of the trusted.
    assert alarm.p_value == pytest.approx(np.prod([(100 - i) / (119 - i) for i in range(20)]))


def test_holm_multiplies_by_the_detectors_that_are_left() -> None:
    random = np.random.default_rng(2)
    pairs = {str(i): (random.normal(size=STAYS) + i / 4, random.normal(size=TRUSTED)) for i in range(4)}
    alarms = judge(pairs, STAYS, 1).alarms
    ordered = sorted(alarms.values(), key=lambda alarm: alarm.p_value)
    expected = np.maximum.accumulate([alarm.p_value * (4 - i) for i, alarm in enumerate(ordered)])
    assert [alarm.adjusted for alarm in ordered] == pytest.approx(np.minimum(expected, 1.0))


@pytest.mark.parametrize("trusted", [0, 18])
def test_too_few_trusted_stays_give_no_verdict(trusted: int) -> None:
    verdict = judge({"a": (np.ones(50), np.ones(trusted))}, 50, 1)
    assert verdict.alarms == {}
    assert verdict.clearest is None
    assert verdict.sentence.startswith("No verdict")


def test_ties_raise_no_alarm() -> None:
    assert judge({"a": (np.ones(STAYS), np.ones(TRUSTED))}, STAYS, 1).clearest is None


@pytest.mark.parametrize("label", [0, 1])
def test_every_sentence_names_the_label_that_was_looked_at(label: int) -> None:
    random = np.random.default_rng(3)
    clean, trusted = random.normal(size=STAYS), random.normal(size=TRUSTED)
    poisoned = clean + 9.0 * (np.arange(STAYS) < 90)
    sentences = [
        judge({"a": (scores, calibration)}, STAYS, label).sentence
        for scores, calibration in ((poisoned, trusted), (clean, trusted), (clean, trusted[:5]))
    ]
    assert [sentence.split()[0] for sentence in sentences] == ["1", "Nothing", "No"]
    for sentence in sentences:
        assert f"stays labelled {label}" in sentence
        assert f"labelled {1 - label}" not in sentence
