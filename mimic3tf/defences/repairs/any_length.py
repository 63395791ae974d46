"""Repair a victim of stays with lengths of their own: drop suspicious stays, train again, attack again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mimic3tf.attacks import attack_victim
from mimic3tf.data.cohort import Cohort
from mimic3tf.defences.detection import Suspicion
from mimic3tf.defences.evidence import AuditedAnyLength, Evidence
from mimic3tf.defences.repairs.filtering import keep_least_suspicious
from mimic3tf.defences.repairs.registry import Attack, RepairOutcome
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.goal import Goal
from mimic3tf.progress import track
from mimic3tf.tasks.metrics import benchmark_metrics
from mimic3tf.training.loop import fit_victim
from mimic3tf.training.run_directory import Run
from mimic3tf.training.stays import load_split
from mimic3tf.victims.linear import Linear


def try_filters(
    run: Run, evidence: Evidence, attack: Attack | None, *, suspicion: Mapping[str, Suspicion], seed: int
) -> list[RepairOutcome]:
    """Drop suspicious training stays with all their hours, train again, and attack the new victim.

    Args:
        run: the victim.
        evidence: its training stays and the trusted stays; the model is an `AuditedAnyLength`.
        attack: the attack; None if it is not known.
        suspicion: which training stays to drop, by detector; one filter is tried for each.
        seed: fixes the trainings.

    Returns:
        The outcome without a repair, then one outcome for each filter. Their `kept` is of the stays of the
        evidence.

    Raises:
        DataError: the test split has no stay to attack.
    """
    victim = evidence.model
    assert isinstance(victim, AuditedAnyLength)
    exposure, updates = victim.exposure, {"seed": seed}
    # A search for settings is not repeated.
    found = run.summary.get("linear")
    config = victim.config.model_copy(update=updates | ({"linear": Linear(**found)} if found else {}))
    of_victim = replace(run, config=victim.config)
    test, val = load_split(victim.config, "test"), load_split(victim.config, "val")
    outcomes = [_measured(victim, of_victim, test, attack, "none", "the victim without a repair")]
    for name, by in track(suspicion.items(), "Trying repairs"):
        start = time.perf_counter()
        kept = keep_least_suspicious(evidence.labels, by.scores, Goal(evidence.suspected), by.dropped)
        left = np.flatnonzero(~np.isin(exposure.cohort.stays, evidence.stays[~kept]))
        model, standardization = fit_victim(config, exposure.take(left), val)
        seconds = time.perf_counter() - start
        detail = (
            f"dropped {(~kept).sum()} of {len(exposure)} training stays, all of label {evidence.suspected}"
        )
        repaired = replace(of_victim, model=model, standardization=standardization)
        outcome = _measured(victim, repaired, test, attack, f"filter by {name}", detail)
        outcomes.append(replace(outcome, seconds=seconds, kept=kept))
    if not suspicion:
        nothing = "not applicable: no detector raises an alarm, so that no stay is dropped"
        outcomes.append(RepairOutcome("filter", None, None, None, 0.0, nothing))
    return outcomes


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
    risks = repaired.risks_of(exposures.clean(test))
    metrics = benchmark_metrics(goal.of(test.labels)[asked], risks[asked])
    return RepairOutcome(name, None, None, metrics["auroc"], 0.0, detail)
