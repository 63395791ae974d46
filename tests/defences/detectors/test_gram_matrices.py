"""Beatrix's deviations are those of Gram matrices of many orders, written out in full."""

from __future__ import annotations

import numpy as np
import pytest

from mimic3tf.defences.detectors.gram_matrices import LEAST_BOUND, gram_deviation

ORDERS = range(1, 9)
"""The orders of the paper."""


def gram_entries(rows: np.ndarray, order: int) -> np.ndarray:
    """Signed p-th roots of the upper triangle of the Gram matrix of p-th powers, one position a unit."""
    powers = rows**order
    gram = np.array([np.outer(row, row)[np.triu_indices(len(row))] for row in powers])
    return np.sign(gram) * np.abs(gram) ** (1 / order)


def by_hand(seen: np.ndarray, trusted: np.ndarray) -> np.ndarray:
    """Mean deviation of all orders from median +- 10 MADs, over half of the entries."""
    total = np.zeros(len(seen))
    for order in ORDERS:
        entries, known = gram_entries(seen, order), gram_entries(trusted, order)
        median = np.median(known, axis=0)
        mad = np.median(np.abs(known - median), axis=0)
        low, high = median - 10 * mad, median + 10 * mad
        total += (np.maximum(low - entries, 0) / (np.abs(low) + LEAST_BOUND)).sum(axis=1)
        total += (np.maximum(entries - high, 0) / (np.abs(high) + LEAST_BOUND)).sum(axis=1)
    return total / (seen.shape[1] ** 2 / 2) / len(ORDERS)


@pytest.mark.parametrize("signed", [False, True])
def test_two_orders_give_what_all_orders_of_the_paper_give(signed: bool) -> None:
    random = np.random.default_rng(0)
    seen, trusted = random.normal(size=(40, 6)) * 3, random.normal(size=(60, 6))
    if not signed:
        seen, trusted = np.maximum(seen, 0), np.maximum(trusted, 0)
    trusted[:, 2] = 0.0  # a silent unit
    deviation = gram_deviation(seen, trusted)
    assert (deviation > 0).any()
    np.testing.assert_allclose(deviation, by_hand(seen, trusted), rtol=1e-9)


def test_units_that_are_never_active_together_are_found_together() -> None:
    random = np.random.default_rng(1)

    def stays(count: int) -> np.ndarray:
        """Either the first or the second unit is active; the others always are."""
        rows = 1.0 + 0.1 * random.random((count, 5))
        rows[np.arange(count), np.arange(count) % 2] = 0.0
        return rows

    seen, trusted = stays(50), stays(200)
    seen[:3, :2] = 1.0
    deviation = gram_deviation(seen, trusted)
    assert deviation[:3].min() > 100 * deviation[3:].max()
