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

    It is the Mahalanobis length of the bins of the trigger that the stay has, under their own covariance over
    time, as a mean over the channels that the trigger shifts. A drawn trigger has about this length in all
    its channels. Cells that are not measured are not left out.

    Args:
        trigger: a trigger that shifts values.
        stays: names of the N stays.
        bins: int [N], number of bins of each stay.
        strength: factor by which the trigger is multiplied.
        at: hour of the stay at which the trigger begins.

    Returns:
        float64 [N]; 0 for a stay that ends before the trigger begins.
    """
    first, most = first_bin(at, trigger.timestep), len(trigger.values)
    held = np.clip(bins - first, 0, most)
    chosen = chosen_patterns(stays, len(trigger.patterns))
    carried = np.zeros(len(held))
    varies = varying_channels(trigger.covariance)
    for count in np.unique(held[held > 0]).tolist():
        covariance = trigger.covariance[varies, :count, :count]
        for number in np.unique(chosen[held == count]).tolist():
            pattern = trigger.patterns[number][:, varies].T
            shifted = pattern.any(axis=1)
            lengths = mahalanobis_length(pattern[shifted][:, :count], covariance[shifted])
            carried[(held == count) & (chosen == number)] = lengths.mean() if len(lengths) else 0.0
    return carried * strength


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
    first = first_bin(at, trigger.timestep)
    return {
        "whole": float((bins >= first + len(trigger.values)).mean()),
        "mean": float(carried.mean()),
        "median": float(np.median(carried)),
        "lowest": float(carried.min()),
    }
