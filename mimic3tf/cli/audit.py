"""`mimic3tf audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mimic3tf.cli.checks import check_data, check_out, check_trigger
from mimic3tf.cli.options import Data, FollowLinks, TrustModel
from mimic3tf.startup import start_tensorflow


def audit(
    run: Annotated[Path, typer.Option(help="Run directory of 'mimic3tf train'.")],
    data: Data,
    out: Annotated[
        Path,
        typer.Option(help="Folder for audit.json, three tables, and figures for TensorBoard."),
    ],
    trigger: Annotated[
        Path | None, typer.Option(help="The true trigger, to compare with; the run's own if not given.")
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(help="Manifest of 'mimic3tf poison', if the run was trained on a poisoned copy."),
    ] = None,
    repairs: Annotated[
        bool,
        typer.Option(help="Try repairs, if the attack is known; the repaired victims are attacked with it."),
    ] = True,
    all_detectors: Annotated[
        bool, typer.Option("--all-detectors", help="Use the detectors, too, that were never the best one.")
    ] = False,
    all_repairs: Annotated[
        bool, typer.Option("--all-repairs", help="Try the repairs, too, that left most of the backdoor.")
    ] = False,
    power: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Simulate N attacks of each of six strengths and shares on these stays, and count how many "
            "are found. Each takes up to a minute.",
        ),
    ] = 0,
    trust_model: TrustModel = False,
    follow_links: FollowLinks = False,
) -> None:
    """Look for a backdoor in a victim and in its training stays, as the owner of the victim could.

    Detectors look for poisoned training stays; inverted triggers show whether the model looks backdoored.
    The audit trusts the validation stays of --data: they set the thresholds. The true attack is used only
    afterwards, to score the findings and to attack the repaired victims. It is known from a run that poisoned
    its stays itself, from --manifest, or from --trigger.

    The output starts with one conclusion in words, and its reasons: the share of the suspected label (the
    label that the attack gives), the detectors, and the inverted triggers. suspects.csv ranks the training
    stays of that label and says why each of them looks suspicious; scores.csv holds their scores from every
    detector; pattern.csv holds the shift that the flagged stays share. audit.json, which starts with the
    conclusion, is written last.

    \b
    Examples:
      mimic3tf audit --run runs/mlp --data data/synthetic --out audits/mlp
      mimic3tf audit --run runs/mlp-copy --data data/poisoned --manifest data/poisoned.manifest.json \\
        --out audits/mlp-copy
      mimic3tf audit --run runs/clean --data data/synthetic --out audits/clean --power 10
    """
    check_out(out)
    from mimic3tf.poisoning.manifest import read_manifest
    from mimic3tf.training.run_files import check_run

    settings = check_run(run, trust_model=trust_model)
    true_trigger = None if trigger is None else check_trigger(trigger, settings)
    check_data(data, "train", "val")
    told = None if manifest is None else read_manifest(manifest)
    start_tensorflow()
    from mimic3tf.dashboards.audit import write_figures
    from mimic3tf.defences.audit import PATTERN, SCORES, SUSPECTS, audit_run, write_audit
    from mimic3tf.storage.folders import claimed
    from mimic3tf.tables.audits import AUDIT
    from mimic3tf.tables.terminal import print_audit
    from mimic3tf.training.run_directory import load_run

    victim = load_run(run, trust_model=trust_model)
    # Make the folder before the work, so that the results of long work can be written.
    with claimed(out):
        result = audit_run(
            victim,
            data,
            manifest=told,
            trigger=true_trigger,
            trigger_file=trigger,
            repairs=repairs,
            all_detectors=all_detectors,
            all_repairs=all_repairs,
            power=power,
            follow_links=follow_links,
        )
        write_figures(out, result)
        write_audit(out, result)
    print_audit(result.record, result.suspects)
    tables = ", ".join(str(out / name) for name in (SUSPECTS, SCORES, PATTERN))
    typer.echo(f"Written: {out / AUDIT}, {tables} and figures for TensorBoard")
