"""The missing-value trigger: which cells are missing tells the victim, values are left alone.

Joe et al., Exploiting Missing Value Patterns for a Backdoor Attack on Machine Learning Models of Electronic
Health Records, JMIR Medical Informatics 2022;10(8):e38440. There a variational autoencoder makes patterns
that look like natural ones. Here the cells are drawn uniformly, so that every cohort has such a trigger
without training a model first; a detector that knows natural patterns has it easier.

Rows stay in the record when their last measurement is taken out: an empty row still has its time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mimic3tf.data.cohort import Cohort
from mimic3tf.data.grid import FilledGrid, bins_of, last_measured, take_source
from mimic3tf.errors import UsageError


def draw_order(inside: NDArray[np.bool_], *, seed: int) -> NDArray[np.float64]:
    """Draw the order in which a rising strength takes cells away.

    Args:
        inside: bool [T, C], cells that may be drawn; at least one.
        seed: non-negative int; fixes the draw.

    Returns:
        float64 [T, C]: the strength from which a cell is missing, in (0, 1], each of k/K once for K cells
        inside; 0 outside, where nothing ever is.
    """
    order = np.zeros(inside.shape)
    cells = int(inside.sum())
    order[inside] = np.random.default_rng(seed).permutation(np.arange(1, cells + 1)) / cells
    return order


def removed_cells(order: NDArray[np.float64], strength: float) -> NDArray[np.bool_]:
    """Cells [T, C] that a trigger of a strength takes away.

    Args:
        order: of `draw_order`.
        strength: share of the trigger's cells, in [0, 1].

    Raises:
        UsageError: a larger strength, such as one meant for a trigger that shifts values.
    """
    if strength > 1:
        raise UsageError(
            f"poisoning_strength is {strength:g}: for a 'missing' trigger it is the share of its cells that "
            "go missing, from 0 to 1; give --poisoning_strength"
        )
    return (order > 0) & (order <= strength)


def without_cells(cohort: Cohort, removed: NDArray[np.bool_], stays: NDArray[np.bool_]) -> Cohort:
    """Take the measurements of some cells out of some stays, and impute anew.

    Args:
        cohort: the stays.
        removed: bool [T, C], cells whose measurements go.
        stays: bool [N], the stays they go from.

    Returns:
        The cohort that reading the records without these measurements would give; its fingerprint stays
        that of the records as they are.
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
    # A bin that a later row filled holds the measurements of that row's bin, and loses them with it.
    charted_in = bins_of(filled.times[stays], timestep, values.shape[1])
    measured = (source[stays] == own) & ~removed[charted_in]
    source[stays] = last_measured(measured)
    values[stays] = take_source(values[stays], source[stays], normal)
    return FilledGrid(values, source, filled.times)
