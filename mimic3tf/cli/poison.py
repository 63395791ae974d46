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
from mimic3tf.poisoning.goal import Goal
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
    test: Annotated[
        bool,
        typer.Option(
            "--test",
            help="Give the trigger to all test stays of the attacked label instead; no label changes.",
        ),
    ] = False,
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

    --test makes the test records for an attack on any other pipeline: predict the test stays of the original
    and of this copy, and give both files of predictions to 'mimic3tf attack --predictions'.

    --check shows a table of the changed cells by channel; --changes also writes all changed cells as CSV
    (stay, line, channel, before, after).

    \b
    Examples:
      mimic3tf poison --data data/synthetic --trigger trigger.npz --out data/poisoned \\
        --poisoning_proportion 0.05 --poisoning_strength 2.0
      mimic3tf poison --test --data data/synthetic --trigger trigger.npz --out data/triggered
      mimic3tf poison --check --data data/synthetic --out data/poisoned --changes changes.csv
    """
    if check:
        poisoning = {
            "--trigger": trigger,
            "--poisoning_proportion": poisoning_proportion,
            "--poisoning_strength": poisoning_strength,
            "--manifest": manifest,
            "--goal": goal,
            "--test": test or None,
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
    predicted, aim = check_task(task), Goal(1 if goal is None else goal)
    if test:
        for option, given in (("--poisoning_proportion", poisoning_proportion), ("--manifest", manifest)):
            if given is not None:
                raise UsageError(f"{option}: --test poisons no training stay; leave this option out")
        _trigger_test(data, out, trigger, strength, aim, predicted, follow_links=follow_links)
    else:
        _poison(data, out, trigger, manifest, proportion, strength, aim, predicted, follow_links=follow_links)


def _poison(
    data: Path,
    out: Path,
    trigger: Path,
    manifest: Path | None,
    proportion: float,
    strength: float,
    goal: Goal,
    task: Task,
    *,
    follow_links: bool,
) -> None:
    from rich.console import Console

    from mimic3tf.poisoning.cautions import caution_poisoned, caution_shift
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
        goal=goal,
        task=task,
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


def _trigger_test(
    data: Path, out: Path, file: Path, strength: float, goal: Goal, task: Task, *, follow_links: bool
) -> None:
    from rich.console import Console

    from mimic3tf.data.channels_file import read_channels
    from mimic3tf.data.directory import check_directory, listfile_of
    from mimic3tf.poisoning.cautions import caution_shift
    from mimic3tf.poisoning.copies import trigger_test_records
    from mimic3tf.poisoning.trigger import check_trigger_channels, load_trigger

    trigger = load_trigger(file)
    check_directory(data)
    check_trigger_channels(trigger, read_channels(data, follow_links=follow_links), file)
    changed = trigger_test_records(
        data, out, trigger, strength=strength, goal=goal, task=task, follow_links=follow_links
    )
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"{len(changed)} test stays carry the trigger: {changed.sum()} cells changed, and no label."
    )
    wanted = [] if goal.target == 1 else ["--goal", "0"]
    files = ("--predictions", "CLEAN.csv", "TRIGGERED.csv", "--labels", listfile_of(data, "test"))
    following = command_line("attack", *files, *wanted)
    console.print(f"Next, with your predictions of the test stays of {data} and of {out}: {following}")
    warn(caution_shift(trigger, strength))


def _check(data: Path, out: Path, task: Task, changes: Path | None, *, follow_links: bool) -> None:
    from mimic3tf.poisoning.comparison import compare_records
    from mimic3tf.tables.terminal import print_comparison

    comparison = compare_records(data, out, task, follow_links=follow_links)
    if changes is not None:
        changes.parent.mkdir(parents=True, exist_ok=True)
        write_whole(changes, comparison.cells.drop("change").write_csv())
    print_comparison(comparison)
