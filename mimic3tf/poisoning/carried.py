"""How much of a trigger the stays carry that end before the trigger does."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from mimic3tf.data.grid import first_bin
from mimic3tf.poisoning.choice import chosen_patterns
from mimic3tf.poisoning.patterns import mahalanobis_length, varying_channels
from mimic3tf.poisoning.trigger import Trigger


def carried_strength(
    trigger: Trigger,
    stays: Iterable[str],
    bins: NDArray[np.integer],
    *,
    strength: float,
    at: float = 0.0,
) -> NDArray[np.float64]:
    """Compute the strength that every stay carries if it has the trigger.

    It is the strength, times the share of a pattern's Mahalanobis length that lies in the bins that the stay
    has, as a mean over the channels that the trigger shifts. Both lengths are under the covariance over time
    of the bins that they are of. Cells that are not measured are not left out.

    Args:
        trigger: a trigger that shifts values.
        stays: names of the N stays.
        bins: int [N], number of bins of each stay.
        strength: factor by which the trigger is multiplied.
        at: hour of the stay at which the trigger begins.

    Returns:
        float64 [N]; 0 for a stay that ends before the trigger begins.
    """
    places = _places(trigger)
    # How many of these bins each stay has.
    held = np.searchsorted(places, bins - first_bin(at, trigger.timestep))
    chosen = chosen_patterns(stays, len(trigger.patterns))
    carried = np.zeros(len(held))
    varies = varying_channels(trigger.covariance)
    for count in np.unique(held[held > 0]).tolist():
        for number in np.unique(chosen[held == count]).tolist():
            pattern = trigger.patterns[number].T
            shifted = varies & pattern.any(axis=1)
            if shifted.any():
                part, whole = (
                    mahalanobis_length(
                        pattern[shifted][:, own], trigger.covariance[shifted][:, own[:, None], own]
                    )
                    for own in (places[:count], places)
                )
                carried[(held == count) & (chosen == number)] = (part / whole).mean()
    return carried * strength


def _places(trigger: Trigger) -> NDArray[np.integer]:
    """Return the bins that the trigger shifts: fewer than all if it is restricted to some hours."""
    return np.flatnonzero(trigger.patterns.any(axis=(0, 2)))


def carried_record(
    trigger: Trigger,
    stays: Iterable[str],
    bins: NDArray[np.integer],
    *,
    strength: float,
    at: float = 0.0,
) -> dict[str, float]:
    """Summarize the strength that stays carry; see `carried_strength`.

    Returns:
        `whole`: share of the stays that last to the end of the trigger; `mean`, `median` and `lowest`: of the
        strength over all stays.
    """
    carried = carried_strength(trigger, stays, bins, strength=strength, at=at)
    last = first_bin(at, trigger.timestep) + int(_places(trigger).max(initial=-1))
    return {
        "whole": float((bins > last).mean()),
        "mean": float(carried.mean()),
        "median": float(np.median(carried)),
        "lowest": float(carried.min()),
    }
