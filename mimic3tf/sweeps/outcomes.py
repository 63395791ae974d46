"""The results of a sweep: a row for every attack of every trial."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from mimic3tf.errors import DataError
from mimic3tf.storage.files import read_json, whole_file, write_whole
from mimic3tf.sweeps.plan import Trial
from mimic3tf.tables.columns import COLUMNS, OF_LABELS, with_new_names

FINISHED, FAILED = "finished", "failed"
ROWS = "trial.json"
"""Written last into a trial's folder: without this file, the trial has not ended."""


def write_rows(
    folder: Path,
    trial: Trial,
    data_fingerprint: str,
    measured: Sequence[dict[str, Any]] = (),
    error: str | None = None,
) -> None:
    """Record how a trial ended.

    Args:
        folder: folder of the trial; made if it does not exist.
        trial: the trial.
        data_fingerprint: fingerprint of the stays that the trial read.
        measured: measured columns of each attack, in the order of `trial.attacks`.
        error: the error that the trial failed with; None if it finished.
    """
    rows = [
        {
            "trial": trial.name,
            "victim": trial.victim,
            "trigger": attack.trigger,
            "poison_imputed": attack.poison_imputed,
            "poisoning_proportion": trial.poisoning_proportion,
            "poisoning_strength": attack.poisoning_strength,
            "seed": trial.seed,
            "training_stays": trial.training_stays,
            "stays_poisoned": trial.stays_poisoned,
            "status": FINISHED if error is None else FAILED,
            "error": error,
            "python": platform.python_version(),
            **{package: version(package) for package in ("mimic3tf", "tensorflow", "keras", "numpy")},
            "data_fingerprint": data_fingerprint,
            **(measured[position] if error is None else {}),
        }
        for position, attack in enumerate(trial.attacks)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / ROWS, json.dumps(rows, indent=2) + "\n")


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Read the rows of a trial, one for each attack; there are none if the trial has not ended.

    Raises:
        DataError: the file is damaged.
    """
    try:
        rows = read_json(folder / ROWS)
        every = COLUMNS | OF_LABELS
        rows = [{name: row.get(name) for name in every} for row in map(with_new_names, rows)]
        return pl.DataFrame(rows, schema=every).to_dicts()
    except FileNotFoundError:
        return []
    except (
        OSError,
        ValueError,
        AttributeError,
        TypeError,
        OverflowError,
        pl.exceptions.PolarsError,
    ) as error:
        raise DataError(f"{folder / ROWS}: damaged ({error}); delete it and run the sweep again") from None


def has_finished(folder: Path) -> bool:
    """Tell whether a trial has ended without an error."""
    rows = read_rows(folder)
    return bool(rows) and rows[0]["status"] == FINISHED


def write_results(out: Path, folders: Sequence[Path]) -> pl.DataFrame:
    """Write the rows of some trials, in order, to `results.parquet` and `results.csv`, and return them.

    The columns are `COLUMNS`; and those of `OF_LABELS` that have a value.
    """
    rows = [row for folder in folders for row in read_rows(folder)]
    results = pl.DataFrame(rows, schema=COLUMNS | OF_LABELS)
    results = results.drop(name for name in OF_LABELS if results[name].is_null().all())
    with whole_file(out / "results.parquet") as file:
        results.write_parquet(file)
    write_whole(out / "results.csv", results.write_csv())
    return results


def processor_name() -> str:
    """Return the name of this machine's processor, and its number of cores."""
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores"
