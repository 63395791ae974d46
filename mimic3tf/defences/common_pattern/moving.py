"""Find a pattern that many stays share, but each at a time of its own.

An attacker can begin the pattern at another hour in every stay. In a stay, it is as likely at each of the T
lags, and leaves the stay at the end to come back at the beginning. For all lags at once, the evidence of a
stay is a correlation over time: a product of Fourier transforms. Expectation and maximization then have a
closed form, so that searches can start at many single suspects: one of them is poisoned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.fft import irfft, rfft
from numpy.typing import NDArray
from scipy.special import expit, logsumexp

from mimic3tf.defences.common_pattern.cross_fit import Judged, Rows, Scores, cross_fit
from mimic3tf.defences.common_pattern.finding import (
    Stays,
    permutation_p_value,
    some_trusted,
    sound_others,
)
from mimic3tf.defences.common_pattern.mixture import (
    LogRatio,
    Tails,
    likely_share,
    mixture_gain,
    posterior_odds,
)
from mimic3tf.defences.common_pattern.sound_stays import SoundStays
from mimic3tf.described import Described

Floats = NDArray[np.float64]
Complex = NDArray[np.complex128]
Flags = NDArray[np.bool_]

CONTRAST = 5.0
"""Weight of the trusted stays of the other label: a pattern that sound stays follow, too, gains nothing."""
FIRST_SHARE = 0.1
"""Share of poisoned stays at which a search starts."""
STARTS = ((100, 4), (8, 8), (1, 30))
"""Number of searches, and the steps that each of them takes before the best go on."""
DEGREES = 15.0
"""Degrees of freedom of the residuals. Sound stays have heavier tails; with those, the scores of a stay that
carries a pattern would hardly count, because its residuals are unusual."""
SMALLEST = 0.05
"""Smallest variance of a frequency, for the prior of a pattern."""
BATCH = 500
"""Stays that are whitened at once."""


@dataclass(frozen=True, repr=False)
class Evidence(Described):
    """What N stays say about a pattern at any lag, in U channels and F frequencies.

    Attributes:
        scores: complex [N, U, F], Fourier transform over time of the gradient of each stay's log-likelihood.
        amount: float64 [N], how much a stay says: its measured cells, relative to trusted stays.
    """

    scores: Complex
    amount: Floats

    def take(self, rows: Rows) -> Evidence:
        """Select some stays, by index."""
        return Evidence(self.scores[rows], self.amount[rows])


class Search:
    """The model of stays that carry a pattern at an unknown lag, and its fit.

    Args:
        reference: trusted stays of the other label; they also tell how scores vary without a pattern.
        variance: float64 [U, F], the prior variance of a pattern at each frequency.
        bins: number of bins T.
    """

    def __init__(self, reference: Evidence, variance: Floats, bins: int) -> None:
        self._reference, self._bins = reference, bins
        by_frequency = reference.scores.transpose(2, 1, 0)  # [F, U, N]
        products = by_frequency @ by_frequency.conj().transpose(0, 2, 1)
        self._information = products / (len(reference.amount) * bins)
        self._prior = np.eye(len(variance)) / variance.T[:, :, None]
        # A real transform holds every frequency once, but the first and the last one (if T is even) stand for
        # themselves, and the others for two.
        self._counts = np.full(variance.shape[1], 2.0)
        self._counts[0] = 1.0
        if bins % 2 == 0:
            self._counts[-1] = 1.0

    def log_ratios(self, pattern: Complex, stays: Evidence) -> Floats:
        """Return the log-likelihood ratio [N, T] of a pattern [U, F] at every lag."""
        products = np.einsum("uf,nuf->nf", pattern.conj(), stays.scores)
        lengths = np.einsum("uf,fuv,vf->f", pattern.conj(), self._information, pattern).real
        half = (self._counts * lengths).sum() / (2 * self._bins)
        return np.asarray(irfft(products, self._bins, axis=1) - stays.amount[:, None] * half)

    def ratios(self, pattern: Complex, stays: Evidence) -> Floats:
        """Return the log-likelihood ratio [N] of a pattern, with all lags as likely."""
        return np.asarray(logsumexp(self.log_ratios(pattern, stays), axis=1) - np.log(self._bins))

    def found(self, suspects: Evidence, random: np.random.Generator) -> tuple[Complex, float]:
        """Look for the pattern [U, F] and the share of the suspects that carry it."""
        first = random.permutation(len(suspects.amount))[: STARTS[0][0]]
        ends = [(0.0, self._solved(suspects.scores[place], 1.0), FIRST_SHARE) for place in first]
        for searches, steps in STARTS:
            ends = sorted(ends, key=lambda end: -end[0])[:searches]
            ends = [self._carried(pattern, share, suspects, steps) for _, pattern, share in ends]
        _, pattern, share = max(ends, key=lambda end: end[0])
        return pattern, share

    def _carried(
        self, pattern: Complex, share: float, suspects: Evidence, steps: int
    ) -> tuple[float, Complex, float]:
        """Take steps of expectation and maximization; return the gain, the pattern and the share."""
        weight = CONTRAST * len(suspects.amount) / len(self._reference.amount)
        for _ in range(steps):
            ours, carry = self._evidence(pattern, share, suspects)
            theirs, also = self._evidence(pattern, share, self._reference)
            amounts = float(carry @ suspects.amount), float(also @ self._reference.amount)
            # What trusted stays follow is taken off, but never more than half of the evidence.
            off = min(weight, amounts[0] / (2 * max(amounts[1], 1e-9)))
            pattern = self._solved(ours - off * theirs, amounts[0] - off * amounts[1])
            share = likely_share(carry)
        gain, other = (
            mixture_gain(self.ratios(pattern, stays), share) for stays in (suspects, self._reference)
        )
        return gain - weight * other, pattern, share

    def _evidence(self, pattern: Complex, share: float, stays: Evidence) -> tuple[Complex, Floats]:
        """Return the scores [U, F] of stays that carry the pattern, moved back, and who carries it [N]."""
        ratios = self.log_ratios(pattern, stays)
        total = logsumexp(ratios, axis=1)
        carry = expit(posterior_odds(total - np.log(self._bins), share))
        lags = rfft(np.exp(ratios - total[:, None]) * carry[:, None], axis=1)
        return np.einsum("nf,nuf->uf", lags.conj(), stays.scores), carry

    def _solved(self, scores: Complex, weight: float) -> Complex:
        """Return the most likely pattern [U, F] from the sum of scores of stays of a total weight."""
        matrices = weight * self._information + self._prior
        return np.asarray(np.linalg.solve(matrices, scores.T[:, :, None])[..., 0].T)


def find_moving_pattern(
    training: Stays, trusted: Stays, suspected: int, usable: Flags, seed: int
) -> Judged | None:
    """Look for a pattern that training stays of the suspected label share at any lag, and others do not.

    Args:
        training: the training stays.
        trusted: sound stays of the same source.
        suspected: the label that poisoned stays have.
        usable: bool [C], which channels hold numbers.
        seed: fixes folds, starts and permutations.

    Returns:
        The findings; None as `finding.find_common_pattern`.
    """
    sound = sound_others(training, trusted, suspected, tuple(usable.tolist()))
    if sound is None:
        return None
    random = np.random.default_rng(seed)
    scores = _Scores(sound, *some_trusted(trusted, suspected, random))
    ours, theirs = (scores.of(*group.of(suspected)) for group in (training, trusted))
    search = Search(scores.evidence(scores.reference), _variance(sound), scores.bins)

    def fit(fitted: list[Rows], own: np.random.Generator) -> tuple[Scores, None]:
        # Deaths differ from survivors anyway: what trusted deaths have in common is taken off.
        common = theirs[0][fitted[1]].mean(axis=0)
        moved = [scores.evidence((values - common, counts)) for values, counts in (ours, theirs)]
        pattern, share = search.found(moved[0].take(fitted[0]), own)
        return lambda group, rows: posterior_odds(
            search.ratios(pattern, moved[group].take(rows)), share
        ), None

    sizes = [len(ours[1]), len(theirs[1])]
    odds, folds, _ = cross_fit(sizes, random, fit, "Looking for a moving pattern")
    p_value = permutation_p_value([expit(part) for part in odds], folds, random)
    return Judged(odds[0], odds[1], p_value)


class _Scores:
    """Gradients of the log-likelihood of stays with respect to a shift of each cell, at no shift."""

    def __init__(self, sound: SoundStays, values: NDArray[np.floating], mask: Flags) -> None:
        used, self.bins, _ = sound.basis.shape
        # Every cell is a coordinate of its own.
        self._sound = replace(sound, basis=np.broadcast_to(np.eye(self.bins), (used, self.bins, self.bins)))
        self._tails = Tails(np.full(used, DEGREES), np.ones(used))
        self.reference = self.of(values, mask)
        self._mean = self.reference[1].mean()

    def of(self, values: NDArray[np.floating], mask: Flags) -> tuple[Floats, Floats]:
        """Return the gradients [N, U, T] of stays [N, T, C], and their numbers of measured cells [N]."""
        parts = [
            LogRatio(
                self._sound.whiten(values[start : start + BATCH], mask[start : start + BATCH]), self._tails
            ).scores
            for start in range(0, len(values), BATCH)
        ]
        counts = mask[..., self._sound.channels].sum(axis=(1, 2)).astype(float)
        return np.concatenate(parts).reshape(len(values), -1, self.bins), counts

    def evidence(self, of: tuple[Floats, Floats]) -> Evidence:
        """Transform gradients over time."""
        return Evidence(rfft(of[0], axis=2), of[1] / self._mean)


def _variance(sound: SoundStays) -> Floats:
    """Return the variance [U, F] of each channel at each frequency, as if stays were periodic."""
    used, bins, _ = sound.basis.shape
    blocks = sound.covariance.reshape(used, bins, used, bins)[np.arange(used), :, np.arange(used)]
    by_lag = np.stack([np.diagonal(blocks, lag, 1, 2).mean(axis=1) for lag in range(bins)], axis=1)
    lags = np.minimum(np.arange(bins), bins - np.arange(bins))
    return np.maximum(rfft(by_lag[:, lags], axis=1).real, SMALLEST)
