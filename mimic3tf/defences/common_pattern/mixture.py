"""The mixture of sound stays and poisoned stays: likelihood ratios, and the search for the common pattern.

A poisoned stay is a sound stay plus one pattern at its measured cells. In each channel, the whitened
residuals of a stay are a multivariate t: a stay that is unusual anyway tells little about a shift.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.optimize import minimize
from scipy.special import expit, gammaln

from mimic3tf.defences.common_pattern.whitened import Part, Whitened

Floats = NDArray[np.float64]

STRICTNESS = 50.0
"""Weight of the prior, by which a pattern looks like its channel over time."""
LEAST_STRICT = 2.0
"""Smallest weight of the prior in a channel that the pattern clearly uses."""
CONTRAST = 20.0
"""Weight of the trusted stays of the other label: a pattern that sound stays follow, too, gains nothing."""
FIRST_SHARE, SHARES = 0.05, (0.01, 0.4)
"""Share of poisoned stays at which a search starts; smallest and largest share."""
LENGTHS = (-3.0, 3.0)
"""Lengths along each main direction of the scores at which a search starts."""
DIRECTIONS = 2
"""Main directions that searches start along."""
QUICK_STEPS = ((100, 4), (10, 8), (3, 25))
"""Number of quick searches, and the steps that each of them takes before the best go on."""
QUICK_STRICTNESS, QUICK_CONTRAST = (4.0, 16.0, 64.0), 5.0
"""Weights of the prior, for long and short patterns, and of the trusted stays in quick searches."""
QUICK_DEGREES = 15.0
"""Degrees of freedom of the residuals in quick searches. Sound stays have heavier tails; with those, the
scores of a stay that carries a pattern would hardly count, because its residuals are unusual."""
FIRST_STEPS, STEPS = 6, 12
"""Steps of the optimizer from every start, and between two updates of the share."""
UPDATES, RELEVANCES = 3, 2
"""Updates of the share, and how often the weights of the prior are estimated."""


@dataclass(frozen=True)
class Tails:
    """The multivariate t of the whitened residuals of each channel.

    Attributes:
        degrees: float64 [U], degrees of freedom.
        scale: float64 [U], squared scale.
    """

    degrees: Floats
    scale: Floats


def fit_tails(stays: Whitened) -> Tails:
    """Fit the tails of every channel to sound stays, by maximum likelihood."""
    return Tails(*np.transpose([_fit_tail(part) for part in stays.parts]))


def _fit_tail(part: Part) -> tuple[float, float]:
    squares, counts = part.squares(part.residuals), part.counts[part.stays]
    if not len(counts):
        return 10.0, 1.0

    def loss(logarithms: Floats) -> float:
        degrees, scale = np.exp(logarithms)
        density = gammaln((degrees + counts) / 2) - gammaln(degrees / 2)
        density -= counts / 2 * np.log(degrees * scale)
        density -= (degrees + counts) / 2 * np.log1p(squares / (degrees * scale))
        return float(-density.sum())

    bounds = [(np.log(low), np.log(high)) for low, high in ((1.0, 200.0), (0.01, 100.0))]
    degrees, scale = np.exp(minimize(loss, np.log([10.0, 1.0]), method="Nelder-Mead", bounds=bounds).x)
    return float(degrees), float(scale)


class Ratio(Protocol):
    """Log-likelihood ratio of N stays with a pattern [P], as `LogRatio` gives it."""

    def __len__(self) -> int: ...

    def with_gradient(self, pattern: Floats) -> tuple[Floats, Callable[[Floats], Floats]]:
        """Return the ratios [N], and the function from weights [N] to their weighted gradient [P]."""
        ...


class LogRatio:
    """Log-likelihood ratio of some stays: with a pattern against without it.

    Args:
        stays: the whitened stays.
        tails: the tails of their residuals.
    """

    def __init__(self, stays: Whitened, tails: Tails) -> None:
        self._stays, self._tails = stays, tails
        self._sound = [self._terms(at, part.squares(part.residuals)) for at, part in enumerate(stays.parts)]

    def __len__(self) -> int:
        return self._stays.stays

    def __call__(self, pattern: Floats) -> Floats:
        """Return the log-likelihood ratio [N] of a pattern, given by its coordinates [P]."""
        return self.with_gradient(pattern)[0]

    def with_gradient(self, pattern: Floats) -> tuple[Floats, Callable[[Floats], Floats]]:
        """Return the log-likelihood ratio [N], and the function that sums its gradients.

        This function takes weights [N], and returns the weighted sum [P] of the stays' gradients.
        """
        ratio = np.zeros(len(self))
        residuals, slopes = [], []
        for at, part in enumerate(self._stays.parts):
            moved = part.moved(pattern)
            squares = part.squares(moved)
            ratio[part.stays] += self._terms(at, squares) - self._sound[at]
            residuals.append(moved)
            slopes.append(self._slope(at, squares))

        def gradient(weights: Floats) -> Floats:
            total = np.zeros(len(pattern))
            for part, moved, slope in zip(self._stays.parts, residuals, slopes, strict=True):
                pull = np.repeat((weights[part.stays] * slope).astype(np.float32), part.counts[part.stays])
                total[: part.design.shape[1]] += part.total(pull * moved)
            return total

        return ratio, gradient

    @cached_property
    def quick_scores(self) -> Floats:
        """The scores with the tails of quick searches."""
        parts = len(self._stays.parts)
        return LogRatio(self._stays, Tails(np.full(parts, QUICK_DEGREES), np.ones(parts))).scores

    @cached_property
    def scores(self) -> Floats:
        """The gradient of every stay at no pattern: [N, P]."""
        scores = np.zeros((len(self), self._stays.width))
        for at, part in enumerate(self._stays.parts):
            if len(part.stays):
                pull = np.repeat(self._slope(at, part.squares(part.residuals)), part.counts[part.stays])
                rows = (pull * part.residuals).astype(np.float32)
                scores[part.stays, : part.design.shape[1]] += part.totals(rows)
        return scores

    def information(self, pattern: Floats) -> Floats:
        """Return the information [P, P] that the stays hold about a pattern (Gauss-Newton)."""
        total = np.zeros((self._stays.width,) * 2)
        for at, part in enumerate(self._stays.parts):
            width = part.design.shape[1]
            slopes = self._slope(at, part.squares(part.moved(pattern)))
            total[:width, :width] += part.information(slopes)
        return total

    def _terms(self, at: int, squares: Floats) -> Floats:
        degrees, scale, counts = self._of(at)
        return -(degrees + counts) / 2 * np.log1p(squares / (degrees * scale))

    def _slope(self, at: int, squares: Floats) -> Floats:
        degrees, scale, counts = self._of(at)
        return (degrees + counts) / (degrees * scale + squares)

    def _of(self, at: int) -> tuple[float, float, NDArray[np.int64]]:
        part = self._stays.parts[at]
        return self._tails.degrees[at], self._tails.scale[at], part.counts[part.stays]


@dataclass(frozen=True)
class Found:
    """A pattern that a search found.

    Attributes:
        pattern: float64 [P], its coordinates.
        share: share of the stays that carry it.
        strictness: float64 [P], weight of the prior of each coordinate.
    """

    pattern: Floats
    share: float
    strictness: Floats


def posterior_odds(ratio: Floats, share: Floats | float) -> Floats:
    """Return the logarithm of the odds [N] that stays carry a pattern, from their log-likelihood ratios."""
    return np.asarray(ratio + np.log(share) - np.log1p(-share))


def fit_pattern(
    stays: Ratio, strictness: Floats | float, width: int, start: Floats | None = None, steps: int = 40
) -> Floats:
    """Fit the pattern [P] that all stays carry, with the prior."""

    def loss(pattern: Floats) -> tuple[float, Floats]:
        ratio, gradient = stays.with_gradient(pattern)
        return _negative(ratio.sum(), gradient(np.ones(len(stays))), pattern, strictness)

    return _minimized(loss, np.zeros(width) if start is None else start, steps)[0]


def search(suspects: LogRatio, trusted: LogRatio, width: int, modes: int) -> Found:
    """Look for the pattern that some suspects carry and trusted stays do not.

    Searches start at the pattern that a quick search finds, which serves few stays with a long pattern. They
    also start at several lengths along the directions in which the scores of the suspects vary most in
    comparison with those of the trusted stays, which serves many stays with a short one.

    Args:
        suspects: the training stays of the suspected label.
        trusted: trusted stays of the other label.
        width: number of coordinates of a pattern.
        modes: number of coordinates of each channel.
    """
    contrast = CONTRAST * len(suspects) / len(trusted)

    def carry(start: Floats, share: float, strictness: Floats, steps: int) -> tuple[Floats, float]:
        def loss(pattern: Floats) -> tuple[float, Floats]:
            gains, gradients = zip(
                *(gain_of(stays, pattern, share) for stays in (suspects, trusted)), strict=True
            )
            gain, slope = (one - contrast * other for one, other in (gains, gradients))
            return _negative(gain, slope, pattern, strictness)

        return _minimized(loss, start, steps)

    even = np.full(width, STRICTNESS)
    quick = _QuickSearch(suspects.quick_scores, trusted.quick_scores)
    starts = [quick.found(), *_along_scores(suspects.scores, trusted.scores)]
    tried = [carry(start, FIRST_SHARE, even, FIRST_STEPS) for start in starts]
    # The start that got furthest is carried to its end.
    pattern, _ = min(tried, key=lambda end: end[1])
    share, strictness = FIRST_SHARE, even
    for update in range(UPDATES + RELEVANCES):
        share = likely_share(expit(posterior_odds(suspects(pattern), share)))
        if update >= UPDATES:
            strictness = _relevance(pattern, modes)
        pattern, _ = carry(pattern, share, strictness, STEPS)
    return Found(pattern, share, strictness)


def gain_of(stays: Ratio, pattern: Floats, share: float) -> tuple[float, Floats]:
    """Return the gain in log-likelihood of the mixture over sound stays only, and its gradient [P]."""
    ratio, gradient = stays.with_gradient(pattern)
    return mixture_gain(ratio, share), gradient(expit(posterior_odds(ratio, share)))


def mixture_gain(ratio: Floats, share: float) -> float:
    """Return the gain in log-likelihood of the mixture from the log-likelihood ratios [N] of stays."""
    return float(_gains(ratio, share))


def likely_share(carry: Floats) -> float:
    """Return the share of stays that carry a pattern from the probabilities [N] that each of them does."""
    return float(_likely_shares(carry))


def _gains(ratios: Floats, shares: Floats | float) -> Floats:
    """Return `mixture_gain` for each column of ratios [N, S] and its share [S]."""
    return np.asarray(np.logaddexp(np.log1p(-shares), np.log(shares) + ratios).sum(axis=0))


def _likely_shares(carry: Floats) -> Floats:
    """Return `likely_share` for each column of probabilities [N, S]."""
    return np.asarray(np.clip((carry.sum(axis=0) + 1) / (len(carry) + 2), *SHARES))


def _along_scores(ours: Floats, theirs: Floats) -> list[Floats]:
    width = ours.shape[1]
    products = [scores.T @ scores / len(scores) for scores in (ours, theirs)]
    ridge = 0.1 * np.trace(products[1]) / width + STRICTNESS / len(ours)
    main = eigh(
        products[0], products[1] + ridge * np.eye(width), subset_by_index=(width - DIRECTIONS, width - 1)
    )[1]
    main /= np.linalg.norm(main, axis=0)
    return [length * direction for direction in main.T for length in LENGTHS]


class _QuickSearch:
    """A search in which every step has a closed form, so that it can start at many single suspects.

    Near no pattern, the log-likelihood ratio of a stay is its score times the pattern, minus a quadratic form
    that is about the same for all stays. Patterns are given in the main directions of that form.

    Args:
        ours: float64 [N, P], scores of the suspects.
        theirs: float64 [M, P], scores of trusted stays of the other label.
    """

    def __init__(self, ours: Floats, theirs: Floats) -> None:
        information, self._directions = np.linalg.eigh(theirs.T @ theirs / len(theirs))
        self._information = np.maximum(information, 0)
        self._ours, self._theirs = ours @ self._directions, theirs @ self._directions
        self._contrast = QUICK_CONTRAST * len(ours) / len(theirs)

    def found(self) -> Floats:
        """Return the pattern [P] of the search with the largest evidence."""
        ends = [self._found(strictness) for strictness in QUICK_STRICTNESS]
        return np.asarray(self._directions @ max(ends, key=lambda end: end[0])[1])

    def _found(self, strictness: float) -> tuple[float, Floats]:
        """Search from many suspects at once; return the largest evidence and its pattern."""
        stays = len(self._ours)
        first = np.unique(np.linspace(0, stays - 1, min(stays, QUICK_STEPS[0][0])).astype(int))
        patterns = self._solved(self._ours[first].T, np.ones(len(first)), strictness)
        evidence, shares = np.zeros(len(first)), np.full(len(first), FIRST_SHARE)
        for searches, steps in QUICK_STEPS:
            best = np.argsort(-evidence, kind="stable")[:searches]
            evidence, patterns, shares = self._carried(patterns[:, best], shares[best], strictness, steps)
        most = int(evidence.argmax())
        return float(evidence[most]), patterns[:, most]

    def _ratios(self, patterns: Floats) -> tuple[Floats, Floats]:
        """Return the log-likelihood ratios of all stays, [N, S] and [M, S], for patterns [P, S]."""
        half = self._information @ patterns**2 / 2
        return self._ours @ patterns - half, self._theirs @ patterns - half

    def _solved(self, scores: Floats, weights: Floats, strictness: float) -> Floats:
        """Return the most likely patterns from sums of scores [P, S] of stays of total weights [S]."""
        return np.asarray(scores / (self._information[:, None] * weights + strictness))

    def _carried(
        self, patterns: Floats, shares: Floats, strictness: float, steps: int
    ) -> tuple[Floats, Floats, Floats]:
        """Take steps of expectation and maximization with S patterns; return evidences, patterns, shares."""
        weights = np.zeros_like(shares)
        for _ in range(steps):
            carry, also = (expit(posterior_odds(ratio, shares)) for ratio in self._ratios(patterns))
            total, others = carry.sum(axis=0), also.sum(axis=0)
            # What trusted stays follow is taken off, but never more than half of the evidence.
            off = np.minimum(self._contrast, total / (2 * np.maximum(others, 1e-9)))
            weights = total - off * others
            patterns = self._solved(self._ours.T @ carry - off * (self._theirs.T @ also), weights, strictness)
            shares = _likely_shares(carry)
        ours, theirs = (_gains(ratio, shares) for ratio in self._ratios(patterns))
        # Laplace's approximation: how much of the prior's volume the stays leave.
        volume = np.log1p(self._information[:, None] * weights / strictness).sum(axis=0) / 2
        evidence = ours - self._contrast * theirs - strictness * (patterns**2).sum(axis=0) / 2 - volume
        return evidence, patterns, shares


def _relevance(pattern: Floats, modes: int) -> Floats:
    """Estimate the weight of the prior in every channel from the length of the pattern in it."""
    squares = (pattern.reshape(-1, modes) ** 2).sum(axis=1)
    strictness = np.clip(modes / np.maximum(squares, 1e-9), LEAST_STRICT, STRICTNESS)
    return np.repeat(strictness, modes)


def _negative(
    gain: float, gradient: Floats, pattern: Floats, strictness: Floats | float
) -> tuple[float, Floats]:
    return float((strictness * pattern**2).sum() / 2 - gain), strictness * pattern - gradient


def _minimized(
    loss: Callable[[Floats], tuple[float, Floats]], start: Floats, steps: int
) -> tuple[Floats, float]:
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": steps})
    return found.x, float(found.fun)
