"""Apply all repairs to a victim, and measure attack success and AUROC after each of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import keras
import numpy as np
from numpy.typing import NDArray

from mimic3tf.attacks import attacked_stays
from mimic3tf.data.cohort import Cohort
from mimic3tf.defences.detection import Suspicion
from mimic3tf.defences.evidence import Evidence
from mimic3tf.defences.repairs.filtering import filter_and_retrain
from mimic3tf.defences.repairs.fine_pruning import has_units, prune_dormant
from mimic3tf.defences.repairs.private_training import (
    CLIP,
    DELTA,
    NOISE_MULTIPLIER,
    PrivateSteps,
    epsilon,
    is_dense,
)
from mimic3tf.defences.repairs.purification import PURIFICATIONS, Purification, purify, received
from mimic3tf.defences.retraining import examples_of, predict, retrain, tune
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.goal import Goal
from mimic3tf.poisoning.kinds import PoisonImputed
from mimic3tf.poisoning.trigger import Trigger
from mimic3tf.progress import track
from mimic3tf.tasks.metrics import Rate, rate_of

NOISE = 0.5
"""Standard deviation of the noise, in standard deviations of the inputs."""
INPUT_DROPOUT = 0.3
"""Share of the inputs that is dropped in training."""


@dataclass(frozen=True)
class RepairOutcome:
    """The measures of a victim after a repair.

    Attributes:
        name: name of the repair; "none" for the victim without a repair.
        attack_success_rate: attack success rate on the test stays; None if the repair cannot be applied to
            this kind of victim.
        baseline_positive_rate: share of the same stays predicted as the goal without the trigger.
        auroc: AUROC of the clean test stays.
        seconds: running time of the repair; for a purification, the time to purify all test stays.
        detail: what was done, or why the repair cannot be applied.
    """

    name: str
    attack_success_rate: Rate | None
    baseline_positive_rate: Rate | None
    auroc: float | None
    seconds: float
    detail: str


def try_repairs(
    evidence: Evidence,
    test: Cohort,
    trigger: Trigger,
    strength: float,
    poison_imputed: PoisonImputed,
    *,
    suspicion: Mapping[str, Suspicion],
    seed: int,
    all_repairs: bool = False,
) -> list[RepairOutcome]:
    """Apply repairs to a victim, and attack the repaired victim.

    Repairs read the evidence only; the trigger is used only to measure them. Retrained victims keep the
    settings of the run and the standardization of its inputs; a filter fits it to the stays that it keeps.

    Args:
        evidence: the victim, its training stays and the trusted stays.
        test: clean test stays; those of the other label than the goal's are attacked.
        trigger: the trigger of the attack.
        strength: strength of the attack.
        poison_imputed: mode of the attack.
        suspicion: which training stays to drop, by detector; one filter is tried for each.
        seed: fixes the trainings.
        all_repairs: whether to try the repairs, too, that left most of the backdoor in every measurement
            (docs/detection.md).

    Returns:
        The outcome without a repair, then one outcome for each repair.

    Raises:
        DataError: the test split has no stay to attack.
    """
    bench = Bench(evidence, test, trigger, strength, poison_imputed)
    repairs = _model_repairs(evidence, suspicion, seed, every=all_repairs)
    outcomes = [bench.measure("none", "the victim without a repair", 0.0, evidence.model)]
    for name, repair in track(repairs.items(), "Trying repairs"):
        start = time.perf_counter()
        model, detail = repair()
        seconds = time.perf_counter() - start
        if model is None:
            outcomes.append(RepairOutcome(name, None, None, None, 0.0, f"not applicable: {detail}"))
        else:
            outcomes.append(bench.measure(name, detail, seconds, model))
    purifications = PURIFICATIONS.items() if all_repairs else ()
    for name, method in track(purifications, "Purifying"):
        outcomes.append(bench.measure_purification(name, method))
    return outcomes


Repair = Callable[[], tuple[keras.Model | None, str]]
"""Returns a repaired model and what was done, or None and why the repair cannot be applied."""


def _model_repairs(
    evidence: Evidence, suspicion: Mapping[str, Suspicion], seed: int, *, every: bool
) -> dict[str, Repair]:
    model = evidence.model
    config = evidence.config.model_copy(update={"seed": seed})
    trusted = examples_of(evidence.trusted, evidence.reads, evidence.standardization)
    training = replace(trusted, inputs=evidence.inputs, labels=evidence.labels)

    def filtering(by: Suspicion) -> Repair:
        return lambda: filter_and_retrain(evidence, by, seed)

    def fine_tuning() -> tuple[keras.Model | None, str]:
        return tune(model, config, trusted), f"{config.epochs} epochs on {len(trusted)} trusted stays"

    def fine_pruning() -> tuple[keras.Model | None, str]:
        if not has_units(model):
            return None, "the last layer is not a dense layer over hidden units"
        pruned, kept = prune_dormant(model, config, trusted)
        detail = f"pruned {(~kept).sum()} of {len(kept)} units, then {config.epochs} epochs on trusted stays"
        return tune(pruned, config, trusted), detail

    def noise() -> tuple[keras.Model | None, str]:
        repaired = retrain(config, training, trusted, noise=NOISE)
        return repaired, f"Gaussian noise of {NOISE:g} standard deviations on every input"

    def dropout() -> tuple[keras.Model | None, str]:
        settings = config.model_copy(update={"input_dropout": INPUT_DROPOUT})
        return retrain(settings, training, trusted), f"{INPUT_DROPOUT:.0%} of the inputs dropped"

    def private() -> tuple[keras.Model | None, str]:
        if not is_dense(model):
            return None, "gradients of single stays are available for dense layers only"
        repaired = retrain(config, training, trusted, make_steps=PrivateSteps)
        privacy = f"epsilon {epsilon(config.epochs):,.0f} at delta {DELTA:g}"
        return repaired, f"gradients clipped to {CLIP:g}, noise multiplier {NOISE_MULTIPLIER:g}: {privacy}"

    filters = {f"filter by {name}": filtering(by) for name, by in suspicion.items()}
    return {
        **(filters or {"filter": lambda: (None, "no detector raises an alarm, so that no stay is dropped")}),
        "fine-tune": fine_tuning,
        "fine-prune": fine_pruning,
        **({"noise": noise, "input dropout": dropout, "private gradients": private} if every else {}),
    }


class Bench:
    """Measures repaired victims on the clean test stays, and on the attacked stays with the trigger."""

    def __init__(
        self,
        evidence: Evidence,
        test: Cohort,
        trigger: Trigger,
        strength: float,
        poison_imputed: PoisonImputed,
    ) -> None:
        self._evidence, self._test = evidence, test
        self._goal = Goal(evidence.config.goal)
        self._attacked = attacked_stays(test, self._goal)
        exposure = exposures.trigger_all(
            test.take(self._attacked), trigger, strength=strength, poison_imputed=poison_imputed
        )
        self._triggered = received(exposure)
        self._clean_inputs, self._triggered_inputs = self._inputs(test), self._inputs(self._triggered)

    def measure(self, name: str, detail: str, seconds: float, model: keras.Model) -> RepairOutcome:
        """Measure a repaired model that reads the inputs of the victim."""
        return self._outcome(name, detail, seconds, model, self._clean_inputs, self._triggered_inputs)

    def measure_purification(self, name: str, method: Purification) -> RepairOutcome:
        """Measure the victim on inputs that are purified."""
        trusted, model = self._evidence.trusted, self._evidence.model
        start = time.perf_counter()
        clean = purify(self._test, trusted, method)
        seconds = time.perf_counter() - start
        inputs = [self._inputs(stays) for stays in (clean, purify(self._triggered, trusted, method))]
        return self._outcome(
            name, "continuous channels are changed before the victim reads them", seconds, model, *inputs
        )

    def _inputs(self, stays: Cohort) -> NDArray[np.float32]:
        return examples_of(stays, self._evidence.reads, self._evidence.standardization).inputs

    def _outcome(
        self,
        name: str,
        detail: str,
        seconds: float,
        model: keras.Model,
        clean_inputs: NDArray[np.float32],
        triggered_inputs: NDArray[np.float32],
    ) -> RepairOutcome:
        config, goal = self._evidence.config, self._goal
        clean, triggered = (predict(model, config, inputs) for inputs in (clean_inputs, triggered_inputs))
        return RepairOutcome(
            name=name,
            attack_success_rate=rate_of(goal.reached(triggered)),
            baseline_positive_rate=rate_of(goal.reached(clean[self._attacked])),
            auroc=self._test.task.targets.metrics(self._test.labels, clean)["auroc"],
            seconds=seconds,
            detail=detail,
        )
