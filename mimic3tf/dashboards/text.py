"""Describe a run in texts and tables for TensorBoard's TEXT page."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from tensorboard.plugins.text.summary_v2 import text_pb

from mimic3tf.config import TrainingConfig
from mimic3tf.data.cohort import Cohort
from mimic3tf.poisoning.exposures import Exposure
from mimic3tf.training.stays import samples_of_epoch
from mimic3tf.victims import shown_victim


def overview(config: TrainingConfig, training: Exposure, validation: Cohort) -> Any:
    """Make a summary that says in sentences what the run does."""
    cohort, singly = training.cohort, config.one_sample_an_hour
    steps = -(-samples_of_epoch(config, cohort) // config.batch_size)
    of = f" with {len(cohort.examples):,} hours" if cohort.task.hourly else ""
    poisoned = int(training.triggered.sum())
    carry = f"{poisoned:,} of them carry the trigger at strength {config.poisoning_strength:g}"
    clean = "the run has no trigger" if config.trigger is None else "none of them carries the trigger"
    return text_pb(
        "run/overview",
        f"{shown_victim(config.model)} on {len(cohort):,} training stays{of}; "
        f"{carry if poisoned else clean}. "
        f"At most {config.epochs:,} epochs of {steps:,} steps, each on {config.batch_size:,} "
        f"{'hours' if singly else 'stays'}, evaluated on {len(validation):,} validation stays."
        "\n\nNumbers come at the end of every epoch. The first epoch takes the longest.",
    )


def settings(config: TrainingConfig) -> Any:
    """Make a table of all settings."""
    return text_pb("run/settings", table(("setting", "value"), config.model_dump(mode="json").items()))


def cohorts(config: TrainingConfig, training: Exposure, validation: Cohort) -> Any:
    """Make a table of the stays: number, label 1, poisoned stays, measured cells and fingerprint."""
    rows = []
    for name, cohort, poisoned in (
        ("training", training.cohort, int(training.triggered.sum())),
        ("validation", validation, 0),
    ):
        of = f" of {len(cohort.labels):,} hours" if cohort.task.hourly else ""
        positive = int((config.attack_goal.of(cohort.labels) == 1).sum())
        rows.append(
            (
                name,
                len(cohort),
                f"{positive}{of} ({positive / len(cohort.labels):.1%})",
                f"{poisoned} ({poisoned / len(cohort):.1%})",
                f"{cohort.mask.mean():.1%}",
                cohort.fingerprint[:12],
            )
        )
    outcome = validation.task.words.naming(config.goal_label).outcome
    header = ("stays", "number", outcome, "poisoned", "cells measured", "fingerprint")
    return text_pb("run/cohort", table(header, rows))


def versions(installed: Mapping[str, str]) -> Any:
    """Make a table of the versions of packages, Python and platform."""
    return text_pb("run/versions", table(("package", "version"), installed.items()))


def command(arguments: Sequence[str]) -> Any:
    """Make a summary of the command line."""
    return text_pb("run/command line", f"    {shlex.join(arguments)}")


def table(header: Sequence[str], rows: Any) -> str:
    """Write some rows as a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(value: object) -> str:
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")
