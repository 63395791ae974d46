"""What an attack achieves, from the predictions of any model without and with the trigger."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimic3tf.described import Described
from mimic3tf.errors import DataError
from mimic3tf.poisoning.goal import Goal
from mimic3tf.poisoning.kinds import PoisonImputed
from mimic3tf.poisoning.trigger import Trigger
from mimic3tf.tasks.metrics import Rate, rate_of, threshold_at_prevalence
from mimic3tf.tasks.task import Task


@dataclass(frozen=True, repr=False)
class Outcome(Described):
    """The predictions of a model with and without the trigger, and the rates that follow.

    Attributes:
        stays: names [N] of all test stays.
        labels: int64 [N], labels of these stays.
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


@dataclass(frozen=True, repr=False)
class AttackResult(Outcome):
    """What an attack achieves, and how it was made.

    Attributes:
        trigger: the trigger of the attack.
        strength: its strength.
        poison_imputed: whether imputed cells were shifted, too.
    """

    trigger: Trigger
    strength: float
    poison_imputed: PoisonImputed


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
) -> Outcome:
    """Compute the rates of an attack.

    Args:
        stays: names [N] of the test stays.
        labels: int64 [N].
        clean: float64 [N], probability of label 1 without the trigger.
        triggered: float64 [N], probability of label 1 with the trigger; only those of attacked stays count.
        task: what is predicted.
        goal: the label that the attacker wants.
        threshold: probability of label 1 above which a stay is predicted 1; the metrics always use 0.5.

    Raises:
        DataError: no test stay has the attacked label.
    """
    attacked = attacked_of(labels, goal)
    level = threshold_at_prevalence(labels, clean)

    def rates(at: float) -> tuple[Rate, Rate]:
        return rate_of(goal.reached(triggered[attacked], at)), rate_of(goal.reached(clean[attacked], at))

    success, baseline = rates(threshold)
    return Outcome(
        stays=stays,
        labels=labels,
        clean=clean,
        triggered=triggered,
        goal=goal.target,
        metrics=task.targets.metrics(labels, clean),
        intervals=task.targets.intervals(labels, clean),
        threshold=threshold,
        success=success,
        baseline=baseline,
        at_prevalence=(level, *rates(level)),
    )
