"""Choose the trials of a sweep that a figure shows, and average them over seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from scipy.stats import t

from mimic3tf.victims import victim_names

FEWEST_FOR_INTERVAL = 3
"""Fewest seeds, or pairs of seeds, for an interval."""
SEARCH_SPAN = 100
"""Least ratio of the largest to the smallest strength in a strength search."""


def victims_of(results: pl.DataFrame) -> list[str]:
    """List the names of the victims, those of the paper first."""
    order = victim_names()
    return sorted(
        results["victim"].unique(), key=lambda name: (order.index(name) if name in order else 99, name)
    )


def modes_of(results: pl.DataFrame) -> list[str]:
    """List the modes (`poison_imputed`) of some results, "all" first."""
    return sorted(results["poison_imputed"].unique())


def mean_over_seeds(results: pl.DataFrame, by: Sequence[str], value: str) -> pl.DataFrame:
    """Average a measured value over seeds, with a confidence interval.

    Args:
        results: rows with a `seed`. Rows of one setting and seed (of several strengths, say) are averaged
            first.
        by: columns that make a setting.
        value: column to average; rows with null in it are left out.

    Returns:
        One row per setting, sorted: columns `by`, `seeds`, `mean`, `ci95_low` and `ci95_high` (Student's 95%
        interval of the mean, within [0, 1], or [-1, 1] for kappa; null below three seeds), and the `lowest`
        and `highest` value of a seed.
    """
    a_seed = results.drop_nulls(value).group_by(*by, "seed").agg(pl.col(value).mean())
    table = a_seed.group_by(by).agg(
        seeds=pl.len(),
        mean=pl.col(value).mean(),
        deviation=pl.col(value).std(),
        lowest=pl.col(value).min(),
        highest=pl.col(value).max(),
    )
    seeds = table["seeds"].to_numpy()
    quantile = t.ppf(0.975, np.maximum(seeds - 1, 1))
    half = pl.Series(quantile / np.sqrt(seeds)) * table["deviation"]
    enough = pl.col("seeds") >= FEWEST_FOR_INTERVAL
    least = -1 if value == "clean_kappa" else 0
    return table.select(
        *by,
        "seeds",
        "mean",
        pl.when(enough).then((pl.col("mean") - half).clip(least, 1)).alias("ci95_low"),
        pl.when(enough).then((pl.col("mean") + half).clip(least, 1)).alias("ci95_high"),
        "lowest",
        "highest",
    ).sort(by)


def main_grid(results: pl.DataFrame) -> pl.DataFrame:
    """Select the trials of the grid of proportions and strengths, and those of clean victims.

    Only trials of the temporal trigger with all training stays count. A strength belongs to the grid if it
    has trials at two proportions or more. A proportion belongs to the grid if it has trials with two of these
    strengths or more. If no strength qualifies, all do; the same holds for proportions.
    """
    rows = _all_stays(results).filter(pl.col("trigger") == "temporal")
    poisoned = rows.filter(pl.col("poisoning_proportion") > 0)
    strengths = _crossing(poisoned, "poisoning_strength", "poisoning_proportion")
    poisoned = poisoned.filter(pl.col("poisoning_strength").is_in(strengths))
    proportions = _crossing(poisoned, "poisoning_proportion", "poisoning_strength")
    return rows.filter(
        pl.col("poisoning_strength").is_in(strengths)
        & pl.col("poisoning_proportion").is_in([0.0, *proportions])
    )


def _all_stays(results: pl.DataFrame) -> pl.DataFrame:
    return results.filter(pl.col("training_stays") == pl.col("training_stays").max())


def _crossing(rows: pl.DataFrame, column: str, other: str) -> list[float]:
    counts = rows.group_by(column).agg(pl.col(other).n_unique().alias("others"))
    crossing = counts.filter(pl.col("others") > 1)
    return sorted((crossing if len(crossing) else counts)[column])


def strength_search(results: pl.DataFrame) -> pl.DataFrame | None:
    """Select the trials of the proportion with a strength search, and those of clean victims.

    A strength search spans strengths by a factor of `SEARCH_SPAN` or more. If several proportions have one,
    the proportion with most strengths is taken, then the largest.

    Returns:
        Rows of the temporal trigger with all training stays; None if no proportion has a strength search.
    """
    rows = _all_stays(results).filter((pl.col("trigger") == "temporal") & (pl.col("poisoning_strength") > 0))
    strength = pl.col("poisoning_strength")
    spans = (
        rows.filter(pl.col("poisoning_proportion") > 0)
        .group_by("poisoning_proportion")
        .agg(span=strength.max() / strength.min(), strengths=strength.n_unique())
        .filter(pl.col("span") >= SEARCH_SPAN)
        .sort("strengths", "poisoning_proportion")
    )
    if not len(spans):
        return None
    return rows.filter(pl.col("poisoning_proportion").is_in([0.0, spans["poisoning_proportion"][-1]]))
