"""Tables of several audits: conclusions, detectors, models and repairs for each victim and attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PolarsError
from rich.table import Table

from mimic3tf.errors import DataError, UsageError
from mimic3tf.storage.files import PathText, read_json
from mimic3tf.tables.cells import as_cell, p_in_words
from mimic3tf.tables.columns import with_new_names
from mimic3tf.tables.summary import mean_over_seeds
from mimic3tf.tasks.registry import MORTALITY
from mimic3tf.victims import shown_victim

AUDIT = "audit.json"
WHERE = ("task", "label", "data")
"""Columns that say where a model was attacked; tables show those that differ."""
SETTING = ("model", "attack", *WHERE)
MEASURES = ("auroc", "recall_at_1", "recall_at_5")
_AUDIT: dict[str, type[pl.DataType]] = {**dict.fromkeys(SETTING, pl.String), "seed": pl.Int64}
CONCLUSIONS: dict[str, type[pl.DataType]] = {
    **_AUDIT,
    "conclusion": pl.String,
    "rests_on": pl.String,
    **dict.fromkeys(("training_share", "trusted_share", "p_value"), pl.Float64),
    "in_words": pl.String,
}
DETECTORS: dict[str, type[pl.DataType]] = {
    **_AUDIT,
    "detector": pl.String,
    **dict.fromkeys((*MEASURES, "flagged", "alarms", "seconds"), pl.Float64),
}
MODEL_MEASURES = (
    "looks_backdoored",
    "anomaly_index_0",
    "anomaly_index_1",
    "correlation",
    "superposition_auroc",
    "superposition_at_5",
)
MODELS: dict[str, type[pl.DataType]] = {**_AUDIT, **dict.fromkeys(MODEL_MEASURES, pl.Float64)}
REPAIR_MEASURES = ("attack_success_rate", "baseline_positive_rate", "auroc")
REPAIRS: dict[str, type[pl.DataType]] = {
    **_AUDIT,
    "repair": pl.String,
    **dict.fromkeys((*REPAIR_MEASURES, "seconds"), pl.Float64),
}
ALWAYS = (*_AUDIT, "detector", "repair", "seconds")
"""Columns that must have a value in every row."""
CONCLUSION_CAPTION = (
    "The conclusion of each audit, and the checks that it rests on. Suspicious: a test of the training "
    "stays has p < 0.01 after Holm's correction for all tests of the audit, and the excess is at least 1.5%. "
    "Weak sign: a test has p < 0.05, or the inverted triggers or the response to the pattern are unusual; "
    "how often the last two happen with clean models is not known. No sign does not prove absence. Training, "
    "trusted: share of these stays that have the suspected label. p: probability that the tests of an audit "
    "find as much in clean stays, corrected for their number; for audits of earlier versions, that of the "
    "share alone."
)
CAPTION = (
    "Each detector ranks the training stays of the suspected label. AUROC: how often a poisoned one ranks "
    "above a clean one; 0.5 is chance. At 1% and 5%: recall, the share of the poisoned "
    "ones above the score that 1% or 5% of the clean ones exceed. Flagged: share of these stays above the "
    "detector's threshold, which needs no truth: the one that 5% of trusted stays exceed or, for common "
    "pattern, moving pattern and common gaps, odds above 1 that a stay carries what others share. On clean "
    "data these are false alarms. Alarms: share of the audits in which more stays were flagged, or a clearer "
    "pattern found, than chance explains. Means over seeds."
)
MODEL_CAPTION = (
    "The inspection of the models, one of the checks of an audit. Backdoored: share of the audits in which "
    "an inverted trigger is unusually short. Index 0, index 1: anomaly index of the pattern that leads to "
    "label 0 or 1; above 2 is suspicious. Corr.: correlation of the pattern that leads to the suspected "
    "label with the true trigger. Superpos.: AUROC with which superposition tells triggered stays from clean "
    "ones at prediction time. At 5%: share of the triggered ones found at 5% false positives. Means over "
    "seeds."
)
REPAIR_CAPTION = (
    "Victims after repairs. ASR: attack success rate; untriggered: the same share of the same stays without "
    "the trigger; AUROC of clean test stays. Filters drop the stays that detectors with an alarm suspect. "
    "Means over seeds, 95% intervals."
)


@dataclass(frozen=True)
class Audits:
    """The findings of several audits.

    Attributes:
        conclusions: one row per audit, columns of `CONCLUSIONS`; null if an earlier version of mimic3tf drew
            no conclusion.
        detectors: one row per audit and detector, columns of `DETECTORS`.
        models: one row per audit, columns of `MODELS`; null for a measure that was not taken.
        repairs: one row per audit and applicable repair, columns of `REPAIRS`.
    """

    conclusions: pl.DataFrame
    detectors: pl.DataFrame
    models: pl.DataFrame
    repairs: pl.DataFrame


def find_audits(folders: Sequence[PathText]) -> list[Path]:
    """Find the files `audit.json` in folders and below them, sorted."""
    return sorted({file for folder in folders for file in Path(folder).rglob(AUDIT)})


def read_audits(folders: Sequence[PathText]) -> Audits:
    """Read all audits in some folders and below them, sorted by file.

    Raises:
        UsageError: there is no audit, or two audits are of the same victim, attack, data and seed.
        DataError: a file is damaged.
    """
    files = find_audits(folders)
    if not files:
        places = ", ".join(str(Path(folder)) for folder in folders)
        raise UsageError(f"{places}: no audit.json found; run 'mimic3tf audit' first")
    seen: dict[tuple[Any, ...], Path] = {}
    audits = []
    for file in files:
        audit = _read(file)
        key = audit.models.select(*SETTING, "seed").row(0)
        if key in seen:
            raise UsageError(
                f"{seen[key]} and {file} are audits of the same victim, attack, label, name of the data and "
                "seed; name folders that hold only one of them"
            )
        seen[key] = file
        audits.append(audit)
    return Audits(
        pl.concat([audit.conclusions for audit in audits]),
        pl.concat([audit.detectors for audit in audits]),
        pl.concat([audit.models for audit in audits]),
        pl.concat([audit.repairs for audit in audits]),
    )


def _read(file: Path) -> Audits:
    try:
        record = with_new_names(read_json(file))
        attack = record["attack"]
        named = "none known"
        if attack is not None:
            labels = ", clean labels" if attack["poisoned_labels"] == "clean" else ""
            # Audits of earlier versions have no "goal"; it was 1.
            labels += ", goal 0" if attack.get("goal", 1) == 0 else ""
            labels += f", '{record['goal_label']}'" if record.get("goal_label") else ""
            named = (
                f"{attack['trigger']} {attack['poison_imputed']}{labels}, "
                f"{100 * attack['poisoning_proportion']:.3g}% at {attack['poisoning_strength']:g}"
            )
        audit = {"model": record["model"], "attack": named, **_where(record), "seed": record["seed"]}
        detectors = [
            {
                **audit,
                "detector": detector["detector"],
                **{
                    name: detector["performance"][name]["value"] if detector["performance"] else None
                    for name in MEASURES
                },
                "flagged": detector["alarm"] and detector["alarm"]["flagged"] / record["suspects"],
                "alarms": detector["alarm"] and float(detector["alarm"]["raised"]),
                "seconds": detector["seconds"],
            }
            for detector in record["detectors"]
            if not detector.get("not_run")
        ]
        repairs = [
            {**audit, **{name: repair[name] for name in ("repair", *REPAIR_MEASURES, "seconds")}}
            for repair in record.get("repairs", [])
            if repair["auroc"] is not None
        ]
        audits = Audits(
            pl.DataFrame([audit | _conclusion(record)], schema=CONCLUSIONS),
            pl.DataFrame(detectors, schema=DETECTORS),
            pl.DataFrame([audit | _model_measures(record)], schema=MODELS),
            pl.DataFrame(repairs, schema=REPAIRS),
        )
        for rows in (audits.conclusions, audits.detectors, audits.models, audits.repairs):
            if any(rows[column].has_nulls() for column in rows.columns if column in ALWAYS):
                raise ValueError("lacks a name or a number")
        return audits
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        PolarsError,
    ) as error:
        raise DataError(f"{file}: not an audit, or damaged ({type(error).__name__}); audit again") from None


def suspected_label(record: dict[str, Any]) -> str:
    """Name the suspected label of an audit as the user counts it."""
    # One class or column of several is judged as 1. Audits of earlier versions name none; it was 1.
    return str(record.get("target", record.get("suspected_label", 1)))


def _where(record: dict[str, Any]) -> dict[str, str]:
    """Name task, label and data; each seed of a study may have its own split in its own folder."""
    label = suspected_label(record)
    return {
        "task": record.get("task", MORTALITY.name),
        "label": f"{label} {record['goal_label']}" if record.get("goal_label") else label,
        "data": Path(record.get("data", "-")).name,
    }


def _conclusion(record: dict[str, Any]) -> dict[str, Any]:
    if "conclusion" not in record:
        return {}
    conclusion, share = record["conclusion"], record["label_share"]
    return {
        "conclusion": conclusion["level"],
        "rests_on": ", ".join(conclusion["rests_on"]),
        "training_share": share["training"],
        "trusted_share": share["trusted"],
        "p_value": conclusion.get("p_value", share["adjusted"]),
        "in_words": conclusion["sentence"],
    }


def _model_measures(record: dict[str, Any]) -> dict[str, Any]:
    inspection, superposition = record["model_inspection"], record.get("superposition", {})
    if inspection is None:
        return {}
    targets = {target["target"]: target for target in inspection["targets"]}
    # Audits of earlier versions have no "suspected_label"; it was 1.
    suspected = record.get("suspected_label", 1)
    return {
        "looks_backdoored": float(inspection["looks_backdoored"]),
        **{f"anomaly_index_{target}": found["anomaly_index"] for target, found in targets.items()},
        "correlation": targets[suspected].get("true_trigger", {}).get("correlation"),
        "superposition_auroc": superposition.get("auroc"),
        "superposition_at_5": superposition.get("recall_at_5"),
    }


def summarize_models(models: pl.DataFrame) -> pl.DataFrame:
    """Average `Audits.models` over seeds: columns of `SETTING`, `seeds`, and the mean of every measure."""
    return models.group_by(SETTING, maintain_order=True).agg(
        pl.len().alias("seeds"), *(pl.col(name).mean() for name in MODEL_MEASURES)
    )


def summarize_repairs(repairs: pl.DataFrame) -> pl.DataFrame:
    """Average `Audits.repairs` over seeds, with 95% intervals of attack success rate and AUROC."""
    by = [*SETTING, "repair"]
    # Seeds may differ in their clearest detector, so all filters get one name.
    repairs = repairs.with_columns(pl.col("repair").str.replace("^filter by .*", "filter by the clearest"))
    table = repairs.group_by(by, maintain_order=True).agg(
        pl.len().alias("seeds"), pl.col("baseline_positive_rate").mean(), pl.col("seconds").mean()
    )
    for name in ("attack_success_rate", "auroc"):
        table = table.join(_means(repairs, by, name), on=by, how="left", maintain_order="left")
    return table


def _means(rows: pl.DataFrame, by: list[str], name: str) -> pl.DataFrame:
    ends = {"mean": name, "ci95_low": f"{name}_low", "ci95_high": f"{name}_high"}
    return mean_over_seeds(rows, by, name).select(*by, *ends).rename(ends)


def summarize_detectors(audits: pl.DataFrame) -> pl.DataFrame:
    """Average the detectors of a setting over seeds, to one row per detector.

    Args:
        audits: `Audits.detectors`.

    Returns:
        Columns of `SETTING`, `detector`, `seeds`, the mean of every measure over seeds, and 95% intervals of
        AUROC and recalls (`_low` and `_high`, Student's t; null below three seeds).
    """
    by = [*SETTING, "detector"]
    table = audits.group_by(by, maintain_order=True).agg(
        seeds=pl.len(), **{name: pl.col(name).mean() for name in ("flagged", "alarms", "seconds")}
    )
    for name in MEASURES:
        table = table.join(_means(audits, by, name), on=by, how="left", maintain_order="left")
    measures = [f"{name}{end}" for name in MEASURES for end in ("", "_low", "_high")]
    return table.select(*by, "seeds", *measures, "flagged", "alarms", "seconds")


def without_common(table: pl.DataFrame) -> pl.DataFrame:
    """Drop task, label and data where they are the same in all rows."""
    return table.drop(name for name in WHERE if table[name].n_unique() < 2)


def setting_in_words(setting: dict[str, Any]) -> str:
    """Name victim and attack of a row of `without_common`, and what is left of task, label and data."""
    where = "".join(f", {name} {setting[name]}" for name in WHERE if name in setting)
    return f"{shown_victim(setting['model'])}, poisoned: {setting['attack']}{where}"


def _setting_columns(table: Table, rows: pl.DataFrame) -> list[list[str]]:
    """Start a table with the columns of the setting, and return their cells, a list for each row."""
    where = [name for name in WHERE if name in rows.columns]
    for heading in ("victim", "poisoned", *where):
        table.add_column(heading, no_wrap=True)
    return [
        [
            as_cell(text)
            for text in (shown_victim(row["model"]), row["attack"], *(row[name] for name in where))
        ]
        for row in rows.iter_rows(named=True)
    ]


def conclusions_table(conclusions: pl.DataFrame) -> Table:
    """Make the table of `Audits.conclusions` for a terminal."""
    table = Table(title="Conclusions")
    settings = _setting_columns(table, without_common(conclusions))
    table.add_column("seed", justify="right")
    table.add_column("conclusion", no_wrap=True)
    for heading in ("training", "trusted", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("rests on")
    for setting, row in zip(settings, conclusions.iter_rows(named=True), strict=True):
        table.add_row(
            *setting,
            str(row["seed"]),
            as_cell(row["conclusion"] or "-"),
            *(_number(row[name]) for name in ("training_share", "trusted_share")),
            "-" if row["p_value"] is None else p_in_words(row["p_value"]),
            as_cell(row["rests_on"] or "-"),
        )
    return table


def models_table(summary: pl.DataFrame) -> Table:
    """Make the table of `summarize_models` for a terminal."""
    table = Table(title="Models")
    settings = _setting_columns(table, without_common(summary))
    for heading in ("seeds", "backdoored", "index 0", "index 1", "corr.", "superpos.", "at 5%"):
        table.add_column(heading, justify="right", no_wrap=True)
    for setting, row in zip(settings, summary.iter_rows(named=True), strict=True):
        cells = (_number(row[name], 2) for name in MODEL_MEASURES)
        table.add_row(*setting, str(row["seeds"]), *cells)
    return table


def repairs_tables(summary: pl.DataFrame) -> list[Table]:
    """Make tables of `summarize_repairs` for a terminal, one for each setting."""
    tables = []
    for title, rows in _parts(summary):
        table = Table(title=as_cell(title))
        table.add_column("repair", no_wrap=True)
        for heading in ("ASR", "untriggered", "AUROC", "s"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in rows.iter_rows(named=True):
            success, auroc = (_interval(row, name) for name in ("attack_success_rate", "auroc"))
            untriggered = _number(row["baseline_positive_rate"])
            table.add_row(as_cell(row["repair"]), success, untriggered, auroc, f"{row['seconds']:.1f}")
        tables.append(table)
    return tables


def detectors_tables(summary: pl.DataFrame) -> list[Table]:
    """Make tables of `summarize_detectors` for a terminal, one for each setting."""
    return [_table_of(title, rows) for title, rows in _parts(summary)]


def _parts(summary: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """Split a summary into its settings, each with a title."""
    shown = without_common(summary)
    by = [name for name in SETTING if name in shown.columns]
    return [
        (f"{setting_in_words(rows.row(0, named=True))}, seeds: {rows['seeds'][0]}", rows)
        for _, rows in shown.group_by(by, maintain_order=True)
    ]


def _table_of(title: str, rows: pl.DataFrame) -> Table:
    table = Table(title=as_cell(title))
    table.add_column("detector", no_wrap=True)
    for heading in ("AUROC", "at 1%", "at 5%", "flagged", "alarms", "s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows.iter_rows(named=True):
        table.add_row(
            as_cell(row["detector"]),
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
