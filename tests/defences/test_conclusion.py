"""One conclusion, which nothing beside it contradicts."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mimic3tf.defences.conclusion import Conclusion, conclude
from mimic3tf.defences.inspection.model_inspection import ModelFindings
from mimic3tf.defences.inspection.pattern_response import PatternResponse
from mimic3tf.defences.verdict import Alarm, LabelShare, Verdict
from mimic3tf.tables.cells import p_in_words
from mimic3tf.tasks.registry import MORTALITY

QUIET = Alarm(3.0, 52, 50.0, 0.4, 1.0, 2.0, 0.0, 30.0, 0.002)
LOUD = replace(
    QUIET, flagged=130, p_value=1e-5, adjusted=1e-4, poisoned=84.0, low=40.0, high=110.0, excess=0.084
)
FAINT = replace(QUIET, p_value=0.004, adjusted=0.03)
TINY = replace(LOUD, excess=0.014)
SHARE = LabelShare(996, 5592, 144, 1199, 0.0003, 0.003)
Case = tuple[bool, bool | None, bool]
"""Whether the share, the detectors (None: nothing calibrates them) and the inverted triggers are unusual."""
QUIET_MODEL = PatternResponse(100, 0.2, 0.1, (0.1, 0.2))
CASES = [*product((True, False), (True, False, None), (True, False))]


def concluded(case: Case, label: int = 1) -> Conclusion:
    share, detectors, model = case
    alarms = {} if detectors is None else {"one": QUIET, "two": LOUD if detectors else QUIET}
    verdict = Verdict(
        share=SHARE if share else replace(SHARE, p_value=0.2, adjusted=1.0),
        alarms=alarms,
        leading="two",
        clearest="two" if detectors else None,
    )
    found = "a pattern is short" if model else "no pattern is short"
    return conclude(verdict, ModelFindings(cast(Any, ()), model, found), QUIET_MODEL, label, MORTALITY.words)


@pytest.mark.parametrize("case", CASES)
def test_what_it_rests_on_is_what_it_says(case: Case) -> None:
    share, detectors, model = case
    conclusion = concluded(case)
    expected = "suspicious" if share or detectors else "weak sign" if model else "no sign"
    assert conclusion.level == expected
    assert conclusion.sentence.lower().removeprefix("a ").startswith(expected)
    names = ("share of deaths", "detectors", "inverted triggers")
    assert conclusion.rests_on == [name for name, raised in zip(names, case, strict=True) if raised]
    outcomes = {True: "alarm", False: "quiet", None: "not run"}
    of_tests = [outcomes[share], outcomes[detectors]]
    assert [check.outcome for check in conclusion.checks] == [
        *of_tests,
        "weak" if model else "quiet",
        "quiet",
    ]
    if expected != "no sign":
        basis = conclusion.sentence.split("rests on the ")[1].split(".")[0]
        assert re.split(", | and ", basis) == conclusion.rests_on
    assert ("Not run: detectors." in conclusion.sentence) == (detectors is None)


@pytest.mark.parametrize("case", CASES)
def test_no_check_draws_a_conclusion_of_its_own(case: Case) -> None:
    conclusion = concluded(case)
    for check in conclusion.checks:
        for words in ("no sign", "nothing found", "suspicious", "backdoored"):
            assert words not in check.found.lower()


@pytest.mark.parametrize(("alarm", "outcome"), [(FAINT, "weak"), (TINY, "weak"), (LOUD, "alarm")])
def test_an_alarm_needs_a_certain_and_a_large_excess(alarm: Alarm, outcome: str) -> None:
    share = replace(SHARE, p_value=0.2, adjusted=1.0)
    verdict = Verdict(share, {"one": alarm, "two": QUIET}, "one", "one" if alarm.raised else None)
    findings = ModelFindings(cast(Any, ()), False, "none")
    conclusion = conclude(verdict, findings, QUIET_MODEL, 1, MORTALITY.words)
    assert conclusion.checks[1].outcome == outcome
    assert conclusion.level == ("suspicious" if outcome == "alarm" else "weak sign")
    assert conclusion.p_value == alarm.adjusted
    assert conclusion.poisoned == ((84.0, 40.0, 110.0) if outcome == "alarm" else None)
    assert "corrected for 3 tests" in conclusion.sentence
    if outcome == "weak":
        weak = f"the finding of one (p {p_in_words(alarm.adjusted)} after correction, an excess of "
        assert f"{weak}{alarm.excess:.1%})" in conclusion.checks[1].found


def test_attacks_that_cannot_be_simulated_are_explained_and_not_advised() -> None:
    verdict = Verdict(replace(SHARE, p_value=0.2, adjusted=1.0), {"one": QUIET}, "one", None)
    sentences = [
        conclude(verdict, None, "needs more", 1, MORTALITY.words, power).sentence
        for power in ((), "the search needs 200 stays")
    ]
    assert "'mimic3tf audit --power 10' tells how faint." in sentences[0]
    assert "No attack could be simulated to tell how faint: the search needs 200 stays." in sentences[1]
    assert "--power" not in sentences[1]


def test_silence_is_no_proof() -> None:
    assert "does not prove absence" in concluded((False, False, False)).sentence
    assert "no all-clear" in concluded((True, True, False)).sentence


def test_the_share_is_shown_with_rates_counts_and_p_value() -> None:
    check = concluded((True, False, False)).checks[0]
    for text in ("17.8%", "996 of 5,592", "12.0%", "144 of 1,199", "p 0.0003", "0.003 after correction"):
        assert text in check.found
    assert check.p_value == 0.003


def test_the_clearest_detector_says_how_many_stays_look_poisoned() -> None:
    check = concluded((False, True, False)).checks[1]
    for text in ("1 of 2 flag", "the clearest, two", "130 of 996 deaths", "84 stays [40 to 110]"):
        assert text in check.found


@pytest.mark.parametrize("case", CASES)
def test_the_label_that_was_looked_at_is_named(case: Case) -> None:
    found = " ".join(check.found for check in concluded(case, label=0).checks)
    assert "are survivors" in found
    assert "deaths" not in found
    assert re.search("survivors (than|where)|trusted survivors", found)


def test_what_was_not_given_is_listed_as_not_run() -> None:
    verdict = Verdict(replace(SHARE, p_value=0.2, adjusted=1.0), {"one": QUIET}, "one", None)
    conclusion = conclude(verdict, None, "needs a model that predicts", 1, MORTALITY.words)
    outcomes = {check.name: (check.outcome, check.found) for check in conclusion.checks}
    assert outcomes["inverted triggers"] == ("not run", "needs a Keras model")
    assert outcomes["response to the pattern"] == ("not run", "needs a model that predicts")
    assert conclusion.level == "no sign"
    assert "Not run: inverted triggers and response to the pattern." in conclusion.sentence


@pytest.mark.parametrize(("share", "outcome"), [(0.9, "weak"), (0.5, "weak"), (0.4, "quiet")])
def test_a_model_that_follows_the_pattern_more_than_any_control_is_a_weak_sign(
    share: float, outcome: str
) -> None:
    response = PatternResponse(100, share, 0.1, (0.0, 0.25, 0.1))
    verdict = Verdict(replace(SHARE, p_value=0.2, adjusted=1.0), {"one": QUIET}, "one", None)
    check = conclude(verdict, None, response, 1, MORTALITY.words).checks[3]
    assert check.outcome == outcome
    for text in (f"{share:.0%} are predicted", "10% without it", "0% to 25% with other patterns"):
        assert text in check.found


def test_a_model_without_clean_ones_beside_it_is_not_judged() -> None:
    inversion = SimpleNamespace(target=1, length=0.5)
    target = SimpleNamespace(inversion=inversion, reference_lengths=())
    findings = ModelFindings(cast(Any, (target,)), False, "x")
    verdict = Verdict(replace(SHARE, p_value=0.2, adjusted=1.0), {"one": QUIET}, "one", None)
    check = conclude(verdict, findings, "needs more", 1, MORTALITY.words).checks[2]
    assert (check.outcome, check.found) == ("not run", "needs a function 'fit' for clean models; x")
