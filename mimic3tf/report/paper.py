"""Compare the results of sweeps with the numbers that the paper reports."""

from __future__ import annotations

from typing import Any, NamedTuple

import polars as pl

from mimic3tf.tables.summary import main_grid, mean_over_seeds

TRAINING_STAYS = 14681
"""Training stays of MIMIC-III in the benchmarks' split, which the paper used."""


class Reported(NamedTuple):
    """Numbers of Joe et al. 2020 (arXiv 2106.07925) by victim; `poison_imputed` is None if it is unknown."""

    measure: str
    proportion: float
    strength: float
    poison_imputed: str | None
    values: dict[str, float]


REPORTED = (
    Reported("attack_success_rate", 0.05, 2.0, "notimputed", {"lr": 0.98, "mlp": 0.98, "lstm": 0.97}),
    Reported("attack_success_rate", 0.05, 2.0, "all", {"lr": 1.0, "mlp": 1.0, "lstm": 0.99}),
    Reported("attack_success_rate", 0.01, 2.0, None, {"lr": 0.96, "mlp": 0.95, "lstm": 0.82}),
    Reported("clean_auroc", 0.05, 2.0, None, {"lr": 0.77, "mlp": 0.78, "lstm": 0.79}),
    Reported("clean_auroc", 0.0, 2.0, None, {"lr": 0.72, "mlp": 0.80, "lstm": 0.80}),
)
MEASURES = {"attack_success_rate": "attack success rate", "clean_auroc": "AUROC"}


def beside_the_paper(results: pl.DataFrame) -> pl.DataFrame:
    """Put the paper's numbers beside ours at the same settings.

    Args:
        results: rows of `Sweeps.results`.

    Returns:
        One row for each reported number and mode: `paper`, `paper_mode`, `ours` (mean over `seeds`, with
        `lowest` and `highest`) and `difference`, ours minus the paper's. Settings that were not run are left
        out.
    """
    grid = main_grid(results)
    rows: list[dict[str, Any]] = []
    for reported in REPORTED:
        at_setting = grid.filter(
            ((pl.col("poisoning_proportion") - reported.proportion).abs() < 1e-9)
            & (pl.col("poisoning_strength") == reported.strength)
        )
        if reported.poison_imputed is not None:
            at_setting = at_setting.filter(pl.col("poison_imputed") == reported.poison_imputed)
        clean = reported.proportion == 0
        if clean:  # a clean victim has no mode
            at_setting = at_setting.with_columns(poison_imputed=pl.lit("-"))
        ours = mean_over_seeds(at_setting, ["poison_imputed", "victim"], reported.measure)
        by_setting = {(row["poison_imputed"], row["victim"]): row for row in ours.iter_rows(named=True)}
        for mode in ours["poison_imputed"].unique().sort():
            for victim, value in reported.values.items():
                if found := by_setting.get((mode, victim)):
                    rows.append(
                        {
                            "measure": MEASURES[reported.measure],
                            "victim": victim,
                            "poisoning_proportion": reported.proportion,
                            "poison_imputed": mode,
                            "paper": value,
                            "paper_mode": "-" if clean else reported.poison_imputed or "not stated",
                            "ours": found["mean"],
                            "difference": found["mean"] - value,
                            "lowest": found["lowest"],
                            "highest": found["highest"],
                            "seeds": found["seeds"],
                        }
                    )
    return pl.DataFrame(rows, infer_schema_length=None)
