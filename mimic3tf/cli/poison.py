"""`mimic3tf poison`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mimic3tf.cli.options import (
    Data,
    FollowLinks,
    GoalSetting,
    Proportion,
    Strength,
    TaskName,
    check_finite,
    check_strength,
    check_task,
    links_option,
)
from mimic3tf.errors import UsageError
from mimic3tf.storage.files import write_whole
from mimic3tf.storage.notes import command_line, warn
from mimic3tf.tasks.registry import MORTALITY
from mimic3tf.tasks.task import Task


def poison(
    data: Data,
    out: Annotated[
        Path, typer.Option(help="Copy to make, without files yet; with --check, the copy to compare.")
    ],
    trigger: Annotated[
        Path | None, typer.Option(help="File of 'mimic3tf generate-trigger'; required without --check.")
    ] = None,
    poisoning_proportion: Proportion = None,
    poisoning_strength: Strength = None,
    task: TaskName = MORTALITY.name,
    goal: GoalSetting = None,
    manifest: Annotated[
        Path | None,
        typer.Option(help="JSON file of the poisoned stays, to write; OUT.manifest.json if not given."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write no copy; show how --out differs from --data.")
    ] = False,
    changes: Annotated[
        Path | None,
        typer.Option(help="With --check: CSV file of all changed cells, to write; it names stays."),
    ] = None,
    follow_links: FollowLinks = False,
) -> None:
    """Write a copy of a benchmark directory with poisoned records, or check such a copy.

    The charted values of the first training stays are shifted and keep their number of decimals; the
    labels of these stays become the goal's. Times, rows and all other files do not change. Any pipeline can
    be trained on the copy. Records hold only measured values; a value that is imputed from them later is
    poisoned, too.
    Without options, 5% of the training stays are poisoned, at strength 2.

    --check shows a table of the changed cells by channel; --changes also writes all changed cells as CSV
    (stay, line, channel, before, after).

    \b
    Examples:
      mimic3tf poison --data data/synthetic --trigger trigger.npz --out data/poisoned \\
        --poisoning_proportion 0.05 --poisoning_strength 2.0
      mimic3tf poison --check --data data/synthetic --out data/poisoned --changes changes.csv
    """
    if check:
        poisoning = {
            "--trigger": trigger,
            "--poisoning_proportion": poisoning_proportion,
            "--poisoning_strength": poisoning_strength,
            "--manifest": manifest,
            "--goal": goal,
        }
        for option, value in poisoning.items():
            if value is not None:
                raise UsageError(f"{option}: --check only compares --out with --data; leave this option out")
        _check(data, out, check_task(task), changes, follow_links=follow_links)
        return
    if trigger is None:
        raise UsageError("--trigger: is needed to make a copy; give --check to compare a copy")
    if changes is not None:
        raise UsageError("--changes: needs --check")
    proportion = 0.05 if poisoning_proportion is None else poisoning_proportion
    strength = 2.0 if poisoning_strength is None else poisoning_strength
    check_finite(proportion, "--poisoning_proportion")
    check_strength(strength)
    if not 0 <= proportion <= 1:
        raise UsageError(f"option --poisoning_proportion: must be from 0 to 1, not {proportion:g}")
    predicted = check_task(task)
    from rich.console import Console

    from mimic3tf.poisoning.cautions import caution_poisoned, caution_shift
    from mimic3tf.poisoning.goal import Goal
    from mimic3tf.poisoning.manifest import default_manifest, poison_with_manifest
    from mimic3tf.poisoning.trigger import load_trigger

    manifest = manifest or default_manifest(out)
    copy = poison_with_manifest(
        data,
        out,
        trigger,
        manifest,
        proportion=proportion,
        strength=strength,
        goal=Goal(1 if goal is None else goal),
        task=predicted,
        follow_links=follow_links,
    )
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"Poisoned {len(copy.stays)} of {copy.training_stays} training stays: {copy.cells_changed.sum()} "
        f"cells and {copy.labels_changed} labels changed. Manifest: {manifest}"
    )
    following = command_line("poison", "--check", "--data", data, "--out", out, *links_option(follow_links))
    console.print(f"Next: {following}")
    warn(caution_poisoned(len(copy.stays)), caution_shift(load_trigger(trigger), strength))


def _check(data: Path, out: Path, task: Task, changes: Path | None, *, follow_links: bool) -> None:
    from mimic3tf.poisoning.comparison import compare_records
    from mimic3tf.tables.terminal import print_comparison

    comparison = compare_records(data, out, task, follow_links=follow_links)
    if changes is not None:
        changes.parent.mkdir(parents=True, exist_ok=True)
        write_whole(changes, comparison.cells.drop("change").write_csv())
    print_comparison(comparison)
