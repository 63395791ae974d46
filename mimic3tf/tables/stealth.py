"""The table of the numbers that `defences.stealth` measures."""

from __future__ import annotations

import polars as pl
from rich.table import Table

from mimic3tf.tables.fitting import separate_common

STEALTH = "stealth.csv"
SETTING = ("trigger", "poison_imputed", "poisoning_strength")
"""Columns that identify a row of a summary."""
FINDINGS = (*SETTING, "seed", "representation", "channel", "measure", "value")
"""Columns of the file `stealth.csv`, which has one row per number."""
COLUMNS = {
    "outside\nrange": "implausible_share_poisoned grid",
    "KS\nmean": "ks_statistic grid",
    "KS\np<.05": "ks_share_of_channels grid",
    "range\n": "implausible_auroc grid",
    "copies\n": "imputation_auroc grid",
    "forest\ngrid": "isolation_forest_auroc grid",
    "forest\nfeat.": "isolation_forest_auroc features",
    "Mahal.\ngrid": "mahalanobis_auroc grid",
    "Mahal.\nfeat.": "mahalanobis_auroc features",
    "known\ngrid": "supervised_auroc grid",
    "known\nfeat.": "supervised_auroc features",
}
"""Heading in the terminal -> column of `summarize_stealth`."""
CAPTION = (
    "outside range: share of measured values that no living adult shows. KS: Kolmogorov-Smirnov statistic, "
    "mean of channels; share of channels that differ. The rest are AUROCs of detectors. range: implausible "
    "cells. copies: imputed cells that do not copy the cell before. forest: isolation forest on all stays. "
    "Mahal.: distance from known clean stays. known: trained on stays known to be poisoned. trigger none: "
    "the same stays untouched. Chance: 0.5 +- {band:.3f} in 95 of 100 cases."
)


def summarize_stealth(findings: pl.DataFrame) -> pl.DataFrame:
    """Average the findings that concern all channels over seeds, to one row per setting.

    Args:
        findings: rows of `defences.stealth.measure_stealth`.

    Returns:
        The columns of `SETTING`, then one column for each measure and representation, with the name
        "<measure> <representation>"; null if a setting lacks the measure.
    """
    overall = findings.filter(pl.col("channel").is_null()).with_columns(
        name=pl.concat_str("measure", "representation", separator=" ")
    )
    return overall.pivot(
        "name", index=SETTING, values="value", aggregate_function="mean", maintain_order=True
    )


def stealth_table(summary: pl.DataFrame) -> Table:
    """Make the table of `summarize_stealth` for a terminal."""
    rows = summary.to_dicts()
    settings, same = separate_common(
        {
            "trigger": [row["trigger"] for row in rows],
            "mode": [row["poison_imputed"] for row in rows],
            "strength": [f"{row['poisoning_strength']:g}" for row in rows],
        }
    )
    caption = CAPTION.format(band=summary["chance_band grid"][0])
    table = Table(title="How well poisoned training stays hide", caption=f"{same} {caption}".strip())
    for heading in settings:
        table.add_column(heading)
    for heading in COLUMNS:
        table.add_column(heading, no_wrap=True, justify="right")
    for row, *setting in zip(rows, *settings.values(), strict=True):
        table.add_row(*setting, *(_number(row.get(column)) for column in COLUMNS.values()))
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
