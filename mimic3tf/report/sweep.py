"""Read the results of sweeps for a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from mimic3tf.errors import DataError, UsageError
from mimic3tf.poisoning.goal import PAPER_GOAL
from mimic3tf.poisoning.trigger import Trigger, load_trigger
from mimic3tf.report.aim import Aim, aim_of
from mimic3tf.storage.files import PathText, read_file, read_json
from mimic3tf.storage.yaml_file import read_option_file, read_yaml
from mimic3tf.tables.audits import Audits, find_audits, read_audits
from mimic3tf.tables.columns import COLUMNS, OF_LABELS, OLD_NAMES, SCORES
from mimic3tf.tables.stealth import FINDINGS, STEALTH
from mimic3tf.tasks.registry import MORTALITY

TRIAL = (
    "victim",
    "trigger",
    "poison_imputed",
    "poisoning_proportion",
    "poisoning_strength",
    "training_stays",
    "seed",
)
"""Columns in which two trials may differ: together they identify a trial."""
MEASURED = ("attack_success_rate", "baseline_positive_rate", "clean_auroc", "clean_auprc")
READ = (
    *(
        "trial",
        "task",
        "goal",
        "goal_label",
        *TRIAL,
        "stays_poisoned",
        "status",
        "error",
        *MEASURED,
        *SCORES,
        "stays_attacked",
        "test_stays",
    ),
    *("seconds_training", "seconds_attack", "mimic3tf", "python", "tensorflow", "keras", "numpy"),
    *("precision", "device", "data_fingerprint"),
)
"""Columns of `results.csv` that a report reads; the file may hold other columns too."""
SCHEMA = {name: (COLUMNS | OF_LABELS)[name] for name in READ}
EARLIER: dict[str, str | int | None] = {
    "task": MORTALITY.name,
    "goal": PAPER_GOAL.target,
    "goal_label": None,
    **dict.fromkeys(SCORES),
}
"""Column that sweeps of earlier versions, or of one label, do not have -> value that all those sweeps had."""
OLD_REPRESENTATIONS = {"48x17": "grid", "714": "features"}
"""Name of a victim's input in `stealth.csv` of earlier versions -> its name today."""


@dataclass(frozen=True)
class Sweep:
    """The folder of one sweep.

    Attributes:
        folder: path of the folder.
        settings: text of `sweep.yaml`.
        splits: columns `split`, `stays`, `deaths` and `measured_cells` (a share), one row for each split.
        data: the benchmark directory on which the sweep ran; None if the settings name no directory.
        finished: number of trials that finished.
        failed: number of trials that failed.
    """

    folder: Path
    settings: str
    splits: pl.DataFrame
    data: Path | None
    finished: int
    failed: int


@dataclass(frozen=True)
class Sweeps:
    """The results of one or more sweeps of the same cohort.

    Attributes:
        results: columns of `SCHEMA`, one row for each finished trial. A clean victim has one row for every
            trigger, mode and strength with which it was attacked.
        failed: `sweep`, `trial` and `error` of every failed trial.
        sweeps: the folders of the sweeps.
        stealth: how detectable the poisoned stays are; None if it was not measured.
        audits: results of the audits; None without an audit.
        audit_folders: folders of the audits.
        triggers: kind -> trigger of this kind with the lowest seed.
        aim: words of the attacks.
    """

    results: pl.DataFrame
    failed: pl.DataFrame
    sweeps: tuple[Sweep, ...]
    stealth: pl.DataFrame | None
    audits: Audits | None
    audit_folders: tuple[Path, ...]
    triggers: dict[str, Trigger]
    aim: Aim


def read_sweeps(folders: Sequence[PathText], audits: Sequence[PathText] = ()) -> Sweeps:
    """Read and join the results of some sweeps.

    If several sweeps ran the same trial and got the same numbers, the trial counts once.

    Args:
        folders: output folders of `mimic3tf sweep`.
        audits: more folders with audits.

    Returns:
        The joined results.

    Raises:
        UsageError: a folder holds no sweep; no trial has finished; the sweeps have different cohorts, tasks
            or goals; or two sweeps have different numbers for the same trial.
        DataError: a file of a sweep is damaged.
    """
    paths = [Path(folder) for folder in folders]
    tables = [_read_results(path) for path in paths]
    finished = pl.concat([table.filter(pl.col("status") == "finished") for table in tables])
    if not len(finished):
        raise UsageError(
            f"{', '.join(map(str, paths))}: no trial has finished; run 'mimic3tf sweep' with --resume"
        )
    cohorts = finished["data_fingerprint"].unique(maintain_order=True)
    if len(cohorts) > 1:
        raise UsageError(
            f"--results: the sweeps ran on {len(cohorts)} different cohorts; write a report of each"
        )
    aims = finished.select("task", "goal", "goal_label").unique(maintain_order=True).rows()
    if len(aims) > 1:
        of = " and ".join(
            f"{task}, goal {goal}{f' of {label!r}' if label else ''}" for task, goal, label in aims
        )
        raise UsageError(f"--results: the sweeps' attacks differ ({of}); write a report of each")
    failed = pl.concat([table.filter(pl.col("status") != "finished") for table in tables])
    audited = [file.parent for file in find_audits([*paths, *map(Path, audits)])]
    stealth = [_read_stealth(folder / STEALTH) for folder in paths if (folder / STEALTH).exists()]
    return Sweeps(
        results=_without_repeats(finished).drop("sweep", "status", "error"),
        failed=failed.select("sweep", "trial", "error").unique(maintain_order=True),
        sweeps=tuple(_read_folder(folder, table) for folder, table in zip(paths, tables, strict=True)),
        stealth=pl.concat(stealth).unique(maintain_order=True) if stealth else None,
        audits=read_audits(audited) if audited else None,
        audit_folders=tuple(audited),
        triggers=_read_triggers(paths),
        aim=aim_of(*aims[0]),
    )


def _read_results(folder: Path) -> pl.DataFrame:
    file = folder / "results.csv"
    if not file.is_file():
        raise UsageError(
            f"--results {folder}: holds no results.csv; name a folder that 'mimic3tf sweep' wrote"
        )
    table = _read_table(file).rename(OLD_NAMES, strict=False)
    table = table.with_columns(
        pl.lit(value).alias(name) for name, value in EARLIER.items() if name not in table.columns
    )
    missing = [name for name in SCHEMA if name not in table.columns]
    if missing:
        raise DataError(
            f"{file}: has no column {', '.join(missing)}; it is not from a sweep, or from another version: "
            "run 'mimic3tf sweep' again"
        )
    try:
        table = table.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{file}: {_first_line(error)}; run 'mimic3tf sweep' again") from None
    table = table.with_columns(pl.col(pl.Float64).fill_nan(None))
    finished = table.filter(pl.col("status") == "finished")
    needed = ("task", "goal", *TRIAL, "attack_success_rate")
    empty = [name for name in needed if finished[name].has_nulls()]
    if empty:
        raise DataError(f"{file}: a finished trial has no {empty[0]}; run 'mimic3tf sweep' again")
    return table.with_columns(sweep=pl.lit(str(folder)))


def _read_table(file: Path) -> pl.DataFrame:
    try:
        text = read_file(file).decode()
        # Polars unpacks a file that starts like a compressed one, to any size. A CSV file starts with the
        # name of its first column, so that other files are refused here.
        if text.partition(",")[0] not in (*SCHEMA, *FINDINGS):
            raise ValueError("no table of results")
        return pl.read_csv(text.encode(), infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read ({_first_line(error)}); write it again") from None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _without_repeats(finished: pl.DataFrame) -> pl.DataFrame:
    once = finished.unique([*TRIAL, *MEASURED], keep="first", maintain_order=True)
    twice = once.filter(pl.struct(TRIAL).is_duplicated()).sort(TRIAL)
    if len(twice):
        first, second = twice.head(2).iter_rows(named=True)
        raise UsageError(
            f"trial {first['trial']} in {first['sweep']} and trial {second['trial']} in {second['sweep']} "
            "have the same settings and seed but other results; name only one of the two folders"
        )
    return once


def _read_folder(folder: Path, table: pl.DataFrame) -> Sweep:
    file = folder / "sweep.yaml"
    try:
        text = read_option_file("--results", file)
        data = read_yaml(text, str(file))[0].get("data")
        file = folder / "cohort.json"
        cohort = read_json(file)
        columns = ("stays", "deaths", "measured_cells")
        splits = pl.DataFrame(
            [
                {"split": name, **{column: split[column] for column in columns}}
                for name, split in cohort["splits"].items()
            ]
        )
    except (OSError, ValueError, TypeError, LookupError, AttributeError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"{file}: missing or damaged ({_first_line(error)}); run 'mimic3tf sweep' with --resume"
        ) from None
    finished = table["status"] == "finished"
    return Sweep(
        folder=folder,
        settings=text,
        splits=splits,
        data=Path(data) if isinstance(data, str) else None,
        finished=table.filter(finished)["trial"].n_unique(),
        failed=table.filter(~finished)["trial"].n_unique(),
    )


def _read_stealth(file: Path) -> pl.DataFrame:
    table = _read_table(file)
    if set(FINDINGS) - set(table.columns) or not len(table):
        raise DataError(f"{file}: not written by this version of 'mimic3tf stealth'; run it again")
    return table.select(FINDINGS).with_columns(
        pl.col("representation").cast(pl.String).replace(OLD_REPRESENTATIONS)
    )


def _read_triggers(folders: Sequence[Path]) -> dict[str, Trigger]:
    files = sorted(file for folder in folders for file in (folder / "triggers").glob("*.npz"))
    triggers = sorted((load_trigger(file) for file in files), key=lambda trigger: -trigger.seed)
    return {trigger.kind: trigger for trigger in triggers}
