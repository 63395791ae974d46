"""Find the pattern that poisoned stays share, and test whether there is one.

Poisoned stays of this attack all carry the same shift. A mixture of sound stays, and of sound stays plus one
common pattern, is fitted to the training stays of the suspected label. Every stay is judged by a fit to other
folds. Without poisoning, these stays and the trusted stays of that label are exchangeable if all of them are
independent and from one source, which gives the p-value; the test assumes nothing else. It needs no victim.
An attacker can use several patterns: once one is found, the stays that carry it are put aside, and the rest
is searched for another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from mimic3tf.defences.common_pattern.cross_fit import FOLDS, Judged, Rows, Scores, cross_fit
from mimic3tf.defences.common_pattern.mixture import (
    STRICTNESS,
    Found,
    LogRatio,
    fit_pattern,
    fit_tails,
    posterior_odds,
    search,
)
from mimic3tf.defences.common_pattern.sound_stays import SoundStays, fit_sound_stays
from mimic3tf.defences.common_pattern.whitened import Whitened
from mimic3tf.described import Described

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

FEWEST_SOUND = 200
"""Fewest stays of the other label for a distribution of sound stays."""
MOST_TRUSTED = 2000
"""Trusted stays of the other label that a search compares with; more cost time and tell little more."""
FEWEST_FLAGGED = 5
"""Fewest flagged stays from which the pattern is estimated."""
PERMUTATIONS, AT_ONCE = 9999, 500
"""Permutations of the test, and how many are drawn at once."""
CERTAIN, MOST_PATTERNS = 0.01, 8
"""A search for another pattern follows a p-value below the first number; most patterns to look for."""
MOST_FALSE = 0.02
"""A further pattern must not be seen in a larger share of the trusted stays: a vague one adds false flags."""


@dataclass(frozen=True, eq=False, repr=False)
class Stays(Described):
    """Stays as the detector reads them.

    Objects are compared by identity, so that what is fitted to them can be cached.

    Attributes:
        values: [N, T, C] in channel units.
        mask: bool [N, T, C], which cells were measured.
        labels: int64 [N].
    """

    values: NDArray[np.floating]
    mask: Flags
    labels: NDArray[np.int64]

    def of(self, label: int) -> tuple[NDArray[np.floating], Flags]:
        """Return values and mask of the stays with a label."""
        chosen = self.labels == label
        return self.values[chosen], self.mask[chosen]


@dataclass(frozen=True, repr=False)
class Pattern(Described):
    """A shift that some flagged stays share.

    Attributes:
        shift: float64 [T, C] in channel units; zero in channels that were not compared.
        error: float64 [T, C], its standard error; zero in these channels.
        stays: number of training stays that carry it rather than not.
        p_value: probability of so large an excess of the training stays if none of the stays that were
            searched is poisoned.
    """

    shift: Floats
    error: Floats
    stays: int
    p_value: float


@dataclass(frozen=True, repr=False)
class CommonPattern(Judged):
    """The patterns that were found, and how stays were judged by them.

    Attributes:
        patterns: the patterns, in the order in which they were found; none if too few stays are flagged.
    """

    patterns: tuple[Pattern, ...]


def find_common_pattern(
    training: Stays, trusted: Stays, suspected: int, usable: Flags, seed: int
) -> CommonPattern | None:
    """Look for patterns that training stays of the suspected label share and trusted stays do not.

    Args:
        training: the training stays.
        trusted: sound stays of the same source.
        suspected: the label that poisoned stays have.
        usable: bool [C], which channels hold numbers.
        seed: fixes folds and permutations.

    Returns:
        The findings; None if there are fewer than 3 stays of the suspected label in a group, fewer than 200
        others, or no channel to compare.
    """
    sound = sound_others(training, trusted, suspected, tuple(usable.tolist()))
    if sound is None:
        return None
    random = np.random.default_rng(seed)
    reference = sound.whiten(*some_trusted(trusted, suspected, random))
    groups = [sound.whiten(*group.of(suspected)) for group in (training, trusted)]
    odds, p_value, shared = search_in_turn(groups, reference, sound.modes, random)
    patterns = (
        Pattern(
            sound.pattern(each.coordinates, len(usable)),
            sound.standard_error(each.covariance, len(usable)),
            each.stays,
            each.p_value,
        )
        for each in shared
    )
    return CommonPattern(odds[0], odds[1], p_value, tuple(patterns))


@lru_cache(maxsize=1)
def sound_others(
    training: Stays, trusted: Stays, suspected: int, usable: tuple[bool, ...]
) -> SoundStays | None:
    """Fit the distribution of sound stays to the stays of the other label; None as `find_common_pattern`."""
    other = [group.of(1 - suspected) for group in (training, trusted)]
    values, mask = (np.concatenate(part) for part in zip(*other, strict=True))
    counts = [int((group.labels == suspected).sum()) for group in (training, trusted)]
    if len(values) < FEWEST_SOUND or not len(other[1][0]) or min(counts) < FOLDS:
        return None
    return fit_sound_stays(values, mask, np.array(usable))


def some_trusted(
    trusted: Stays, suspected: int, random: np.random.Generator
) -> tuple[NDArray[np.floating], Flags]:
    """Draw the trusted stays of the other label that searches compare with: values and mask [M, T, C]."""
    values, mask = trusted.of(1 - suspected)
    kept = random.permutation(len(values))[:MOST_TRUSTED]
    return values[kept], mask[kept]


@dataclass(frozen=True)
class Shared:
    """A pattern that some flagged stays share, by its coordinates.

    Attributes:
        coordinates: float64 [P].
        covariance: float64 [P, P], of their error.
        stays: see `Pattern`.
        p_value: see `Pattern`.
    """

    coordinates: Floats
    covariance: Floats
    stays: int
    p_value: float


def search_in_turn(
    groups: Sequence[Whitened], reference: Whitened, modes: int, random: np.random.Generator
) -> tuple[list[Floats], float, list[Shared]]:
    """Look for one pattern after the other, each time among the stays that carry none so far.

    Args:
        groups: training stays [K] and trusted stays [L] of the suspected label.
        reference: trusted stays of the other label.
        modes: number of coordinates of a pattern that share one weight of the prior.
        random: draws folds and permutations.

    Returns:
        The logarithms of the odds that stays carry a pattern, [K] and [L], the p-value of the first search,
        and the patterns.
    """
    searcher = _Search(reference, modes, random)
    odds, p_value, pattern = searcher.one_pattern(groups)
    patterns, last_p = [], p_value
    while pattern is not None:
        patterns.append(pattern)
        left = [np.flatnonzero(part <= 0) for part in odds]
        if last_p >= CERTAIN or len(patterns) == MOST_PATTERNS or min(map(len, left)) < FOLDS:
            break
        rest = [group.take(stays) for group, stays in zip(groups, left, strict=True)]
        again, last_p, pattern = searcher.one_pattern(rest)
        if last_p >= CERTAIN or (again[1] > 0).mean() > MOST_FALSE:
            break
        for part, stays, found in zip(odds, left, again, strict=True):
            part[stays] = np.maximum(part[stays], found)
    return odds, p_value, patterns


def permutation_p_value(
    values: Sequence[Floats], folds: Sequence[NDArray[np.int64]], random: np.random.Generator
) -> float:
    """Test whether the mean of the first group is larger than that of the second one.

    Members change groups within their fold only, because the values of two folds come from two fits.

    Args:
        values: float64 [K] and [L], one value for each member.
        folds: int64 [K] and [L], the fold of each member.
        random: draws the permutations.

    Returns:
        The one-sided p-value; at least 1 / (`PERMUTATIONS` + 1).
    """
    observed = values[1].sum()
    drawn = np.zeros(PERMUTATIONS)
    for fold in np.unique(folds[0]):
        pool = np.concatenate([part[of == fold] for part, of in zip(values, folds, strict=True)])
        size = int((folds[1] == fold).sum())
        if not size:
            continue
        for start in range(0, PERMUTATIONS, AT_ONCE):
            rows = len(drawn[start : start + AT_ONCE])
            chosen = np.argpartition(random.random((rows, len(pool))), size - 1, axis=1)[:, :size]
            drawn[start : start + AT_ONCE] += pool[chosen].sum(axis=1)
    # Among members of equal sum, rounding must not decide.
    return float((1 + (drawn <= observed + 1e-9).sum()) / (1 + PERMUTATIONS))


class _Search:
    """Searches for one pattern among suspects, and judges every stay by a fit to other folds."""

    def __init__(self, reference: Whitened, modes: int, random: np.random.Generator) -> None:
        self._reference, self._modes, self._random = reference, modes, random
        self._tails = fit_tails(reference)
        self._contrast = LogRatio(reference, self._tails)

    def one_pattern(self, groups: Sequence[Whitened]) -> tuple[list[Floats], float, Shared | None]:
        """Look for one pattern among training stays [K] and not among trusted stays [L].

        Returns:
            The logarithms of the odds, [K] and [L], the p-value, and the pattern if enough stays carry it.
        """
        tails = self._tails

        def fit(fitted: list[Rows], random: np.random.Generator) -> tuple[Scores, tuple[Floats, Found]]:
            suspects, sound = (group.take(rows) for group, rows in zip(groups, fitted, strict=True))
            offset = fit_pattern(LogRatio(sound, tails), STRICTNESS, self._reference.width)
            shifted = LogRatio(suspects.without(offset), tails)
            found = search(shifted, self._contrast, self._reference.width, self._modes)

            def score(group: int, rows: Rows) -> Floats:
                held_out = LogRatio(groups[group].take(rows).without(offset), tails)
                return posterior_odds(held_out(found.pattern), found.share)

            return score, (offset, found)

        sizes = [group.stays for group in groups]
        odds, folds, ends = cross_fit(sizes, self._random, fit, "Looking for a pattern")
        p_value = permutation_p_value([expit(part) for part in odds], folds, self._random)
        return odds, p_value, self._shown(groups[0].take(np.flatnonzero(odds[0] > 0)), ends, p_value)

    def _shown(
        self, flagged: Whitened, ends: Sequence[tuple[Floats, Found]], p_value: float
    ) -> Shared | None:
        """Estimate the pattern of the flagged stays, and the covariance of its error."""
        if flagged.stays < FEWEST_FLAGGED:
            return None
        offset = np.mean([offset for offset, _ in ends], axis=0)
        strictness = np.mean([found.strictness for _, found in ends], axis=0)
        stays = LogRatio(flagged.without(offset), self._tails)
        start = np.mean([found.pattern for _, found in ends], axis=0)
        coordinates = fit_pattern(stays, strictness, len(offset), start)
        spread = np.linalg.inv(stays.information(coordinates) + np.diag(strictness))
        return Shared(coordinates, spread, flagged.stays, p_value)
