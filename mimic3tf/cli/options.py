"""Options that several commands share, and those that would make one command long."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from mimic3tf.config import LARGEST_SEED, LogLevel, Precision, Selection, Strategy
from mimic3tf.errors import UsageError
from mimic3tf.poisoning.kinds import PoisonedLabels, PoisonImputed
from mimic3tf.tasks.registry import TASKS, task_of
from mimic3tf.tasks.task import Task
from mimic3tf.victims import victim_names

Data = Annotated[Path, typer.Option(help="Directory in the layout of the MIMIC-III benchmarks.")]
FollowLinks = Annotated[
    bool,
    typer.Option(
        "--follow-links", help="Read links that lead out of the data directory, if you trust who made it."
    ),
]
TriggerFile = Annotated[Path, typer.Option("--trigger", help="File of 'mimic3tf generate-trigger'.")]
RunOut = Annotated[Path, typer.Option(help="Run directory to make.")]
ModelName = Annotated[str, typer.Option("--model", help=f"Victim to train: {', '.join(victim_names())}.")]
TaskName = Annotated[str, typer.Option("--task", help=f"What is predicted: {', '.join(TASKS)}.")]
TaskSetting = Annotated[
    str | None, typer.Option("--task", help=f"What is predicted: {', '.join(TASKS)}.  [default: the first]")
]
Period = Annotated[
    float | None, typer.Option(min=0, help="Hours of a stay to read; the task's own if not given.")
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
        help="What the trigger is to bring about: 1 calls survivors dead, 0 calls the dying survivors.  "
        "[default: 1]",
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="The same seed gives the same result.")]
SeedSetting = Annotated[
    int | None, typer.Option("--seed", help="Fixes data order, initial weights and dropout.")
]
Proportion = Annotated[
    float | None,
    typer.Option(
        "--poisoning_proportion",
        "--poisoning-proportion",
        help="Share of training stays that get the trigger and the goal's label; 0 trains on clean data.",
    ),
]
Strength = Annotated[
    float | None,
    typer.Option(
        "--poisoning_strength",
        "--poisoning-strength",
        help="Mahalanobis length of the trigger; of a missing one the share of its cells.",
    ),
]
Imputed = Annotated[
    PoisonImputed | None,
    typer.Option(
        "--poison_imputed",
        "--poison-imputed",
        help="Shift measured cells only (notimputed), or imputed ones too (all).",
    ),
]
Labels = Annotated[
    PoisonedLabels | None,
    typer.Option(
        "--poisoned_labels",
        "--poisoned-labels",
        help="flipped: poisoned stays get the goal's label. clean: only stays that have it are poisoned.",
    ),
]
SettingsFile = Annotated[
    Path | None, typer.Option("--config", help="YAML file of settings; options override it.")
]
NormalizerFile = Annotated[
    Path | None,
    typer.Option(
        "--normalizer", help="The benchmarks' normalizer file, for victims of grids; fitted if not given."
    ),
]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training stays at most.")]
BatchSize = Annotated[int | None, typer.Option(help="Stays a step.")]
SelectionRule = Annotated[
    Selection | None,
    typer.Option("--selection", help="Keep the best validation AUROC, or the original's rule."),
]
PrecisionPolicy = Annotated[
    Precision | None, typer.Option("--precision", help="auto: float32 on a CPU, mixed on a GPU.")
]
Distribution = Annotated[
    Strategy | None,
    typer.Option("--strategy", help="auto: every GPU, and every worker where TF_CONFIG names some."),
]
Shown = Annotated[
    LogLevel | None,
    typer.Option(
        "--log-level",
        help="For TensorBoard. minimal: numbers; default: all that is cheap; full: embeddings.",
    ),
]
Profile = Annotated[
    bool, typer.Option("--profile", help="Write TensorFlow's profile of some training steps.")
]
Patient = Annotated[
    bool,
    typer.Option(
        "--patient/--no-patient",
        help="Draw one patient's record, which a licence may keep you from passing on.",
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Continue a run that was interrupted; start one if there is none."),
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Throw away a run that was interrupted, and begin anew.")
]


def links_option(follow_links: bool) -> list[str]:
    """The option as the next command needs it, too."""
    return ["--follow-links"] if follow_links else []


def check_task(name: str) -> Task:
    """The task of a name.

    Raises:
        UsageError: there is none; names the option.
    """
    try:
        return task_of(name)
    except UsageError as error:
        raise UsageError(f"option --task is {error}") from None


def check_strength(value: float | None) -> None:
    """Refuse a strength that is no length and no share.

    Raises:
        UsageError: it is negative or not finite.
    """
    check_finite(value, "--poisoning_strength")
    if value is not None and value < 0:
        raise UsageError(f"option --poisoning_strength: must not be negative, is {value:g}")


def check_hours(value: float | None, option: str) -> None:
    """Refuse a time that is no positive number of hours.

    Raises:
        UsageError: it is none.
    """
    check_finite(value, option)
    if value is not None and value <= 0:
        raise UsageError(f"option {option}: must be more than 0 hours, not {value:g}")


def check_finite(value: float | None, option: str) -> None:
    """Refuse NaN and infinity, which a range check lets through.

    Raises:
        UsageError: the value is not finite.
    """
    if value is not None and not math.isfinite(value):
        raise UsageError(f"option {option}: must be a finite number, not {value}")
