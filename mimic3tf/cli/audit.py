"""`mimic3tf audit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mimic3tf.cli.options import Data
from mimic3tf.cli.startup import start_tensorflow

if TYPE_CHECKING:
    from mimic3tf.poisoning.manifest import Manifest
    from mimic3tf.poisoning.trigger import Trigger
    from mimic3tf.training.run_directory import Run


def audit(
    run: Annotated[Path, typer.Option(help="Run directory of 'mimic3tf train'.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for audit.json, suspects.csv and tensorboard/.")],
    trigger: Annotated[
        Path | None, typer.Option(help="The true trigger, to compare with; the run's own if not given.")
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(help="Manifest of 'mimic3tf poison', for a run on a poisoned copy."),
    ] = None,
    repairs: Annotated[
        bool,
        typer.Option(help="Try repairs, where the attack is known that they are measured with."),
    ] = True,
) -> None:
    """Look for a backdoor in a victim and in what it was trained on, as its owner could.

    Detectors look for poisoned training stays; inverted triggers tell whether the model looks backdoored.
    The validation stays of --data are taken to be sound: they set the thresholds. What the attacker did is
    used only afterwards, to score what was found, and to attack the repaired victims, where it is known: of
    a run that poisoned its stays itself, from --manifest, or from --trigger.

    suspects.csv ranks the training stays labelled 1; audit.json is written last.

    \b
    Examples:
      mimic3tf audit --run runs/mlp --data data/synthetic --out audits/mlp
      mimic3tf audit --run runs/mlp-copy --data data/poisoned --manifest data/poisoned.manifest.json \\
        --out audits/mlp-copy
    """
    start_tensorflow()
    from rich.console import Console

    from mimic3tf.dashboards.audit import write_figures
    from mimic3tf.data.cohort import load_cohort
    from mimic3tf.defences.detection import audit as audit_stays
    from mimic3tf.defences.detection import (
        record_of,
        suspects_table,
        suspicion_to_filter_by,
        write_audit,
    )
    from mimic3tf.defences.evidence import gather_evidence
    from mimic3tf.defences.inspection.model_inspection import inspect_model
    from mimic3tf.defences.outcomes import model_record, repairs_record, superposition_record
    from mimic3tf.defences.repairs.registry.registry import try_repairs
    from mimic3tf.poisoning.manifest import read_manifest
    from mimic3tf.poisoning.trigger import check_trigger_fits, load_trigger
    from mimic3tf.tables.terminal import print_audit
    from mimic3tf.training.run_directory import EVENTS, load_run

    victim = load_run(run)
    told = None if manifest is None else read_manifest(manifest)
    true_trigger = load_trigger(trigger) if trigger else told.load_trigger() if told else victim.trigger
    with Console(stderr=True).status("Reading the stays as the victim saw them ..."):
        evidence, truth = gather_evidence(victim, data, manifest=told, trigger=true_trigger)
    check_trigger_fits(truth.trigger, evidence.trusted, trigger or run / "trigger.npz")
    # Before the work: it should not end at a folder that cannot be made.
    out.mkdir(parents=True, exist_ok=True)
    seed = victim.config.seed
    found = audit_stays(evidence, truth.poisoned, seed)
    findings = inspect_model(evidence, seed=seed)
    poisoned = truth.poisoned[found.suspects] if truth.poisoned.any() else None
    attacked_with = truth.trigger if poisoned is not None or trigger else None
    shift = attacked_with if attacked_with and attacked_with.kind != "missing" else None
    about = _about(victim, data, told, truth.trigger, int(truth.poisoned.sum()))
    record = record_of(found, evidence, about)
    strength = told.strength if told else victim.config.poisoning_strength
    record["model_inspection"] = model_record(findings, shift, strength)
    if attacked_with is not None:
        attack: Any = {"strength": strength, "poison_imputed": victim.config.poison_imputed}
        test = load_cohort(data, "test")
        record["superposition"] = superposition_record(evidence, test, attacked_with, **attack, seed=seed)
        if repairs:
            suspicion = suspicion_to_filter_by(found, evidence)
            tried = try_repairs(evidence, test, attacked_with, **attack, suspicion=suspicion, seed=seed)
            record["repairs"] = repairs_record(tried)
    write_figures(out / EVENTS, found, poisoned, findings, shift)
    write_audit(out, record, suspects_table(found, evidence))
    print_audit(record)
    typer.echo(f"Written: {out / 'audit.json'}, {out / 'suspects.csv'} and {out / EVENTS}")


def _about(
    run: Run, data: Path, manifest: Manifest | None, trigger: Trigger, poisoned: int
) -> dict[str, Any]:
    """The run, and what was done to it."""
    config = run.config
    attack = None
    if manifest is not None or config.poisoning_proportion > 0:
        attack = {
            "stays_poisoned": poisoned,
            "trigger": trigger.name,
            "poisoned_labels": config.poisoned_labels,
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
        "seed": config.seed,
        "attack": attack,
    }
