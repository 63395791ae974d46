"""Audits of several victims, brought together: attack by detector."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from rich import box
from rich.table import Table

from mimic3tf.errors import DataError, UsageError
from mimic3tf.report.summary import over_seeds

AUDIT = "audit.json"
SETTING = ("model", "attack")
MEASURES = ("auroc", "recall_at_1", "recall_at_5")
SCHEMA: dict[str, type[pl.DataType]] = {
    "model": pl.String,
    "attack": pl.String,
    "seed": pl.Int64,
    "detector": pl.String,
    **dict.fromkeys(MEASURES, pl.Float64),
    "flagged": pl.Float64,
    "alarms": pl.Float64,
    "seconds": pl.Float64,
}
CAPTION = (
    "Each detector ranks the training stays labelled 1. AUROC: how often a poisoned one ranks above a clean "
    "one; 0.5 is chance. Recall at 1% and 5%: share of the poisoned ones found "
    "where so many of the clean ones are flagged. Flagged: share of the stays labelled 1 above the threshold "
    "that 5% of trusted stays exceed, found without knowing the truth; on clean data these are its false "
    "alarms. Alarms: share of the audits in which these were more than chance explains. Means over seeds."
)


def find_audits(folders: Sequence[Path]) -> list[Path]:
    """Files `audit.json` in folders and below them, sorted."""
    return sorted({file for folder in folders for file in folder.rglob(AUDIT)})


def read_audits(folders: Sequence[Path]) -> pl.DataFrame:
    """Read the audits in some folders.

    Returns:
        One row an audit and detector, columns of `SCHEMA`, in the order of the files and detectors.

    Raises:
        UsageError: there are none, or two are of the same victim, attack and seed.
        DataError: a file is damaged.
    """
    files = find_audits(folders)
    if not files:
        raise UsageError(
            f"{', '.join(map(str, folders))}: no audit.json there or below; run 'mimic3tf audit' first"
        )
    seen: dict[tuple[Any, ...], Path] = {}
    rows = []
    for file in files:
        found = _read(file)
        key = tuple(found[0][name] for name in (*SETTING, "seed"))
        if key in seen:
            raise UsageError(
                f"{seen[key]} and {file} are audits of the same victim, attack and seed; name folders with "
                "one of them"
            )
        seen[key] = file
        rows += found
    return pl.DataFrame(rows, schema=SCHEMA)


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        attack = record["attack"]
        named = "none known"
        if attack is not None:
            named = (
                f"{attack['trigger']} {attack['poison_imputed']}, "
                f"{100 * attack['poisoning_proportion']:.3g}% at {attack['poisoning_strength']:g}"
            )
        return [
            {
                "model": record["model"],
                "attack": named,
                "seed": record["seed"],
                "detector": detector["detector"],
                **{
                    name: detector["performance"][name]["value"] if detector["performance"] else None
                    for name in MEASURES
                },
                "flagged": detector["alarm"] and detector["alarm"]["flagged"] / record["labelled_1"],
                "alarms": detector["alarm"] and float(detector["alarm"]["raised"]),
                "seconds": detector["seconds"],
            }
            for detector in record["detectors"]
        ]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{file}: not an audit, or damaged ({type(error).__name__}); audit again") from None


def summarize_audits(audits: pl.DataFrame) -> pl.DataFrame:
    """Bring the audits of a setting to one row a detector.

    Args:
        audits: rows of `read_audits`.

    Returns:
        `model`, `attack`, `detector`, `seeds`, the mean of every measure over seeds and, of the AUROC and the
        recalls, its 95% interval (`_low` and `_high`, Student's t; empty below three seeds).
    """
    by = [*SETTING, "detector"]
    table = audits.group_by(by, maintain_order=True).agg(
        seeds=pl.len(), **{name: pl.col(name).mean() for name in ("flagged", "alarms", "seconds")}
    )
    for name in MEASURES:
        means = over_seeds(audits, by, name).select(
            *by,
            pl.col("mean").alias(name),
            pl.col("ci95_low").alias(f"{name}_low"),
            pl.col("ci95_high").alias(f"{name}_high"),
        )
        table = table.join(means, on=by, how="left", maintain_order="left")
    measures = [f"{name}{end}" for name in MEASURES for end in ("", "_low", "_high")]
    return table.select(*by, "seeds", *measures, "flagged", "alarms", "seconds")


def audits_tables(summary: pl.DataFrame) -> list[Table]:
    """Lay the rows of `summarize_audits` out for a terminal, a table a victim and attack."""
    return [
        _table_of(f"{str(model).upper()}, poisoned: {attack}, seeds: {rows['seeds'][0]}", rows)
        for (model, attack), rows in summary.group_by(SETTING, maintain_order=True)
    ]


def _table_of(title: str, rows: pl.DataFrame) -> Table:
    table = Table(title=title, box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("detector", no_wrap=True)
    for heading in ("AUROC", "at 1%", "at 5%", "flagged", "alarms", "s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows.iter_rows(named=True):
        table.add_row(
            row["detector"],
            *(_interval(row, name) for name in MEASURES),
            _number(row["flagged"]),
            _number(row["alarms"], 2),
            f"{row['seconds']:.1f}",
        )
    return table


def _interval(row: dict[str, Any], name: str) -> str:
    ends = row[f"{name}_low"], row[f"{name}_high"]
    if None in ends:
        return _number(row[name])
    return f"{row[name]:.3f} \\[{ends[0]:.2f}, {ends[1]:.2f}]"


def _number(value: float | None, decimals: int = 3) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"
