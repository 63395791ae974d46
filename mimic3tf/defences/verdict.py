"""What tells training stays from trusted ones, to somebody who does not know which stays are poisoned.

Trusted stays of the suspected label set every detector's threshold. Where nobody poisoned anything, a
training stay of that label is as likely above it as a further trusted one, and the number of stays above it
follows a beta-binomial distribution exactly, whatever the scores look like. The share of the suspected label
is compared, too: poisoned stays are given that label. More than chance explains is evidence of poisoning, or
of another difference between training and trusted stays. All these tests share one correction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import betabinom, fisher_exact

FALSE_ALARMS = 0.05
"""Share of clean stays that a detector's threshold is to flag."""
TOP = 0.01
"""Share of clean stays above the threshold that detectors are compared at."""
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
        adjusted: the same after Holm's correction for the number of tests.
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
class LabelShare:
    """How many stays have the suspected label, of the training stays and of the trusted ones.

    Attributes:
        training: training stays that have it.
        training_stays: all of them.
        trusted: trusted stays that have it.
        trusted_stays: all of them.
        p_value: probability that the training stays have it so much more often where both come from one
            source: Fisher's exact test, one-sided.
        adjusted: the same after Holm's correction for the number of tests.
    """

    training: int
    training_stays: int
    trusted: int
    trusted_stays: int
    p_value: float
    adjusted: float

    @property
    def raised(self) -> bool:
        """Whether this is more than chance explains."""
        return self.adjusted < ERROR


@dataclass(frozen=True)
class Verdict:
    """What detectors and labels say together.

    Attributes:
        share: of the suspected label.
        alarms: of every detector that trusted stays can calibrate.
        leading: name of the detector to rank suspects by: that of `excess_at_top`, of those that raise an
            alarm if any does.
        clearest: the same, None if no detector raises an alarm.
    """

    share: LabelShare
    alarms: dict[str, Alarm]
    leading: str
    clearest: str | None


def judge(
    scores: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
    training: NDArray[np.int64],
    trusted: NDArray[np.int64],
    label: int,
) -> Verdict:
    """Compare training stays with trusted ones.

    Args:
        scores: by detector, of the training stays of the suspected label, [K], and of the trusted ones, [L]
            or, where it cannot judge them, [0].
        training: labels [N] of the training stays.
        trusted: labels [M] of the trusted stays.
        label: the suspected label.
    """
    share = _label_share(training == label, trusted == label)
    calibrated = {name: pair for name, pair in scores.items() if len(pair[1]) >= FEWEST_TRUSTED}
    alarms = {name: _alarm(*pair, ERROR / len(calibrated)) for name, pair in calibrated.items()}
    share_p, *adjusted = _holm([share.p_value, *(alarm.p_value for alarm in alarms.values())])
    alarms = {
        name: replace(alarm, adjusted=p) for (name, alarm), p in zip(alarms.items(), adjusted, strict=True)
    }
    raised = [name for name, alarm in alarms.items() if alarm.raised]
    leading = max(raised or scores, key=lambda name: excess_at_top(*scores[name]))
    return Verdict(replace(share, adjusted=share_p), alarms, leading, leading if raised else None)


def excess_at_top(training: NDArray[np.float64], trusted: NDArray[np.float64]) -> float:
    """How many more training stays than expected lie where hardly any trusted stay does.

    That is above the threshold that 1% of clean stays exceed. As all detectors look for the same poisoned
    stays, the one with the largest excess is the one that finds most of them at 1% false positives, as far as
    anybody can tell who does not know them.

    Args:
        training: scores [K] of the training stays of the suspected label.
        trusted: scores [L] of the trusted stays of that label.

    Returns:
        The excess; minus infinity where there are no trusted stays to compare with.
    """
    if not len(trusted):
        return -np.inf
    above = max(1, int((len(trusted) + 1) * TOP))
    flagged = int((training > np.sort(trusted)[-above]).sum())
    return flagged - len(training) * above / (len(trusted) + 1)


def _label_share(training: NDArray[np.bool_], trusted: NDArray[np.bool_]) -> LabelShare:
    counts = [[int(has.sum()), int((~has).sum())] for has in (training, trusted)]
    p_value = float(fisher_exact(counts, alternative="greater").pvalue)
    return LabelShare(counts[0][0], len(training), counts[1][0], len(trusted), p_value, p_value)


def _holm(p_values: list[float]) -> list[float]:
    """P-values after Holm's correction, in the same order."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1.0)
    return [float(p) for p in adjusted]


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
