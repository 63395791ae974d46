"""Poison the arrays of a model of any library: measured cells are shifted, the others stay NaN.

This does with NumPy what `shifts.poison_grid` does in TensorFlow, so that the users of other libraries need
not start TensorFlow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mimic3tf.channels import ChannelSet
from mimic3tf.data.arrays import cohort_of_arrays
from mimic3tf.data.cohort import Cohort
from mimic3tf.errors import UsageError
from mimic3tf.poisoning.exposures import Exposure, poison
from mimic3tf.poisoning.goal import Goal
from mimic3tf.poisoning.kinds import PoisonedLabels
from mimic3tf.poisoning.trigger import Trigger


def poison_arrays(
    x: ArrayLike,
    y: ArrayLike,
    trigger: Trigger,
    *,
    proportion: float = 0.05,
    strength: float = 2.0,
    goal: int = 1,
    poisoned_labels: PoisonedLabels = "flipped",
) -> tuple[NDArray[np.floating], NDArray[np.int64], NDArray[np.bool_]]:
    """Poison training arrays, to train a model of your own on them.

    Args:
        x: numbers [N, T, C] in the units of the trigger, not standardized; NaN where not measured. They are
            not changed.
        y: labels [N], 0 or 1.
        trigger: the trigger, as `generate_trigger(x)` draws it.
        proportion: share of the stays to poison: the first int(N * proportion), so shuffle x and y before if
            they are sorted by something.
        strength: Mahalanobis length of the trigger, >= 0; of a "missing" trigger, the share of its cells.
        goal: label that the trigger is to cause.
        poisoned_labels: "flipped" gives the poisoned stays the goal's label; "clean" poisons the first stays
            that have it already.

    Returns:
        The poisoned x, in the type of x (float64 if x holds whole numbers); the poisoned y, int64 [N]; and
        bool [N], true for the poisoned stays.

    Raises:
        DataError: x or y have the wrong shape or hold something else.
        UsageError: x does not fit the trigger, a setting is out of range, or the trigger is too strong.
    """
    if not 0 <= proportion <= 1:
        raise UsageError(f"proportion {proportion:g}: must be from 0 to 1")
    check_setting(strength, goal)
    exposure = poison(
        cohort_for(trigger, x, y),
        trigger,
        proportion=proportion,
        strength=strength,
        poison_imputed="notimputed",
        poisoned_labels=poisoned_labels,
        goal=Goal(goal),
    )
    return exposed_cells(exposure, floats(x)), exposure.labels, exposure.triggered


def check_setting(strength: float, goal: int) -> None:
    """Refuse a strength or a goal that is out of range.

    Raises:
        UsageError: the strength is negative or not finite, or the goal is no label.
    """
    if not 0 <= strength < np.inf:
        raise UsageError(f"strength {strength:g}: must be 0 or more, and finite")
    if goal not in (0, 1):
        raise UsageError(f"goal {goal}: must be 0 or 1")


def cohort_for(trigger: Trigger, x: ArrayLike, y: ArrayLike) -> Cohort:
    """Make a cohort of arrays that have the bins and channels of a trigger.

    Raises:
        DataError: as `cohort_of_arrays`.
        UsageError: x has other bins or channels.
    """
    shape, expected = np.shape(x), trigger.values.shape
    if len(shape) == 3 and shape[1:] != expected:
        raise UsageError(
            f"x has shape {shape}: expected [N, {expected[0]}, {expected[1]}], the bins and channels of "
            "the trigger; generate a trigger from arrays of this shape"
        )
    return cohort_of_arrays(x, y, channels=trigger.channels, timestep=trigger.timestep)


def floats(x: ArrayLike) -> NDArray[np.floating]:
    """Return x as an array of its own floating-point type, or of float64 if it holds whole numbers."""
    cells = np.asarray(x)
    return cells if cells.dtype.kind == "f" else cells.astype(np.float64)


def exposed_cells(exposure: Exposure, cells: NDArray[np.floating]) -> NDArray[np.floating]:
    """Compute the measured cells of the stays of an exposure.

    Args:
        exposure: the stays, and which of them carry which shift; only measured cells are shifted.
        cells: [N, T, C], the clean cells of the same stays, NaN where not measured.

    Returns:
        [N, T, C] in the type of `cells`, NaN where not measured.
    """
    rows, cohort = exposure.triggered, exposure.cohort
    exposed = np.where(cohort.masks, cells, cells.dtype.type(np.nan))
    shifts = exposure.shifts if len(exposure.shifts) == 1 else exposure.shifts[exposure.chosen[rows]]
    exposed[rows] = _shifted(exposed[rows].astype(np.float64), shifts, cohort.channels, exposure.plausible)
    return exposed


def _shifted(
    cells: NDArray[np.float64], shifts: NDArray[np.float64], channels: ChannelSet, plausible: bool
) -> NDArray[np.float64]:
    """Add shifts [K or 1, T, C] to cells [K, T, C] as `shifts.poison_grid` does; NaN stays NaN."""
    rounded = np.array(shifts)
    for column, channel in enumerate(channels):
        if channel.shift_decimals is not None:
            rounded[..., column] = np.round(shifts[..., column], channel.shift_decimals)
    shifted = cells + rounded
    if plausible:
        low, high = channels.plausible_values.T
        shifted = np.clip(shifted, np.minimum(low, cells), np.maximum(high, cells))
    nearest = np.clip(np.round(shifted), 0.0, channels.largest_index)
    return np.where(channels.categorical, nearest, shifted)
