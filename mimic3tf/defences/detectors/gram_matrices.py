"""A detector of stays for which pairs of the victim's units are active as for no trusted stay.

Source: Beatrix, Ma et al. 2023 (arXiv 2209.11715). The numbers are those of its authors' code.
"""

from __future__ import annotations

import numpy as np

from mimic3tf.defences.detectors.views import (
    Floats,
    Scores,
    activations,
    among_suspects,
    trusted_activations,
)
from mimic3tf.defences.evidence import Evidence

MADS = 10.0
"""Median absolute deviations (MADs) from the median within which an entry is sound."""
LEAST_BOUND = 1e-6
"""Added to the bounds that deviations are divided by. Bounds are 0 for units silent in trusted stays."""


def beatrix(evidence: Evidence, seed: int) -> Scores:
    """Score suspects by how far their Gram matrices lie outside those of trusted stays of the same label.

    There are two departures from the paper. It compares inputs of the same predicted label, and then tests
    which label is the target; here the suspected label is given. And its Gram matrix of order p, the p-th
    root of products of p-th powers of two units, is summed over the positions of a feature map. The
    activations here have one position. So every odd order gives the product of the two units, and every even
    order its absolute value: the orders 1 and 2 hold all that the paper's 8 orders do.

    Nothing is random here: the seed has no effect.
    """
    suspects = np.flatnonzero(evidence.labels == evidence.suspected)
    scores = gram_deviation(activations(evidence, suspects), trusted_activations(evidence))
    return among_suspects(scores, suspects, len(evidence.labels))


def gram_deviation(seen: Floats, trusted: Floats) -> Floats:
    """Return how far products of two units of activations [N, H] lie outside those of [M, H]: [N].

    The deviation of an entry is its distance from median +- `MADS` MADs, divided by that bound. The result is
    the sum over the upper triangle, divided by half of the H * H entries, and the mean over both orders.
    """
    units = seen.shape[1]
    total = np.zeros(len(seen))
    for unit in range(units):  # the pairs of all units at once would fill the memory
        products, known = (rows[:, unit:] * rows[:, [unit]] for rows in (seen, trusted))
        total += _outside(products, known) + _outside(np.abs(products), np.abs(known))
    return total / units**2


def _outside(entries: Floats, known: Floats) -> Floats:
    """Sum the deviations of entries [N, D] from the bounds of known entries [M, D]: [N]."""
    median = np.median(known, axis=0)
    reach = MADS * np.median(np.abs(known - median), axis=0)
    low, high = median - reach, median + reach
    below = np.maximum(low - entries, 0) / (np.abs(low) + LEAST_BOUND)
    above = np.maximum(entries - high, 0) / (np.abs(high) + LEAST_BOUND)
    return np.asarray((below + above).sum(axis=1))
