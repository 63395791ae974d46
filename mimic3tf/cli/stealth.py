"""`mimic3tf stealth`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from mimic3tf.cli.checks import check_data, check_out
from mimic3tf.cli.options import Data, FollowLinks, TaskName, check_finite, check_task
from mimic3tf.config import LARGEST_SEED
from mimic3tf.errors import UsageError, near
from mimic3tf.poisoning.kinds import PoisonImputed, ShiftKind
from mimic3tf.startup import start_tensorflow
from mimic3tf.storage.files import write_whole
from mimic3tf.tasks.registry import MORTALITY


def stealth(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for stealth.csv.")],
    kind: Annotated[
        list[str] | None, typer.Option(help="temporal, gaussian or covariance; repeatable.  [default: all]")
    ] = None,
    poisoning_strength: Annotated[
        list[float] | None,
        typer.Option(
            "--poisoning_strength",
            "--poisoning-strength",
            min=0,
            help="Mahalanobis length; repeatable. 0 is always measured, too.  [default: 0.5, 1, 1.5, 2]",
        ),
    ] = None,
    poison_imputed: Annotated[
        list[str] | None,
        typer.Option(
            "--poison_imputed", "--poison-imputed", help="notimputed or all; repeatable.  [default: both]"
        ),
    ] = None,
    poisoning_proportion: Annotated[
        float,
        typer.Option(
            "--poisoning_proportion",
            "--poisoning-proportion",
            min=0,
            max=1,
            help="Share of training stays that get the trigger.",
        ),
    ] = 0.05,
    seed: Annotated[
        list[int] | None,
        typer.Option(
            min=0, max=LARGEST_SEED, help="Seed of triggers and detectors; repeatable.  [default: 0]"
        ),
    ] = None,
    task: TaskName = MORTALITY.name,
    follow_links: FollowLinks = False,
) -> None:
    """Measure how well poisoned stays hide among clean ones.

    Every trigger is added to the first training stays, as in 'train', but no victim is trained. Detectors
    that know more or less of the attack then try to distinguish these stays from the others. Strength 0 is
    the control: the same stays without a trigger.

    Of a task whose stays have lengths of their own, those that last 48 hours are compared, by their first 48
    hours. Labels play no part.

    stealth.csv has one row for each number, also by channel; the table shows means over seeds.

    \b
    Examples:
      mimic3tf stealth --data data/synthetic --out stealth
      mimic3tf stealth --data data/phenotyping --task phenotyping \\
        --out stealth-phenotyping
      mimic3tf stealth --data data/synthetic --out stealth --kind temporal \\
        --poison_imputed notimputed --poisoning_strength 1 \\
        --poisoning_strength 2 --seed 0 --seed 1 --seed 2
    """
    strengths = poisoning_strength or [0.5, 1.0, 1.5, 2.0]
    for strength in strengths:
        check_finite(strength, "--poisoning_strength")
    kinds = _distinct(kind, ShiftKind, "--kind")
    modes = _distinct(poison_imputed, PoisonImputed, "--poison_imputed")
    check_finite(poisoning_proportion, "--poisoning_proportion")
    check_out(out)
    check_task(task)
    check_data(data, "train")
    start_tensorflow()
    from mimic3tf.data.loading import load_cohort
    from mimic3tf.defences.stealth import measure_stealth
    from mimic3tf.poisoning.trigger import of_one_length
    from mimic3tf.tables.fitting import print_table
    from mimic3tf.tables.stealth import STEALTH, stealth_table, summarize_stealth

    findings = measure_stealth(
        of_one_length(load_cohort(data, "train", task=task, follow_links=follow_links)),
        kinds=kinds,
        strengths=list(dict.fromkeys(strengths)),
        modes=modes,
        proportion=poisoning_proportion,
        seeds=list(dict.fromkeys(seed or [0])),
    )
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / STEALTH, findings.write_csv())
    print_table(stealth_table(summarize_stealth(findings)))


def _distinct(values: list[str] | None, choice: Any, option: str) -> list[Any]:
    """Check that `values` belong to a `Literal` type, and return each once; without values, all of the type.

    Typer accepts no list of literals as a type.
    """
    for value in values or []:
        if value not in get_args(choice):
            known = get_args(choice)
            raise UsageError(f"option {option}: '{value}' is none of {', '.join(known)}{near(value, known)}")
    return list(dict.fromkeys(values or get_args(choice)))
