"""Audit a run: apply all defences to a victim and its training stays, and write the findings to files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console

from mimic3tf.data.slips import dominating_slips
from mimic3tf.defences.conclusion import Conclusion, conclude
from mimic3tf.defences.detection import DetectionResult, detect, suspicion_to_filter_by
from mimic3tf.defences.detectors.common_pattern import pattern_in
from mimic3tf.defences.detectors.registry import COMMON_PATTERN, DETECTORS
from mimic3tf.defences.evidence import Evidence, Truth, gather_evidence
from mimic3tf.defences.inspection.model_inspection import ModelFindings, inspect_model
from mimic3tf.defences.outcomes import model_record, repairs_record, superposition_record
from mimic3tf.defences.power import simulate_power
from mimic3tf.defences.repairs.registry import try_repairs
from mimic3tf.defences.shared_pattern import pattern_records, pattern_table
from mimic3tf.defences.suspects import scores_table, suspects_table
from mimic3tf.described import Described
from mimic3tf.errors import UsageError
from mimic3tf.poisoning.manifest import Manifest
from mimic3tf.poisoning.trigger import Trigger, check_trigger_fits
from mimic3tf.storage.files import PathText, write_together
from mimic3tf.tables.audits import AUDIT
from mimic3tf.tasks.registry import task_of
from mimic3tf.training.estimators import FittedEstimator
from mimic3tf.training.run_directory import Run
from mimic3tf.training.run_files import TRIGGER
from mimic3tf.training.stays import load_split

SUSPECTS, SCORES, PATTERN = "suspects.csv", "scores.csv", "pattern.csv"
FILE_FORMAT = 4


@dataclass(frozen=True, repr=False)
class AuditResult(Described):
    """The findings of an audit.

    Attributes:
        record: contents of `audit.json`.
        conclusion: the conclusion from all checks; it stands first in the record.
        suspects: rows of `suspects.csv`.
        scores: rows of `scores.csv`.
        pattern: rows of `pattern.csv`.
        evidence: the victim and the stays that were audited.
        found: findings of the detectors.
        poisoned: bool [K], which suspects are poisoned; None if this is not known.
        findings: findings of the model inspection.
        trigger: the true trigger; None if it is not known, or if stays share no shift.
    """

    record: dict[str, Any]
    conclusion: Conclusion
    suspects: pl.DataFrame
    scores: pl.DataFrame
    pattern: pl.DataFrame
    evidence: Evidence
    found: DetectionResult
    poisoned: NDArray[np.bool_] | None
    findings: ModelFindings
    trigger: Trigger | None


def audit_run(
    run: Run,
    data: PathText,
    *,
    manifest: Manifest | None = None,
    trigger: Trigger | None = None,
    trigger_file: PathText | None = None,
    repairs: bool = True,
    all_detectors: bool = False,
    all_repairs: bool = False,
    power: int = 0,
    follow_links: bool = False,
) -> AuditResult:
    """Look for a backdoor in a victim and in its training stays.

    The truth about the attack is used only to score the findings and to attack repaired victims.

    Args:
        run: the victim.
        data: the benchmark directory that the victim was trained on.
        manifest: the manifest of a directory that `mimic3tf poison` made, if the run itself poisoned nothing.
        trigger: the true trigger, if it is not the trigger of the run or of the manifest.
        trigger_file: the file of `trigger`, which error messages name.
        repairs: whether to apply repairs; they need a known attack to be measured with.
        all_detectors: whether to use the detectors that are no default, too.
        all_repairs: whether to try the repairs that are no default, too.
        power: number of attacks to simulate for each strength and share, to tell what could have been missed.
        follow_links: whether to read links that lead out of the directory.

    Returns:
        The conclusion, the tables of suspects, and the findings behind them.

    Raises:
        UsageError: the run was trained on other stays, the trigger does not fit, or there are too few stays.
        DataError: the data is malformed, or the test split has no stay to attack.
    """
    if isinstance(run.model, FittedEstimator):
        raise UsageError(
            f"--run {run.path}: is of an estimator of scikit-learn; an audit of a run needs a Keras model"
        )
    data = Path(data)
    true_trigger = trigger or (manifest.load_trigger() if manifest else run.trigger)
    with Console(stderr=True).status("Reading the stays as the victim saw them ..."):
        evidence, truth = gather_evidence(
            run, data, manifest=manifest, trigger=true_trigger, follow_links=follow_links
        )
    if truth.trigger is not None:
        check_trigger_fits(truth.trigger, evidence.trusted, trigger_file or run.path / TRIGGER)
    seed = run.config.seed
    found = detect(evidence, truth.poisoned, seed, all_detectors=all_detectors)
    findings = inspect_model(evidence, seed=seed)
    poisoned = truth.poisoned[found.suspects] if truth.poisoned.any() else None
    attacked_with = truth.trigger if poisoned is not None or trigger else None
    shift = attacked_with if attacked_with and attacked_with.is_common_shift else None
    strength = manifest.strength if manifest else run.config.poisoning_strength
    words = task_of(run.config.task).words
    simulated = simulate_power(evidence, power, tests=1 + len(found.verdict.alarms), seed=seed)
    conclusion = conclude(found.verdict, findings, evidence.suspected, words, simulated)
    record = record_of(found, conclusion, evidence, _about(run, data, manifest, truth))
    record["model_inspection"] = model_record(findings, shift, strength)
    record["power"] = [asdict(each) for each in simulated]
    shared = pattern_in(evidence, seed) if COMMON_PATTERN in found.detections else None
    compared = shared, evidence.trusted, None if shift is None else strength * shift.values
    record["patterns"] = pattern_records(*compared)
    if attacked_with is not None:
        record |= _under_attack(
            evidence, found, attacked_with, strength, repairs=repairs, all_repairs=all_repairs
        )
    tables = suspects_table(found, evidence), scores_table(found, evidence), pattern_table(*compared)
    return AuditResult(record, conclusion, *tables, evidence, found, poisoned, findings, shift)


def _under_attack(
    evidence: Evidence,
    found: DetectionResult,
    trigger: Trigger,
    strength: float,
    *,
    repairs: bool,
    all_repairs: bool,
) -> dict[str, Any]:
    """Record how well superposition finds triggered test stays, and what repairs leave of the attack."""
    config, seed = evidence.config, evidence.config.seed
    attack: Any = {"strength": strength, "poison_imputed": config.poison_imputed, "seed": seed}
    test = load_split(config, "test")
    record: dict[str, Any] = {"superposition": superposition_record(evidence, test, trigger, **attack)}
    if repairs:
        suspicion = suspicion_to_filter_by(found, evidence)
        tried = try_repairs(evidence, test, trigger, **attack, suspicion=suspicion, all_repairs=all_repairs)
        record["repairs"] = repairs_record(tried)
    return record


def _about(run: Run, data: Path, manifest: Manifest | None, truth: Truth) -> dict[str, Any]:
    """Describe the run, and its attack if one is known."""
    config = run.config
    attack = None
    if manifest is not None or config.poisoning_proportion > 0:
        attack = {
            "stays_poisoned": int(truth.poisoned.sum()),
            "trigger": truth.trigger and truth.trigger.name,
            "poisoned_labels": config.poisoned_labels,
            "goal": manifest.goal.target if manifest else config.goal,
            # In a poisoned copy, imputed cells repeat the shifted measured cells.
            "poison_imputed": "records" if manifest else config.poison_imputed,
            "poisoning_proportion": manifest.proportion if manifest else config.poisoning_proportion,
            "poisoning_strength": manifest.strength if manifest else config.poisoning_strength,
        }
    return {
        "run": str(run.path),
        "data": str(data),
        "data_fingerprint": run.summary["data_fingerprint"]["train"],
        "model": config.model,
        "task": config.task,
        "seed": config.seed,
        "attack": attack,
    }


def record_of(
    found: DetectionResult, conclusion: Conclusion, evidence: Evidence, about: dict[str, Any]
) -> dict[str, Any]:
    """Make the contents of `audit.json`, with the conclusion before the findings.

    Args:
        found: findings of the detectors.
        conclusion: the conclusion from all checks.
        evidence: the victim and the stays that were audited.
        about: entries about the run, and about its attack if one is known.
    """
    detectors = []
    for name, detection in found.detections.items():
        alarm = found.verdict.alarms.get(name)
        performance = detection.performance and asdict(detection.performance)
        detectors.append(
            {
                "detector": name,
                "about": DETECTORS[name].about,
                "seconds": round(detection.seconds, 3),
                "calibrated": alarm is not None,
                "alarm": alarm and {"raised": alarm.raised, **asdict(alarm)},
                "performance": performance,
            }
        )
    share = found.verdict.share
    slips = dominating_slips(evidence.grids, evidence.masks, evidence.trusted.channels)
    return {
        "format": FILE_FORMAT,
        "conclusion": {
            "level": conclusion.level,
            "sentence": conclusion.sentence,
            "p_value": conclusion.p_value,
            "poisoned": conclusion.poisoned
            and dict(zip(("estimate", "low", "high"), conclusion.poisoned, strict=True)),
            "rests_on": conclusion.rests_on,
            "checks": [asdict(check) for check in conclusion.checks],
        },
        **about,
        "training_stays": share.training_stays,
        "suspected_label": evidence.suspected,
        "suspects": share.training,
        "trusted_stays": share.trusted_stays,
        "trusted_suspects": share.trusted,
        "label_share": {
            "training": share.training / share.training_stays,
            "trusted": share.trusted / share.trusted_stays,
            "raised": share.raised,
            "p_value": share.p_value,
            "adjusted": share.adjusted,
        },
        "slips": [asdict(channel) for channel in slips],
        "clearest_detector": found.verdict.clearest,
        "suspects_ranked_by": found.verdict.leading,
        "detectors": detectors,
    }


def write_audit(out: PathText, result: AuditResult) -> None:
    """Write the four files of an audit into an existing folder.

    `audit.json` is written last: a folder with this file holds a complete audit.
    """
    text = json.dumps(result.record, indent=2, allow_nan=False) + "\n"
    out = Path(out)
    tables = {SUSPECTS: result.suspects, SCORES: result.scores, PATTERN: result.pattern}
    write_together({**{out / name: table.write_csv() for name, table in tables.items()}, out / AUDIT: text})
