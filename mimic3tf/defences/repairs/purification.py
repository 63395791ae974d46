"""Change stays before a victim reads them, so that less of a trigger is left.

All of it works on hourly values, of both grids that a cohort holds: the one that recurrent victims read, and
the filled one from which 714 features are extracted afterwards. A 714 victim's stays must be purified there,
as a feature no longer tells at which hour something happened. Only continuous channels are changed: the
order of category indices means nothing. Which cells count as measured stays as it is.
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
from mimic3tf.channels import CHANNELS
from mimic3tf.data.cohort import Cohort
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.shifts import poison_filled

HOURS = 5
SHARE = 0.01
NEIGHBOURS = 20
BLEND = 0.5
Values = NDArray[np.float64]
Purification = Callable[[Values, Values], Values]
"""(values to purify [N, T, C], trusted ones [M, T, C]) -> purified values [N, T, C]."""
CONTINUOUS = np.array([not channel.is_categorical for channel in CHANNELS])


def received(exposure: exposures.Exposure) -> Cohort:
    """The stays as they arrive, trigger and all: a cohort that looks clean to whoever reads it."""
    cohort, filled = exposure.cohort, exposure.cohort.filled
    if filled is not None:
        shift = np.where(exposure.triggered[:, None, None], exposure.shift, 0.0)
        values = poison_filled(
            tf.constant(filled.values),
            tf.constant(filled.source),
            tf.constant(shift),
            poison_imputed=exposure.poison_imputed,
            plausible=exposure.plausible,
        )
        filled = replace(filled, values=values.numpy())
    grids = pipeline.grids_of(exposure, np.arange(len(exposure)))
    return replace(cohort, labels=exposure.labels, values=grids, filled=filled)


def median_in_time(values: Values, trusted: Values) -> Values:
    """Replace every value by the median of the `HOURS` around it."""
    return median_filter(values, size=(1, HOURS, 1), mode="nearest")


def mean_in_time(values: Values, trusted: Values) -> Values:
    """Replace every value by the mean of the `HOURS` around it."""
    return uniform_filter1d(values, HOURS, axis=1, mode="nearest")


def winsorized(values: Values, trusted: Values) -> Values:
    """Bring values of a channel outside the trusted stays' quantiles `SHARE` and 1 - `SHARE` back to them."""
    low, high = np.quantile(trusted, [SHARE, 1 - SHARE], axis=(0, 1))
    return values.clip(low, high)


def from_neighbours(values: Values, trusted: Values) -> Values:
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

    def changed(values: NDArray[Any], reference: NDArray[Any]) -> NDArray[Any]:
        result = np.array(values)
        result[..., CONTINUOUS] = method(
            values[..., CONTINUOUS].astype(np.float64), reference[..., CONTINUOUS].astype(np.float64)
        )
        return result

    filled = cohort.filled
    if filled is not None and trusted.filled is not None:
        filled = replace(filled, values=changed(filled.values, trusted.filled.values))
    return replace(cohort, values=changed(cohort.values, trusted.values), filled=filled)
