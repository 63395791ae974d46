"""How much of a trigger the stays carry that end before the trigger does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mimic3tf.data.cohort import Cohort
from mimic3tf.data.grid import EPSILON
from mimic3tf.poisoning.choice import chosen_patterns
from mimic3tf.poisoning.patterns import mahalanobis_length, varying_channels
from mimic3tf.poisoning.trigger import Trigger


def carried_strength(
    trigger: Trigger, cohort: Cohort, *, strength: float, at: float = 0.0
) -> NDArray[np.float64]:
    """Compute the strength that every stay carries if it has the trigger.

    It is the Mahalanobis length of the bins of the trigger that the stay has, under their own covariance over
    time, as a mean over the channels that the trigger shifts. A drawn trigger has about this length in all
    its channels. Cells that are not measured are not left out.

    Args:
        trigger: a trigger that shifts values.
        cohort: the N stays.
        strength: factor by which the trigger is multiplied.
        at: hour of the stay at which the trigger begins.

    Returns:
        float64 [N]; 0 for a stay that ends before the trigger begins.
    """
    first, bins = int(at / cohort.timestep + EPSILON), len(trigger.values)
    held = np.clip(cohort.lengths - first, 0, bins)
    chosen = chosen_patterns(cohort.stays, len(trigger.patterns))
    carried = np.zeros(len(cohort))
    varies = varying_channels(trigger.covariance)
    for count in np.unique(held[held > 0]).tolist():
        covariance = trigger.covariance[varies, :count, :count]
        for number in np.unique(chosen[held == count]).tolist():
            pattern = trigger.patterns[number][:, varies].T
            shifted = pattern.any(axis=1)
            lengths = mahalanobis_length(pattern[shifted][:, :count], covariance[shifted])
            carried[(held == count) & (chosen == number)] = lengths.mean() if len(lengths) else 0.0
    return carried * strength


def carried_record(trigger: Trigger, cohort: Cohort, *, strength: float, at: float = 0.0) -> dict[str, float]:
    """Summarize the strength that stays carry.

    Returns:
        `whole`: share of the stays that last to the end of the trigger; `mean`, `median` and `lowest`: of the
        strength over all stays.
    """
    carried = carried_strength(trigger, cohort, strength=strength, at=at)
    first = int(at / cohort.timestep + EPSILON)
    return {
        "whole": float((cohort.lengths >= first + len(trigger.values)).mean()),
        "mean": float(carried.mean()),
        "median": float(np.median(carried)),
        "lowest": float(carried.min()),
    }
