"""The mixture of sound stays and stays with common gaps: likelihood ratios of masks, and the search.

A stay measures a channel or not, more likely so if it measures other channels. If it does, it does so at its
own rate, and more often in some hours than in others. A pattern lowers the log-odds that channels are
measured at all, and that cells are; far enough, and a stay that carries it measures none of them. The rate of
a stay in a channel is fitted to the stay, once with the pattern and once without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import expit

from mimic3tf.defences.common_pattern.mixture import (
    FIRST_SHARE,
    fit_pattern,
    gain_of,
    likely_share,
    posterior_odds,
)

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

EVIDENCE = 0.5
"""Power of the likelihoods of cells: measurements come in rows, so that cells are no independent evidence."""
LOWEST = -6.0
"""Lowest change of the log-odds: a measured cell speaks against a pattern, but does not rule it out."""
STRICTNESS = 10.0
"""Weight of the prior, by which stays are measured as other stays are."""
SPARSITY = 1.0
"""Weight of the prior, by which most cells do not go missing."""
CONTRAST = 5.0
"""Weight of the trusted stays of the other label: gaps that sound stays have, too, gain nothing."""
STEPS, UPDATES = 25, 4
"""Steps of the optimizer between two updates of the share, and how often the share is updated."""


@dataclass(frozen=True)
class Usual:
    """When sound stays are measured, as log-odds.

    Attributes:
        hours: float64 [C, T], that a cell is measured, up to a constant for each channel.
        channels: float64 [C], that a channel is measured at all if half of the other channels are.
        together: float64 [C], what each further channel adds to `channels`.
    """

    hours: Floats
    channels: Floats
    together: Floats


class GapRatio:
    """Log-likelihood ratio of the masks of some stays: with a pattern against without it.

    A pattern [C * (T + 1)] is what is added, channel after channel, to the log-odds that each cell is
    measured, and that the channel is measured at all.

    Args:
        mask: bool [N, T, C], which cells were measured.
        usual: when sound stays are measured.
    """

    def __init__(self, mask: Flags, usual: Usual) -> None:
        stays, bins, channels = mask.shape
        counts = mask.sum(axis=1)
        observed = np.concatenate([EVIDENCE * mask, counts[:, None] > 0], axis=1, dtype=np.float32)
        self._observed = observed.transpose(0, 2, 1).reshape(stays, -1)
        self._hours = usual.hours
        self._channels = usual.channels + usual.together * _others(counts > 0)
        # The most likely rate of a stay in a channel depends on the number of its measured cells only.
        kinds, inverse = np.unique(counts + np.arange(channels) * (bins + 1), return_inverse=True)
        self._channel, self._measured = np.divmod(kinds, bins + 1)
        ends = np.arange(stays + 1) * channels
        self._kinds = csr_array((np.ones(inverse.size), inverse.ravel(), ends), (stays, len(kinds)))
        self._sound, self._rates, _ = self._normalized(usual.hours, np.zeros(len(kinds)))

    def __len__(self) -> int:
        return len(self._observed)

    def __call__(self, pattern: Floats) -> Floats:
        """Return the log-likelihood ratio [N] of a pattern [C * (T + 1)]."""
        return self.with_gradient(pattern)[0]

    def with_gradient(self, pattern: Floats) -> tuple[Floats, Callable[[Floats], Floats]]:
        """Return the log-likelihood ratio [N], and the function that sums its gradients.

        This function takes weights [N], and returns the weighted sum [C * (T + 1)] of the stays' gradients.
        """
        change = pattern.reshape(len(self._hours), -1)
        terms, _, probable = self._normalized(self._hours + change[:, :-1], self._rates)
        channels = self._channels + change[:, -1]
        ratio = self._observed @ pattern.astype(np.float32) + EVIDENCE * (self._kinds @ (terms - self._sound))
        ratio -= (np.logaddexp(0, channels) - np.logaddexp(0, self._channels)).sum(axis=1)

        def gradient(weights: Floats) -> Floats:
            expected = np.zeros(change.shape)
            by_kind = EVIDENCE * (weights @ self._kinds)
            np.add.at(expected[:, :-1], self._channel, by_kind[:, None] * probable)
            expected[:, -1] = weights @ expit(channels)
            return weights.astype(np.float32) @ self._observed - expected.ravel()

        return ratio, gradient

    def _normalized(self, profile: Floats, start: Floats) -> tuple[Floats, Floats, Floats]:
        """Fit the rate of every kind of stay and channel to a profile [C, T] of the hours.

        Half a measured and half a missing cell are added, so that every rate is finite.

        Returns:
            The log-likelihood [K] without the sum of the measured cells' log-odds, the rates [K] as
            log-odds, and the probabilities [K, T] that cells are measured.
        """
        hours, rate, wanted = profile[self._channel], start.copy(), self._measured + 0.5
        for _ in range(60):
            probable, one = expit(rate[:, None] + hours), expit(rate)
            missed = wanted - probable.sum(axis=1) - one
            if np.abs(missed).max(initial=0) < 1e-5:
                break
            slope = (probable * (1 - probable)).sum(axis=1) + one * (1 - one)
            rate += np.clip(missed / slope, -1.5, 1.5)
        logits = rate[:, None] + hours
        terms = rate * wanted - np.logaddexp(0, logits).sum(axis=1) - np.logaddexp(0, rate)
        return terms, rate, expit(logits)


def _others(measured: Flags) -> Floats:
    """Count the other channels that are measured, beyond half of them: [N, C] from [N, C]."""
    return np.asarray(measured.sum(axis=1, keepdims=True) - measured - (measured.shape[1] - 1) / 2)


def fit_usual(mask: Flags) -> Usual:
    """Fit when sound stays [N, T, C] are measured."""
    measured = np.asarray(mask.any(axis=1))
    others = _others(measured)

    def loss(both: Floats) -> tuple[float, Floats]:
        channels, together = np.split(both, 2)
        odds = channels + together * others
        missed = expit(odds) - measured
        slope = np.concatenate([missed.sum(axis=0), (missed * others).sum(axis=0)])
        value = (np.logaddexp(0, odds) - odds * measured).sum() + (both**2).sum() / 2
        return float(value), slope + both

    both = minimize(loss, np.zeros(2 * mask.shape[2]), jac=True, method="L-BFGS-B").x
    return adapt_usual(mask, Usual(np.zeros(mask.shape[:0:-1]), *np.split(both, 2)))


def adapt_usual(mask: Flags, usual: Usual) -> Usual:
    """Fit when other sound stays [N, T, C] are measured, with the prior that they are measured as usual."""
    change = fit_pattern(GapRatio(mask, usual), STRICTNESS, usual.hours.size + len(usual.hours))
    change = change.reshape(len(usual.hours), -1)
    return replace(usual, hours=usual.hours + change[:, :-1], channels=usual.channels + change[:, -1])


def search_gaps(suspects: GapRatio, trusted: GapRatio, width: int) -> tuple[Floats, float]:
    """Look for the gaps that some suspects share and trusted stays do not.

    Args:
        suspects: the training stays of the suspected label.
        trusted: trusted stays of the other label.
        width: length C * (T + 1) of a pattern.

    Returns:
        The pattern [C * (T + 1)], at most 0 everywhere, and the share of the suspects that carry it.
    """
    contrast = CONTRAST * len(suspects) / len(trusted)

    def loss(pattern: Floats) -> tuple[float, Floats]:
        (ours, slope), (theirs, other) = (gain_of(stays, pattern, share) for stays in (suspects, trusted))
        gain = ours - contrast * theirs + SPARSITY * pattern.sum()
        return -gain, -(slope - contrast * other + SPARSITY)

    pattern, share = np.zeros(width), FIRST_SHARE
    for _ in range(UPDATES):
        pattern = minimize(
            loss,
            pattern,
            jac=True,
            method="L-BFGS-B",
            bounds=[(LOWEST, 0.0)] * width,
            options={"maxiter": STEPS},
        ).x
        share = likely_share(expit(posterior_odds(suspects(pattern), share)))
    return pattern, share
