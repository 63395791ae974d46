"""One table of several attacks, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from rich.table import Table

from mimic3tf.errors import DataError, UsageError

VICTIM_ORDER = ("lr", "mlp", "lstm")


def collect_results(folders: Sequence[Path]) -> pl.DataFrame:
    """Gather every `attack.json` below some folders.

    Args:
        folders: run directories, or folders that hold several.

    Returns:
        One row an attack, sorted by victim, setting and strength.

    Raises:
        UsageError: a folder does not exist, or holds no attack.
        DataError: an `attack.json` is damaged.
    """
    rows = []
    for folder in folders:
        files = sorted(folder.rglob("attack.json"))
        if not files:
            raise UsageError(f"{folder}: holds no attack.json; run 'mimic3tf attack' first")
        rows += [_row(file, folder) for file in files]
    order = {name: position for position, name in enumerate(VICTIM_ORDER)}
    rows.sort(
        key=lambda row: (
            row["poison_imputed"],
            order.get(row["victim"], len(order)),
            row["poisoning_proportion"] > 0,
            row["trigger"] != "temporal",
            -row["poisoning_strength"],
            row["run"],
        )
    )
    return pl.DataFrame(rows)


def _row(file: Path, folder: Path) -> dict[str, Any]:
    try:
        attack = json.loads(file.read_text(encoding="utf-8"))
        low, high = attack["attack_success_rate_ci95"]
        return {
            "run": Path(attack["run"]).name,
            "victim": str(attack["model"]),
            "poisoning_proportion": float(attack["poisoning_proportion"]),
            "poison_imputed": str(attack["attacked_with"]["poison_imputed"]),
            "trigger": str(attack["attacked_with"]["trigger"]),
            "poisoning_strength": float(attack["attacked_with"]["poisoning_strength"]),
            "attack_success_rate": float(attack["attack_success_rate"]),
            "ci95_low": float(low),
            "ci95_high": float(high),
            "baseline_positive_rate": float(attack["baseline_positive_rate"]),
            "victims": int(attack["victims"]),
            **{
                f"clean_{name}": None if value is None else float(value)
                for name, value in attack["clean"].items()
            },
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file}: not the result of an attack ({error!r}); attack the run again") from None


def results_table(results: pl.DataFrame) -> Table:
    """Lay the results out for a terminal."""
    table = Table(title="Attack success rate (ASR) on class-0 test stays", caption=CAPTION)
    table.add_column("victim", no_wrap=True)
    for heading in ("poisoned", "imputed", "trigger", "strength", "AUROC", "AUPRC"):
        table.add_column(heading, no_wrap=True, justify="right")
    for heading in ("ASR [95% CI]", "untriggered"):
        table.add_column(heading, no_wrap=True, justify="right")
    for row in results.iter_rows(named=True):
        interval = f"[{row['ci95_low']:.3f}, {row['ci95_high']:.3f}]"
        table.add_row(
            row["victim"].upper(),
            f"{row['poisoning_proportion']:.1%}" if row["poisoning_proportion"] else "clean",
            row["poison_imputed"],
            row["trigger"],
            f"{row['poisoning_strength']:g}",
            _number(row["clean_auroc"]),
            _number(row["clean_auprc"]),
            f"{row['attack_success_rate']:.3f} \\{interval}",
            f"{row['baseline_positive_rate']:.3f}",
        )
    return table


CAPTION = (
    "AUROC, AUPRC: without the trigger. untriggered: share of the same stays predicted to die without it. "
    "Rows 'clean': the trigger on a victim trained on clean data."
)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def write_results(results: pl.DataFrame, out: Path) -> None:
    """Write `results.csv` and `results.json` into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    texts = {
        "results.csv": results.write_csv(),
        "results.json": json.dumps(results.to_dicts(), indent=2) + "\n",
    }
    for name, text in texts.items():
        partial = out / f"{name}.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(out / name)
