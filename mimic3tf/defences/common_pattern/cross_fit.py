"""Judge every stay by a fit to the stays of other folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mimic3tf.progress import track

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

FOLDS = 3


def cross_fit(
    sizes: Sequence[int],
    random: np.random.Generator,
    fit: Callable[[list[Rows]], Callable[[int, Rows], Floats]],
    about: str,
) -> tuple[list[Floats], list[Rows]]:
    """Divide groups of stays into folds, and score each fold by a fit to the others.

    Args:
        sizes: number of stays of each group.
        random: draws the folds.
        fit: takes the indices of the stays of each group to fit to; returns a function from the number of a
            group and the indices [K] of stays of it to their scores [K].
        about: what the bar of progress says.

    Returns:
        The scores float64 [N] and the folds int64 [N] of the stays of each group.
    """
    folds = [random.permutation(size) % FOLDS for size in sizes]
    scores = [np.empty(size) for size in sizes]
    for fold in track(range(FOLDS), about):
        score = fit([np.flatnonzero(of != fold) for of in folds])
        for group, (of, result) in enumerate(zip(folds, scores, strict=True)):
            held_out = np.flatnonzero(of == fold)
            result[held_out] = score(group, held_out)
    return scores, folds
