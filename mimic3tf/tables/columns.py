"""The columns of results files, in which one row is one attack on one victim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

BENCHMARK_METRICS = ("acc", "prec0", "prec1", "rec0", "rec1", "auroc", "auprc", "minpse")
OTHER_METRICS = (
    *("ave_auc_macro", "ave_auc_micro", "ave_auc_weighted", "kappa", "mad", "mse", "mape"),
    *("auroc_mortality", "auprc_mortality", "auroc_decompensation", "auprc_decompensation"),
)
"""Metrics of tasks other than in-hospital mortality."""
FOLLOWED = {
    "ave_auc_macro": "macro AUROC",
    "ave_auc_micro": "micro AUROC",
    "ave_auc_weighted": "weighted AUROC",
    "kappa": "kappa",
    "mad": "mean absolute deviation in hours",
    "auroc_mortality": "AUROC of mortality",
    "auroc_decompensation": "AUROC of decompensation",
}
"""Metric of an epoch that only some tasks have -> its name in figures and tables."""
SCORES = {f"clean_{metric}": FOLLOWED[metric] for metric in ("ave_auc_macro", "kappa")}
"""Column of the metric by which phenotyping or length of stay chooses the epoch that is kept -> its name."""
AT_PREVALENCE = {
    "prevalence_threshold": "threshold",
    "prevalence_success_rate": "attack_success_rate",
    "prevalence_baseline_rate": "baseline_positive_rate",
}
"""Column -> its key in `at_prevalence` of an `attack.json`."""
COLUMNS: dict[str, type[pl.DataType]] = {
    "trial": pl.String,
    "victim": pl.String,
    "task": pl.String,
    "goal": pl.Int64,
    "trigger": pl.String,
    "poison_imputed": pl.String,
    "poisoned_labels": pl.String,
    "poisoning_proportion": pl.Float64,
    "poisoning_strength": pl.Float64,
    "seed": pl.Int64,
    "training_stays": pl.Int64,
    "stays_poisoned": pl.Int64,
    "status": pl.String,
    "error": pl.String,
    "attack_success_rate": pl.Float64,
    "ci95_low": pl.Float64,
    "ci95_high": pl.Float64,
    "baseline_positive_rate": pl.Float64,
    **dict.fromkeys(AT_PREVALENCE, pl.Float64),
    "stays_attacked": pl.Int64,
    "test_stays": pl.Int64,
    **{f"clean_{name}": pl.Float64 for name in BENCHMARK_METRICS},
    "validation_auroc": pl.Float64,
    "epoch_kept": pl.Int64,
    "epochs_trained": pl.Int64,
    "seconds_training": pl.Float64,
    "seconds_attack": pl.Float64,
    "mimic3tf": pl.String,
    "python": pl.String,
    "tensorflow": pl.String,
    "keras": pl.String,
    "numpy": pl.String,
    "precision": pl.String,
    "device": pl.String,
    "data_fingerprint": pl.String,
}
"""Columns of a sweep's table -> their types. Trigger, mode and strength are those of the attack; a poisoned
victim was trained with the same ones. A failed trial has null in every column that was not measured. Only the
seconds depend on chance."""
OF_LABELS: dict[str, type[pl.DataType]] = {
    "goal_label": pl.String,
    **{f"clean_{name}": pl.Float64 for name in OTHER_METRICS},
}
"""Further columns of a table with other tasks than in-hospital mortality: name of the label that is attacked,
and the metrics of such tasks."""
OLD_NAMES = {"victims": "stays_attacked", "labelled_1": "suspects", "trusted_labelled_1": "trusted_suspects"}
"""Name of a key or column in files of earlier versions -> its present name."""


def with_new_names(record: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the keys of a record from a file to the names of this version."""
    return {OLD_NAMES.get(key, key): value for key, value in record.items()}
