"""Audit a run: apply all defences to a victim and its training stays, and write the findings to files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console

from mimic3tf.data.directory import listfile_of
from mimic3tf.data.listfiles import rows_without
from mimic3tf.data.slips import dominating_slips
from mimic3tf.defences.common_pattern.finding import CommonPattern
from mimic3tf.defences.conclusion import Conclusion, conclude
from mimic3tf.defences.detection import DetectionResult, detect, suspicion_to_filter_by
from mimic3tf.defences.detectors.common_pattern import pattern_in
from mimic3tf.defences.detectors.registry import COMMON_PATTERN, DETECTORS
from mimic3tf.defences.equal_stays import cautions_of_equal_stays
from mimic3tf.defences.evidence import (
    AuditedAnyLength,
    AuditedStays,
    AuditedVictim,
    Evidence,
    Truth,
    gather_evidence,
)
from mimic3tf.defences.inspection.model_inspection import ModelFindings, inspect_model
from mimic3tf.defences.inspection.pattern_response import PatternResponse, pattern_response
from mimic3tf.defences.outcomes import model_record, repairs_record, superposition_record
from mimic3tf.defences.power import simulate_power
from mimic3tf.defences.repairs.any_length import try_repairs_of_any_length
from mimic3tf.defences.repairs.registry import Attack, RepairOutcome, try_repairs
from mimic3tf.defences.shared_pattern import pattern_records, pattern_table
from mimic3tf.defences.suspects import scores_table, suspects_table
from mimic3tf.defences.verdict import FEWEST_TRUSTED, WEAK
from mimic3tf.defences.whole_stays import HOURS
from mimic3tf.described import Described
from mimic3tf.poisoning.manifest import Manifest
from mimic3tf.poisoning.trigger import Trigger, check_trigger_fits
from mimic3tf.storage.files import PathText, write_together
from mimic3tf.storage.notes import warn
from mimic3tf.tables.audits import AUDIT
from mimic3tf.tables.cells import p_in_words
from mimic3tf.tasks.registry import task_of
from mimic3tf.training.models import save_model
from mimic3tf.training.run_directory import Run
from mimic3tf.training.run_files import TRIGGER
from mimic3tf.training.stays import load_split

SUSPECTS, SCORES, PATTERN = "suspects.csv", "scores.csv", "pattern.csv"
CLEANED, REPAIRED, PAGE = "cleaned_listfile.csv", "repaired.keras", "audit.html"
FILE_FORMAT = 6


@dataclass(frozen=True, repr=False)
class AuditResult(Described):
    """The findings of an audit.

    Attributes:
        record: contents of `audit.json`.
        conclusion: the conclusion from all checks; it stands first in the record.
        suspects: rows of `suspects.csv`.
        scores: rows of `scores.csv`.
        pattern: rows of `pattern.csv`.
        evidence: the model and the stays that were audited.
        found: findings of the detectors.
        poisoned: bool [K], which suspects are poisoned; None if this is not known.
        findings: findings of the model inspection; None if the model cannot be differentiated.
        trigger: the true trigger; None if it is not known, begins late, or if stays share no shift.
        shared: the patterns that training stays share; None if they could not be judged.
        repairs: what was tried as a repair; none if nothing was tried.
    """

    record: dict[str, Any]
    conclusion: Conclusion
    suspects: pl.DataFrame
    scores: pl.DataFrame
    pattern: pl.DataFrame
    evidence: Evidence
    found: DetectionResult
    poisoned: NDArray[np.bool_] | None
    findings: ModelFindings | None
    trigger: Trigger | None
    shared: CommonPattern | None
    repairs: tuple[RepairOutcome, ...] = ()

    @property
    def filtered(self) -> RepairOutcome | None:
        """The repair that dropped training stays and trained again; None if no stay was dropped."""
        return next((repair for repair in self.repairs if repair.kept is not None), None)

    @property
    def cleaned(self) -> pl.DataFrame | None:
        """The rows of the training listfile whose stays `filtered` kept; None without that repair."""
        if self.filtered is None or self.filtered.kept is None:
            return None
        model = self.evidence.model
        if isinstance(model, AuditedAnyLength):
            dropped = self.evidence.stays[~self.filtered.kept].tolist()
            config = model.config
            listfile, task = listfile_of(config.data, "train"), task_of(config.task)
            return rows_without(listfile, task, dropped, follow_links=config.follow_links)
        stays = pl.DataFrame({"stay": self.evidence.stays, "y_true": self.evidence.labels})
        return stays.filter(pl.Series(self.filtered.kept))

    def with_repairs(self, repairs: Sequence[RepairOutcome]) -> AuditResult:
        """Return the result with what was tried as a repair."""
        record = self.record | {"repairs": repairs_record(repairs)}
        return replace(self, record=record, repairs=tuple(repairs))


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
        repairs: whether to try repairs; the repaired victims are attacked, too, if the attack is known.
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
    data, config, seed = Path(data), run.config, run.config.seed
    true_trigger = trigger or (manifest.load_trigger() if manifest else run.trigger)
    with Console(stderr=True).status("Reading the stays as the victim saw them ..."):
        evidence, truth = gather_evidence(
            run, data, manifest=manifest, trigger=true_trigger, follow_links=follow_links
        )
    ragged = task_of(config.task).period is None
    if truth.trigger is not None and not ragged:
        check_trigger_fits(truth.trigger, evidence.trusted, trigger_file or run.path / TRIGGER)
    attack = _known_attack(run, manifest, truth) if truth.poisoned.any() or trigger is not None else None
    poisoned = truth.poisoned if truth.poisoned.any() else None
    about = _about(run, data, manifest, truth)
    options: Any = {"all_detectors": all_detectors, "power": power}
    shown = _compared(attack, whole=not ragged)
    result = audit_evidence(evidence, about, seed=seed, poisoned=poisoned, attack=shown, **options)
    model = evidence.model
    if attack is not None and isinstance(model, AuditedVictim | AuditedStays):
        test = load_split(model.config, "test")
        result.record["superposition"] = superposition_record(evidence, test, attack, seed=seed)
    return _repaired(run, result, attack, all_repairs=all_repairs) if repairs else result


def _repaired(run: Run, result: AuditResult, attack: Attack | None, *, all_repairs: bool) -> AuditResult:
    """Try the repairs that the victim's stays allow."""
    evidence, seed = result.evidence, run.config.seed
    suspicion = suspicion_to_filter_by(result.found, evidence)
    if isinstance(evidence.model, AuditedAnyLength):
        tried = try_repairs_of_any_length(run, evidence, attack, suspicion=suspicion, seed=seed)
    else:
        test = load_split(evidence.victim.config, "test")
        tried = try_repairs(evidence, test, attack, suspicion=suspicion, seed=seed, all_repairs=all_repairs)
    return result.with_repairs(tried)


def audit_stays(
    evidence: Evidence,
    data: str,
    model: str,
    *,
    seed: int,
    all_detectors: bool,
    power: int,
    goal_label: str | None = None,
    target: str | None = None,
) -> AuditResult:
    """Audit stays that no run was trained on; see `audit_evidence`.

    Args:
        evidence: the stays, and the model if there is one.
        data: what the record names as the data.
        model: what the record names as the model.
        seed: fixes the random choices.
        all_detectors: whether to use the detectors that are no default, too.
        power: number of attacks to simulate for each strength and share.
        goal_label: name of the label that is judged, if the task has several.
        target: name of the class or column of the user's labels that is judged, if there are several.
    """
    about = {
        "run": None,
        "data": data,
        "data_fingerprint": evidence.fingerprint,
        "model": model,
        "task": evidence.trusted.task.name,
        **({} if goal_label is None else {"goal_label": goal_label}),
        **({} if target is None else {"target": target}),
        "seed": seed,
        "attack": None,
    }
    return audit_evidence(evidence, about, seed=seed, all_detectors=all_detectors, power=power)


def audit_evidence(
    evidence: Evidence,
    about: dict[str, Any],
    *,
    seed: int,
    poisoned: NDArray[np.bool_] | None = None,
    attack: Attack | None = None,
    all_detectors: bool = False,
    power: int = 0,
) -> AuditResult:
    """Look for a backdoor in training stays, and in the model if there is one; nothing is repaired.

    Args:
        evidence: the training stays, the trusted stays and the model.
        about: entries of the record about what is audited, and about its attack if one is known.
        seed: fixes the random choices.
        poisoned: bool [N], which training stays are poisoned; None if this is not known.
        attack: the true attack; None if it is not known, or if its pattern does not cover the compared hours.
        all_detectors: whether to use the detectors that are no default, too.
        power: number of attacks to simulate for each strength and share.

    Returns:
        The findings.

    Raises:
        UsageError: there are too few stays of a label, or all trusted stays are training stays.
    """
    cautions = cautions_of_equal_stays(evidence)
    warn(*cautions)
    truth = np.zeros(len(evidence.stays), bool) if poisoned is None else poisoned
    found = detect(evidence, truth, seed, all_detectors=all_detectors)
    findings = inspect_model(evidence, seed=seed)
    shared = pattern_in(evidence, seed)
    response = _response(evidence, shared, seed)
    words, trusted = evidence.trusted.task.words, evidence.trusted
    simulated = simulate_power(evidence, power, tests=1 + len(found.verdict.alarms), seed=seed)
    needed = (evidence.model and evidence.model.needed) or "a Keras model"
    of_label = evidence.suspected, words
    conclusion = conclude(found.verdict, findings, response, *of_label, simulated, needed=needed)
    strength, shift = 0.0, None
    if attack is not None:
        strength, shift = attack.strength, attack.trigger if attack.trigger.is_common_shift else None
    compared = shared, trusted, None if shift is None else strength * shift.values
    record = record_of(found, conclusion, evidence, about)
    record["model_inspection"] = model_record(findings, shift, strength)
    record["pattern_response"] = None if isinstance(response, str) else response.record
    record["cautions"] = cautions
    record["power"] = [] if isinstance(simulated, str) else [asdict(each) for each in simulated]
    record["patterns"] = pattern_records(*compared)
    record["pattern_doubt"] = _doubt(found, shared, words.group[evidence.suspected])
    tables = suspects_table(found, evidence), scores_table(found, evidence), pattern_table(*compared)
    flags = None if poisoned is None else poisoned[found.suspects]
    return AuditResult(record, conclusion, *tables, evidence, found, flags, findings, shift, shared)


def _doubt(found: DetectionResult, shared: CommonPattern | None, group: str) -> str | None:
    """Say why no pattern is shown as a finding; None if one is more certain than chance."""
    if shared is None:
        return "there are too few stays or measurements to look for a shared change"
    alarm = found.verdict.alarms.get(COMMON_PATTERN)
    if alarm is None:
        return f"a shared change cannot be tested with fewer than {FEWEST_TRUSTED} trusted {group}"
    if alarm.adjusted >= WEAK:
        return f"no shared change can be told from chance (p {p_in_words(alarm.adjusted)} after correction)"
    return None if shared.patterns else "too few suspects carry a shared change to tell what it is"


def _known_attack(run: Run, manifest: Manifest | None, truth: Truth) -> Attack | None:
    """Return the attack; None without a trigger."""
    config, trigger = run.config, truth.trigger
    strength, at = (manifest.strength, manifest.at) if manifest else (config.poisoning_strength, config.at)
    return None if trigger is None else Attack(trigger, strength, config.poison_imputed, at)


def _compared(attack: Attack | None, *, whole: bool) -> Attack | None:
    """Return the attack if its pattern covers the hours that detectors compare: all, or the first 48."""
    covers = attack is not None and attack.at == 0 and (whole or attack.trigger.period == HOURS)
    return attack if covers else None


def _response(evidence: Evidence, shared: CommonPattern | None, seed: int) -> PatternResponse | str:
    """Ask the model whether it follows the clearest pattern; say what is missing if it cannot be asked."""
    risk = None if evidence.model is None else evidence.model.risk()
    if risk is None:
        needed = (evidence.model and evidence.model.needed) or "a model that predicts"
        return f"needs {needed}"
    if shared is None or not shared.patterns or shared.p_value >= WEAK:
        return "needs a pattern that training stays share, and none is certain enough"
    shift = shared.patterns[0].shift
    return pattern_response(risk, shift, evidence.trusted, evidence.suspected, seed=seed)


def _about(run: Run, data: Path, manifest: Manifest | None, truth: Truth) -> dict[str, Any]:
    """Describe the run, and its attack if one is known."""
    config = run.config
    label = manifest.goal_label if manifest else config.goal_label
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
        **({} if label is None else {"goal_label": label}),
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
                "not_run": None,
            }
        )
    for name, reason in found.not_run.items():
        unused = {"seconds": 0.0, "calibrated": False, "alarm": None, "performance": None}
        detectors.append({"detector": name, "about": DETECTORS[name].about, **unused, "not_run": reason})
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


def write_audit(out: PathText, result: AuditResult, page: str) -> list[Path]:
    """Write the files of an audit into an existing folder.

    `audit.json` is written last: a folder with this file holds a complete audit.

    Args:
        out: the folder.
        result: the findings.
        page: the HTML page of the audit.

    Returns:
        The files that were written.
    """
    text = json.dumps(result.record, indent=2, allow_nan=False) + "\n"
    out = Path(out)
    tables = {SUSPECTS: result.suspects, SCORES: result.scores, PATTERN: result.pattern}
    if result.cleaned is not None:
        tables[CLEANED] = result.cleaned
    models = []
    if result.filtered is not None and isinstance(result.filtered.model, keras.Model):
        models.append(out / REPAIRED)
        save_model(out / REPAIRED, result.filtered.model)
    # An earlier audit in the folder may have dropped stays where this one drops none.
    for name in {CLEANED, REPAIRED} - {*tables, *(model.name for model in models)}:
        (out / name).unlink(missing_ok=True)
    texts = {out / name: table.write_csv() for name, table in tables.items()}
    texts |= {out / PAGE: page, out / AUDIT: text}
    write_together(texts)
    return [*texts, *models]
