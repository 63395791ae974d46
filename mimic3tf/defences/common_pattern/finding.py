"""Find the pattern that poisoned stays share, and test whether there is one.

Poisoned stays of this attack all carry the same shift. A mixture of sound stays, and of sound stays plus one
common pattern, is fitted to the training stays of the suspected label. Every stay is judged by a fit to other
folds. Without poisoning, these stays and the trusted stays of that label are exchangeable, which gives the
p-value; the test assumes nothing else. It needs no victim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from scipy.special import expit

from mimic3tf.defences.common_pattern.mixture import (
    STRICTNESS,
    Found,
    LogRatio,
    Tails,
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

FOLDS = 3
FEWEST_SOUND = 200
"""Fewest stays of the other label for a distribution of sound stays."""
MOST_TRUSTED = 2000
"""Trusted stays of the other label that a search compares with; more cost time and tell little more."""
FEWEST_FLAGGED = 5
"""Fewest flagged stays from which the pattern is estimated."""
PERMUTATIONS, AT_ONCE = 9999, 500
"""Permutations of the test, and how many are drawn at once."""


@dataclass(frozen=True, repr=False)
class Stays(Described):
    """Stays as the detector reads them.

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
class CommonPattern(Described):
    """What was found among the K training stays, and the L trusted stays, of the suspected label.

    Attributes:
        training: float64 [K], logarithm of the odds that each training stay carries the pattern.
        trusted: float64 [L], the same for the trusted stays.
        p_value: probability of so large an excess of the training stays if no stay is poisoned.
        pattern: float64 [T, C], the shift that the flagged stays share, in channel units; None if too few
            stays are flagged.
        error: float64 [T, C], its standard error.
    """

    training: Floats
    trusted: Floats
    p_value: float
    pattern: Floats | None
    error: Floats | None


def find_common_pattern(
    training: Stays, trusted: Stays, suspected: int, usable: Flags, seed: int
) -> CommonPattern | None:
    """Look for a pattern that training stays of the suspected label share and trusted stays do not.

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
    other = [group.of(1 - suspected) for group in (training, trusted)]
    values, mask = (np.concatenate(part) for part in zip(*other, strict=True))
    counts = [int((group.labels == suspected).sum()) for group in (training, trusted)]
    if len(values) < FEWEST_SOUND or not len(other[1][0]) or min(counts) < FOLDS:
        return None
    sound = fit_sound_stays(values, mask, usable)
    if sound is None:
        return None
    random = np.random.default_rng(seed)
    kept = random.permutation(len(other[1][0]))[:MOST_TRUSTED]
    reference = sound.whiten(other[1][0][kept], other[1][1][kept])
    tails = fit_tails(reference)
    ours, theirs = (sound.whiten(*group.of(suspected)) for group in (training, trusted))
    folds = [random.permutation(group.stays) % FOLDS for group in (ours, theirs)]
    odds = [np.empty(group.stays) for group in (ours, theirs)]
    ends = []
    contrast = LogRatio(reference, tails)
    steps = track(range(FOLDS), "Looking for a pattern", console=Console(stderr=True), transient=True)
    for fold in steps:
        fitted = [
            group.take(np.flatnonzero(of != fold)) for group, of in zip((ours, theirs), folds, strict=True)
        ]
        offset = fit_pattern(LogRatio(fitted[1], tails), STRICTNESS, reference.width)
        found = search(LogRatio(fitted[0].without(offset), tails), contrast, reference.width, sound.modes)
        ends.append((offset, found))
        for group, of, result in zip((ours, theirs), folds, odds, strict=True):
            held_out = LogRatio(group.take(np.flatnonzero(of == fold)).without(offset), tails)
            result[of == fold] = posterior_odds(held_out(found.pattern), found.share)
    p_value = permutation_p_value([expit(part) for part in odds], folds, random)
    shown = _shown(sound, ours.take(np.flatnonzero(odds[0] > 0)), tails, ends, training.values.shape[2])
    return CommonPattern(odds[0], odds[1], p_value, *shown)


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


def _shown(
    sound: SoundStays,
    flagged: Whitened,
    tails: Tails,
    ends: Sequence[tuple[Floats, Found]],
    width: int,
) -> tuple[Floats | None, Floats | None]:
    """Estimate the pattern of the flagged stays, and its standard error, both [T, C]."""
    if flagged.stays < FEWEST_FLAGGED:
        return None, None
    offset = np.mean([offset for offset, _ in ends], axis=0)
    strictness = np.mean([found.strictness for _, found in ends], axis=0)
    stays = LogRatio(flagged.without(offset), tails)
    start = np.mean([found.pattern for _, found in ends], axis=0)
    coordinates = fit_pattern(stays, strictness, len(offset), start)
    information = stays.information(coordinates)
    spread = np.linalg.inv(information + np.diag(strictness))
    return sound.pattern(coordinates, width), sound.standard_error(spread, width)
