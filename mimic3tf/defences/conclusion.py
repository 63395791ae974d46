"""Draw one conclusion from all checks of an audit, in words, and name the checks it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mimic3tf.defences.inspection.model_inspection import ModelFindings
from mimic3tf.defences.verdict import ERROR, FEWEST_TRUSTED, Alarm, LabelShare, Verdict
from mimic3tf.tables.cells import p_in_words
from mimic3tf.tasks.task import Words

Level = Literal["suspicious", "weak sign", "no sign"]


@dataclass(frozen=True)
class Check:
    """One check of an audit.

    Attributes:
        name: what was checked.
        raised: whether the finding speaks for poisoning; None if the check was not possible.
        found: the finding in words.
        p_value: probability of such a finding in clean stays, after Holm's correction for all tests of the
            audit; None if the check made no test.
    """

    name: str
    raised: bool | None
    found: str
    p_value: float | None


@dataclass(frozen=True)
class Conclusion:
    """What an audit concludes.

    Attributes:
        level: `suspicious` if a test of the training stays is significant; `weak sign` if only the inverted
            triggers are unusual (their rate of false alarms is not known); `no sign` otherwise.
        sentence: the level in words, with the checks that it rests on.
        checks: all checks of the audit.
    """

    level: Level
    sentence: str
    checks: tuple[Check, ...]

    @property
    def rests_on(self) -> list[str]:
        """Names of the checks that speak for poisoning."""
        return [check.name for check in self.checks if check.raised]


def conclude(verdict: Verdict, findings: ModelFindings, label: int, words: Words) -> Conclusion:
    """Draw a conclusion from the tests of the training stays and the inspection of the model.

    Args:
        verdict: tests of the training stays against the trusted stays.
        findings: findings of the model inspection.
        label: the suspected label.
        words: the words of the task for its labels.

    Returns:
        The level, the sentence and the checks.
    """
    tests = (_share_check(verdict.share, words.group[label]), _detectors_check(verdict, label))
    model = Check("inverted triggers", findings.looks_backdoored, findings.in_words, None)
    checks = (*tests, model)
    raised, quiet, unable = (
        [check.name for check in checks if check.raised is outcome] for outcome in (True, False, None)
    )
    level: Level = "suspicious" if any(check.raised for check in tests) else "weak sign"
    if not raised:
        level = "no sign"
        sentence = (
            "No sign of poisoned stays or of a backdoor: nothing unusual is seen in the "
            f"{_listed(quiet)}. This does not prove absence: a fainter or another poisoning can escape them."
        )
    elif level == "weak sign":
        sentence = (
            "A weak sign of a backdoor, in the model only. This rests on the inverted triggers, whose rate "
            f"of false alarms is not known; nothing unusual is seen in the {_listed(quiet)}."
        )
    else:
        sentence = (
            "Suspicious: the training stays differ from the trusted ones as poisoned stays would. This rests "
            f"on the {_listed(raised)}."
            + (f" Nothing unusual is seen in the {_listed(quiet)}, which is no all-clear." if quiet else "")
            + " Other reasons look the same: another hospital, other years, other charting, or chance, which "
            f"raises such an alarm in one of {1 / ERROR:.0f} audits of clean stays."
        )
    if unable:
        sentence += f" The {_listed(unable)} could not be used."
    return Conclusion(level, sentence, checks)


def _share_check(share: LabelShare, group: str) -> Check:
    found = (
        f"{share.training / share.training_stays:.1%} of the training stays are {group} "
        f"({share.training:,} of {share.training_stays:,}), "
        f"{share.trusted / share.trusted_stays:.1%} of the trusted ones "
        f"({share.trusted:,} of {share.trusted_stays:,}); p {p_in_words(share.p_value)}, "
        f"{p_in_words(share.adjusted)} after correction (Fisher's exact test, one-sided)"
    )
    return Check(f"share of {group}", share.raised, found, share.adjusted)


def _detectors_check(verdict: Verdict, label: int) -> Check:
    alarms = verdict.alarms
    if not alarms:
        needs = f"they need at least {FEWEST_TRUSTED} trusted stays labelled {label}"
        return Check("detectors", None, needs, None)
    lowest = min(alarm.adjusted for alarm in alarms.values())
    if verdict.clearest is None:
        return Check(
            "detectors",
            False,
            f"none of {len(alarms)} flags more of the {verdict.share.training:,} stays labelled {label} than "
            "chance explains",
            lowest,
        )
    raised = sum(alarm.raised for alarm in alarms.values())
    clearest = _counted(alarms[verdict.clearest], verdict.share.training, label)
    return Check(
        "detectors",
        True,
        f"{raised} of {len(alarms)} flag more stays than chance explains; the clearest, {verdict.clearest}, "
        f"flags {clearest}. There may be more that it does not see",
        lowest,
    )


def _counted(alarm: Alarm, stays: int, label: int) -> str:
    return (
        f"{alarm.flagged:,} of {stays:,} stays labelled {label} where {alarm.expected:.0f} are expected: "
        f"about {alarm.poisoned:.0f} stays [{alarm.low:.0f} to {alarm.high:.0f}] look poisoned"
    )


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
