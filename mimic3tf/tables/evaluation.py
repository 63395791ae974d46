"""The result of the benchmarks' evaluation scripts, as a record with their keys and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from mimic3tf.tasks.bootstrap import Estimate
from mimic3tf.tasks.registry import MORTALITY

NAMES = {MORTALITY.name: {"auroc": "AUC of ROC", "auprc": "AUC of PRC", "minpse": "min(+P, Se)"}}
"""Task -> its metrics -> their keys in the result of the task's evaluation script."""
KEYS = {
    "value": "value",
    "mean": "mean",
    "median": "median",
    "std": "std",
    "low": "2.5% percentile",
    "high": "97.5% percentile",
}
"""Attribute of an `Estimate` -> its key in the result of an evaluation script."""


def evaluation_record(task: str, estimates: Mapping[str, Estimate], resamples: int) -> dict[str, Any]:
    """Make the result of a task's evaluation script: `n_iters`, and for each metric six numbers."""
    return {
        "n_iters": resamples,
        **{
            key: {name: getattr(estimates[metric], attribute) for attribute, name in KEYS.items()}
            for metric, key in NAMES[task].items()
        },
    }


def evaluation_table(record: Mapping[str, Any], stays: int) -> Table:
    """Make the table of an evaluation for a terminal.

    Args:
        record: the record from `evaluation_record`.
        stays: number of stays that were evaluated.
    """
    table = Table(
        title=f"Predictions of {stays:,} stays",
        caption=f"value: of all predictions. The others: over {record['n_iters']:,} bootstrap resamples of "
        "the stays; 2.5% and 97.5% are the ends of the 95% interval.",
    )
    table.add_column("metric")
    for heading in ("value", "mean", "median", "std", "2.5%", "97.5%"):
        table.add_column(heading, justify="right", no_wrap=True)
    for key, numbers in record.items():
        if key != "n_iters":
            table.add_row(key, *(f"{numbers[name]:.4f}" for name in KEYS.values()))
    return table
