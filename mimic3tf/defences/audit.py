"""Audit a run: all defences on a victim and its training stays, and what comes out of them as files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console

from mimic3tf.defences.conclusion import Conclusion, conclude
from mimic3tf.defences.detection import DetectionResult, detect, suspicion_to_filter_by
from mimic3tf.defences.detectors.registry import DETECTORS
from mimic3tf.defences.evidence import Evidence, Truth, gather_evidence
from mimic3tf.defences.inspection.model_inspection import ModelFindings, inspect_model
from mimic3tf.defences.outcomes import model_record, repairs_record, superposition_record
from mimic3tf.defences.repairs.registry import try_repairs
from mimic3tf.defences.suspects import scores_table, suspects_table
from mimic3tf.described import Described
from mimic3tf.poisoning.manifest import Manifest
from mimic3tf.poisoning.trigger import Trigger, check_trigger_fits
from mimic3tf.storage.files import PathText, write_together
from mimic3tf.tasks.registry import task_of
from mimic3tf.training.run_directory import Run
from mimic3tf.training.run_files import TRIGGER
from mimic3tf.training.stays import load_split

AUDIT, SUSPECTS, SCORES = "audit.json", "suspects.csv", "scores.csv"
FILE_FORMAT = 3


@dataclass(frozen=True, repr=False)
class AuditResult(Described):
    """What an audit found.

    Attributes:
        record: contents of `audit.json`.
        conclusion: of all checks; the first thing in the record.
        suspects: contents of `suspects.csv`.
        scores: contents of `scores.csv`.
        evidence: what was looked at.
        found: by the detectors.
        poisoned: bool [K], which of the suspects are; None where nobody knows.
        findings: of the model's inspection.
        trigger: the true one; None where nobody knows, or it shifts nothing.
    """

    record: dict[str, Any]
    conclusion: Conclusion
    suspects: pl.DataFrame
    scores: pl.DataFrame
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
    follow_links: bool = False,
) -> AuditResult:
    """Look for a backdoor in a victim and in what it was trained on.

    What the attacker did is used only afterwards, to score what was found, and to attack repaired victims.

    Args:
        run: the victim.
        data: the benchmark directory it was trained on.
        manifest: what `mimic3tf poison` did to the directory, for a run that poisoned nothing itself.
        trigger: the true one, where it is another than the run's or the manifest's.
        trigger_file: its file, to name.
        repairs: whether to try repairs, where the attack is known that they are measured with.
        follow_links: read links that lead out of the directory, too.

    Raises:
        UsageError: the run was trained on other stays, the trigger does not fit, or stays are too few.
        DataError: the data is malformed, or there is nobody to attack.
    """
    data = Path(data)
    true_trigger = trigger or (manifest.load_trigger() if manifest else run.trigger)
    with Console(stderr=True).status("Reading the stays as the victim saw them ..."):
        evidence, truth = gather_evidence(
            run, data, manifest=manifest, trigger=true_trigger, follow_links=follow_links
        )
    check_trigger_fits(truth.trigger, evidence.trusted, trigger_file or run.path / TRIGGER)
    seed = run.config.seed
    found = detect(evidence, truth.poisoned, seed)
    findings = inspect_model(evidence, seed=seed)
    poisoned = truth.poisoned[found.suspects] if truth.poisoned.any() else None
    attacked_with = truth.trigger if poisoned is not None or trigger else None
    shift = attacked_with if attacked_with and attacked_with.kind != "missing" else None
    strength = manifest.strength if manifest else run.config.poisoning_strength
    words = task_of(run.config.task).words
    conclusion = conclude(found.verdict, findings, evidence.suspected, words)
    record = record_of(found, conclusion, evidence, _about(run, data, manifest, truth))
    record["model_inspection"] = model_record(findings, shift, strength)
    if attacked_with is not None:
        record |= _under_attack(evidence, found, attacked_with, strength, repairs=repairs)
    suspects, scores = suspects_table(found, evidence), scores_table(found, evidence)
    return AuditResult(record, conclusion, suspects, scores, evidence, found, poisoned, findings, shift)


def _under_attack(
    evidence: Evidence, found: DetectionResult, trigger: Trigger, strength: float, *, repairs: bool
) -> dict[str, Any]:
    """What test stays with the trigger show, and what repairs leave of the attack."""
    config, seed = evidence.config, evidence.config.seed
    attack: Any = {"strength": strength, "poison_imputed": config.poison_imputed, "seed": seed}
    test = load_split(config, "test")
    record: dict[str, Any] = {"superposition": superposition_record(evidence, test, trigger, **attack)}
    if repairs:
        suspicion = suspicion_to_filter_by(found, evidence)
        tried = try_repairs(evidence, test, trigger, **attack, suspicion=suspicion)
        record["repairs"] = repairs_record(tried)
    return record


def _about(run: Run, data: Path, manifest: Manifest | None, truth: Truth) -> dict[str, Any]:
    """The run, and what was done to it."""
    config = run.config
    attack = None
    if manifest is not None or config.poisoning_proportion > 0:
        attack = {
            "stays_poisoned": int(truth.poisoned.sum()),
            "trigger": truth.trigger.name,
            "poisoned_labels": config.poisoned_labels,
            "goal": manifest.goal.target if manifest else config.goal,
            # A copy's imputed cells follow its measured ones.
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
    """Contents of `audit.json`, the conclusion first.

    Args:
        found: by the detectors.
        conclusion: of all checks.
        evidence: what it was found in.
        about: the run, and what its attacker did as far as that is known.
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
    return {
        "format": FILE_FORMAT,
        "conclusion": {
            "level": conclusion.level,
            "sentence": conclusion.sentence,
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
        "clearest_detector": found.verdict.clearest,
        "suspects_ranked_by": found.verdict.leading,
        "detectors": detectors,
    }


def write_audit(out: PathText, result: AuditResult) -> None:
    """Write an audit's three files into a folder that exists: with `audit.json`, the last, it is whole."""
    text = json.dumps(result.record, indent=2, allow_nan=False) + "\n"
    out = Path(out)
    tables = {SUSPECTS: result.suspects, SCORES: result.scores}
    write_together({**{out / name: table.write_csv() for name, table in tables.items()}, out / AUDIT: text})
