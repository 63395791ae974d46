"""Test whether training stays differ from trusted ones, without knowing which stays are poisoned.

Trusted stays of the suspected label set every detector's threshold. If no stay is poisoned, and all stays are
independent and from one source, a training stay of that label is as likely to lie above the threshold as a
new trusted stay, and the number of stays above it follows a beta-binomial distribution exactly, whatever the
distribution of the scores. Copies of stays are not independent: they raise false alarms. The share of the
suspected label is compared, too, because poisoned stays are given that label. An excess that chance does not
explain is evidence of poisoning, or of another difference between training and trusted stays. All these tests
share one correction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import betabinom, fisher_exact

FALSE_ALARMS = 0.05
"""Share of clean stays that a detector's threshold flags in expectation."""
TOP = 0.01
"""Share of clean stays above the higher threshold at which detectors are compared."""
ALARM, WEAK = 0.01, 0.05
"""Probability of any alarm, and of any sign, if no stay is poisoned and all tests are exact."""
LEAST_EXCESS = 0.015
"""Smallest excess for an alarm, as a share of the stays of the suspected label: a smaller difference can come
from anything, however certain it is."""
MISSES = 0.05
"""Probability that any interval misses the truth."""
FEWEST_TRUSTED = 19
"""Fewest trusted stays of the suspected label for a threshold with a share of `FALSE_ALARMS`."""


@dataclass(frozen=True)
class OwnTest:
    """A test that a detector makes itself, instead of the count above a threshold.

    Attributes:
        threshold: score above which the detector flags a stay.
        p_value: probability of such a finding if no stay is poisoned.
    """

    threshold: float
    p_value: float


@dataclass(frozen=True)
class Alarm:
    """The test of one detector: how many training stays lie above its threshold.

    Attributes:
        threshold: score above which a stay is flagged.
        flagged: number of flagged training stays of the suspected label.
        expected: expected number of flagged stays if none is poisoned.
        p_value: probability of at least `flagged` stays if none is poisoned, or of the detector's own test.
        adjusted: `p_value` after Holm's correction for the number of tests.
        poisoned: estimated number of poisoned stays among the flagged ones.
        low: lower end of the interval of `poisoned`; the intervals of all detectors together hold at 95%.
        high: upper end of that interval.
        excess: `poisoned` as a share of the training stays of the suspected label.
    """

    threshold: float
    flagged: int
    expected: float
    p_value: float
    adjusted: float
    poisoned: float
    low: float
    high: float
    excess: float

    @property
    def raised(self) -> bool:
        """Whether the excess is large enough to matter, and more than chance explains."""
        return _raised(self.adjusted, self.excess)


@dataclass(frozen=True)
class LabelShare:
    """How often training stays and trusted stays have the suspected label.

    Attributes:
        training: number of training stays with the suspected label.
        training_stays: number of all training stays.
        trusted: number of trusted stays with the suspected label.
        trusted_stays: number of all trusted stays.
        p_value: probability of so large an excess among the training stays if both groups come from one
            source (Fisher's exact test, one-sided).
        adjusted: `p_value` after Holm's correction for the number of tests.
    """

    training: int
    training_stays: int
    trusted: int
    trusted_stays: int
    p_value: float
    adjusted: float

    @property
    def raised(self) -> bool:
        """Whether the excess is large enough to matter, and more than chance explains."""
        expected = self.trusted / self.trusted_stays * self.training_stays
        return _raised(self.adjusted, 1 - expected / self.training)


def _raised(adjusted: float, excess: float) -> bool:
    return adjusted < ALARM and excess >= LEAST_EXCESS


@dataclass(frozen=True)
class Verdict:
    """All tests of the training stays against the trusted ones.

    Attributes:
        share: test of the share of the suspected label.
        alarms: test of every detector that trusted stays can calibrate, by the detector's name.
        leading: name of the detector that ranks the suspects: the one with the largest `excess_at_top` among
            the detectors that raise an alarm, or among all if none does.
        clearest: the same name; None if no detector raises an alarm.
    """

    share: LabelShare
    alarms: dict[str, Alarm]
    leading: str
    clearest: str | None

    @property
    def p_value(self) -> float:
        """Probability that any test gives so small a p-value if no stay is poisoned (Bonferroni)."""
        return min(self.share.adjusted, *(alarm.adjusted for alarm in self.alarms.values()), 1.0)


def judge(
    scores: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
    training: NDArray[np.int64],
    trusted: NDArray[np.int64],
    label: int,
    own: Mapping[str, OwnTest] | None = None,
) -> Verdict:
    """Test the training stays against the trusted ones.

    Args:
        scores: by detector, the scores [K] of the training stays of the suspected label, and the scores [L]
            of the trusted stays of that label ([0] if the detector cannot judge trusted stays).
        training: labels [N] of the training stays.
        trusted: labels [M] of the trusted stays.
        label: the suspected label.
        own: the tests that detectors made themselves, by detector.

    Returns:
        All tests, with p-values after Holm's correction.
    """
    share = _label_share(training == label, trusted == label)
    calibrated = {name: pair for name, pair in scores.items() if len(pair[1]) >= FEWEST_TRUSTED}
    tests = own or {}
    alarms = {
        name: alarm_of(*pair, MISSES / len(calibrated), tests.get(name)) for name, pair in calibrated.items()
    }
    share_p, *adjusted = _holm([share.p_value, *(alarm.p_value for alarm in alarms.values())])
    alarms = {
        name: replace(alarm, adjusted=p) for (name, alarm), p in zip(alarms.items(), adjusted, strict=True)
    }
    raised = [name for name, alarm in alarms.items() if alarm.raised]
    leading = max(raised or scores, key=lambda name: excess_at_top(*scores[name]))
    return Verdict(replace(share, adjusted=share_p), alarms, leading, leading if raised else None)


def excess_at_top(training: NDArray[np.float64], trusted: NDArray[np.float64]) -> float:
    """Count the training stays beyond expectation above the threshold that 1% of clean stays exceed.

    All detectors look for the same poisoned stays. So the detector with the largest excess is, as far as one
    can tell without the truth, the one that finds most of them at 1% false positives.

    Args:
        training: scores [K] of the training stays of the suspected label.
        trusted: scores [L] of the trusted stays of that label.

    Returns:
        The excess in stays; minus infinity if there are no trusted stays to compare with.
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
    """Return the p-values after Holm's correction, in the same order."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1.0)
    return [float(p) for p in adjusted]


def alarm_of(
    training: NDArray[np.float64], trusted: NDArray[np.float64], error: float, own: OwnTest | None
) -> Alarm:
    """Test the scores of one detector.

    Args:
        training: scores [K] of the training stays of the suspected label.
        trusted: scores [L] of the trusted stays of that label.
        error: probability that the interval of the poisoned stays misses the truth.
        own: the detector's own test, if it makes one.

    Returns:
        The test; `adjusted` is not corrected yet.
    """
    if own is None:
        above = int((len(trusted) + 1) * FALSE_ALARMS)
        threshold = float(np.sort(trusted)[-above])
    else:
        threshold = own.threshold
        above = int((trusted > threshold).sum()) + 1
    flagged, stays = int((training > threshold).sum()), len(training)
    by_chance = betabinom(stays, above, len(trusted) + 1 - above)
    low, high = (_beyond(flagged, by_chance.ppf(at), stays) for at in (1 - error / 2, error / 2))
    p_value = float(by_chance.sf(flagged - 1)) if own is None else own.p_value
    poisoned = _beyond(flagged, by_chance.mean(), stays)
    return Alarm(
        threshold, flagged, float(by_chance.mean()), p_value, p_value, poisoned, low, high, poisoned / stays
    )


def _beyond(flagged: int, false_alarms: float, stays: int) -> float:
    """Estimate how many flagged stays are poisoned, from the false alarms if no stay were poisoned."""
    # Poisoned stays raise no false alarms: flagged = poisoned + false_alarms * (stays - poisoned) / stays.
    if false_alarms >= stays:
        return 0.0
    return float(max(0.0, (flagged - false_alarms) / (1 - false_alarms / stays)))
