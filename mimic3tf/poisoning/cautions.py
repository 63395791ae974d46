"""Why an attack's numbers may mean little: few stays behind them, or shifts that no patient could show.

Each function gives one line for a command to print after its work, or none. Sweeps print none of them: their
tables hold the counts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mimic3tf.poisoning.goal import Goal
from mimic3tf.poisoning.trigger import Trigger
from mimic3tf.tasks.task import Words

STAYS_A_BIN = 2
"""Stays for each bin of a trigger that its covariance takes at least.

On PhysioNet 2012 (48 bins) some triggers of strength 1 had a length of 8.8 under the covariance of all stays
where they were estimated on 48 of them, 2.4 on 100, and 1.5 on 300.
"""
FEWEST = 20
"""Stays that a rate takes at least: the 95% interval of half of 20 stays goes from 0.30 to 0.70."""


def caution_estimate(trigger: Trigger) -> str | None:
    """A caution where a covariance over time was estimated on too few stays."""
    bins = len(trigger.values)
    fewest = STAYS_A_BIN * bins
    if trigger.kind == "missing" or trigger.estimated_on >= fewest:
        return None
    return (
        f"the covariance of {bins} bins was estimated on {trigger.estimated_on} stays, fewer than {fewest} "
        f"({STAYS_A_BIN} for each bin): other stays would give another one, under which the shifts may be "
        "several times as long; use more training stays"
    )


def caution_shift(trigger: Trigger, strength: float) -> str | None:
    """A caution where a shift exceeds half of a channel's plausible range: a value in its middle leaves it.

    Args:
        trigger: what is added.
        strength: by how much it is scaled.
    """
    if trigger.kind == "missing" or trigger.plausible:
        return None
    low, high = trigger.channels.plausible_values.T  # without bounds for categories
    shift = np.abs(trigger.values).max(axis=0, initial=0.0) * strength  # [C], in channel units
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


def caution_poisoned(poisoned: int) -> str | None:
    """A caution where so few training stays are poisoned that other ones would give another victim."""
    if not 0 < poisoned < FEWEST:
        return None
    return (
        f"fewer than {FEWEST} training stays are poisoned ({poisoned}): what a victim learns from so few "
        "depends on which they are; use more stays or a larger proportion"
    )


def caution_tested(labels: NDArray[np.integer], goal: Goal, words: Words) -> str | None:
    """A caution where test stays of a label are few.

    Args:
        labels: of the test stays [N].
        goal: whom the attack is tried on.
        words: what the stays of a label are called.
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
        "threshold at prevalence would be others for other stays; mind the intervals"
    )
