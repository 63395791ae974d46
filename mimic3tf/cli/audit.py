"""`mimic3tf audit`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mimic3tf.cli.audit_inputs import (
    ArraysFile,
    AuditedLabel,
    AuditedTask,
    AuditOut,
    DataToAudit,
    IdColumn,
    LabelColumn,
    ManifestFile,
    ModelFile,
    PowerDraws,
    PredictionsFile,
    RunToAudit,
    Sources,
    TargetLabel,
    TrueTrigger,
    TrustedFile,
    TrustModel,
    audited,
)
from mimic3tf.cli.checks import check_out
from mimic3tf.cli.options import FollowLinks
from mimic3tf.config import LARGEST_SEED
from mimic3tf.errors import UsageError
from mimic3tf.startup import start_tensorflow

ALARM_STATUS = 3
"""Exit status of an audit that finds what `--fail-on` names."""


class FailOn(StrEnum):
    """Conclusion from which on the exit status is 3."""

    ALARM = "alarm"
    WEAK = "weak"


def audit(
    out: AuditOut,
    run: RunToAudit = None,
    data: DataToAudit = None,
    arrays: ArraysFile = None,
    trusted: TrustedFile = None,
    label: LabelColumn = None,
    id_column: IdColumn = None,
    target: TargetLabel = None,
    task: AuditedTask = None,
    goal_label: AuditedLabel = None,
    model: ModelFile = None,
    trust_model: TrustModel = False,
    predictions: PredictionsFile = None,
    fail_on: Annotated[
        FailOn | None,
        typer.Option(help="End with exit status 3 if the conclusion is suspicious (alarm), or a weak sign."),
    ] = None,
    trigger: TrueTrigger = None,
    manifest: ManifestFile = None,
    repairs: Annotated[
        bool,
        typer.Option(help="Try repairs of a run; if the attack is known, the repaired victims are attacked."),
    ] = True,
    all_detectors: Annotated[
        bool, typer.Option("--all-detectors", help="Use the detectors, too, that were never the best one.")
    ] = False,
    all_repairs: Annotated[
        bool, typer.Option("--all-repairs", help="Try the repairs, too, that left most of the backdoor.")
    ] = False,
    power: PowerDraws = 0,
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Fixes random choices; a run has its own seed.")
    ] = 0,
    follow_links: FollowLinks = False,
) -> None:
    """Look for a backdoor in training stays and in a model.

    Name what you have: a run of 'mimic3tf train' (--run and --data), a benchmark directory (--data), or your
    own arrays (--arrays and --trusted), with a model of yours, its predictions, or neither. Trusted stays set
    the thresholds: those of --trusted, or the validation stays of --data. A check whose input is missing is
    listed as not run.

    Of a task other than in-hospital mortality, whole stays are compared: their first 48 hours, and the label
    that --goal-label names, or that the run attacks. Of an hourly task, a stay has the label if any of its
    hours has it, and a class if half of its hours have it. Checks that need one prediction of a stay are
    then listed as not run. A filter drops suspects with all their hours. No model is written, and
    --all-repairs adds nothing.

    In an .npz file, x holds numbers [N, T, C] or [N, D], NaN where nothing was measured, and y the labels
    [N]; ids [N] and channels [C] may hold names. All other columns of a table are read as numbers.

    The output starts with one conclusion in words, and its reasons. audit.html is the same for a reader who
    does not know statistics. suspects.csv ranks the training stays of the suspected label and says why each
    of them looks suspicious; scores.csv holds their scores; pattern.csv the shift that they share. If a
    repair drops stays, cleaned_listfile.csv holds the others and repaired.keras the model trained on them.
    audit.json is written last. The true attack of a run is used only afterwards, to score the findings.

    \b
    Examples:
      mimic3tf audit --run runs/mlp --data data/synthetic --out audits/mlp
      mimic3tf audit --data data/synthetic --out audits/stays --fail-on alarm
      mimic3tf audit --data data/phenotyping --task phenotyping \\
        --goal-label Shock --out audits/shock
      mimic3tf audit --arrays train.npz --trusted trusted.npz \\
        --model model.keras --out audits/own
      mimic3tf audit --arrays train.parquet --trusted trusted.parquet \\
        --label died --id stay --out audits/own
    """
    check_out(out)
    _check_no_audit(out)
    given = run, data, arrays, trusted, label, id_column, target, model, trust_model, predictions
    sources = Sources(*given, task, goal_label)
    true_trigger, told = sources.check(
        trigger, manifest, no_repairs=not repairs, all_repairs=all_repairs, follow_links=follow_links
    )
    start_tensorflow()
    from mimic3tf.storage.folders import claimed
    from mimic3tf.tables.terminal import print_audit

    # Make the folder before the work, so that the results of long work can be written.
    with claimed(out):
        report = audited(
            sources,
            trigger=true_trigger,
            trigger_file=trigger,
            manifest=told,
            repairs=repairs,
            all_detectors=all_detectors,
            all_repairs=all_repairs,
            power=power,
            seed=seed,
            follow_links=follow_links,
        )
        written = report.write(out)
    print_audit(report.record, report.suspects)
    typer.echo(f"Written: {', '.join(map(str, written))} and figures for TensorBoard")
    level = report.verdict.level
    if fail_on and (level == "suspicious" or (fail_on == FailOn.WEAK and level == "weak sign")):
        raise typer.Exit(ALARM_STATUS)


def _check_no_audit(out: Path) -> None:
    from mimic3tf.tables.audits import AUDIT

    # An audit is evidence: it is never replaced in silence.
    if (out / AUDIT).exists():
        raise UsageError(f"--out {out}: holds an audit already; name another, or remove {out / AUDIT}")
