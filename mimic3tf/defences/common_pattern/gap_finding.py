"""Find the gaps that poisoned stays share, and test whether there are any.

Poisoned stays of the missing-value attack all lack the same cells. Every stay is judged by a fit to other
folds, and the p-value is that of `finding`. Only which cells are measured is read: no value, and no victim.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from threadpoolctl import threadpool_limits

from mimic3tf.defences.common_pattern.cross_fit import FOLDS, Judged, Rows, Scores, cross_fit
from mimic3tf.defences.common_pattern.finding import (
    FEWEST_SOUND,
    MOST_TRUSTED,
    Stays,
    permutation_p_value,
)
from mimic3tf.defences.common_pattern.gaps import GapRatio, adapt_usual, fit_usual, search_gaps
from mimic3tf.defences.common_pattern.mixture import posterior_odds
from mimic3tf.defences.common_pattern.sound_stays import FEWEST_CELLS

Floats = NDArray[np.float64]


def find_common_gaps(training: Stays, trusted: Stays, suspected: int, seed: int) -> Judged | None:
    """Look for cells that many training stays of the suspected label lack and trusted stays do not.

    Args:
        training: the training stays.
        trusted: sound stays of the same source.
        suspected: the label that poisoned stays have.
        seed: fixes folds, permutations, and which sound stays are read if there are very many.

    Returns:
        The findings; None if there are fewer than 3 stays of the suspected label in a group, fewer than 200
        others, or no channel is measured.
    """
    others = [group.of(1 - suspected)[1] for group in (training, trusted)]
    sound = np.concatenate(others)
    groups = [group.of(suspected)[1] for group in (training, trusted)]
    used = sound.sum(axis=(0, 1)) >= FEWEST_CELLS
    if len(sound) < FEWEST_SOUND or not len(others[1]) or min(map(len, groups)) < FOLDS or not used.any():
        return None
    random = np.random.default_rng(seed)
    sound, reference = (part[random.permutation(len(part))[:MOST_TRUSTED]] for part in (sound, others[1]))
    sound, reference, ours, theirs = (part[..., used] for part in (sound, reference, *groups))
    with threadpool_limits(1, "blas"):
        usual = fit_usual(sound)
    contrast = GapRatio(reference, usual)

    def fit(fitted: list[Rows], _: np.random.Generator) -> tuple[Scores, None]:
        # Stays of this label are measured more often than stays of the other label, and at other hours.
        own = adapt_usual(theirs[fitted[1]], usual)
        suspects = GapRatio(ours[fitted[0]], own)
        pattern, share = search_gaps(suspects, contrast, usual.hours.size + len(usual.hours))

        def score(group: int, rows: Rows) -> Floats:
            return posterior_odds(GapRatio((ours, theirs)[group][rows], own)(pattern), share)

        return score, None

    odds, folds, _ = cross_fit([len(ours), len(theirs)], random, fit, "Looking for gaps")
    p_value = permutation_p_value([expit(part) for part in odds], folds, random)
    return Judged(odds[0], odds[1], p_value)
