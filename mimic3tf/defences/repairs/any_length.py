"""Repair a victim of stays with lengths of their own, and attack it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from mimic3tf.attacks import attack_victim
from mimic3tf.data.cohort import Cohort
from mimic3tf.defences.detection import Suspicion
from mimic3tf.defences.evidence import AuditedAnyLength, Evidence
from mimic3tf.defences.repairs.filtering import keep_least_suspicious
from mimic3tf.defences.repairs.fine_pruning import NO_UNITS, has_units, prune_dormant, pruning_in_words
from mimic3tf.defences.repairs.registry import (
    NO_REPAIR,
    NOTHING_DROPPED,
    Attack,
    Repair,
    Repaired,
    RepairOutcome,
    measure_each,
)
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.goal import Goal
from mimic3tf.tasks.metrics import benchmark_metrics
from mimic3tf.training.estimators import FittedEstimator
from mimic3tf.training.loop import fit_victim, tune_victim
from mimic3tf.training.run_directory import Run
from mimic3tf.training.stays import load_split
from mimic3tf.victims.linear import Linear


def try_repairs_of_any_length(
    run: Run, evidence: Evidence, attack: Attack | None, *, suspicion: Mapping[str, Suspicion], seed: int
) -> list[RepairOutcome]:
    """Repair a victim as `try_repairs` does, and attack the repaired victims if the attack is known.

    A filter drops suspicious training stays with all their hours. Fine-tuning and fine-pruning train on the
    trusted stays, with all their hours, too.

    Args:
        run: the victim.
        evidence: its training stays and the trusted stays; the model is an `AuditedAnyLength`.
        attack: the attack; None if it is not known.
        suspicion: which training stays to drop, by detector; one filter is tried for each.
        seed: fixes the trainings.

    Returns:
        The outcome without a repair, then one outcome for each repair. `kept` is of the stays of the
        evidence.

    Raises:
        DataError: the test split has no stay to attack.
    """
    victim = evidence.model
    assert isinstance(victim, AuditedAnyLength)
    test = load_split(victim.config, "test")

    def measure(name: str, repaired: Repaired) -> RepairOutcome:
        standardization = repaired.standardization or victim.standardization
        own = replace(run, config=victim.config, model=repaired.model, standardization=standardization)
        return _measured(victim, own, test, attack, name, repaired.detail)

    repairs: dict[str, Repair] = {"none": lambda: Repaired(victim.model, NO_REPAIR)}
    repairs |= _filters(run, evidence, suspicion, seed) | _tunings(victim, seed)
    return measure_each(repairs, measure)


def _filters(
    run: Run, evidence: Evidence, suspicion: Mapping[str, Suspicion], seed: int
) -> dict[str, Repair]:
    """Make a repair for each detector: drop what it suspects, and train again."""
    victim = evidence.model
    assert isinstance(victim, AuditedAnyLength)
    # A search for settings is not repeated.
    found = run.summary.get("linear")
    settings = {"seed": seed, "selection": "auroc"} | ({"linear": Linear(**found)} if found else {})
    config, exposure = victim.config.model_copy(update=settings), victim.exposure

    if not suspicion:
        return {"filter": lambda: NOTHING_DROPPED}
    val = load_split(config, "val")

    def filtering(by: Suspicion) -> Repair:
        def repair() -> Repaired:
            kept = keep_least_suspicious(evidence.labels, by.scores, Goal(evidence.suspected), by.dropped)
            left = np.flatnonzero(~np.isin(exposure.cohort.stays, evidence.stays[~kept]))
            model, standardization = fit_victim(config, exposure.take(left), val)
            dropped = f"dropped {(~kept).sum()} of {len(exposure)} training stays"
            detail = f"{dropped}, all of label {evidence.suspected}"
            return Repaired(model, detail, kept, standardization)

        return repair

    return {f"filter by {name}": filtering(by) for name, by in suspicion.items()}


def _tunings(victim: AuditedAnyLength, seed: int) -> dict[str, Repair]:
    """Make the repairs that train a network on trusted stays; none for an estimator."""
    network, config = victim.model, victim.config.model_copy(update={"seed": seed})
    if isinstance(network, FittedEstimator):
        return {}
    trusted, labels = exposures.clean(victim.trusted), victim.trusted.labels

    def tuned(model: keras.Model) -> keras.Model:
        return tune_victim(config, trusted, model, victim.standardization)

    def fine_tuning() -> Repaired:
        return Repaired(tuned(network), f"{config.epochs} epochs on {len(trusted)} trusted stays")

    def fine_pruning() -> Repaired:
        if not has_units(network):
            return Repaired(None, NO_UNITS)
        goal = config.attack_goal
        asked = goal.asked(labels)

        def auroc(outputs: NDArray[np.floating]) -> float:
            return float(roc_auc_score(goal.of(labels)[asked], victim.risks_of_outputs(outputs)[asked]))

        pruned, kept = prune_dormant(network, config.head, victim.inputs_of(trusted), auroc)
        return Repaired(tuned(pruned), pruning_in_words(kept, config))

    return {"fine-tune": fine_tuning, "fine-prune": fine_pruning}


def _measured(
    victim: AuditedAnyLength, run: Run, test: Cohort, attack: Attack | None, name: str, detail: str
) -> RepairOutcome:
    """Measure a victim on the test stays; the trigger is used if it is known."""
    if attack is not None:
        how: Any = {"strength": attack.strength, "poison_imputed": attack.poison_imputed, "at": attack.at}
        result = attack_victim(run, test, attack.trigger, **how)
        return RepairOutcome(name, result.success, result.baseline, result.metrics["auroc"], 0.0, detail)
    goal = run.config.attack_goal
    asked = goal.asked(test.labels)
    repaired = replace(victim, model=run.model, standardization=run.standardization)
    risks = repaired.risks_of_stays(exposures.clean(test))
    metrics = benchmark_metrics(goal.of(test.labels)[asked], risks[asked])
    return RepairOutcome(name, None, None, metrics["auroc"], 0.0, detail)
