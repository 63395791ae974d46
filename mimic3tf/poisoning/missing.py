"""The missing-value trigger: a pattern of missing cells; the remaining values do not change.

Source: Joe et al., Exploiting Missing Value Patterns for a Backdoor Attack on Machine Learning Models of
Electronic Health Records, JMIR Medical Informatics 2022;10(8):e38440. In the paper, a variational autoencoder
makes patterns that look natural. This module needs no trained model: it draws the cells uniformly, or takes
the cells that one real stay did not measure.

A row remains in the record even if its last measurement is removed: an empty row still has its time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mimic3tf.data.cohort import Cohort
from mimic3tf.data.grid import FilledGrid, bins_of, last_measured, take_source
from mimic3tf.errors import UsageError


def draw_order(inside: NDArray[np.bool_], *, seed: int) -> NDArray[np.float64]:
    """Draw the order in which cells go missing as the strength rises.

    Args:
        inside: bool [T, C], cells that may be drawn; at least one is true.
        seed: non-negative int; fixes the draw.

    Returns:
        float64 [T, C], the strength from which a cell is missing: for K cells inside, 1/K, 2/K, ..., 1 in
        random order; 0 outside, where no cell ever goes missing.
    """
    order = np.zeros(inside.shape)
    cells = int(inside.sum())
    order[inside] = np.random.default_rng(seed).permutation(np.arange(1, cells + 1)) / cells
    return order


def natural_order(inside: NDArray[np.bool_], masks: NDArray[np.bool_], *, seed: int) -> NDArray[np.float64]:
    """Draw a stay, and the order in which the cells that it did not measure go missing.

    Cells that no stay measures are left out. Gaps stay together: the cells of a channel that follow each
    other without a measurement go missing one after the other.

    Args:
        inside: bool [T, C], cells that may be drawn.
        masks: bool [N, T, C], which cells of the stays were measured.
        seed: non-negative int; fixes the draw.

    Returns:
        float64 [T, C], as `draw_order` returns it.

    Raises:
        UsageError: the stay has no gap inside.
    """
    random = np.random.default_rng(seed)
    missing = (inside & masks.any(axis=0) & ~masks[random.integers(len(masks))]).T
    if not missing.any():
        raise UsageError(
            f"--natural: the stay drawn with --seed {seed} has no gap in these channels and hours; give "
            "another --seed"
        )
    # A gap starts where the bin before it is measured, or is of another channel.
    starts = missing & ~np.pad(missing, ((0, 0), (1, 0)))[:, :-1]
    gaps = np.cumsum(starts)[missing.ravel()] - 1
    rank = np.argsort(np.argsort(random.permutation(gaps.max() + 1)[gaps], kind="stable"), kind="stable")
    order = np.zeros(missing.shape)
    order[missing] = (rank + 1) / len(rank)
    return order.T


def removed_cells(order: NDArray[np.float64], strength: float) -> NDArray[np.bool_]:
    """Select the cells that a trigger removes at a strength.

    Args:
        order: float64 [T, C] of `draw_order`.
        strength: share of the cells of the trigger, in [0, 1].

    Returns:
        bool [T, C].

    Raises:
        UsageError: the strength is above 1; it was probably meant for a trigger that shifts values.
    """
    if strength > 1:
        raise UsageError(
            f"poisoning_strength is {strength:g}: for a 'missing' trigger it is the share of its cells that "
            "go missing, from 0 to 1; give --poisoning_strength"
        )
    return (order > 0) & (order <= strength)


def without_cells(cohort: Cohort, removed: NDArray[np.bool_], stays: NDArray[np.bool_]) -> Cohort:
    """Remove the measurements of some cells from some stays, and impute these stays again.

    Args:
        cohort: the stays.
        removed: bool [T, C], cells whose measurements are removed.
        stays: bool [N], stays from which they are removed.

    Returns:
        The cohort that records without these measurements would give, but with the fingerprint of the
        unchanged records.
    """
    normal = cohort.channels.normal
    mask = cohort.masks & ~(stays[:, None, None] & removed)
    values = np.array(cohort.grids)
    values[stays] = take_source(values[stays], last_measured(mask[stays]), normal)
    filled = cohort.filled and _without_filled(cohort.filled_grids, removed, stays, cohort.timestep, normal)
    return cohort.with_grids(values, mask=mask, filled=filled)


def _without_filled(
    filled: FilledGrid,
    removed: NDArray[np.bool_],
    stays: NDArray[np.bool_],
    timestep: float,
    normal: NDArray[np.float64],
) -> FilledGrid:
    values, source = np.array(filled.values), np.array(filled.source)
    own = np.arange(values.shape[1], dtype=np.int16)[:, None]
    # A bin in a gap holds the measurements of the next row, and loses them with the bin of that row.
    charted_in = bins_of(filled.times[stays], timestep, values.shape[1])
    measured = (source[stays] == own) & ~removed[charted_in]
    source[stays] = last_measured(measured)
    values[stays] = take_source(values[stays], source[stays], normal)
    return FilledGrid(values, source, filled.times)
