"""A verdict without the truth is wrong as rarely as it says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import hypergeom

from mimic3tf.defences.scoring import recall
from mimic3tf.defences.verdict import Alarm, LabelShare, Verdict, judge

STAYS, TRUSTED = 600, 150
Scores = dict[str, tuple[np.ndarray, np.ndarray]]


def labels(with_it: int, stays: int) -> np.ndarray:
    return (np.arange(stays) < with_it).astype(np.int64)


def judged(scores: Scores) -> Verdict:
    """The verdict where as many trusted stays as training stays have the suspected label, in proportion."""
    training, trusted = next(iter(scores.values()))
    return judge(scores, labels(len(training), 4 * len(training)), labels(len(trusted), 4 * len(trusted)), 1)


def test_clean_stays_raise_an_alarm_once_in_twenty_audits() -> None:
    random = np.random.default_rng(0)
    alarms = 0
    for _ in range(120):
        died = random.random(4000) < 0.2
        training, trusted = died[:3000].astype(np.int64), died[3000:].astype(np.int64)
        pairs = {
            name: (random.exponential(size=training.sum()), random.exponential(size=trusted.sum()))
            for name in "ab"
        }
        verdict = judge(pairs, training, trusted, 1)
        alarms += verdict.share.raised or verdict.clearest is not None
    assert 1 <= alarms <= 12  # 6 expected at most


def test_the_interval_holds_the_number_of_poisoned_stays() -> None:
    random = np.random.default_rng(1)
    held, spans = 0, []
    for _ in range(80):
        scores = random.normal(size=STAYS)
        scores[:90] += 9.0
        alarm = judged({"a": (scores, random.normal(size=TRUSTED))}).alarms["a"]
        assert alarm.raised
        held += alarm.low <= 90 <= alarm.high
        spans.append(alarm.poisoned)
    assert held >= 72
    assert np.mean(spans) == pytest.approx(90, abs=3)


def test_thresholds_and_counts_are_those_of_a_worked_case() -> None:
    trusted = np.arange(1.0, 20.0)  # 19 stays: the highest is the threshold
    scores = np.concatenate([np.zeros(80), np.full(20, 50.0)])
    alarm = judged({"a": (scores, trusted)}).alarms["a"]
    assert alarm.threshold == 19.0
    assert alarm.flagged == 20
    assert alarm.expected == pytest.approx(5.0)
    # 20 = poisoned + 0.05 * (100 - poisoned)
    assert alarm.poisoned == pytest.approx(15 / 0.95)
    # All orders of 19 trusted and 100 training stays are equally likely: 20 of the latter on top have the
    # chance that the 20 highest of all are none of the trusted.
    assert alarm.p_value == pytest.approx(np.prod([(100 - i) / (119 - i) for i in range(20)]))


def test_holm_multiplies_by_the_tests_that_are_left() -> None:
    random = np.random.default_rng(2)
    pairs = {str(i): (random.normal(size=STAYS) + i / 4, random.normal(size=TRUSTED)) for i in range(4)}
    verdict = judge(pairs, labels(STAYS, 3000), labels(TRUSTED, 800), 1)
    tests: list[LabelShare | Alarm] = [verdict.share, *verdict.alarms.values()]
    ordered = sorted(tests, key=lambda test: test.p_value)
    assert 0 < ordered.index(verdict.share) < 4
    expected = np.maximum.accumulate([test.p_value * (5 - i) for i, test in enumerate(ordered)])
    assert [test.adjusted for test in ordered] == pytest.approx(np.minimum(expected, 1.0))


@pytest.mark.parametrize("trusted", [0, 18])
def test_too_few_trusted_stays_calibrate_no_detector(trusted: int) -> None:
    verdict = judge({"a": (np.ones(50), np.ones(trusted))}, labels(50, 100), labels(trusted, 100), 1)
    assert verdict.alarms == {}
    assert verdict.clearest is None
    assert verdict.leading == "a"
    assert verdict.share.raised  # counts need no calibration


def test_ties_raise_no_alarm() -> None:
    assert judged({"a": (np.ones(STAYS), np.ones(TRUSTED))}).clearest is None


# --- The share of the suspected label -----------------------------------------------------------------


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize(("deaths", "raised"), [(996, True), (700, False), (500, False)])
def test_more_stays_of_the_suspected_label_than_chance_explains(
    label: int, deaths: int, raised: bool
) -> None:
    """Of 5,592 training stays so many have the label, of 1,199 trusted ones 144: 12.0%."""
    training, trusted = labels(deaths, 5592), labels(144, 1199)
    if label == 0:
        training, trusted = 1 - training, 1 - trusted
    scores = {"a": (np.zeros(deaths), np.zeros(144))}
    share = judge(scores, training, trusted, label).share
    counts = (share.training, share.training_stays, share.trusted, share.trusted_stays)
    assert counts == (deaths, 5592, 144, 1199)
    # As many or more of those that have the label are among the training stays, by drawing lots.
    assert share.p_value == pytest.approx(hypergeom(5592 + 1199, deaths + 144, 5592).sf(deaths - 1))
    assert share.raised == raised


# --- The clearest detector ----------------------------------------------------------------------------


def exponential(stays: int) -> np.ndarray:
    """Evenly spread quantiles: 5% lie above 3.0, 1% above 4.6."""
    return -np.log((np.arange(stays) + 0.5) / stays)


def test_the_clearest_detector_finds_most_where_hardly_any_trusted_stay_lies() -> None:
    """One detector lifts all poisoned stays above most clean ones, the other half of them above all."""
    poisoned, trusted = np.arange(STAYS) < 120, exponential(TRUSTED)
    clean = exponential(STAYS - 120)
    broad = np.concatenate([np.linspace(3.4, 4.0, 120), clean])
    sharp = np.concatenate([np.full(60, 20.0), exponential(60), clean])
    at_1 = [recall(scores[poisoned], scores[~poisoned], 0.01) for scores in (broad, sharp)]
    assert at_1 == pytest.approx([0.0, 0.5], abs=0.02)
    verdict = judged({"broad": (broad, trusted), "sharp": (sharp, trusted)})
    # At the threshold that raises alarms the broad one is surer of more stays.
    assert verdict.alarms["broad"].low > verdict.alarms["sharp"].low > 0
    assert verdict.clearest == verdict.leading == "sharp"


def test_a_detector_without_alarm_is_not_the_clearest() -> None:
    random = np.random.default_rng(4)
    clean = (random.normal(size=STAYS), random.normal(size=TRUSTED))
    verdict = judged({"clean": clean})
    assert (verdict.clearest, verdict.leading) == (None, "clean")
    found = (np.where(np.arange(STAYS) < 60, 9.0, clean[0]), clean[1])
    assert judged({"clean": clean, "found": found}).clearest == "found"
