"""Draw one conclusion from all checks of an audit, in words, and name the checks it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mimic3tf.defences.inspection.model_inspection import ModelFindings
from mimic3tf.defences.inspection.pattern_response import PatternResponse
from mimic3tf.defences.power import Power
from mimic3tf.defences.verdict import (
    ALARM,
    FEWEST_TRUSTED,
    LEAST_EXCESS,
    WEAK,
    Alarm,
    LabelShare,
    Verdict,
)
from mimic3tf.tables.cells import p_in_words
from mimic3tf.tasks.task import Words

Level = Literal["suspicious", "weak sign", "no sign"]
Outcome = Literal["alarm", "weak", "quiet", "not run"]
SOUND = "if the stays are independent and from one source"
"""What the rates of false alarms need."""


@dataclass(frozen=True)
class Check:
    """One check of an audit.

    Attributes:
        name: what was checked.
        outcome: `alarm` if a test is significant and the excess large enough to matter; `weak` if a test is
            less certain, or if the check has no known rate of false alarms; `quiet` if nothing is unusual;
            `not run` if the check was not possible.
        found: the finding in words.
        p_value: probability of such a finding in clean stays, after Holm's correction for all tests of the
            audit; None if the check made no test.
    """

    name: str
    outcome: Outcome
    found: str
    p_value: float | None


@dataclass(frozen=True)
class Conclusion:
    """What an audit concludes.

    Attributes:
        level: `suspicious` if a check raises an alarm; `weak sign` if a check is weak; `no sign` otherwise.
        sentence: the level in words, with the checks that it rests on.
        p_value: probability that the tests of an audit find as much in clean stays, corrected for their
            number (Bonferroni).
        poisoned: estimated number of poisoned stays, and its interval; None without an alarm of a detector.
        checks: all checks of the audit.
    """

    level: Level
    sentence: str
    p_value: float
    poisoned: tuple[float, float, float] | None
    checks: tuple[Check, ...]

    def __str__(self) -> str:
        return self.sentence

    @property
    def rests_on(self) -> list[str]:
        """Names of the checks that speak for poisoning."""
        return [check.name for check in self.checks if check.outcome in ("alarm", "weak")]


def conclude(
    verdict: Verdict,
    findings: ModelFindings | None,
    response: PatternResponse | str,
    label: int,
    words: Words,
    power: Sequence[Power] | str = (),
    *,
    needed: str = "a Keras model",
) -> Conclusion:
    """Draw a conclusion from the tests of the training stays and the inspection of the model.

    Args:
        verdict: tests of the training stays against the trusted stays.
        findings: findings of the model inspection; None if the model cannot be differentiated.
        response: how the model answers the pattern of the training stays, or what is needed to ask it.
        label: the suspected label.
        words: the words of the task for its labels.
        power: how often simulated attacks were found, none if nobody asked; or what simulations need.
        needed: what the model inspection needs, if it could not be made.

    Returns:
        The level, the sentence, the p-value, the estimated number of poisoned stays, and the checks.
    """
    checks = (
        _share_check(verdict.share, words.group[label]),
        _detectors_check(verdict, words.group[label]),
        _inversion_check(findings, needed),
        _response_check(response),
    )
    clearest = None if verdict.clearest is None else verdict.alarms[verdict.clearest]
    outcomes = [check.outcome for check in checks]
    level: Level = "no sign"
    if "alarm" in outcomes:
        level = "suspicious"
    elif "weak" in outcomes:
        level = "weak sign"
    chance = f"p {p_in_words(verdict.p_value)}, corrected for {1 + len(verdict.alarms)} tests"
    sentence = _sentence(level, checks, chance, clearest, power)
    poisoned = None if clearest is None else (clearest.poisoned, clearest.low, clearest.high)
    return Conclusion(level, sentence, verdict.p_value, poisoned, checks)


def _sentence(
    level: Level, checks: Sequence[Check], chance: str, clearest: Alarm | None, power: Sequence[Power] | str
) -> str:
    alarm, weak, quiet, unable = (
        [check.name for check in checks if check.outcome == outcome]
        for outcome in ("alarm", "weak", "quiet", "not run")
    )
    nothing = f" Nothing unusual is seen in the {_listed(quiet)}, which is no all-clear." if quiet else ""
    if level == "suspicious":
        sentence = (
            f"Suspicious ({chance}): the training stays differ from the trusted ones as poisoned stays "
            "would. "
            + ("" if clearest is None else f"{_estimated(clearest)} look poisoned. ")
            + f"This rests on the {_listed(alarm + weak)}.{nothing} Other reasons look the same: another "
            "hospital, other years, other charting, copies of stays, or chance, which raises such an alarm "
            f"in one of {1 / ALARM:.0f} audits of clean stays at most, {SOUND}."
        )
    elif level == "weak sign":
        sentence = (
            f"A weak sign of poisoned stays or of a backdoor ({chance}). This rests on the {_listed(weak)}. "
            f"Clean stays and models show such a sign, too: one in {1 / WEAK:.0f} audits of clean stays has "
            f"a p below {WEAK:g}, {SOUND}, and how often clean models fail the checks of the model is not "
            f"known.{nothing}"
        )
    else:
        sentence = (
            f"No sign of poisoned stays or of a backdoor ({chance}): nothing unusual is seen in the "
            f"{_listed(quiet)}. This does not prove absence: a fainter or another poisoning can escape them. "
            + _missed(power)
        )
    return sentence + (f" Not run: {_listed(unable)}." if unable else "")


def _missed(power: Sequence[Power] | str) -> str:
    """Say which simulated attacks would have been found."""
    if isinstance(power, str):
        return f"No attack could be simulated to tell how faint: {power}."
    if not power:
        return "'mimic3tf audit --power 10' tells how faint."
    found = [
        f"{each.found} of {each.simulated} at strength {each.strength:g} on {each.share:.0%} of the stays"
        for each in power
    ]
    return f"Of simulated attacks, the search for a common pattern found {_listed(found)}."


def _outcome(tests: Sequence[Alarm | LabelShare]) -> Outcome:
    if any(test.raised for test in tests):
        return "alarm"
    return "weak" if any(test.adjusted < WEAK for test in tests) else "quiet"


def _share_check(share: LabelShare, group: str) -> Check:
    found = (
        f"{share.training / share.training_stays:.1%} of the training stays are {group} "
        f"({share.training:,} of {share.training_stays:,}), "
        f"{share.trusted / share.trusted_stays:.1%} of the trusted ones "
        f"({share.trusted:,} of {share.trusted_stays:,}); p {p_in_words(share.p_value)}, "
        f"{p_in_words(share.adjusted)} after correction (Fisher's exact test, one-sided)"
    )
    return Check(f"share of {group}", _outcome([share]), found, share.adjusted)


def _detectors_check(verdict: Verdict, group: str) -> Check:
    alarms = verdict.alarms
    if not alarms:
        needs = f"they need at least {FEWEST_TRUSTED} trusted {group}"
        return Check("detectors", "not run", needs, None)
    tests = list(alarms.values())
    lowest = min(alarm.adjusted for alarm in tests)
    if verdict.clearest is None:
        found = (
            f"none of {len(alarms)} flags more of the {verdict.share.training:,} {group} than "
            f"chance explains (with an error of {ALARM:.0%}, and an excess of at least {LEAST_EXCESS:.1%})"
        )
        faint = [
            f"{name} (p {p_in_words(alarm.adjusted)} after correction, an excess of {alarm.excess:.1%})"
            for name, alarm in alarms.items()
            if alarm.adjusted < WEAK
        ]
        if faint:
            found += f"; less certain or smaller is the finding of {_listed(faint)}"
    else:
        raised = sum(alarm.raised for alarm in tests)
        clearest = _counted(alarms[verdict.clearest], verdict.share.training, group)
        found = (
            f"{raised} of {len(alarms)} flag more stays than chance explains; the clearest, "
            f"{verdict.clearest}, flags {clearest}. There may be more that it does not see"
        )
    return Check("detectors", _outcome(tests), found, lowest)


def _inversion_check(findings: ModelFindings | None, needed: str) -> Check:
    name = "inverted triggers"
    if findings is None:
        return Check(name, "not run", f"needs {needed}", None)
    if not findings.compared:
        return Check(name, "not run", f"needs a function 'fit' for clean models; {findings.in_words}", None)
    return Check(name, "weak" if findings.looks_backdoored else "quiet", findings.in_words, None)


def _response_check(response: PatternResponse | str) -> Check:
    name = "response to the pattern"
    if isinstance(response, str):
        return Check(name, "not run", response, None)
    return Check(name, "weak" if response.follows else "quiet", response.in_words, None)


def _counted(alarm: Alarm, stays: int, group: str) -> str:
    return (
        f"{alarm.flagged:,} of {stays:,} {group} where {alarm.expected:.0f} are expected: "
        f"{_estimated(alarm).lower()} look poisoned"
    )


def _estimated(alarm: Alarm) -> str:
    return f"About {alarm.poisoned:.0f} stays [{alarm.low:.0f} to {alarm.high:.0f}]"


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
