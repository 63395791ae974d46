"""Which stays of a cohort carry which trigger, before any shifted cell is computed.

The arrays of the cohort are not changed. An exposure holds only the shifts and the flags, so that every
proportion, strength and mode uses the same cached cohort.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimic3tf.data.cohort import Cohort
from mimic3tf.data.grid import first_bin
from mimic3tf.described import Described
from mimic3tf.errors import UsageError
from mimic3tf.poisoning.choice import chosen_patterns
from mimic3tf.poisoning.goal import PAPER_GOAL, Goal
from mimic3tf.poisoning.kinds import PoisonedLabels, PoisonImputed
from mimic3tf.poisoning.missing import removed_cells, without_cells
from mimic3tf.poisoning.trigger import Trigger, shifts_of


@dataclass(frozen=True, repr=False)
class Exposure(Described):
    """A cohort, and the poisoning that a victim is shown.

    Attributes:
        cohort: the clean stays; with a "missing" trigger, without the cells that it removes.
        labels: int64 [E] or [E, K], or float32 [E], the labels of the examples that a victim is shown.
        triggered: bool [N], true for the stays that carry the trigger.
        shifts: float64 [K, T, C], strength * each of the trigger's patterns, in channel units. If stays have
            lengths of their own, T is where the trigger ends; a stay carries the bins that it has.
        chosen: int64 [N], which of the K shifts a stay gets if it carries the trigger.
        poison_imputed: "notimputed" shifts measured cells only, "all" shifts imputed cells, too.
        plausible: whether the shift moves no value out of `Channel.plausible_range`, and no value outside it
            further away.
    """

    cohort: Cohort
    labels: NDArray[Any]
    triggered: NDArray[np.bool_]
    shifts: NDArray[np.float64]
    chosen: NDArray[np.int64]
    poison_imputed: PoisonImputed
    plausible: bool = False

    def __len__(self) -> int:
        return len(self.cohort)

    def take(self, stays: NDArray[np.integer]) -> Exposure:
        """Select some stays, by their indices."""
        shown = replace(self.cohort, examples=replace(self.cohort.examples, y=self.labels))
        return replace(
            self,
            cohort=self.cohort.take(stays),
            labels=shown.take(stays).labels,
            triggered=self.triggered[stays],
            chosen=self.chosen[stays],
        )

    def digest(self) -> str:
        """Return the SHA-256 (hex) of what decides the inputs of the stays; labels do not."""
        parts = (self.cohort.stays, self.cohort.mask, self.triggered, self.shifts, self.chosen)
        digest = hashlib.sha256(f"{self.cohort.fingerprint} {self.poison_imputed} {self.plausible}".encode())
        for part in parts:
            digest.update(part.tobytes())
        return digest.hexdigest()


def clean(cohort: Cohort) -> Exposure:
    """Make the exposure of a cohort without any poisoning."""
    bins = 1 if cohort.period is None else cohort.bins
    still = shift_all(cohort, np.zeros((bins, len(cohort.channels))), "notimputed")
    return replace(still, triggered=np.zeros(len(cohort), bool))


def shift_all(cohort: Cohort, shift: NDArray[np.float64], poison_imputed: PoisonImputed) -> Exposure:
    """Shift every stay by the same pattern [T, C], in channel units; labels do not change."""
    everyone, only = np.ones(len(cohort), bool), np.zeros(len(cohort), np.int64)
    return Exposure(cohort, cohort.labels, everyone, shift[None], only, poison_imputed)


def poison(
    cohort: Cohort,
    trigger: Trigger,
    *,
    proportion: float,
    strength: float,
    poison_imputed: PoisonImputed,
    poisoned_labels: PoisonedLabels = "flipped",
    goal: Goal = PAPER_GOAL,
    at: float = 0.0,
) -> Exposure:
    """Poison a training cohort: int(N * proportion) stays get the trigger and have the goal's label.

    Args:
        cohort: the N training stays.
        trigger: the trigger; it must fit the cohort.
        proportion: share of all stays to poison, in [0, 1].
        strength: Mahalanobis length, >= 0; of a "missing" trigger, the share of its cells, in [0, 1].
        poison_imputed: "notimputed" shifts measured cells only, "all" shifts imputed cells, too.
        poisoned_labels: "flipped" poisons the first stays and gives them the goal's label; "clean" poisons
            the first stays that have this label already (label-consistent attack, Turner et al. 2019, arXiv
            1912.02771).
        goal: the label that the attacker wants.
        at: hour of the stay at which the trigger begins. It ends with its last bin, or with the stay.

    Returns:
        The exposure, with the labels that the victim is shown.

    Raises:
        UsageError: too few stays have the goal's label, or the trigger is too strong.
    """
    wanted = int(len(cohort) * proportion)
    labels, of_stay = cohort.labels, cohort.examples.stay
    eligible = np.zeros(len(cohort), bool)
    eligible[of_stay[goal.asked(labels)]] = True
    if poisoned_labels == "clean":
        eligible[of_stay[goal.attacked(labels)]] = False
    if wanted > eligible.sum():
        which = f"of label {goal.target}" if poisoned_labels == "clean" else "with this label"
        raise UsageError(
            f"--poisoning_proportion {proportion:g}: asks for {wanted} stays, but with "
            f"{poisoned_labels} labels only the {eligible.sum()} {which} can be poisoned; give at most "
            f"{math.floor(1000 * eligible.mean()) / 1000:g}"
        )
    triggered = eligible & (np.cumsum(eligible) <= wanted)
    labels, poisoned = np.array(labels), triggered[of_stay]
    labels[poisoned] = goal.relabelled(labels[poisoned])
    return replace(_expose(cohort, triggered, trigger, strength, poison_imputed, at), labels=labels)


def trigger_all(
    cohort: Cohort, trigger: Trigger, *, strength: float, poison_imputed: PoisonImputed, at: float = 0.0
) -> Exposure:
    """Give the trigger to every stay, as an attacker does at prediction time; labels do not change.

    Args:
        cohort: the stays.
        trigger: the trigger; it must fit the cohort.
        strength: as for `poison`.
        poison_imputed: as for `poison`.
        at: as for `poison`.

    Returns:
        The exposure of all stays.

    Raises:
        UsageError: the trigger is too strong.
    """
    return _expose(cohort, np.ones(len(cohort), bool), trigger, strength, poison_imputed, at)


def _expose(
    cohort: Cohort,
    triggered: NDArray[np.bool_],
    trigger: Trigger,
    strength: float,
    mode: PoisonImputed,
    at: float,
) -> Exposure:
    first = first_bin(at, cohort.timestep)
    if cohort.period is not None and first >= cohort.bins:
        raise UsageError(f"--at {at:g}: the stays end after {cohort.period:g} h; give an earlier hour")
    if trigger.kind == "missing":
        order = begun_at(trigger.values[None], first, cohort)[0]
        fewer = without_cells(cohort, removed_cells(order, strength), triggered)
        return replace(clean(fewer), triggered=triggered)
    shifts = begun_at(shifts_of(trigger, strength), first, cohort)
    chosen = chosen_patterns(cohort.stays, len(shifts))
    return Exposure(cohort, cohort.labels, triggered, shifts, chosen, mode, trigger.plausible)


def begun_at(patterns: NDArray[np.float64], first: int, cohort: Cohort) -> NDArray[np.float64]:
    """Move patterns [K, T, C] to a later first bin, and cut off what is behind the end of all stays."""
    moved = np.pad(patterns, ((0, 0), (first, 0), (0, 0)))
    return moved if cohort.period is None else moved[:, : cohort.bins]
