"""Show success rates and accuracy by proportion and strength."""

from __future__ import annotations

import polars as pl
from matplotlib.figure import Figure

from mimic3tf.report import figures
from mimic3tf.report.aim import Aim
from mimic3tf.report.exhibits import BAND, Absent, Exhibit
from mimic3tf.tables.columns import SCORES
from mimic3tf.tables.summary import (
    main_grid,
    mean_over_seeds,
    modes_of,
    strength_search,
    victims_of,
)


def success_by_proportion(results: pl.DataFrame, aim: Aim) -> Exhibit | Absent:
    """Show the success rate against the proportion, one line for each strength.

    Args:
        results: rows of `Sweeps.results`.
        aim: words of the attack.
    """
    title = "Attack success rate by share of poisoned stays"
    grid = main_grid(results)
    if _proportions(grid) < 2:
        return Absent(title, "needs trials at two or more poisoning proportions")
    table = mean_over_seeds(
        grid,
        ["victim", "poison_imputed", "poisoning_strength", "poisoning_proportion"],
        "attack_success_rate",
    )
    strengths = sorted(table["poisoning_strength"].unique())

    def draw() -> Figure:
        figure = figures.line_panels(
            table,
            rows=("victim", victims_of(grid), str.upper),
            columns=("poison_imputed", modes_of(grid), figures.MODES.__getitem__),
            x="poisoning_proportion",
            lines=("poisoning_strength", strengths, lambda strength: f"strength {strength:g}"),
            styles=figures.ordered_styles(strengths),
            x_label="training stays poisoned (0: clean victim)",
            y_label="attack success rate",
        )
        for axes in figure.axes:
            figures.percent_axis(axes)
            axes.set_ylim(-0.03, 1.03)
        return figure

    return Exhibit(
        "success_by_proportion",
        title,
        f"Share of the {aim.attacked} among the test stays that are {aim.reached} once they carry the "
        "temporal trigger. Look at how few poisoned stays bring a line to the top, and how far above zero "
        f"the line starts: at 0% the victim is clean, and its rate is the trigger's own effect. {BAND}",
        table,
        draw,
        "Line charts, one row for each victim and one column for each mode: attack success rate over the "
        "share of poisoned training stays, one line for each trigger strength. The table below holds the "
        "same numbers.",
    )


def scores_of(results: pl.DataFrame) -> dict[str, str]:
    """Find the columns of the task's own scores, beside AUROC and AUPRC of the label that is attacked."""
    return {column: name for column, name in SCORES.items() if results[column].is_not_null().any()}


def clean_metrics(results: pl.DataFrame) -> Exhibit | Absent:
    """Show AUROC, AUPRC and the task's own score without the trigger, against the proportion.

    Args:
        results: rows of `Sweeps.results`.
    """
    title = "Accuracy on untouched test stays"
    grid = main_grid(results)
    if grid["poisoning_proportion"].n_unique() < 2:
        return Absent(title, "needs trials at two or more poisoning proportions, one of which may be 0")
    by = ["victim", "poison_imputed", "poisoning_proportion"]
    metrics = {"clean_auroc": "AUROC", "clean_auprc": "AUPRC", **scores_of(results)}
    named = ", ".join(metrics.values())
    table = pl.concat(
        mean_over_seeds(grid, by, column).select(pl.lit(name).alias("metric"), pl.all())
        for column, name in metrics.items()
    )

    def draw() -> Figure:
        figure = figures.line_panels(
            table,
            rows=("metric", list(metrics.values()), str),
            columns=("poison_imputed", modes_of(grid), figures.MODES.__getitem__),
            x="poisoning_proportion",
            lines=("victim", victims_of(grid), str.upper),
            styles=figures.named_styles(victims_of(grid)),
            x_label="training stays poisoned (0: clean victim)",
            share_y="row",
        )
        for axes in figure.axes:
            figures.percent_axis(axes)
        return figure

    return Exhibit(
        "clean_metrics",
        title,
        f"{named} on test stays without the trigger, mean over the strengths. A user who only checks "
        "accuracy sees no more than this: if a line stays level, it hides the backdoor. The y axes do "
        "not start at zero. " + BAND,
        table,
        draw,
        f"Line charts of {named} over the share of poisoned training stays, one line for each victim "
        "and one column for each mode. The table below holds the same numbers.",
    )


def success_heatmap(results: pl.DataFrame) -> Exhibit | Absent:
    """Show the success rate by proportion and strength.

    Args:
        results: rows of `Sweeps.results`.
    """
    title = "Attack success rate by share and strength"
    grid = main_grid(results).filter(pl.col("poisoning_proportion") > 0)
    if not len(grid) or (grid["poisoning_strength"].n_unique() < 2 and _proportions(grid) < 2):
        return Absent(title, "needs trials at two or more strengths or proportions")
    table = mean_over_seeds(
        grid,
        ["victim", "poison_imputed", "poisoning_strength", "poisoning_proportion"],
        "attack_success_rate",
    )
    return Exhibit(
        "success_heatmap",
        title,
        "The same rates as numbers, mean over seeds. Lighter cells have a higher success rate; the upper "
        "right corner is the strongest attack. The border between dark and light cells shows which of the "
        "two an attacker can reduce: proportion or strength.",
        table,
        lambda: figures.rate_heatmaps(table, victims_of(grid), modes_of(grid)),
        "Heatmaps, one row for each victim and one column for each mode: proportion to the right, strength "
        "upward, the attack success rate written in every cell. The table below holds the same numbers.",
    )


def strength_curve(results: pl.DataFrame, aim: Aim) -> Exhibit | Absent:
    """Show the success rate against the strength on a logarithmic axis.

    Args:
        results: rows of `Sweeps.results`.
        aim: words of the attack.
    """
    title = "How faint a trigger may be"
    search = strength_search(results)
    if search is None:
        return Absent(
            title, "needs a strength search: one proportion, with strengths that span two orders of magnitude"
        )
    by = ["victim", "poison_imputed", "poisoning_strength"]
    poisoned = search.filter(pl.col("poisoning_proportion") > 0)
    clean = search.filter(pl.col("poisoning_proportion") == 0)
    proportion = figures.percent(poisoned["poisoning_proportion"][0])
    parts = {
        f"poisoned ({proportion}), with trigger": mean_over_seeds(poisoned, by, "attack_success_rate"),
        "poisoned, the same stays without": mean_over_seeds(poisoned, by, "baseline_positive_rate"),
        "clean victim, with trigger": mean_over_seeds(clean, by, "attack_success_rate"),
    }
    table = pl.concat(part.select(pl.lit(name).alias("rate"), pl.all()) for name, part in parts.items())

    def draw() -> Figure:
        figure = figures.line_panels(
            table,
            rows=("victim", victims_of(poisoned), str.upper),
            columns=("poison_imputed", modes_of(poisoned), figures.MODES.__getitem__),
            x="poisoning_strength",
            lines=("rate", list(parts), str),
            styles=figures.named_styles(list(parts)),
            x_label="trigger strength (Mahalanobis length)",
            y_label=aim.reached,
        )
        for axes in figure.axes:
            axes.set_xscale("log")
            axes.set_ylim(-0.03, 1.03)
        return figure

    return Exhibit(
        "strength_search",
        title,
        f"{proportion} of the training stays are poisoned with the temporal trigger. Its strength grows to "
        "the right on a logarithmic axis. The attack begins where the line of the stays with the trigger "
        "leaves the line of the same stays without it (strength 0). The line of a clean victim rises only "
        f"where the trigger alone changes the predictions. {BAND}",
        table,
        draw,
        "Line charts over the trigger's strength on a logarithmic axis, one row for each victim and one "
        f"column for each mode: share {aim.reached} with the trigger, without it, and by a clean victim. "
        "The table below holds the same numbers.",
    )


def _proportions(grid: pl.DataFrame) -> int:
    return grid.filter(pl.col("poisoning_proportion") > 0)["poisoning_proportion"].n_unique()
