"""Apply repairs to a victim, and measure attack success and AUROC after each of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from mimic3tf.data.cohort import Cohort
from mimic3tf.defences.detection import Suspicion
from mimic3tf.defences.evidence import Evidence
from mimic3tf.defences.repairs.filtering import filter_and_retrain
from mimic3tf.defences.repairs.fine_pruning import NO_UNITS, has_units, prune_dormant, pruning_in_words
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
from mimic3tf.poisoning.outcome import attacked_of
from mimic3tf.poisoning.trigger import Trigger
from mimic3tf.progress import track
from mimic3tf.standardization import Standardization
from mimic3tf.tasks.metrics import Rate, rate_of
from mimic3tf.tasks.registry import task_of
from mimic3tf.training.estimators import FittedEstimator

NOISE = 0.5
"""Standard deviation of the noise, in standard deviations of the inputs."""
INPUT_DROPOUT = 0.3
"""Share of the inputs that is dropped in training."""


@dataclass(frozen=True)
class RepairOutcome:
    """The measures of a victim after a repair.

    Attributes:
        name: name of the repair; "none" for the victim without a repair.
        attack_success_rate: attack success rate on the test stays; None if the attack is not known, or if the
            repair cannot be applied to this kind of victim.
        baseline_positive_rate: share of the same stays predicted as the goal without the trigger, or None.
        auroc: AUROC of the clean test stays; None if the repair cannot be applied.
        seconds: running time of the repair; for a purification, the time to purify all test stays.
        detail: what was done, or why the repair cannot be applied.
        model: the repaired model, which reads the victim's inputs; None for a purification, if the repair
            cannot be applied, and for victims of stays with lengths of their own.
        kept: bool [N], the training stays that a filter keeps; None for other repairs.
    """

    name: str
    attack_success_rate: Rate | None
    baseline_positive_rate: Rate | None
    auroc: float | None
    seconds: float
    detail: str
    model: Any = None
    kept: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Attack:
    """A known attack, with which repaired victims are measured.

    Attributes:
        trigger: the trigger.
        strength: its strength.
        poison_imputed: mode of the attack.
        at: hour of the stay at which the trigger begins.
    """

    trigger: Trigger
    strength: float
    poison_imputed: PoisonImputed
    at: float = 0.0


def try_repairs(
    evidence: Evidence,
    test: Cohort,
    attack: Attack | None,
    *,
    suspicion: Mapping[str, Suspicion],
    seed: int,
    all_repairs: bool = False,
) -> list[RepairOutcome]:
    """Apply repairs to a victim, and attack the repaired victim if the attack is known.

    Repairs read the evidence only; the trigger is used only to measure them. Retrained victims keep the
    settings of the run and the standardization of its inputs; a filter fits it to the stays that it keeps.

    Args:
        evidence: the victim, its training stays and the trusted stays.
        test: clean test stays; those of the other label than the goal's are attacked.
        attack: the attack; None if it is not known.
        suspicion: which training stays to drop, by detector; one filter is tried for each.
        seed: fixes the trainings.
        all_repairs: whether to try the repairs, too, that left most of the backdoor in every measurement
            (docs/detection.md).

    Returns:
        The outcome without a repair, then one outcome for each repair.

    Raises:
        DataError: the test split has no stay to attack.
    """
    bench = Bench(evidence, test, attack)
    repairs: dict[str, Repair] = {"none": lambda: Repaired(evidence.victim.model, NO_REPAIR)}
    repairs |= _model_repairs(evidence, suspicion, seed, every=all_repairs)
    outcomes = measure_each(repairs, bench.measure)
    purifications = PURIFICATIONS.items() if all_repairs else ()
    for name, method in track(purifications, "Purifying"):
        outcomes.append(bench.measure_purification(name, method))
    return outcomes


class Repaired(NamedTuple):
    """A repaired model and what was done, or None and why the repair cannot be applied.

    `kept` tells which training stays a filter keeps; `standardization` maps the model's inputs, if it is not
    the victim's.
    """

    model: keras.Model | FittedEstimator | None
    detail: str
    kept: NDArray[np.bool_] | None = None
    standardization: Standardization | None = None


Repair = Callable[[], Repaired]
NO_REPAIR = "the victim without a repair"
NOTHING_DROPPED = Repaired(None, "no detector raises an alarm, so that no stay is dropped")


def measure_each(
    repairs: Mapping[str, Repair], measure: Callable[[str, Repaired], RepairOutcome]
) -> list[RepairOutcome]:
    """Apply repairs by name, and measure what they make; one that cannot be applied gets no measures."""
    outcomes = []
    for name, repair in track(repairs.items(), "Trying repairs"):
        start = time.perf_counter()
        repaired = repair()
        seconds = time.perf_counter() - start
        if repaired.model is None or _diverged(repaired.model):
            reason = f"not applicable: {repaired.detail}" if repaired.model is None else "training diverged"
            outcomes.append(RepairOutcome(name, None, None, None, 0.0, reason))
        else:
            outcomes.append(replace(measure(name, repaired), seconds=seconds, kept=repaired.kept))
    return outcomes


def _diverged(model: keras.Model | FittedEstimator) -> bool:
    weights = [] if isinstance(model, FittedEstimator) else model.get_weights()
    return not all(np.isfinite(part).all() for part in weights)


def _model_repairs(
    evidence: Evidence, suspicion: Mapping[str, Suspicion], seed: int, *, every: bool
) -> dict[str, Repair]:
    victim, label = evidence.victim, evidence.suspected
    trusted = victim.examples
    config = victim.config.model_copy(update={"seed": seed})
    training = replace(trusted, inputs=victim.inputs, labels=evidence.labels)

    def filtering(by: Suspicion) -> Repair:
        def repair() -> Repaired:
            repaired, kept = filter_and_retrain(evidence, by, seed)
            dropped = f"dropped {(~kept).sum()} of {len(kept)} training stays, all of label {label}"
            return Repaired(repaired, dropped, kept)

        return repair

    def fine_tuning() -> Repaired:
        detail = f"{config.epochs} epochs on {len(trusted)} trusted stays"
        return Repaired(tune(model, config, trusted), detail)

    def fine_pruning() -> Repaired:
        if not has_units(model):
            return Repaired(None, NO_UNITS)

        def auroc(outputs: NDArray[np.floating]) -> float:
            targets = task_of(config.task).targets
            return targets.metrics(trusted.labels, targets.probabilities(outputs))["auroc"]

        pruned, kept = prune_dormant(model, config.head, trusted.inputs, auroc)
        return Repaired(tune(pruned, config, trusted), pruning_in_words(kept, config))

    def noise() -> Repaired:
        repaired = retrain(config, training, trusted, noise=NOISE)
        return Repaired(repaired, f"Gaussian noise of {NOISE:g} standard deviations on every input")

    def dropout() -> Repaired:
        settings = config.model_copy(update={"input_dropout": INPUT_DROPOUT})
        return Repaired(retrain(settings, training, trusted), f"{INPUT_DROPOUT:.0%} of the inputs dropped")

    def private() -> Repaired:
        if not is_dense(model):
            return Repaired(None, "gradients of single stays are available for dense layers only")
        repaired = retrain(config, training, trusted, make_steps=PrivateSteps)
        privacy = f"epsilon {epsilon(config.epochs):,.0f} at delta {DELTA:g}"
        detail = f"gradients clipped to {CLIP:g}, noise multiplier {NOISE_MULTIPLIER:g}: {privacy}"
        return Repaired(repaired, detail)

    filters = {f"filter by {name}": filtering(by) for name, by in suspicion.items()} or {
        "filter": lambda: NOTHING_DROPPED
    }
    if isinstance(victim.model, FittedEstimator):
        return filters
    model = victim.model
    return {
        **filters,
        "fine-tune": fine_tuning,
        "fine-prune": fine_pruning,
        **({"noise": noise, "input dropout": dropout, "private gradients": private} if every else {}),
    }


class Bench:
    """Measures repaired victims on the clean test stays, and on the attacked stays with the trigger."""

    def __init__(self, evidence: Evidence, test: Cohort, attack: Attack | None) -> None:
        self._victim, self._test = evidence.victim, test
        self._goal, self._clean_inputs = Goal(evidence.suspected), self._inputs(test)
        self._triggered: Cohort | None = None
        if attack is not None:
            self._attacked = attacked_of(test.labels, self._goal)
            exposure = exposures.trigger_all(
                test.take(self._attacked),
                attack.trigger,
                strength=attack.strength,
                poison_imputed=attack.poison_imputed,
                at=attack.at,
            )
            self._triggered = received(exposure)
            self._triggered_inputs = self._inputs(self._triggered)

    def measure(self, name: str, repaired: Repaired) -> RepairOutcome:
        """Measure a repaired model that reads the inputs of the victim."""
        assert repaired.model is not None
        inputs = None if self._triggered is None else self._triggered_inputs
        given = repaired.model, self._clean_inputs, inputs
        return replace(self._outcome(name, repaired.detail, *given), model=repaired.model)

    def measure_purification(self, name: str, method: Purification) -> RepairOutcome:
        """Measure the victim on inputs that are purified."""
        trusted, model = self._victim.trusted, self._victim.model
        start = time.perf_counter()
        clean = purify(self._test, trusted, method)
        seconds = time.perf_counter() - start
        triggered = None
        if self._triggered is not None:
            triggered = self._inputs(purify(self._triggered, trusted, method))
        detail = "continuous channels are changed before the victim reads them"
        return replace(self._outcome(name, detail, model, self._inputs(clean), triggered), seconds=seconds)

    def _inputs(self, stays: Cohort) -> NDArray[np.float32]:
        return examples_of(stays, self._victim.reads, self._victim.standardization).inputs

    def _outcome(
        self,
        name: str,
        detail: str,
        model: keras.Model | FittedEstimator,
        clean_inputs: NDArray[np.float32],
        triggered_inputs: NDArray[np.float32] | None,
    ) -> RepairOutcome:
        config, goal = self._victim.config, self._goal
        clean = predict(model, config, clean_inputs)
        success = baseline = None
        if triggered_inputs is not None:
            success = rate_of(goal.reached(predict(model, config, triggered_inputs)))
            baseline = rate_of(goal.reached(clean[self._attacked]))
        auroc = self._test.task.targets.metrics(self._test.labels, clean)["auroc"]
        return RepairOutcome(name, success, baseline, auroc, 0.0, detail)
