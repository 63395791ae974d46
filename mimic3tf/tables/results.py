"""Tables of several attacks, for the terminal and as files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PolarsError
from rich.table import Table

from mimic3tf.errors import DataError, UsageError
from mimic3tf.storage.files import PathText, read_json, write_together
from mimic3tf.tables.cells import as_cell
from mimic3tf.tables.columns import AT_PREVALENCE, with_new_names
from mimic3tf.tables.fitting import separate_common
from mimic3tf.tasks.metrics import THRESHOLD
from mimic3tf.tasks.registry import MORTALITY
from mimic3tf.victims import shown_victim, victim_names

ATTACK, PREDICTIONS = "attack.json", "predictions.csv"
"""Files that an attack writes."""
SETTING = (
    "data",
    "test_fingerprint",
    "trained_for_data",
    "task",
    "victim",
    "goal",
    "goal_label",
    "poisoning_proportion",
    "poisoned_labels",
    "trained_poison_imputed",
    "trained_poisoning_strength",
    "poison_imputed",
    "trigger",
    "poisoning_strength",
    "at",
    "threshold",
)
"""Columns that identify a row of a results table, together with the seed."""

INTERVALS = {
    f"{metric}_ci95_{end}": (metric, position)
    for metric in ("auroc", "auprc")
    for position, end in enumerate(("low", "high"))
}
"""Column -> the metric in `clean_ci95` of an `attack.json`, and which end of its interval."""
MAY_BE_NULL = {
    "data": pl.String,
    "test_fingerprint": pl.String,
    "trained_for_data": pl.Boolean,
    "goal_label": pl.String,
    "trained_poison_imputed": pl.String,
    **dict.fromkeys(("trained_poisoning_strength", *AT_PREVALENCE, *INTERVALS), pl.Float64),
}
"""Column that is null for attacks of earlier versions, or for clean victims -> its type."""


def collect_results(folders: Sequence[PathText]) -> pl.DataFrame:
    """Read every `attack.json` in some folders and below them.

    Args:
        folders: run directories, or folders that hold several.

    Returns:
        One row per attack, sorted by goal, mode, victim, setting and strength.

    Raises:
        UsageError: a folder does not exist, or holds no attack.
        DataError: an `attack.json` is damaged.
    """
    attacks: dict[Path, Path] = {}
    for folder in folders:
        files = sorted(Path(folder).rglob(ATTACK))
        if not files:
            raise UsageError(f"{Path(folder)}: holds no attack.json; run 'mimic3tf attack' first")
        # Folders may overlap, but each attack is read once.
        attacks |= {file.resolve(): file for file in files}
    rows = [attack_row(file) for file in attacks.values()]
    order = {name: position for position, name in enumerate(victim_names())}
    rows.sort(
        key=lambda row: (
            row["task"] != MORTALITY.name,
            row["task"],
            row["goal_label"] or "",
            -row["goal"],
            row["poison_imputed"],
            order.get(row["victim"], len(order)),
            row["poisoning_proportion"] > 0,
            row["trigger"] != "temporal",
            -row["poisoning_strength"],
            row["run"],
            row["trained_for_data"] is False,
            row["data"] or "",
        )
    )
    return pl.DataFrame(rows, infer_schema_length=None).cast(MAY_BE_NULL)  # type: ignore[arg-type]


def attack_row(file: Path) -> dict[str, Any]:
    """Read one `attack.json` as a row of results.

    Raises:
        DataError: the file is damaged.
    """
    try:
        attack = with_new_names(read_json(file))
        low, high = attack["attack_success_rate_ci95"]
        # Attacks of earlier versions name no data, and their only threshold was 0.5.
        data, level = attack.get("data", {}), attack.get("at_prevalence", {})
        intervals = attack.get("clean_ci95", {})
        trained, attacked = attack["trained_with"], attack["attacked_with"]
        proportion = float(attack["poisoning_proportion"])
        row = {
            "run": Path(attack["run"]).name,
            "data": _if_known(str, data.get("name")),
            "test_fingerprint": _if_known(str, data.get("fingerprint")),
            "trained_for_data": _if_known(bool, data.get("trained_for")),
            "victim": str(attack["model"]),
            "task": str(attack.get("task", MORTALITY.name)),
            "goal": int(attack.get("goal", 1)),
            "goal_label": _if_known(str, attack.get("goal_label")),
            "poisoning_proportion": proportion,
            # Attacks of earlier versions have no "poisoned_labels"; labels were flipped.
            "poisoned_labels": str(trained.get("poisoned_labels", "flipped")),
            # A clean victim was trained without the trigger: with which settings does not matter.
            **{
                f"trained_{name}": kind(trained[name]) if proportion else None
                for name, kind in (("poison_imputed", str), ("poisoning_strength", float))
            },
            "poison_imputed": str(attacked["poison_imputed"]),
            "trigger": str(attacked["trigger"]),
            "poisoning_strength": float(attacked["poisoning_strength"]),
            "at": float(attacked.get("at", 0)),
            "seed": int(trained["seed"]),
            "attack_success_rate": float(attack["attack_success_rate"]),
            "ci95_low": float(low),
            "ci95_high": float(high),
            "baseline_positive_rate": float(attack["baseline_positive_rate"]),
            "threshold": float(attack.get("threshold", THRESHOLD)),
            **{column: _if_known(float, level.get(name)) for column, name in AT_PREVALENCE.items()},
            "stays_attacked": int(attack["stays_attacked"]),
            **{f"clean_{name}": _if_known(float, value) for name, value in attack["clean"].items()},
            **{
                column: _if_known(float, intervals.get(metric, (None, None))[end])
                for column, (metric, end) in INTERVALS.items()
            },
        }
        if not {"clean_auroc", "clean_auprc"} <= row.keys():
            raise ValueError("no AUROC or AUPRC")
        # Whole numbers too large for a table raise an error here.
        return pl.DataFrame([row]).to_dicts()[0]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, PolarsError) as error:
        raise DataError(f"{file}: not the result of an attack ({error!r}); attack the run again") from None


def _if_known(kind: Callable[[Any], Any], value: object) -> Any:
    return None if value is None else kind(value)


def results_over_seeds(results: pl.DataFrame) -> pl.DataFrame:
    """Average the attacks of a setting over seeds, to one row per setting.

    Args:
        results: rows of `collect_results`.

    Returns:
        One row per setting, in the same order: number of `seeds`, mean of every rate and metric, and the
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
            f"runs {first} and {second} have the same setting and seed; name folders that hold only one of "
            "them"
        )
    rates = ["attack_success_rate", "baseline_positive_rate", *AT_PREVALENCE]
    metrics = [name for name in results.columns if name.startswith("clean_")]
    success = pl.col("attack_success_rate")
    return results.group_by(SETTING, maintain_order=True).agg(
        pl.len().alias("seeds"),
        success.min().alias("lowest_success_rate"),
        success.max().alias("highest_success_rate"),
        *(pl.col(name).mean() for name in rates + metrics),
    )


def results_table(results: pl.DataFrame) -> Table:
    """Make the table of `collect_results` or `results_over_seeds` for a terminal.

    The caption names the settings that all rows have in common.
    """
    seeds = "seeds" in results.columns
    rows = results.to_dicts()
    settings, same = separate_common(
        {"data": [as_cell(name) for name in shown_data(rows)], **_setting_cells(rows)}
    )
    table = Table(title="Attack success rate (ASR) on test stays" + (", mean over seeds" if seeds else ""))
    names = {} if seeds else {"run": [as_cell(row["run"]) for row in rows]}
    for heading in (*names, *settings):
        # In a table over seeds, there are no runs: the settings name a row.
        key = seeds or heading in ("run", "data")
        table.add_column(heading, justify="left" if key else "right")
    measures = _measure_cells(rows, seeds=seeds)
    for heading in measures:
        table.add_column(heading, no_wrap=True, justify="right")
    for cells in zip(*names.values(), *settings.values(), *measures.values(), strict=True):
        table.add_row(*cells)
    notes = [same, CAPTION]
    if AT_PREVALENCE_HEADING in measures:
        notes.append(PREVALENCE_CAPTION)
    if (results["poisoning_proportion"] == 0).any():
        notes.append(CLEAN_CAPTION)
    if {"macro\nAUROC", "kappa"} & measures.keys():
        notes.append(LABELS_CAPTION)
    if any(row["trained_for_data"] is False for row in rows):
        notes.append(FOREIGN_CAPTION)
    table.caption = " ".join(filter(None, notes))
    return table


AT_PREVALENCE_HEADING = "ASR\nat prev."
CAPTION = (
    "AUROC, AUPRC: without the trigger. ASR: share of the stays of the other label than the goal's that are "
    "predicted as the goal. untrig.: share of the same stays without the trigger."
)
PREVALENCE_CAPTION = (
    "at prev.: at the risk threshold at which as many test stays are predicted 1 without the trigger as have "
    "label 1."
)
CLEAN_CAPTION = "Rows 'clean': the trigger on a victim trained on clean data."
LABELS_CAPTION = (
    "Of a task with several labels, all but the macro AUROC and kappa is of the label that is attacked."
)
FOREIGN_CAPTION = "*: not known to be the data that the victim was trained for."


def shown_data(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Name the data sets, with fingerprints if two data sets have the same name."""
    found = {(row["data"], row["test_fingerprint"]) for row in rows}
    count = Counter(name for name, _ in found)
    return [
        "-"
        if row["data"] is None
        else row["data"]
        + (f" {str(row['test_fingerprint'])[:6]}" if count[row["data"]] > 1 else "")
        + ("*" if row["trained_for_data"] is False else "")
        for row in rows
    ]


def _setting_cells(rows: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    poisoned = [
        f"{row['poisoning_proportion']:.1%}" + (", clean labels" if row["poisoned_labels"] == "clean" else "")
        if row["poisoning_proportion"]
        else "clean"
        for row in rows
    ]
    other = any(row["task"] != MORTALITY.name for row in rows)
    return {
        "victim": [as_cell(shown_victim(row["victim"])) for row in rows],
        **({"task": [as_cell(row["task"]) for row in rows]} if other else {}),
        "goal": [_goal_cell(row) for row in rows],
        "poisoned": poisoned,
        **_trained_cells(rows),
        "mode": [as_cell(row["poison_imputed"]) for row in rows],
        "trigger": [as_cell(row["trigger"]) for row in rows],
        "strength": [f"{row['poisoning_strength']:g}" for row in rows],
        **({"from hour": [f"{row['at']:g}" for row in rows]} if any(row["at"] for row in rows) else {}),
        "risk threshold": [f"{row['threshold']:g}" for row in rows],
    }


def _trained_cells(rows: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """Name mode and strength of the training, unless all victims were attacked with what they learned."""
    cells = {
        "trained\nmode": [as_cell(row["trained_poison_imputed"] or "-") for row in rows],
        "trained\nstrength": [
            f"{row['trained_poisoning_strength']:g}" if row["poisoning_proportion"] else "-" for row in rows
        ],
    }
    columns = ("poison_imputed", "poisoning_strength")
    poisoned = [row for row in rows if row["poisoning_proportion"]]
    return {
        heading: texts
        for (heading, texts), column in zip(cells.items(), columns, strict=True)
        if len({row[f"trained_{column}"] for row in poisoned}) > 1
        and any(row[f"trained_{column}"] != row[column] for row in poisoned)
    }


def _goal_cell(row: dict[str, Any]) -> str:
    """Name the goal: the label 0 or 1 and, if the task has several labels, which of them."""
    return as_cell(f"{row['goal']} {row['goal_label']}" if row["goal_label"] else str(row["goal"]))


def _measure_cells(rows: Sequence[dict[str, Any]], *, seeds: bool) -> dict[str, list[str]]:
    ends = ("lowest_success_rate", "highest_success_rate") if seeds else ("ci95_low", "ci95_high")
    columns = {"AUROC": "clean_auroc", "AUPRC": "clean_auprc"}
    if any(row.get("clean_ave_auc_macro") is not None for row in rows):
        columns["macro\nAUROC"] = "clean_ave_auc_macro"
    if any(row.get("clean_kappa") is not None for row in rows):
        columns["kappa"] = "clean_kappa"
    cells = {heading: [_number(row.get(name)) for row in rows] for heading, name in columns.items()}
    cells["ASR \\[lowest, highest]" if seeds else "ASR \\[95% CI]"] = [
        f"{row['attack_success_rate']:.3f} \\[{row[ends[0]]:.3f}, {row[ends[1]]:.3f}]" for row in rows
    ]
    columns = {
        "untrig.": "baseline_positive_rate",
        AT_PREVALENCE_HEADING: "prevalence_success_rate",
        "untrig.\nat prev.": "prevalence_baseline_rate",
    }
    cells |= {
        heading: [_number(row[name]) for row in rows]
        for heading, name in columns.items()
        # Attacks of earlier versions lack some measures.
        if any(row[name] is not None for row in rows)
    }
    return cells


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def write_results(results: pl.DataFrame, out: PathText) -> None:
    """Write `results.csv` and `results.json` into a folder, which is made if it does not exist."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results.to_dicts(), indent=2) + "\n"
    write_together({out / "results.json": text, out / "results.csv": results.write_csv()})
