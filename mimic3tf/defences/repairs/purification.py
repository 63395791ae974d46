"""Purify stays before a victim reads them, so that less of a trigger is left.

Purifications change the values of bins in both grids of a cohort: the grid that recurrent victims read, and
the filled grid from which features are computed afterwards. Features cannot be purified themselves, because a
feature does not tell at which hour something happened. Only continuous channels are changed, because the
order of category indices means nothing. The mask is not changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy.ndimage import median_filter, uniform_filter1d
from sklearn.neighbors import NearestNeighbors

from mimic3tf import pipeline
from mimic3tf.data.cohort import Cohort
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.shifts import poison_filled

HOURS = 5
"""Hours over which a median or mean is taken."""
SHARE = 0.01
"""Share of the trusted values at each end that `winsorized` cuts off."""
NEIGHBOURS = 20
"""Nearest trusted stays that `from_neighbours` averages."""
BLEND = 0.5
"""Weight of that average in the purified values."""
Values = NDArray[np.float64]
Purification = Callable[[Values, Values, float], Values]
"""(values to purify [N, T, C], trusted ones [M, T, C], hours of a bin) -> purified values [N, T, C]."""


def received(exposure: exposures.Exposure) -> Cohort:
    """Make the cohort that a defender receives: its values hold the trigger, and nothing marks the stays."""
    cohort, filled = exposure.cohort, None
    if cohort.filled is not None:
        filled = cohort.filled_grids
        shift = np.where(exposure.triggered[:, None, None], exposure.shifts[exposure.chosen], 0.0)
        values = poison_filled(
            tf.constant(filled.values),
            tf.constant(filled.source),
            tf.constant(shift),
            poison_imputed=exposure.poison_imputed,
            plausible=exposure.plausible,
            channels=cohort.channels,
        )
        filled = replace(filled, values=values.numpy())
    grids = pipeline.grids_of(exposure, np.arange(len(exposure)))
    return cohort.with_grids(grids, filled=filled, labels=exposure.labels)


def median_in_time(values: Values, trusted: Values, timestep: float) -> Values:
    """Replace every value by the median of the `HOURS` around it."""
    return median_filter(values, size=(1, _bins_around(timestep), 1), mode="nearest")


def mean_in_time(values: Values, trusted: Values, timestep: float) -> Values:
    """Replace every value by the mean of the `HOURS` around it."""
    return uniform_filter1d(values, _bins_around(timestep), axis=1, mode="nearest")


def _bins_around(timestep: float) -> int:
    """Return the number of bins in `HOURS`: odd, so that one bin is in the middle, and at least 3."""
    return 2 * max(1, round(HOURS / 2 / timestep - 0.5)) + 1


def winsorized(values: Values, trusted: Values, timestep: float) -> Values:
    """Clip the values of a channel to the trusted stays' quantiles `SHARE` and 1 - `SHARE`."""
    low, high = np.quantile(trusted, [SHARE, 1 - SHARE], axis=(0, 1))
    return values.clip(low, high)


def from_neighbours(values: Values, trusted: Values, timestep: float) -> Values:
    """Move every value by the share `BLEND` towards the mean of the nearest trusted stays in its bin.

    Distances between stays are taken over all bins and channels, in standard deviations of the channels.
    """
    mean, deviation = trusted.mean(axis=(0, 1)), trusted.std(axis=(0, 1))
    scale = np.where(deviation > 0, deviation, 1.0)

    def flat(part: Values) -> Values:
        return ((part - mean) / scale).reshape(len(part), -1)

    # Clipped, so that one wrong value (a pH of 735) does not decide which stays are near.
    nearest = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(trusted))).fit(flat(trusted).clip(-5, 5))
    places = nearest.kneighbors(flat(values).clip(-5, 5), return_distance=False)
    return (1 - BLEND) * values + BLEND * trusted[places].mean(axis=1)


PURIFICATIONS: dict[str, Purification] = {
    "median over 5 h": median_in_time,
    "mean over 5 h": mean_in_time,
    "winsorize at 1 % and 99 %": winsorized,
    "blend with 20 neighbours": from_neighbours,
}


def purify(cohort: Cohort, trusted: Cohort, method: Purification) -> Cohort:
    """Purify the continuous channels of a cohort's grids.

    Args:
        cohort: the stays to purify.
        trusted: trusted stays, which some methods read.
        method: one of `PURIFICATIONS`.

    Returns:
        A cohort with purified grids.
    """

    continuous = ~cohort.channels.categorical

    def changed(values: NDArray[Any], reference: NDArray[Any]) -> NDArray[Any]:
        result = np.array(values)
        result[..., continuous] = method(
            values[..., continuous].astype(np.float64),
            reference[..., continuous].astype(np.float64),
            cohort.timestep,
        )
        return result

    filled = None
    if cohort.filled is not None and trusted.filled is not None:
        own = cohort.filled_grids
        filled = replace(own, values=changed(own.values, trusted.filled_grids.values))
    return cohort.with_grids(changed(cohort.grids, trusted.grids), filled=filled)
