"""Entries of `audit.json` about the model inspection, about superposition, and about repairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimic3tf.data.cohort import Cohort
from mimic3tf.defences.evidence import AuditedStays, AuditedVictim, Evidence
from mimic3tf.defences.inspection.model_inspection import ModelFindings
from mimic3tf.defences.inspection.pattern_comparison import compare_patterns
from mimic3tf.defences.inspection.superposition import (
    score_suspicion,
    superposition_suspicion,
    thresholds,
)
from mimic3tf.defences.repairs.registry import Attack, RepairOutcome
from mimic3tf.pipeline import Inputs
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.outcome import attacked_of
from mimic3tf.poisoning.trigger import Trigger


def model_record(
    findings: ModelFindings | None, trigger: Trigger | None, strength: float
) -> dict[str, Any] | None:
    """Record the findings of the model inspection, and compare its patterns with the true trigger.

    Args:
        findings: findings of `inspect_model`; None if it could not be made.
        trigger: the true trigger; None if it is not known, or if stays share no shift.
        strength: strength of the attack.
    """
    if findings is None:
        return None
    targets = []
    for finding in findings.targets:
        inversion = finding.inversion
        target: dict[str, Any] = {
            "target": inversion.target,
            "reached": inversion.reached,
            "length": inversion.length,
            "success": inversion.success,
            "baseline": inversion.baseline,
            "reference_lengths": [_finite(length) for length in finding.reference_lengths],
            "anomaly_index": finding.anomaly_index,
        }
        if trigger is not None:
            compared = compare_patterns(inversion.pattern, strength * trigger.values, trigger.covariance)
            target["true_trigger"] = {
                "correlation": _finite(compared.correlation),
                "recovered_length": float(np.linalg.norm(compared.recovered_lengths)),
                "true_length": float(np.linalg.norm(compared.true_lengths)),
            }
        targets.append(target)
    return {
        "looks_backdoored": findings.looks_backdoored,
        "targets": targets,
    }


def superposition_record(
    evidence: Evidence,
    test: Cohort,
    attack: Attack,
    *,
    seed: int,
) -> dict[str, Any]:
    """Record how well superposition tells triggered test stays from clean ones.

    Thresholds are set on the trusted stays of the other label than the goal's. Overlays are trusted stays.

    Args:
        evidence: the victim and the trusted stays.
        test: clean test stays; those of the other label than the goal's are attacked.
        attack: the attack.
        seed: fixes the draw of the overlays.

    Raises:
        DataError: the test split has no stay to attack.
    """
    victim = evidence.model
    assert isinstance(victim, AuditedVictim | AuditedStays)
    goal, trusted = victim.config.attack_goal, victim.inputs_of(exposures.clean(victim.trusted))
    attacked = test.take(attacked_of(test.labels, goal))
    how: Any = {"strength": attack.strength, "poison_imputed": attack.poison_imputed, "at": attack.at}
    triggered = exposures.trigger_all(attacked, attack.trigger, **how)

    def suspicion(of: Inputs) -> NDArray[np.float64]:
        return superposition_suspicion(victim.risks_of_inputs, of, trusted, seed=seed)

    sound = exposures.clean(victim.trusted.take(attacked_of(victim.trusted.labels, goal)))
    limits = thresholds(suspicion(victim.inputs_of(sound)))
    clean = suspicion(victim.inputs_of(exposures.clean(attacked)))
    score = score_suspicion(clean, suspicion(victim.inputs_of(triggered)), limits)
    return {
        "auroc": score.auroc,
        **{f"recall_at_{100 * rate:g}": share for rate, share in score.recall.items()},
        **{f"false_positives_at_{100 * rate:g}": share for rate, share in score.false_positives.items()},
    }


def repairs_record(outcomes: Sequence[RepairOutcome]) -> list[dict[str, Any]]:
    """Record attack success and AUROC after every repair; null for a repair that cannot be applied."""
    return [
        {
            "repair": outcome.name,
            "attack_success_rate": outcome.attack_success_rate and outcome.attack_success_rate.rate,
            "baseline_positive_rate": outcome.baseline_positive_rate and outcome.baseline_positive_rate.rate,
            "auroc": outcome.auroc,
            "seconds": round(outcome.seconds, 3),
            "detail": outcome.detail,
        }
        for outcome in outcomes
    ]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
