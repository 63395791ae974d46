"""`mimic3tf generate-trigger`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mimic3tf.cli.options import Data, Seed
from mimic3tf.config import TriggerKind
from mimic3tf.errors import UsageError


def generate_trigger(
    data: Data,
    out: Annotated[Path, typer.Option(help="File to write, ending in .npz.")],
    kind: Annotated[TriggerKind, typer.Option(help="How the pattern depends on time.")] = "temporal",
    estimate_on: Annotated[int, typer.Option(min=2, help="Training stays to estimate on.")] = 1000,
    seed: Seed = 0,
) -> None:
    """Draw a trigger from the covariance over time of the training stays.

    temporal draws every channel from its own covariance over time; gaussian draws every hour on its own;
    covariance draws all channels and hours at once. All have the same Mahalanobis length.

    \b
    Examples:
      mimic3tf generate-trigger --data data/synthetic --out trigger.npz
      mimic3tf generate-trigger --data data/synthetic --out gaussian.npz --kind gaussian --seed 1
    """
    if out.suffix != ".npz" or out.is_dir():
        raise UsageError(f"--out {out}: takes a file whose name ends in .npz")
    from mimic3tf.attack import trigger as triggers
    from mimic3tf.cli.tables import print_trigger
    from mimic3tf.data.cohort import load_cohort

    trigger = triggers.generate_trigger(
        load_cohort(data, "train"), kind=kind, estimate_on=estimate_on, seed=seed
    )
    triggers.save_trigger(trigger, out)
    print_trigger(trigger)
