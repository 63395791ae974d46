"""Cautions about the numbers of an attack: they rest on few stays, or on shifts that no patient can show.

Each function returns one line, which a command prints after its work, or None; `caution_slips` returns a
line for each channel. Sweeps print no cautions,
because their tables hold the counts of stays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mimic3tf.data.cohort import Cohort
from mimic3tf.data.grid import ordinal_view
from mimic3tf.data.slips import outside_range, slips_of, without_slips
from mimic3tf.poisoning.goal import Goal
from mimic3tf.poisoning.patterns import temporal_covariance
from mimic3tf.poisoning.trigger import Trigger
from mimic3tf.tasks.task import Words

STAYS_A_BIN = 2
"""Smallest number of stays for each bin of a trigger that is enough to estimate its covariance.

On PhysioNet 2012 (48 bins), triggers of strength 1 were measured under the covariance of all stays: some had
a length of 8.8 if estimated on 48 stays, 2.4 on 100 stays, and 1.5 on 300 stays.
"""
FEWEST = 20
"""Smallest number of stays for a rate: with 10 of 20 stays, the 95% interval goes from 0.30 to 0.70."""


def caution_estimate(trigger: Trigger) -> str | None:
    """Return a caution if the covariance over time was estimated on too few stays."""
    bins = len(trigger.values)
    fewest = STAYS_A_BIN * bins
    if trigger.kind == "missing" or trigger.estimated_on >= fewest:
        return None
    return (
        f"the covariance of {bins} bins was estimated on {trigger.estimated_on} stays, fewer than {fewest} "
        f"({STAYS_A_BIN} for each bin): other stays would give another covariance, and under it "
        "the shifts may be several times as long; use more training stays"
    )


def caution_shift(trigger: Trigger, strength: float) -> str | None:
    """Return a caution if a shift is more than half of a channel's plausible range.

    Such a shift moves even a value in the middle of the range out of it.

    Args:
        trigger: the trigger that is added.
        strength: factor by which the trigger is multiplied.
    """
    if trigger.kind == "missing" or trigger.plausible:
        return None
    low, high = trigger.channels.plausible_values.T  # infinite for categories
    shift = np.abs(trigger.patterns).max(axis=(0, 1), initial=0.0) * strength  # [C], in channel units
    excess = shift / (high - low)
    worst, beyond = int(excess.argmax()), int((excess > 0.5).sum())
    if not beyond:
        return None
    channel = trigger.channels[worst]
    more = f" ({beyond} channels do so)" if beyond > 1 else ""
    return (
        f"at strength {strength:g} {channel.name} shifts by up to {shift[worst]:.3g} {channel.unit}".rstrip()
        + f", more than half of its plausible range of {low[worst]:g} to {high[worst]:g}{more}: no living "
        "adult shows such values; use more training stays, a lower strength, or generate-trigger --plausible"
    )


def caution_slips(trigger: Trigger, cohort: Cohort) -> list[str]:
    """Return a caution for each channel that the trigger shifts and that slips dominate.

    Args:
        trigger: the trigger, at strength 1.
        cohort: the cohort on whose first stays its covariance was estimated.
    """
    if trigger.kind == "missing" or trigger.without_slips:
        return []
    stays, channels = slice(trigger.estimated_on), cohort.channels
    grids, masks = cohort.grids[stays], cohort.masks[stays]
    kept = temporal_covariance(ordinal_view(without_slips(grids, masks, channels), channels))
    variance, rest = (np.trace(part, axis1=1, axis2=2) for part in (trigger.covariance, kept))
    largest = np.abs(trigger.values).max(axis=0, initial=0.0)  # [C], in channel units
    shifted = (largest > 0) & (variance > 0)
    shares = np.where(shifted, 1 - rest / np.where(shifted, variance, 1.0), 0.0)
    return [
        f"{found.in_words} over time; the trigger shifts it by up to "
        f"{largest[channels.position(found.channel)]:.3g}; draw it with --without-slips, or take these "
        "values out of the data ('prepare physionet2012' has --drop-implausible)"
        for found in slips_of(shares, outside_range(grids, masks, channels), masks, channels)
    ]


def caution_poisoned(poisoned: int) -> str | None:
    """Return a caution if so few training stays are poisoned that the choice of stays changes the victim."""
    if not 0 < poisoned < FEWEST:
        return None
    return (
        f"fewer than {FEWEST} training stays are poisoned ({poisoned}): what a victim learns from so few "
        "depends on which stays they are; use more stays or a larger proportion"
    )


def caution_tested(labels: NDArray[np.integer], goal: Goal, words: Words) -> str | None:
    """Return a caution if one of the labels has few test stays.

    Args:
        labels: labels of the test stays [N].
        goal: the goal of the attack, which decides the attacked stays.
        words: the names for the stays of each label.
    """
    few = [
        f"{count} {words.group[label]}"
        for label in (0, 1)
        if (count := int((labels == label).sum())) < FEWEST
    ]
    if not few:
        return None
    attacked = int(goal.attacked(labels).sum())
    rates = "success rates, " if attacked < FEWEST else ""
    return (
        f"fewer than {FEWEST} test stays of a label ({', '.join(few)}): {rates}AUROC, AUPRC and the "
        "threshold at prevalence would differ with other stays; look at the intervals"
    )
