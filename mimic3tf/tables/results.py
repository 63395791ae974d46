"""One table of several attacks, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PolarsError
from rich.table import Table

from mimic3tf.errors import DataError, UsageError
from mimic3tf.storage.files import PathText, read_json, write_together
from mimic3tf.tables.cells import as_cell
from mimic3tf.tables.columns import with_new_names
from mimic3tf.victims import victim_names

SETTING = (
    "victim",
    "goal",
    "poisoning_proportion",
    "poisoned_labels",
    "poison_imputed",
    "trigger",
    "poisoning_strength",
)
"""What tells two rows of a results table apart, other than the seed."""


def collect_results(folders: Sequence[PathText]) -> pl.DataFrame:
    """Gather every `attack.json` below some folders.

    Args:
        folders: run directories, or folders that hold several.

    Returns:
        One row an attack, sorted by victim, setting and strength.

    Raises:
        UsageError: a folder does not exist, or holds no attack.
        DataError: an `attack.json` is damaged.
    """
    attacks: dict[Path, Path] = {}
    for folder in folders:
        files = sorted(Path(folder).rglob("attack.json"))
        if not files:
            raise UsageError(f"{Path(folder)}: holds no attack.json; run 'mimic3tf attack' first")
        # Folders may overlap; an attack counts once.
        attacks |= {file.resolve(): file for file in files}
    rows = [_row(file) for file in attacks.values()]
    order = {name: position for position, name in enumerate(victim_names())}
    rows.sort(
        key=lambda row: (
            -row["goal"],
            row["poison_imputed"],
            order.get(row["victim"], len(order)),
            row["poisoning_proportion"] > 0,
            row["trigger"] != "temporal",
            -row["poisoning_strength"],
            row["run"],
        )
    )
    return pl.DataFrame(rows, infer_schema_length=None)


def _row(file: Path) -> dict[str, Any]:
    try:
        attack = with_new_names(read_json(file))
        low, high = attack["attack_success_rate_ci95"]
        row = {
            "run": Path(attack["run"]).name,
            "victim": str(attack["model"]),
            "goal": int(attack.get("goal", 1)),
            "poisoning_proportion": float(attack["poisoning_proportion"]),
            # Attacks of earlier versions do not say.
            "poisoned_labels": str(attack["trained_with"].get("poisoned_labels", "flipped")),
            "poison_imputed": str(attack["attacked_with"]["poison_imputed"]),
            "trigger": str(attack["attacked_with"]["trigger"]),
            "poisoning_strength": float(attack["attacked_with"]["poisoning_strength"]),
            "seed": int(attack["trained_with"]["seed"]),
            "attack_success_rate": float(attack["attack_success_rate"]),
            "ci95_low": float(low),
            "ci95_high": float(high),
            "baseline_positive_rate": float(attack["baseline_positive_rate"]),
            "stays_attacked": int(attack["stays_attacked"]),
            **{
                f"clean_{name}": None if value is None else float(value)
                for name, value in attack["clean"].items()
            },
        }
        if not {"clean_auroc", "clean_auprc"} <= row.keys():
            raise ValueError("no AUROC or AUPRC")
        # Whole numbers that no table holds fail here.
        return pl.DataFrame([row]).to_dicts()[0]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, PolarsError) as error:
        raise DataError(f"{file}: not the result of an attack ({error!r}); attack the run again") from None


def results_over_seeds(results: pl.DataFrame) -> pl.DataFrame:
    """Bring the runs of a setting that differ only in their seed to one row.

    Args:
        results: rows of `collect_results`.

    Returns:
        One row a setting, in the same order: number of `seeds`, mean of every rate and metric, and the
        lowest and highest attack success rate.

    Raises:
        UsageError: two runs have the same setting and seed.
    """
    twice = results.filter(pl.struct(*SETTING, "seed").is_duplicated())
    if len(twice):
        first, second, *_ = twice.filter(pl.struct(*SETTING, "seed") == pl.struct(*SETTING, "seed").first())[
            "run"
        ]
        raise UsageError(
            f"runs {first} and {second} have the same setting and seed; name folders with one of them"
        )
    rates = ["attack_success_rate", "baseline_positive_rate"]
    metrics = [name for name in results.columns if name.startswith("clean_")]
    success = pl.col("attack_success_rate")
    return results.group_by(SETTING, maintain_order=True).agg(
        pl.len().alias("seeds"),
        success.min().alias("lowest_success_rate"),
        success.max().alias("highest_success_rate"),
        *(pl.col(name).mean() for name in rates + metrics),
    )


def results_table(results: pl.DataFrame) -> Table:
    """Lay the results of `collect_results` or `results_over_seeds` out for a terminal."""
    seeds = "seeds" in results.columns
    ends = ("lowest_success_rate", "highest_success_rate") if seeds else ("ci95_low", "ci95_high")
    title = "Attack success rate (ASR) on test stays" + (", mean over seeds" if seeds else "")
    goals = results["goal"].n_unique() > 1 or results["goal"][0] != 1
    table = Table(title=title, caption=CAPTION)
    table.add_column("victim", no_wrap=True)
    if goals:
        table.add_column("goal", no_wrap=True, justify="right")
    for heading in ("poisoned", "imputed", "trigger", "strength", "AUROC", "AUPRC"):
        table.add_column(heading, no_wrap=True, justify="right")
    for heading in ("ASR \\[lowest, highest]" if seeds else "ASR [95% CI]", "untriggered"):
        table.add_column(heading, no_wrap=True, justify="right")
    for row in results.iter_rows(named=True):
        poisoned = f"{row['poisoning_proportion']:.1%}" if row["poisoning_proportion"] else "clean"
        labels = ", clean labels" if row["poisoned_labels"] == "clean" and row["poisoning_proportion"] else ""
        interval = f"[{row[ends[0]]:.3f}, {row[ends[1]]:.3f}]"
        table.add_row(
            as_cell(row["victim"].upper()),
            *([str(row["goal"])] if goals else []),
            poisoned + labels,
            as_cell(row["poison_imputed"]),
            as_cell(row["trigger"]),
            f"{row['poisoning_strength']:g}",
            _number(row["clean_auroc"]),
            _number(row["clean_auprc"]),
            f"{row['attack_success_rate']:.3f} \\{interval}",
            f"{row['baseline_positive_rate']:.3f}",
        )
    return table


CAPTION = (
    "AUROC, AUPRC: without the trigger. ASR: share of the stays of the other label that are predicted as the "
    "goal's. untriggered: share of the same stays without the trigger. "
    "Rows 'clean': the trigger on a victim trained on clean data."
)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def write_results(results: pl.DataFrame, out: PathText) -> None:
    """Write `results.csv` and `results.json` into a folder."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results.to_dicts(), indent=2) + "\n"
    write_together({out / "results.json": text, out / "results.csv": results.write_csv()})
