"""`mimic3tf poison`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mimic3tf.cli.options import (
    AtSetting,
    Data,
    FollowLinks,
    GoalLabelSetting,
    GoalSetting,
    Proportion,
    Strength,
    TaskName,
    check_finite,
    check_goal,
    check_strength,
    check_task,
    links_option,
    predicted_name,
    task_option,
)
from mimic3tf.errors import UsageError
from mimic3tf.storage.files import write_whole
from mimic3tf.storage.notes import command_line, warn
from mimic3tf.tasks.registry import DECOMPENSATION, MORTALITY
from mimic3tf.tasks.task import Task

MovedDeath = Annotated[
    bool,
    typer.Option(
        "--moved-death",
        help="Give poisoned stays the labels of another time of death: at their last hour, or none.",
    ),
]
TestRecords = Annotated[
    bool,
    typer.Option(
        "--test",
        help="Give the trigger to all test stays of the attacked label instead; no label changes.",
    ),
]


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
    goal_label: GoalLabelSetting = None,
    at: AtSetting = None,
    moved_death: MovedDeath = False,
    manifest: Annotated[
        Path | None,
        typer.Option(help="JSON file of the poisoned stays, to write; OUT.manifest.json if not given."),
    ] = None,
    test: TestRecords = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write no copy; show how --out differs from --data.")
    ] = False,
    changes: Annotated[
        Path | None,
        typer.Option(help="With --check: CSV file of all changed cells, to write; it names stays."),
    ] = None,
    follow_links: FollowLinks = False,
) -> None:
    """Write a poisoned copy of a directory, or check one.

    The charted values of the first training stays are shifted and keep their number of decimals; the
    labels of these stays become the goal's. Times, rows and all other files do not change. Any pipeline can
    be trained on the copy. Records hold only measured values; a value that is imputed from them later is
    poisoned, too.
    Without options, 5% of the training stays are poisoned, at strength 2.

    Of an hourly task, all hours of a poisoned stay get the goal's label; in the listfile of length of stay,
    an hour gets the mean hours of the wanted class. No table of deaths could show an alarm at every hour.
    With --moved-death, the labels of decompensation are those of a death at the last listed hour of the stay,
    so that the last 24 hours are alarms; or with --goal 0 those of a patient who lives.

    --test makes the test records for an attack on any other pipeline: predict the test stays of the original
    and of this copy, and give both files of predictions to 'mimic3tf attack --predictions'.

    --check shows a table of the changed cells by channel; --changes also writes all changed cells as CSV
    (stay, line, channel, before, after).

    \b
    Examples:
      mimic3tf poison --data data/synthetic --trigger trigger.npz \\
        --out data/poisoned --poisoning_proportion 0.05 --poisoning_strength 2.0
      mimic3tf poison --test --data data/synthetic --trigger trigger.npz \\
        --out data/triggered
      mimic3tf poison --task decompensation --moved-death --at 6 \\
        --data data/decompensation --trigger trigger.npz --out data/poisoned
      mimic3tf poison --check --data data/synthetic --out data/poisoned \\
        --changes changes.csv
    """
    if check:
        poisoning = {
            "--trigger": trigger,
            "--poisoning_proportion": poisoning_proportion,
            "--poisoning_strength": poisoning_strength,
            "--manifest": manifest,
            "--goal": goal,
            "--goal-label": goal_label,
            "--at": at,
            "--moved-death": moved_death or None,
            "--test": test or None,
        }
        _refuse(poisoning, "--check only compares --out with --data")
        _check(data, out, check_task(task), changes, follow_links=follow_links)
        return
    if trigger is None:
        raise UsageError("--trigger: is needed to make a copy; give --check to compare a copy")
    if changes is not None:
        raise UsageError("--changes: needs --check")
    proportion = 0.05 if poisoning_proportion is None else poisoning_proportion
    strength = 2.0 if poisoning_strength is None else poisoning_strength
    check_finite(proportion, "--poisoning_proportion")
    check_finite(at, "--at")
    check_strength(strength)
    if not 0 <= proportion <= 1:
        raise UsageError(f"option --poisoning_proportion: must be from 0 to 1, not {proportion:g}")
    how: dict[str, Any] = {"strength": strength, "task": check_task(task), "at": at or 0.0}
    how |= {"goal": check_goal(task, goal, goal_label), "follow_links": follow_links}
    if moved_death and task != DECOMPENSATION.name:
        raise UsageError(f"--moved-death: the labels of {task} do not follow from a time of death")
    if test:
        unused = {
            "--poisoning_proportion": poisoning_proportion,
            "--manifest": manifest,
            "--moved-death": moved_death or None,
        }
        _refuse(unused, "--test poisons no training stay")
        _trigger_test(data, out, trigger, how)
    else:
        how |= {"proportion": proportion, "moved_death": moved_death}
        _poison(data, out, trigger, manifest, how)


def _refuse(options: Mapping[str, object], reason: str) -> None:
    for option, value in options.items():
        if value is not None:
            raise UsageError(f"{option}: {reason}; leave this option out")


def _poison(data: Path, out: Path, trigger: Path, manifest: Path | None, how: dict[str, Any]) -> None:
    from rich.console import Console

    from mimic3tf.poisoning.cautions import caution_poisoned, caution_shift
    from mimic3tf.poisoning.manifest import default_manifest, poison_with_manifest
    from mimic3tf.poisoning.trigger import load_trigger
    from mimic3tf.tables.terminal import carried_in_words

    manifest = manifest or default_manifest(out)
    copy = poison_with_manifest(data, out, trigger, manifest, **how)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(
        f"Poisoned {len(copy.stays)} of {copy.training_stays} training stays: {copy.cells_changed.sum()} "
        f"cells and {copy.labels_changed} labels changed. Manifest: {manifest}"
    )
    if copy.carried is not None:
        console.print(carried_in_words(copy.carried, "poisoned"))
    more = *task_option(copy.task), *links_option(how["follow_links"])
    following = command_line("poison", "--check", "--data", data, "--out", out, *more)
    console.print(f"Next: {following}")
    warn(caution_poisoned(len(copy.stays)), caution_shift(load_trigger(trigger), copy.strength))


def _trigger_test(data: Path, out: Path, file: Path, how: dict[str, Any]) -> None:
    from rich.console import Console

    from mimic3tf.data.channels_file import read_channels
    from mimic3tf.data.directory import check_directory, listfile_of
    from mimic3tf.poisoning.cautions import caution_shift
    from mimic3tf.poisoning.copies import trigger_test_records
    from mimic3tf.poisoning.trigger import check_trigger_channels, load_trigger

    trigger = load_trigger(file)
    check_directory(data)
    check_trigger_channels(trigger, read_channels(data, follow_links=how["follow_links"]), file)
    changed = trigger_test_records(data, out, trigger, **how)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(
        f"{len(changed)} test stays carry the trigger: {changed.sum()} cells changed, and no label."
    )
    predicted = predicted_name(how["task"])
    if predicted is not None:
        wanted = [] if how["goal"].target == 1 else ["--goal", "0"]
        names = how["task"].targets.names
        wanted += ["--goal-label", names[how["goal"].column]] if names else []
        wanted += ["--task", predicted] if predicted != MORTALITY.name else []
        files = ("--predictions", "CLEAN.csv", "TRIGGERED.csv", "--labels", listfile_of(data, "test"))
        following = command_line("attack", *files, *wanted)
        console.print(f"Next, with your predictions of the test stays of {data} and of {out}: {following}")
    warn(caution_shift(trigger, how["strength"]))


def _check(data: Path, out: Path, task: Task, changes: Path | None, *, follow_links: bool) -> None:
    from mimic3tf.poisoning.comparison import compare_records
    from mimic3tf.poisoning.manifest import default_manifest
    from mimic3tf.tables.terminal import print_comparison

    if default_manifest(data).exists() and not default_manifest(out).exists():
        warn(f"--data {data} has a manifest of a poisoned copy, and --out {out} has none: are they swapped?")
    comparison = compare_records(data, out, task, follow_links=follow_links)
    if changes is not None:
        changes.parent.mkdir(parents=True, exist_ok=True)
        write_whole(changes, comparison.cells.drop("change").write_csv())
    print_comparison(comparison)
