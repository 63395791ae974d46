"""`mimic3tf generate-trigger`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from mimic3tf.cli.options import Data, FollowLinks, Period, Seed, TaskName, Timestep, check_hours, check_task
from mimic3tf.config import check_bins
from mimic3tf.errors import UsageError
from mimic3tf.poisoning.kinds import TriggerKind
from mimic3tf.storage.notes import warn
from mimic3tf.tasks.registry import MORTALITY


def generate_trigger(
    data: Data,
    out: Annotated[Path, typer.Option(help="File to write; its name ends in .npz.")],
    task: TaskName = MORTALITY.name,
    period: Period = None,
    timestep: Timestep = 1.0,
    kind: Annotated[
        TriggerKind, typer.Option(help="How the pattern is drawn; with missing, cells go missing.")
    ] = "temporal",
    estimate_on: Annotated[
        int, typer.Option(min=2, help="Training stays to estimate the covariance on.")
    ] = 1000,
    channels: Annotated[
        str | None, typer.Option(help="Restrict the trigger to some channels, separated by commas.")
    ] = None,
    hours: Annotated[
        str | None, typer.Option(help="Restrict the trigger to some hours, such as 24-48.")
    ] = None,
    plausible: Annotated[
        bool,
        typer.Option("--plausible", help="Shift no value out of the range that a living adult can show."),
    ] = False,
    natural: Annotated[
        bool, typer.Option("--natural", help="Of kind missing: the gaps of one real training stay.")
    ] = False,
    without_slips: Annotated[
        bool,
        typer.Option(
            "--without-slips",
            help="Estimate the covariance without values outside the range that a living adult can show.",
        ),
    ] = False,
    patterns: Annotated[
        int, typer.Option(min=1, max=256, help="Patterns to draw; each stay gets one of them.")
    ] = 1,
    moved: Annotated[
        bool, typer.Option("--moved", help="Move the pattern in time, for each stay by other hours.")
    ] = False,
    seed: Seed = 0,
    follow_links: FollowLinks = False,
) -> None:
    """Draw a trigger from the training stays.

    The kind temporal draws every channel from its own covariance over time; gaussian draws every hour
    independently; covariance draws all channels and hours at once. All three have the same Mahalanobis
    length.

    The kind missing shifts no value: it draws cells whose measurements go missing in stays with the trigger.
    The strength of 'train' and 'attack' is then the share of the drawn cells, from 0 to 1, and
    --poison_imputed has no effect. With --natural, the cells are those that one training stay, drawn with the
    seed, did not measure: the file then says when this stay was measured.

    With --hours, the Mahalanobis length is computed from these hours only, under their own covariance. With
    --plausible, a value that is outside its range already is not moved further away.

    Slips such as a pH of 735 widen the covariance of a channel, and so the trigger. With --without-slips, the
    covariance is estimated as if such values had not been measured.

    With --patterns or --moved, stays with the trigger do not share one pattern, which a detector could find.
    Which pattern a stay gets depends on its name alone, in every command. --moved moves the pattern by 0 to
    all hours, and what leaves the end enters at the start.

    \b
    Examples:
      mimic3tf generate-trigger --data data/synthetic --out trigger.npz
      mimic3tf generate-trigger --data data/synthetic --out gaussian.npz \\
        --kind gaussian --seed 1
      mimic3tf generate-trigger --data data/synthetic --out missing.npz \\
        --kind missing
      mimic3tf generate-trigger --data data/synthetic --out natural.npz \\
        --kind missing --natural
      mimic3tf generate-trigger --data data/synthetic --out first-day.npz \\
        --period 24 --timestep 0.5
      mimic3tf generate-trigger --data data/synthetic --out faint.npz \\
        --channels "Heart Rate,Glucose" --hours 24-48 --plausible
      mimic3tf generate-trigger --data data/synthetic --out sixteen.npz \\
        --patterns 16
    """
    if out.suffix != ".npz" or out.is_dir():
        raise UsageError(f"--out {out}: needs a file whose name ends in .npz")
    if out.exists():
        raise UsageError(
            f"--out {out}: exists already, and runs may have been trained with it; name another file"
        )
    check_hours(period, "--period")
    check_hours(timestep, "--timestep")
    check_task(task)
    check_bins(task, period, timestep, "option --timestep")
    window = None if hours is None else _hours(hours)
    names = None if channels is None else [name.strip() for name in channels.split(",")]
    from mimic3tf.data.loading import load_cohort
    from mimic3tf.poisoning import trigger as triggers
    from mimic3tf.poisoning.cautions import caution_estimate, caution_shift, caution_slips
    from mimic3tf.tables.terminal import print_trigger

    cohort = triggers.of_one_length(
        load_cohort(data, "train", task=task, period=period, timestep=timestep, follow_links=follow_links)
    )
    trigger = triggers.generate_trigger(
        cohort,
        kind=kind,
        estimate_on=estimate_on,
        seed=seed,
        channels=names,
        hours=window,
        plausible=plausible,
        natural=natural,
        without_slips=without_slips,
        patterns=patterns,
        moved=moved,
    )
    triggers.save_trigger(trigger, out)
    print_trigger(trigger)
    warn(caution_estimate(trigger), caution_shift(trigger, 1.0), *caution_slips(trigger, cohort))


def _hours(text: str) -> tuple[float, float]:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)", text)
    if not found:
        raise UsageError(f"--hours {text}: needs a first and a last hour, such as 24-48")
    return float(found[1]), float(found[2])
