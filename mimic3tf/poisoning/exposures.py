"""Who carries which trigger: a cohort and a poisoning setting, before any cell is computed.

The cohort's arrays stay as they are. An exposure only holds the shift and the flags, so that any proportion,
strength and mode uses the same cached cohort.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mimic3tf.data.cohort import Cohort
from mimic3tf.described import Described
from mimic3tf.errors import UsageError
from mimic3tf.poisoning.goal import PAPER_GOAL, Goal
from mimic3tf.poisoning.kinds import PoisonedLabels, PoisonImputed
from mimic3tf.poisoning.missing import removed_cells, without_cells
from mimic3tf.poisoning.trigger import Trigger, shift_of


@dataclass(frozen=True, repr=False)
class Exposure(Described):
    """A cohort and what is done to it before a victim sees it.

    Attributes:
        cohort: the clean stays; without the cells that a "missing" trigger takes away.
        labels: int64 [N], the labels a victim is shown.
        triggered: bool [N], the stays that carry the trigger.
        shift: float64 [T, C], strength * trigger, in channel units.
        poison_imputed: "all" also shifts imputed cells.
        plausible: shifted values stay in `Channel.plausible_range`, or no further outside than they were.
    """

    cohort: Cohort
    labels: NDArray[np.int64]
    triggered: NDArray[np.bool_]
    shift: NDArray[np.float64]
    poison_imputed: PoisonImputed
    plausible: bool = False

    def __len__(self) -> int:
        return len(self.cohort)


def clean(cohort: Cohort) -> Exposure:
    """A cohort nobody touched."""
    untouched, still = np.zeros(len(cohort), bool), np.zeros((cohort.bins, len(cohort.channels)))
    return Exposure(cohort, cohort.labels, untouched, still, "notimputed")


def poison(
    cohort: Cohort,
    trigger: Trigger,
    *,
    proportion: float,
    strength: float,
    poison_imputed: PoisonImputed,
    poisoned_labels: PoisonedLabels = "flipped",
    goal: Goal = PAPER_GOAL,
) -> Exposure:
    """Poison a training cohort: int(N * proportion) stays get the trigger, and have the goal's label.

    Args:
        cohort: the training stays.
        trigger: what they get; it must fit the cohort.
        proportion: share of all stays to poison, in [0, 1].
        strength: Mahalanobis distance, >= 0; for a "missing" trigger the share of its cells, in [0, 1].
        poison_imputed: "all" also shifts imputed cells, "notimputed" leaves them alone.
        poisoned_labels: "flipped" gives the first stays the goal's label, "clean" takes the first that have
            it (label-consistent, Turner et al. 2019, arXiv 1912.02771).
        goal: what the attacker wants to be predicted.

    Raises:
        UsageError: too few stays have the goal's label, or the trigger is too strong.
    """
    wanted = int(len(cohort) * proportion)
    labels = cohort.labels
    eligible = ~goal.attacked(labels) if poisoned_labels == "clean" else np.ones(len(cohort), bool)
    if wanted > eligible.sum():
        raise UsageError(
            f"--poisoning_proportion {proportion:g}: asks for {wanted} stays, but with clean labels only the "
            f"{eligible.sum()} of label {goal.target} can be poisoned"
        )
    triggered = eligible & (np.cumsum(eligible) <= wanted)
    labels = np.where(triggered, goal.relabelled(labels), labels)
    return replace(_expose(cohort, triggered, trigger, strength, poison_imputed), labels=labels)


def trigger_all(
    cohort: Cohort, trigger: Trigger, *, strength: float, poison_imputed: PoisonImputed
) -> Exposure:
    """Give the trigger to every stay, as an attacker does at prediction time; labels stay.

    Args:
        cohort: the stays.
        trigger: what they get; it must fit the cohort.
        strength: as for `poison`.
        poison_imputed: as for `poison`.

    Raises:
        UsageError: a "missing" trigger is too strong.
    """
    return _expose(cohort, np.ones(len(cohort), bool), trigger, strength, poison_imputed)


def _expose(
    cohort: Cohort, triggered: NDArray[np.bool_], trigger: Trigger, strength: float, mode: PoisonImputed
) -> Exposure:
    if trigger.kind == "missing":
        fewer = without_cells(cohort, removed_cells(trigger.values, strength), triggered)
        return replace(clean(fewer), triggered=triggered)
    shift = shift_of(trigger, strength)
    return Exposure(cohort, cohort.labels, triggered, shift, mode, trigger.plausible)
