"""The outcome of an attack as a record and as a file of predictions."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from mimic3tf.poisoning.outcome import Outcome
from mimic3tf.storage.files import PathText, write_together
from mimic3tf.tables.results import PREDICTIONS
from mimic3tf.tasks.task import PERIOD

OUTCOME = "outcome.json"
"""File with the rates of a model that only gave predictions; an attack on a run writes `attack.json`."""


def outcome_record(outcome: Outcome) -> dict[str, Any]:
    """Make the part of a summary that holds the metrics and rates of an attack; null where not defined."""
    level, success, baseline = outcome.at_prevalence
    return {
        "goal": outcome.goal,
        "clean": {name: _number(value) for name, value in outcome.metrics.items()},
        "clean_ci95": {name: [*map(_number, ends)] for name, ends in outcome.intervals.items()},
        "threshold": outcome.threshold,
        "attack_success_rate": outcome.success.rate,
        "attack_success_rate_ci95": [outcome.success.low, outcome.success.high],
        "baseline_positive_rate": outcome.baseline.rate,
        "baseline_positive_rate_ci95": [outcome.baseline.low, outcome.baseline.high],
        "at_prevalence": {
            "threshold": level,
            "attack_success_rate": success.rate,
            "baseline_positive_rate": baseline.rate,
        },
        **({} if outcome.control is None else {"control": asdict(outcome.control)}),
        **({} if outcome.collateral is None else {"collateral": _without_nan(asdict(outcome.collateral))}),
        "stays_attacked": outcome.success.stays,
        "test_stays": len(outcome.stays) if outcome.hours is None else len(set(outcome.stays.tolist())),
    }


def summarize_predictions(
    clean: Path, triggered: Path, task: str, goal_label: str | None, outcome: Outcome
) -> dict[str, Any]:
    """Make the contents of `outcome.json`: the two files of predictions, and the rates that follow."""
    return {
        "predictions": {"clean": str(clean), "triggered": str(triggered)},
        "task": task,
        **({} if goal_label is None else {"goal_label": goal_label}),
        **outcome_record(outcome),
    }


def write_outcome(out: PathText, name: str, summary: dict[str, Any], outcome: Outcome) -> None:
    """Write `predictions.csv` and a summary of this name into a directory; the summary completes the set.

    The column `prediction` repeats `prediction_clean`: the benchmarks' evaluation scripts read this name.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    table = pl.DataFrame(
        {
            "stay": outcome.stays.tolist(),
            **({} if outcome.hours is None else {PERIOD: outcome.hours}),
            "prediction_clean": outcome.clean,
            "prediction_triggered": outcome.triggered,
            "y_true": outcome.labels,
            "prediction": outcome.clean,
        }
    )
    write_together(
        {
            out / PREDICTIONS: table.write_csv(float_precision=6),
            out / name: json.dumps(summary, indent=2) + "\n",
        }
    )


def _without_nan(value: Any) -> Any:
    """Replace the NaN in a record by null."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(each) for each in value]
    return _number(value) if isinstance(value, float) else value


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
