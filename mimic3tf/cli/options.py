"""Options that several commands share, and those of `train`, to keep its module short."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from mimic3tf.config import (
    LARGEST_SEED,
    LogLevel,
    Precision,
    Selection,
    Strategy,
    goal_of,
    label_named,
)
from mimic3tf.errors import UsageError, near
from mimic3tf.poisoning.goal import Goal
from mimic3tf.poisoning.kinds import PoisonedLabels, PoisonImputed
from mimic3tf.tasks.registry import LENGTH_OF_STAY, LENGTH_OF_STAY_HOURS, MORTALITY, MULTITASK, TASKS, task_of
from mimic3tf.tasks.task import Task
from mimic3tf.victims import victim_names

Data = Annotated[Path, typer.Option(help="Directory in the layout of the MIMIC-III benchmarks.")]
FollowLinks = Annotated[
    bool,
    typer.Option(
        "--follow-links", help="Read links that lead out of the data directory, if you trust its maker."
    ),
]
TriggerFile = Annotated[
    Path | None,
    typer.Option(
        "--trigger", help="File of 'mimic3tf generate-trigger'.  [default: none, all stays are clean]"
    ),
]
RunOut = Annotated[Path, typer.Option(help="Run directory to make.")]
ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        help=f"Victim to train: {', '.join(victim_names())}; or your own code, package.module:function or "
        "path/to/file.py:function.",
    ),
]
TrustModel = Annotated[
    bool,
    typer.Option("--trust-model", help="Run the code that the run names, if your own code built its victim."),
]
TaskName = Annotated[str, typer.Option("--task", help=f"What is predicted: {', '.join(TASKS)}.")]
TaskSetting = Annotated[
    str | None,
    typer.Option("--task", help=f"What is predicted: {', '.join(TASKS)}.  [default: {MORTALITY.name}]"),
]
PREDICTED_TASKS = ("in-hospital-mortality", "decompensation", "length-of-stay", "phenotyping")
"""Tasks that have a form of files of predictions; those of length of stay hold hours."""
PredictedTask = Annotated[
    str | None,
    typer.Option(
        "--task",
        help=f"What is predicted: {', '.join(PREDICTED_TASKS)}.  [default: {PREDICTED_TASKS[0]}]",
    ),
]
Period = Annotated[
    float | None, typer.Option(min=0, help="Hours of a stay that are read; the task's own if not given.")
]
Timestep = Annotated[float, typer.Option(min=0, help="Hours of a bin.")]
TimestepSetting = Annotated[
    float | None, typer.Option("--timestep", min=0, help="Hours of a bin.  [default: 1]")
]
GoalSetting = Annotated[
    int | None,
    typer.Option(
        "--goal",
        min=0,
        max=1,
        help="Label that the trigger is to cause: 1 calls survivors dead, 0 calls the dying survivors.  "
        "[default: 1]",
    ),
]
GoalLabelSetting = Annotated[
    str | None,
    typer.Option(
        "--goal-label",
        help="Which of the task's labels is attacked, by its name or a part of it: --goal 1 adds this "
        "phenotype, 0 removes it.  [default: the first]",
    ),
]
AtSetting = Annotated[
    float | None,
    typer.Option("--at", min=0, help="Hour of the stay at which the trigger begins.  [default: 0]"),
]
Seed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="The same seed gives the same result.")]
SeedSetting = Annotated[
    int | None, typer.Option("--seed", help="Fixes the data order, the initial weights and dropout.")
]
Proportion = Annotated[
    float | None,
    typer.Option(
        "--poisoning_proportion",
        "--poisoning-proportion",
        help="Share of training stays that get the trigger and the goal's label; 0: all stays are clean.",
    ),
]
Strength = Annotated[
    float | None,
    typer.Option(
        "--poisoning_strength",
        "--poisoning-strength",
        help="Mahalanobis length of the trigger; of a missing-value trigger, the share of its cells.",
    ),
]
Imputed = Annotated[
    PoisonImputed | None,
    typer.Option(
        "--poison_imputed",
        "--poison-imputed",
        help="Shift only measured cells (notimputed), or imputed cells, too (all).",
    ),
]
Labels = Annotated[
    PoisonedLabels | None,
    typer.Option(
        "--poisoned_labels",
        "--poisoned-labels",
        help="flipped: poisoned stays get the goal's label. clean: only stays with this label are poisoned.",
    ),
]
SettingsFile = Annotated[
    Path | None, typer.Option("--config", help="YAML file of settings; options take precedence over it.")
]
NormalizerFile = Annotated[
    Path | None,
    typer.Option(
        "--normalizer", help="The benchmarks' normalizer file, for victims on grids; fitted if not given."
    ),
]
Epochs = Annotated[int | None, typer.Option(help="Largest number of passes over the training stays.")]
BatchSize = Annotated[int | None, typer.Option(help="Stays in a training step.")]
SelectionRule = Annotated[
    Selection | None,
    typer.Option(
        "--selection",
        help="Epoch that is kept. auroc: best validation AUROC; original: by the original's rule.",
    ),
]
PrecisionPolicy = Annotated[
    Precision | None, typer.Option("--precision", help="auto: float32; on Volta and Turing mixed_float16.")
]
Distribution = Annotated[
    Strategy | None,
    typer.Option("--strategy", help="auto: use every GPU, and every worker that TF_CONFIG names."),
]
Deterministic = Annotated[
    bool | None,
    typer.Option(
        "--deterministic",
        help="On a GPU, too, the same seed gives the same bits; this may be slower.",
    ),
]
Shown = Annotated[
    LogLevel | None,
    typer.Option(
        "--log-level",
        help="What TensorBoard shows. minimal: numbers; default: all that is cheap; full: embeddings, too.",
    ),
]
Profile = Annotated[
    bool, typer.Option("--profile", help="Write a TensorFlow profile of some training steps.")
]
Patient = Annotated[
    bool,
    typer.Option(
        "--patient/--no-patient",
        help="Show one patient's record, which the licence of the data may forbid you to share.",
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Continue an interrupted run; start a run if none exists."),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Delete an interrupted run, and start again.")]


def links_option(follow_links: bool) -> list[str]:
    """Return the arguments that the next command needs if links are followed."""
    return ["--follow-links"] if follow_links else []


def task_option(task: Task) -> list[str]:
    """Return the arguments that the next command needs for a task that it does not assume."""
    return [] if task.name == next(iter(TASKS)) else ["--task", task.name]


def check_task(name: str) -> Task:
    """Return the task with a name.

    Raises:
        UsageError: no task has this name; names the option.
    """
    try:
        return task_of(name)
    except UsageError as error:
        raise UsageError(f"option --task is {error}") from None


def check_goal(task: str, goal: int | None, label: str | None) -> Goal:
    """Make the goal of an attacker from --goal and --goal-label.

    Raises:
        UsageError: the task has no such label, or the goal is not one of its labels'.
    """
    whole = label_of(task, label)
    try:
        return goal_of(task, 1 if goal is None else goal, whole)
    except ValueError as error:
        raise UsageError(f"option --goal-label {whole!r}: {error}") from None


def check_predicted(task: str) -> None:
    """Refuse a task whose predictions are in no file of the benchmarks' kind.

    Raises:
        UsageError: there is no such task, or it has one file for each of its four parts.
    """
    if task == MULTITASK.name:
        raise UsageError(f"option --task is '{task}': give predictions of one of its four tasks at a time")
    if task not in PREDICTED_TASKS:
        known = ", ".join(PREDICTED_TASKS)
        raise UsageError(f"option --task is '{task}': known are {known}{near(task, PREDICTED_TASKS)}")


def predicted_name(task: Task) -> str | None:
    """Return the name that `check_predicted` takes for the predictions of a task; None if there is none."""
    name = LENGTH_OF_STAY.name if task == LENGTH_OF_STAY_HOURS else task.name
    return name if name in PREDICTED_TASKS else None


def label_of(task: str, part: str | None) -> str | None:
    """Complete the name of a label that --goal-label names a part of.

    Raises:
        UsageError: the task has no such label; lists those that it has.
    """
    try:
        return label_named(part, task)
    except ValueError as error:
        raise UsageError(f"option --goal-label {part!r}: {error}") from None


def check_strength(value: float | None) -> None:
    """Refuse a strength that can be neither a length nor a share.

    Raises:
        UsageError: the strength is negative or not finite.
    """
    check_finite(value, "--poisoning_strength")
    if value is not None and value < 0:
        raise UsageError(f"option --poisoning_strength: must not be negative, is {value:g}")


def check_hours(value: float | None, option: str) -> None:
    """Refuse a time that is not a positive number of hours.

    Raises:
        UsageError: the time is 0, negative or not finite.
    """
    check_finite(value, option)
    if value is not None and value <= 0:
        raise UsageError(f"option {option}: must be more than 0 hours, not {value:g}")


def check_finite(value: float | None, option: str) -> None:
    """Refuse NaN and infinity, which a check of the range may accept.

    Raises:
        UsageError: the value is not finite.
    """
    if value is not None and not math.isfinite(value):
        raise UsageError(f"option {option}: must be a finite number, not {value}")
