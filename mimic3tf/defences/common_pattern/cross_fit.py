"""Judge every stay by a fit to the stays of other folds."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mimic3tf.described import Described
from mimic3tf.progress import track

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Found = TypeVar("Found")
Scores = Callable[[int, Rows], Floats]
"""Takes the number of a group and the indices [K] of stays of it; returns their scores [K]."""

FOLDS = 3
MOST_AT_ONCE = 3000
"""Stays up to which all folds are fitted at once, so that they share the cores evenly; more need memory."""


@dataclass(frozen=True, repr=False)
class Judged(Described):
    """How K training stays, and L trusted stays, of the suspected label were judged.

    Attributes:
        training: float64 [K], logarithm of the odds that each training stay carries what was searched.
        trusted: float64 [L], the same for the trusted stays.
        p_value: probability of so large an excess of the training stays if no stay is poisoned.
    """

    training: Floats
    trusted: Floats
    p_value: float


def cross_fit(
    sizes: Sequence[int],
    random: np.random.Generator,
    fit: Callable[[list[Rows], np.random.Generator], tuple[Scores, Found]],
    about: str,
) -> tuple[list[Floats], list[Rows], list[Found]]:
    """Divide groups of stays into folds, and score each fold by a fit to the others.

    Folds are fitted in threads, with one thread each for the linear algebra: its own threads would spend more
    time waiting for each other than working.

    Args:
        sizes: number of stays of each group.
        random: draws the folds, and the random numbers of the fits.
        fit: takes the indices of the stays of each group to fit to, and random numbers; returns the scores
            by this fit, and what it found.
        about: what the bar of progress says.

    Returns:
        The scores float64 [N] and the folds int64 [N] of the stays of each group, and what each fit found.
    """
    folds = [random.permutation(size) % FOLDS for size in sizes]
    scores = [np.empty(size) for size in sizes]

    def of_fold(fold: int, own: np.random.Generator) -> Found:
        score, found = fit([np.flatnonzero(of != fold) for of in folds], own)
        for group, (of, result) in enumerate(zip(folds, scores, strict=True)):
            held_out = np.flatnonzero(of == fold)
            result[held_out] = score(group, held_out)
        return found

    at_once = FOLDS if max(sizes) <= MOST_AT_ONCE else min(FOLDS, os.cpu_count() or 1)
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(at_once) as threads:
        work = threads.map(of_fold, range(FOLDS), random.spawn(FOLDS))
        return scores, folds, list(track(work, about, FOLDS))
