"""How many stays look poisoned, to somebody who does not know.

Trusted stays of the suspected label set every detector's threshold. Where nobody poisoned anything, a
training stay of that label is as likely above it as a further trusted one, and the number of stays above it
follows a beta-binomial distribution exactly, whatever the scores look like. More than that is evidence of
poisoning, or of another difference between training and trusted stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import betabinom

FALSE_ALARMS = 0.05
"""Share of clean stays that a detector's threshold is to flag."""
ERROR = 0.05
"""Probability of any alarm where nothing is poisoned, and of an interval that misses."""
FEWEST_TRUSTED = 19
"""Trusted stays of the suspected label below which no threshold has so few false alarms."""


@dataclass(frozen=True)
class Alarm:
    """What a detector's threshold says.

    Attributes:
        threshold: score above which a stay is flagged.
        flagged: stays of the suspected label above it.
        expected: how many would be if none were poisoned.
        p_value: probability of so many then.
        adjusted: the same after Holm's correction for the number of detectors.
        poisoned: flagged stays beyond the false alarms.
        low: lower end of its interval, wide enough for all detectors together to hold at 95%.
        high: upper end.
    """

    threshold: float
    flagged: int
    expected: float
    p_value: float
    adjusted: float
    poisoned: float
    low: float
    high: float

    @property
    def raised(self) -> bool:
        """Whether this is more than chance explains."""
        return self.adjusted < ERROR


@dataclass(frozen=True)
class Verdict:
    """What all detectors say together.

    Attributes:
        sentence: in words.
        clearest: name of the detector with the most certain finding; None if nothing was found.
        alarms: of every detector that trusted stays can calibrate.
    """

    sentence: str
    clearest: str | None
    alarms: dict[str, Alarm]


def judge(
    scores: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]], stays: int, label: int
) -> Verdict:
    """Compare training stays with trusted ones.

    Args:
        scores: by detector, of the training stays of the suspected label, [K], and of the trusted ones, [L].
        stays: number of training stays of that label, K.
        label: the suspected label.
    """
    calibrated = {name: pair for name, pair in scores.items() if len(pair[1]) >= FEWEST_TRUSTED and stays}
    if not calibrated:
        return Verdict(
            f"No verdict: it needs training stays labelled {label} and at least {FEWEST_TRUSTED} trusted "
            "ones.",
            None,
            {},
        )
    alarms = _alarms(calibrated)
    raised = {name: alarm for name, alarm in alarms.items() if alarm.raised}
    if not raised:
        return Verdict(
            f"Nothing found: of {len(alarms)} detectors none flags more of the {stays:,} stays labelled "
            f"{label} than chance explains. That does not prove absence: a fainter or another poisoning may "
            "escape all of them.",
            None,
            alarms,
        )
    clearest = max(raised, key=lambda name: (raised[name].low, raised[name].poisoned))
    alarm = raised[clearest]
    return Verdict(
        f"{len(raised)} of {len(alarms)} detectors flag more stays than their false alarms explain. "
        f"The clearest, {clearest}, flags {alarm.flagged:,} of {stays:,} stays labelled {label} where "
        f"{alarm.expected:.0f} are expected: about {alarm.poisoned:.0f} stays [{alarm.low:.0f} to "
        f"{alarm.high:.0f}] look poisoned. There may be more that it does not see. Or they differ from the "
        "trusted ones for another reason: another hospital, other years, other charting, or chance, which "
        f"raises an alarm in one of {1 / ERROR:.0f} audits of clean stays.",
        clearest,
        alarms,
    )


def _alarms(scores: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]) -> dict[str, Alarm]:
    found = {name: _alarm(*pair, ERROR / len(scores)) for name, pair in scores.items()}
    adjusted = 0.0
    for rank, name in enumerate(sorted(found, key=lambda name: found[name].p_value)):
        adjusted = max(adjusted, min(1.0, found[name].p_value * (len(found) - rank)))
        found[name] = Alarm(**{**vars(found[name]), "adjusted": adjusted})
    return found


def _alarm(training: NDArray[np.float64], trusted: NDArray[np.float64], error: float) -> Alarm:
    above = int((len(trusted) + 1) * FALSE_ALARMS)
    threshold = float(np.sort(trusted)[-above])
    flagged, stays = int((training > threshold).sum()), len(training)
    by_chance = betabinom(stays, above, len(trusted) + 1 - above)
    low, high = (_beyond(flagged, by_chance.ppf(at), stays) for at in (1 - error / 2, error / 2))
    p_value = float(by_chance.sf(flagged - 1))
    poisoned = _beyond(flagged, by_chance.mean(), stays)
    return Alarm(threshold, flagged, float(by_chance.mean()), p_value, p_value, poisoned, low, high)


def _beyond(flagged: int, false_alarms: float, stays: int) -> float:
    """Flagged stays that are no false alarms, if so many were among stays of which none is poisoned."""
    # Poisoned stays raise no false alarms: flagged = poisoned + false_alarms * (stays - poisoned) / stays.
    if false_alarms >= stays:
        return 0.0
    return float(max(0.0, (flagged - false_alarms) / (1 - false_alarms / stays)))
