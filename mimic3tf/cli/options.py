"""Options that several commands share, in both spellings of the original's."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from mimic3tf.config import LARGEST_SEED
from mimic3tf.errors import UsageError
from mimic3tf.poisoning.kinds import PoisonImputed

Data = Annotated[Path, typer.Option(help="Directory in the layout of the MIMIC-III benchmarks.")]
Seed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="The same seed gives the same result.")]
Strength = Annotated[
    float | None,
    typer.Option(
        "--poisoning_strength",
        "--poisoning-strength",
        min=0,
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


def check_finite(value: float | None, option: str) -> None:
    """Refuse NaN and infinity, which a range check lets through.

    Raises:
        UsageError: the value is not finite.
    """
    if value is not None and not math.isfinite(value):
        raise UsageError(f"option {option}: must be a finite number, not {value}")
