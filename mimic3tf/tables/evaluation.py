"""Evaluate predictions as the benchmarks' evaluation scripts do: a record with their keys, and a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.table import Table

from mimic3tf.data.predictions import Predictions
from mimic3tf.tasks.bootstrap import RESAMPLES, Measure, estimates, ranking_measure
from mimic3tf.tasks.metrics_hours import hours_measure
from mimic3tf.tasks.metrics_multilabel import multilabel_measure
from mimic3tf.tasks.registry import MORTALITY

KEYS = {
    "value": "value",
    "mean": "mean",
    "median": "median",
    "std": "std",
    "low": "2.5% percentile",
    "high": "97.5% percentile",
}
"""Attribute of an `Estimate` -> its key in the result of an evaluation script."""


@dataclass(frozen=True)
class Evaluation:
    """How the predictions of a task are evaluated.

    Attributes:
        measure: prepares the metrics from labels, predictions and the number of each prediction's stay.
        names: keys of the metrics in the result of the task's evaluation script, in the order of `measure`.
        reported: keys in the order of the script, if it is another one.
        resamples: number of resamples that the script draws if no other number is given.
    """

    measure: Callable[[NDArray[Any], NDArray[np.float64], NDArray[np.int64]], Measure]
    names: tuple[str, ...]
    reported: tuple[str, ...] = ()
    resamples: int = RESAMPLES


_RANKING = ("AUC of ROC", "AUC of PRC", "min(+P, Se)")
HOURLY_RESAMPLES = 1_000
"""Number of resamples that the benchmarks' scripts for hourly tasks draw."""
EVALUATIONS = {
    MORTALITY.name: Evaluation(ranking_measure, _RANKING),
    "decompensation": Evaluation(ranking_measure, _RANKING, resamples=HOURLY_RESAMPLES),
    "length-of-stay": Evaluation(hours_measure, ("Kappa", "MAD", "MSE", "MAPE"), resamples=HOURLY_RESAMPLES),
    "phenotyping": Evaluation(
        multilabel_measure,
        ("Micro ROC AUC", "Macro ROC AUC", "Weighted ROC AUC"),
        reported=("Macro ROC AUC", "Micro ROC AUC", "Weighted ROC AUC"),
    ),
}
"""Task -> how its predictions are evaluated."""
ONE_LABEL = "ROC AUC of task {}"
"""Key of the metric of one of several labels, which are numbered from 1."""


def evaluate_predictions(
    found: Predictions, task: str, *, resamples: int, seed: int, by_stay: bool = True
) -> dict[str, Any]:
    """Make the result of a task's evaluation script: `n_iters`, and for each metric six numbers.

    If every stay has one prediction, or not `by_stay`, the numbers are those of the script after
    `np.random.seed(seed)`.

    Args:
        found: predictions with labels, in the order of the listfile.
        task: name of the task.
        resamples: number of bootstrap resamples.
        seed: fixes the resamples.
        by_stay: draw all predictions of a stay together; otherwise each prediction on its own.

    Returns:
        The record; None for a number that is not defined, because a label occurs always or never.
    """
    assert found.labels is not None
    plan = EVALUATIONS[task]
    rows = stay_numbers(found) if by_stay else np.arange(len(found))
    labels = found.labels.shape[1] if found.labels.ndim == 2 else 0
    names = [*plan.names, *(ONE_LABEL.format(number) for number in range(1, labels + 1))]
    measured = estimates(
        names,
        plan.measure(found.labels, found.probabilities, rows),
        int(rows.max()) + 1,
        # Hours need sums over stays only.
        0 if plan.measure is hours_measure else found.labels.size,
        resamples=resamples,
        seed=seed,
    )
    ordered = [*(plan.reported or plan.names), *names[len(plan.names) :]]
    return {
        "n_iters": resamples,
        **{
            name: {key: _defined(getattr(measured[name], attribute)) for attribute, key in KEYS.items()}
            for name in ordered
        },
    }


def stay_numbers(found: Predictions) -> NDArray[np.int64]:
    """Number the stays of predictions from 0 in the order in which they first occur: int64 [N]."""
    stays = pl.Series(found.stays.tolist(), dtype=pl.String)
    return stays.cast(pl.Enum(stays.unique(maintain_order=True))).to_physical().to_numpy().astype(np.int64)


def evaluation_table(record: Mapping[str, Any], found: Predictions, *, by_stay: bool = True) -> Table:
    """Make the table of an evaluation for a terminal.

    Args:
        record: the record from `evaluate_predictions`.
        found: the predictions that were evaluated.
        by_stay: as in `evaluate_predictions`.
    """
    stays = f"{len(set(found.stays.tolist())):,} stays"
    several = found.hours is not None
    drawn = "stays" if by_stay else "hours, as if those of a stay were independent"
    table = Table(
        title=f"Predictions of {len(found):,} hours of {stays}" if several else f"Predictions of {stays}",
        caption=f"value: of all predictions. The others: over {record['n_iters']:,} bootstrap resamples of "
        f"the {drawn}; 2.5% and 97.5% are the ends of the 95% interval.",
    )
    table.add_column("metric")
    for heading in ("value", "mean", "median", "std", "2.5%", "97.5%"):
        table.add_column(heading, justify="right", no_wrap=True)
    for key, numbers in record.items():
        if key != "n_iters":
            table.add_row(key, *(_shown(numbers[name]) for name in KEYS.values()))
    return table


def _defined(number: float) -> float | None:
    return None if math.isnan(number) else number


def _shown(number: float | None) -> str:
    """Write a metric with four digits behind the point, or fewer if it is large."""
    if number is None:
        return "-"
    return f"{number:.4f}" if abs(number) < 1000 else f"{number:.1f}"
