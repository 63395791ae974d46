"""Compare two causes of an attack's success: the share and the number of poisoned stays."""

from __future__ import annotations

from itertools import product

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import spearmanr

from mimic3tf.report import figures
from mimic3tf.report.exhibits import BAND, Absent, Exhibit
from mimic3tf.tables.summary import mean_over_seeds, modes_of, victims_of


def counts_and_shares(results: pl.DataFrame) -> list[Exhibit | Absent]:
    """Show the success rate against the number and the share of poisoned stays, one figure for each mode.

    Args:
        results: rows of `Sweeps.results`.

    Returns:
        The figures, and a table that says which of the two orders the trials better.
    """
    title = "Share or count?"
    counts = count_sweep(results)
    if counts is None:
        return [Absent(title, "needs trials with training sets of two or more sizes")]
    strength = f"{counts['poisoning_strength'][0]:g}"
    exhibits: list[Exhibit | Absent] = [
        _counts_of_mode(counts.filter(pl.col("poison_imputed") == mode), mode, strength)
        for mode in modes_of(counts)
    ]
    return [
        *exhibits,
        Exhibit(
            "what_decides",
            "Share or count, in one number",
            "Spearman's rank correlation of the attack success rate with the number of poisoned stays and "
            "with their share, over all trials above. The larger correlation orders the trials better. The "
            "two correlations differ only because the same share is another number of stays in a training "
            "set of another size.",
            what_decides(counts),
        ),
    ]


def _counts_of_mode(counts: pl.DataFrame, mode: str, strength: str) -> Exhibit:
    by = ["victim", "training_stays", "stays_poisoned", "poisoning_proportion"]
    table = mean_over_seeds(counts, by, "attack_success_rate")
    axes_of = {
        "stays_poisoned": "number of poisoned stays",
        "poisoning_proportion": "share of poisoned stays",
    }
    panels = pl.concat(
        table.select(pl.all(), pl.lit(name).alias("against"), pl.col(column).cast(pl.Float64).alias("x"))
        for column, name in axes_of.items()
    )
    sizes = sorted(table["training_stays"].unique())

    def draw() -> Figure:
        figure = figures.line_panels(
            panels,
            rows=("victim", victims_of(counts), str.upper),
            columns=("against", list(axes_of.values()), str),
            x="x",
            lines=("training_stays", sizes, lambda stays: f"{stays:,} training stays"),
            styles=figures.ordered_styles(sizes),
            x_label="",
            y_label="attack success rate",
            share_x="col",
        )
        figures.label_counts(figure)
        return figure

    return Exhibit(
        f"count_or_share_{mode}",
        f"Share or count? Mode {mode}",
        "The same trials twice: against the number of poisoned stays (left, logarithmic axis) and against "
        f"their share of the training set (right), at strength {strength}. If the lines of different "
        "training set sizes lie on each other in one of the two panels, the quantity on its x axis decides. "
        f"{BAND}",
        table,
        draw,
        "Line charts, one row for each victim: attack success rate over the number of poisoned stays at the "
        "left and over their share at the right, one line for each training set size. The table below "
        "holds the same numbers.",
    )


def count_sweep(results: pl.DataFrame) -> pl.DataFrame | None:
    """Select the poisoned trials at one strength: the one that was run with the most training set sizes.

    Args:
        results: rows of `Sweeps.results`.

    Returns:
        Rows of the temporal trigger; None if every strength was run with one training set size only.
    """
    rows = results.filter((pl.col("trigger") == "temporal") & (pl.col("stays_poisoned") > 0))
    sizes = (
        rows.group_by("poisoning_strength")
        .agg(sizes=pl.col("training_stays").n_unique())
        .filter(pl.col("sizes") > 1)
        .sort("sizes", "poisoning_strength")
    )
    if not len(sizes):
        return None
    return rows.filter(pl.col("poisoning_strength") == sizes["poisoning_strength"][-1])


def what_decides(counts: pl.DataFrame) -> pl.DataFrame:
    """Correlate the success rate with the number and with the share of poisoned stays (Spearman's rank).

    Args:
        counts: rows of `count_sweep`.

    Returns:
        One row for each victim and mode: `trials`, `with_count`, `with_share`. A correlation is empty if the
        success rate or the other quantity is the same in all trials.
    """
    rows = []
    for victim, mode in product(victims_of(counts), modes_of(counts)):
        group = counts.filter((pl.col("victim") == victim) & (pl.col("poison_imputed") == mode))
        success = group["attack_success_rate"].to_numpy()
        correlations = {
            name: _spearman(group[column].to_numpy(), success)
            for name, column in (("with_count", "stays_poisoned"), ("with_share", "poisoning_proportion"))
        }
        rows.append({"victim": victim, "poison_imputed": mode, "trials": len(group), **correlations})
    return pl.DataFrame(rows, infer_schema_length=None)


def _spearman(x: NDArray[np.floating], y: NDArray[np.floating]) -> float | None:
    return float(spearmanr(x, y).statistic) if np.ptp(x) > 0 and np.ptp(y) > 0 else None
