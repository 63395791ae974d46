"""Compare settings by paired differences, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import bootstrap

from mimic3tf.report.sweep import TRIAL
from mimic3tf.tables.summary import FEWEST_FOR_INTERVAL, main_grid, modes_of, victims_of
from mimic3tf.victims import shown_victim

RESAMPLES = 9999
SUCCESS = "attack_success_rate"
SCHEMA: dict[str, type[pl.DataType]] = {
    "measure": pl.String,
    "difference": pl.String,
    "victim": pl.String,
    "poison_imputed": pl.String,
    "pairs": pl.Int64,
    "seeds": pl.Int64,
    "mean_difference": pl.Float64,
    "ci95_low": pl.Float64,
    "ci95_high": pl.Float64,
    "lowest_seed": pl.Float64,
    "highest_seed": pl.Float64,
    "differs_from_zero": pl.String,
}


def paired_differences(
    first: pl.DataFrame, second: pl.DataFrame, value: str, key: Sequence[str]
) -> pl.DataFrame:
    """Subtract the values of pairs of rows that have the same key.

    Args:
        first: rows with one setting.
        second: rows with the other setting; at most one row for each combination of the key.
        value: column with the measured value.
        key: columns in which the two rows of a pair agree; `seed` is one of them.

    Returns:
        Columns of the key and `difference`, first minus second; one row for each pair. Rows without a partner
        or without the value are left out.
    """
    pairs = first.join(second.select(*key, pl.col(value).alias("other")), on=key, validate="m:1")
    return pairs.select(*key, difference=pl.col(value) - pl.col("other")).drop_nulls("difference")


def bootstrap_interval(differences: NDArray[np.float64]) -> tuple[float, float] | None:
    """Compute the 95% percentile bootstrap interval of the mean of paired differences.

    The random numbers are fixed: the same differences always give the same interval.

    Args:
        differences: float64 [N], one for each pair.

    Returns:
        Lower and upper end; None for fewer than three pairs.
    """
    if len(differences) < FEWEST_FOR_INTERVAL:
        return None
    interval = bootstrap(
        (differences,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return float(interval.low), float(interval.high)


def compare_settings(results: pl.DataFrame) -> pl.DataFrame:
    """Compare modes, triggers, poisoned with clean victims, and victims.

    Args:
        results: rows of `Sweeps.results`.

    Returns:
        Columns of `SCHEMA`, one row for each comparison that has a pair. The two trials of a pair agree in
        seed and every other setting. `lowest_seed` and `highest_seed` are the lowest and the highest mean
        difference of one seed. They are given because pairs of one seed share trigger and initial weights,
        and the interval, which resamples pairs, does not take this into account.
    """
    grid = main_grid(results)
    poisoned = grid.filter(pl.col("poisoning_proportion") > 0)
    rows = [
        *_between_modes(poisoned),
        *_between_triggers(results.filter(pl.col("poisoning_proportion") > 0)),
        *_poisoned_and_clean(poisoned, results.filter(pl.col("poisoning_proportion") == 0)),
        *_between_victims(poisoned),
    ]
    return pl.DataFrame([row for row in rows if row["pairs"]], schema=SCHEMA)


def _between_modes(poisoned: pl.DataFrame) -> list[dict[str, Any]]:
    return [
        _row(
            "attack success rate",
            "all - notimputed",
            _differences(poisoned.filter(pl.col("victim") == victim), "poison_imputed", "all", "notimputed"),
            victim,
            "",
        )
        for victim in victims_of(poisoned)
    ]


def _between_triggers(poisoned: pl.DataFrame) -> list[dict[str, Any]]:
    return [
        _row(
            "attack success rate",
            f"temporal - {other}",
            _differences(_only(poisoned, victim, mode), "trigger", "temporal", other),
            victim,
            mode,
        )
        for other in ("gaussian", "covariance")
        for victim in victims_of(poisoned)
        for mode in modes_of(poisoned)
    ]


def _poisoned_and_clean(poisoned: pl.DataFrame, clean: pl.DataFrame) -> list[dict[str, Any]]:
    # The AUROC is without the trigger, so the settings of the attack on a clean victim do not matter.
    key = ["victim", "training_stays", "seed"]
    clean = clean.group_by(key).agg(pl.col("clean_auroc").mean())
    return [
        _row(
            "AUROC",
            "poisoned - clean",
            paired_differences(_only(poisoned, victim, mode), clean, "clean_auroc", key),
            victim,
            mode,
        )
        for victim in victims_of(poisoned)
        for mode in modes_of(poisoned)
    ]


def _between_victims(poisoned: pl.DataFrame) -> list[dict[str, Any]]:
    return [
        _row(
            "attack success rate",
            f"{shown_victim(second)} - {shown_victim(first)}",
            _differences(poisoned.filter(pl.col("poison_imputed") == mode), "victim", second, first),
            "",
            mode,
        )
        for first, second in combinations(victims_of(poisoned), 2)
        for mode in modes_of(poisoned)
    ]


def _only(rows: pl.DataFrame, victim: str, mode: str) -> pl.DataFrame:
    return rows.filter((pl.col("victim") == victim) & (pl.col("poison_imputed") == mode))


def _differences(rows: pl.DataFrame, column: str, first: str, second: str) -> pl.DataFrame:
    key = [name for name in TRIAL if name != column]
    one, other = (rows.filter(pl.col(column) == name) for name in (first, second))
    return paired_differences(one, other, SUCCESS, key)


def _row(measure: str, difference: str, pairs: pl.DataFrame, victim: str, mode: str) -> dict[str, Any]:
    interval = bootstrap_interval(pairs["difference"].to_numpy())
    low, high = interval or (None, None)
    a_seed = pairs.group_by("seed").agg(pl.col("difference").mean())["difference"]
    return {
        "measure": measure,
        "difference": difference,
        "victim": victim,
        "poison_imputed": mode,
        "pairs": len(pairs),
        "seeds": len(a_seed),
        "mean_difference": pairs["difference"].mean(),
        "ci95_low": low,
        "ci95_high": high,
        "lowest_seed": a_seed.min(),
        "highest_seed": a_seed.max(),
        "differs_from_zero": _verdict(interval, a_seed.to_numpy()),
    }


def _verdict(interval: tuple[float, float] | None, a_seed: NDArray[np.float64]) -> str:
    if interval is None:
        return f"no interval: fewer than {FEWEST_FOR_INTERVAL} pairs"
    if interval[0] <= 0 <= interval[1]:
        return "no"
    if not (np.all(a_seed > 0) or np.all(a_seed < 0)):
        return "no: seeds disagree"
    return f"in all {len(a_seed)} seeds" if len(a_seed) > 1 else "in its one seed"
