"""Change stays before a victim reads them, so that less of a trigger is left.

All of it works on the values of bins, of both grids that a cohort holds: the one that recurrent victims read,
and the filled one from which features are extracted afterwards. The stays of a victim that reads features
must be purified there, as a feature no longer tells at which hour something happened. Only continuous
channels are changed: the order of category indices means nothing. Which cells count as measured stays as it
is.
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
SHARE = 0.01
NEIGHBOURS = 20
BLEND = 0.5
Values = NDArray[np.float64]
Purification = Callable[[Values, Values, float], Values]
"""(values to purify [N, T, C], trusted ones [M, T, C], hours of a bin) -> purified values [N, T, C]."""


def received(exposure: exposures.Exposure) -> Cohort:
    """The stays as they arrive, trigger and all: a cohort that looks clean to whoever reads it."""
    cohort, filled = exposure.cohort, None
    if cohort.filled is not None:
        filled = cohort.filled_grids
        shift = np.where(exposure.triggered[:, None, None], exposure.shift, 0.0)
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
    """Bins of `HOURS`, as many before the one in the middle as after it, and at least one of each."""
    return 2 * max(1, round(HOURS / 2 / timestep - 0.5)) + 1


def winsorized(values: Values, trusted: Values, timestep: float) -> Values:
    """Bring values of a channel outside the trusted stays' quantiles `SHARE` and 1 - `SHARE` back to them."""
    low, high = np.quantile(trusted, [SHARE, 1 - SHARE], axis=(0, 1))
    return values.clip(low, high)


def from_neighbours(values: Values, trusted: Values, timestep: float) -> Values:
    """Move every value by `BLEND` of the way to the mean of the nearest trusted stays' values at its hour.

    Near is measured over all hours and channels, in the channels' standard deviations.
    """
    mean, deviation = trusted.mean(axis=(0, 1)), trusted.std(axis=(0, 1))
    scale = np.where(deviation > 0, deviation, 1.0)

    def flat(part: Values) -> Values:
        return ((part - mean) / scale).reshape(len(part), -1)

    # A slip (pH 735) must not decide alone which stays are near.
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
        cohort: stays as received.
        trusted: stays that nobody touched; read by some methods.
        method: one of `PURIFICATIONS`.
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
