"""What an attack achieves, from the predictions of any model without and with the trigger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimic3tf.described import Described
from mimic3tf.errors import DataError
from mimic3tf.poisoning.goal import Goal
from mimic3tf.poisoning.kinds import PoisonImputed
from mimic3tf.poisoning.trigger import Trigger
from mimic3tf.tasks.bootstrap import ranking_metrics
from mimic3tf.tasks.metrics import (
    Rate,
    benchmark_metrics,
    predicted_1,
    rate_of,
    threshold_at_false_alarms,
    threshold_at_prevalence,
)
from mimic3tf.tasks.targets import Binary
from mimic3tf.tasks.task import Task

FALSE_ALARMS = 0.05
"""Share of the stays of label 0 that the clean victim calls 1 at its threshold."""


@dataclass(frozen=True)
class ControlRates:
    """An attack on a victim and on a clean victim at the same threshold.

    Attributes:
        threshold: probability of label 1 above which a stay is predicted 1.
        success: share of the attacked stays that the victim predicts as the goal with the trigger.
        baseline: the same share without the trigger: the first control.
        control: the same share that a clean victim predicts with the trigger: the second control.
        control_baseline: the same share that a clean victim predicts without the trigger.
    """

    threshold: float
    success: Rate
    baseline: Rate
    control: Rate
    control_baseline: Rate


@dataclass(frozen=True)
class Control:
    """The same attack on a clean victim.

    Attributes:
        at_threshold: at the threshold of the attack, 0.5 unless another is given.
        at_false_alarms: at the threshold at which `FALSE_ALARMS` of the stays of label 0 are predicted 1 by
            the clean victim without the trigger.
    """

    at_threshold: ControlRates
    at_false_alarms: ControlRates


@dataclass(frozen=True)
class CollateralLabel:
    """What the attack on one label does to another one, in the attacked stays.

    Attributes:
        name: name of the other label.
        predicted: share of the attacked stays that are predicted to have it, without the trigger.
        predicted_triggered: the same share with the trigger.
        auroc: AUROC of the label over all test stays without the trigger; NaN where undefined.
        auroc_attacked: the same if every attacked stay carries the trigger.
    """

    name: str
    predicted: float
    predicted_triggered: float
    auroc: float
    auroc_attacked: float


@dataclass(frozen=True)
class Collateral:
    """What the attack does to the labels that it does not aim at.

    Attributes:
        labels: the other labels; those whose predictions change most come first.
        macro_auroc: mean of their AUROC without the trigger.
        macro_auroc_attacked: the same if every attacked stay carries the trigger.
    """

    labels: tuple[CollateralLabel, ...]
    macro_auroc: float
    macro_auroc_attacked: float


@dataclass(frozen=True, repr=False)
class Outcome(Described):
    """The predictions of a model with and without the trigger, and the rates that follow.

    Attributes:
        stays: names [N] of all test stays; of an hourly task, of the stay of each of N examples.
        labels: int64 [N], labels of these stays; if they have several, the label that is attacked.
        clean: float64 [N], predicted probability of label 1 without the trigger.
        triggered: float64 [N], predicted probability of label 1 with the trigger.
        goal: the label that the attacker wants.
        metrics: the metrics of the task without the trigger.
        intervals: 95% bootstrap intervals of the metrics "auroc" and "auprc", resampled by stay.
        threshold: probability of label 1 above which a stay is predicted 1.
        success: attack success rate: share of the attacked stays that are predicted as the goal with the
            trigger.
        baseline: positive rate without the trigger: the same share without the trigger.
        at_prevalence: the threshold at which as many stays are predicted 1 without the trigger as have
            label 1, and the success and the baseline at this threshold.
        control: the same attack on a clean victim; None without one.
        collateral: what the attack does to the other labels; None if there is one label.
        hours: float64 [N], hour of the stay at which each example is predicted; None if the task is not
            hourly.
    """

    stays: NDArray[np.str_]
    labels: NDArray[np.int64]
    clean: NDArray[np.float64]
    triggered: NDArray[np.float64]
    goal: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    threshold: float
    success: Rate
    baseline: Rate
    at_prevalence: tuple[float, Rate, Rate]
    control: Control | None = None
    collateral: Collateral | None = None
    hours: NDArray[np.float64] | None = None

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__}: success {self.success}, without the trigger {self.baseline}, of "
            f"{self.success.stays} attacked; {len(self.labels)} tested>"
        )


@dataclass(frozen=True, repr=False, kw_only=True)
class AttackResult(Outcome):
    """What an attack achieves, and how it was made.

    Attributes:
        trigger: the trigger of the attack.
        strength: its strength.
        poison_imputed: whether imputed cells were shifted, too.
        at: hour of the stay at which it begins.
        carried: how much of it the attacked stays carry, as `carried_record`; None if all stays have the
            same length.
    """

    trigger: Trigger
    strength: float
    poison_imputed: PoisonImputed
    at: float = 0.0
    carried: dict[str, float] | None = None


def attacked_of(labels: NDArray[np.int64], goal: Goal) -> NDArray[np.bool_]:
    """Mark the test stays that are attacked, by their labels [N]: bool [N].

    Raises:
        DataError: no test stay has the attacked label.
    """
    attacked = goal.attacked(labels)
    if not attacked.any():
        raise DataError(
            f"no stay with label {1 - goal.target} is among the test stays: there is nobody to attack"
        )
    return attacked


def measure_outcome(
    stays: NDArray[np.str_],
    labels: NDArray[np.int64],
    clean: NDArray[np.float64],
    triggered: NDArray[np.float64],
    *,
    task: Task,
    goal: Goal,
    threshold: float,
    control: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    hours: NDArray[np.float64] | None = None,
    truth: NDArray[Any] | None = None,
) -> Outcome:
    """Compute the rates of an attack.

    Args:
        stays: names [N] of the test stays.
        labels: int64 [N] or [N, K].
        clean: float64 [N] or [N, K], probability of label 1 without the trigger.
        triggered: the same with the trigger; only those of attacked stays count.
        task: what is predicted.
        goal: the label that the attacker wants.
        threshold: probability of label 1 above which a stay is predicted 1; the metrics always use 0.5.
        control: the same two of a clean victim.
        hours: float64 [N], hour of the stay of each example, if the task is hourly.
        truth: what the task's metrics are measured by, see `Cohort.truth`; the labels if not given.

    Raises:
        DataError: no test stay has the attacked label.
    """
    asked = goal.asked(labels)
    own, risks, with_trigger = (goal.of(each)[asked] for each in (labels, clean, triggered))
    shown, attacked = stays[asked], attacked_of(labels, goal)[asked]
    level = threshold_at_prevalence(own, risks)
    stay = np.unique(shown, return_inverse=True)[1][attacked] if task.hourly else None

    def rates(at: float, *several: NDArray[np.float64]) -> Any:
        return [rate_of(goal.reached(each[attacked], at), stay) for each in several]

    found = None
    if control is not None:
        quiet, shifted = (goal.of(each)[asked] for each in control)
        levels = threshold, threshold_at_false_alarms(own, quiet, FALSE_ALARMS)
        found = Control(*(ControlRates(at, *rates(at, with_trigger, risks, shifted, quiet)) for at in levels))
    success, baseline = rates(threshold, with_trigger, risks)
    return Outcome(
        stays=shown,
        labels=own,
        clean=risks,
        triggered=with_trigger,
        goal=goal.target,
        **_measures_of(stays, labels, clean, task, goal, labels if truth is None else truth),
        threshold=threshold,
        success=success,
        baseline=baseline,
        at_prevalence=(level, *rates(level, with_trigger, risks)),
        control=found,
        collateral=_collateral(stays, labels, clean, triggered, task, goal),
        hours=None if hours is None else hours[asked],
    )


def _measures_of(
    stays: NDArray[np.str_],
    labels: NDArray[np.int64],
    clean: NDArray[np.float64],
    task: Task,
    goal: Goal,
    truth: NDArray[Any],
) -> dict[str, Any]:
    """Compute metrics and intervals of the attacked label and, if there are several, those of all labels."""
    asked = goal.asked(labels)
    own = goal.of(labels)[asked], goal.of(clean)[asked]
    stay = np.unique(stays, return_inverse=True)[1] if task.hourly else None
    own_stay = None if stay is None else np.unique(stay[asked], return_inverse=True)[1]
    metrics, intervals = benchmark_metrics(*own), Binary().intervals(*own, own_stay)
    if task.targets.followed:
        metrics |= task.targets.metrics(truth, clean)
        intervals |= task.targets.intervals(truth, clean, stay)
    return {"metrics": metrics, "intervals": intervals}


def _collateral(
    stays: NDArray[np.str_],
    labels: NDArray[np.int64],
    clean: NDArray[np.float64],
    triggered: NDArray[np.float64],
    task: Task,
    goal: Goal,
) -> Collateral | None:
    if goal.column is None:
        return None
    # In multitask learning, other labels are predicted at other examples of the same stay.
    stay = None if goal.asked(labels).all() else np.unique(stays, return_inverse=True)[1]
    return collateral_of(labels, clean, triggered, task, goal, stay)


def collateral_of(
    labels: NDArray[np.int64],
    clean: NDArray[np.float64],
    triggered: NDArray[np.float64],
    task: Task,
    goal: Goal,
    stay: NDArray[np.integer] | None = None,
) -> Collateral:
    """Measure what an attack on one of K labels or classes does to the others.

    In multitask learning, the examples of another label are those at which it is predicted, in the stays that
    are attacked; all of such a stay carries the trigger.
    """
    attacked = goal.attacked(labels)
    if stay is not None:
        hit = np.zeros(int(stay.max()) + 1, bool)
        hit[stay[attacked]] = True
        attacked = hit[stay]
    found = []
    for column, name in enumerate(task.targets.names):
        if column == goal.column:
            continue
        other = Goal(1, column)
        asked = other.asked(labels)
        own, *both = (other.of(each)[asked] for each in (labels, clean, triggered))
        under_attack = np.where(attacked[asked], both[1], both[0])
        everyone = np.ones((1, len(own)), np.int64)
        auroc, after = (
            float(ranking_metrics(own, risks, everyone)[0, 0]) for risks in (both[0], under_attack)
        )
        before, with_it = (
            float(predicted_1(risks[attacked[asked]]).mean()) if attacked[asked].any() else float("nan")
            for risks in both
        )
        found.append(CollateralLabel(name, before, with_it, auroc, after))
    found.sort(key=lambda label: -np.nan_to_num(abs(label.predicted_triggered - label.predicted)))
    macro = np.array([[label.auroc, label.auroc_attacked] for label in found])
    defined = macro[~np.isnan(macro).any(axis=1)]
    means = defined.mean(axis=0).tolist() if len(defined) else [float("nan")] * 2
    return Collateral(tuple(found), *means)
