"""The mixture of sound stays and stays with common gaps: likelihood ratios of masks, and the search.

A stay measures each channel at its own rate, and hours differ in how often they are measured. A pattern
lowers the log-odds that some cells are measured; far enough, and a stay that carries it measures none.
The rate of a stay in a channel is fitted to the stay, once with the pattern and once without it: how often a
stay is measured says nothing, only when. So a channel that stays lack altogether is not seen.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import expit

from mimic3tf.defences.common_pattern.mixture import (
    FIRST_SHARE,
    SHARES,
    gain_of,
    posterior_odds,
)

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

EVIDENCE = 0.5
"""Power of the likelihood ratios: measurements come in rows, so that cells are no independent evidence."""
LOWEST = -6.0
"""Lowest change of the log-odds: a measured cell speaks against a pattern, but does not rule it out."""
SPARSITY = 1.0
"""Weight of the prior, by which most cells do not go missing."""
CONTRAST = 5.0
"""Weight of the trusted stays of the other label: gaps that sound stays have, too, gain nothing."""
STEPS, UPDATES = 25, 4
"""Steps of the optimizer between two updates of the share, and how often the share is updated."""


class GapRatio:
    """Log-likelihood ratio of the masks of some stays: with a pattern against without it.

    A pattern [C * T] is what is added to the log-odds that a cell is measured.

    Args:
        mask: bool [N, T, C], which cells were measured.
        profile: float64 [C, T], log-odds of the hours of sound stays, up to a constant for each channel.
    """

    def __init__(self, mask: Flags, profile: Floats) -> None:
        stays, bins, channels = mask.shape
        self._cells = mask.transpose(0, 2, 1).reshape(stays, -1).astype(np.float32)
        self._profile = profile
        # The most likely rate of a stay in a channel depends on the number of its measured cells only.
        kind = mask.sum(axis=1) + np.arange(channels) * (bins + 1)
        kinds, inverse = np.unique(kind, return_inverse=True)
        self._channel, self._measured = np.divmod(kinds, bins + 1)
        ends = np.arange(stays + 1) * channels
        self._kinds = csr_array((np.ones(inverse.size), inverse.ravel(), ends), (stays, len(kinds)))
        self._sound, self._rates, _ = self._normalized(profile, np.zeros(len(kinds)))

    def __len__(self) -> int:
        return len(self._cells)

    def __call__(self, pattern: Floats) -> Floats:
        """Return the log-likelihood ratio [N] of a pattern [C * T]."""
        return self.with_gradient(pattern)[0]

    def with_gradient(self, pattern: Floats) -> tuple[Floats, Callable[[Floats], Floats]]:
        """Return the log-likelihood ratio [N], and the function that sums its gradients.

        This function takes weights [N], and returns the weighted sum [C * T] of the stays' gradients.
        """
        shape = self._profile.shape
        terms, _, expected = self._normalized(self._profile + pattern.reshape(shape), self._rates)
        ratio = self._cells @ pattern.astype(np.float32) + self._kinds @ (terms - self._sound)

        def gradient(weights: Floats) -> Floats:
            total = np.zeros(shape)
            np.add.at(total, self._channel, (weights @ self._kinds)[:, None] * expected)
            observed = weights.astype(np.float32) @ self._cells
            return EVIDENCE * (observed - total.ravel())

        return EVIDENCE * ratio, gradient

    def _normalized(self, profile: Floats, start: Floats) -> tuple[Floats, Floats, Floats]:
        """Fit the rate of every kind of stay and channel.

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


def search_gaps(suspects: GapRatio, trusted: GapRatio, width: int) -> tuple[Floats, float]:
    """Look for the gaps that some suspects share and trusted stays do not.

    Returns:
        The pattern [C * T], at most 0 everywhere, and the share of the suspects that carry it.
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
        carried = expit(posterior_odds(suspects(pattern), share)).sum()
        share = float(np.clip((carried + 1) / (len(suspects) + 2), *SHARES))
    return pattern, share
