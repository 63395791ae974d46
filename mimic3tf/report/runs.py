"""Read runs and the attacks on them for a report, without TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from mimic3tf.config import TrainingConfig
from mimic3tf.data.directory import SPLITS, listfile_of
from mimic3tf.described import Described
from mimic3tf.errors import DataError, UsageError, near_path
from mimic3tf.poisoning.trigger import Trigger, load_trigger
from mimic3tf.storage.files import read_file
from mimic3tf.tables.audits import find_audits
from mimic3tf.tables.columns import FOLLOWED
from mimic3tf.tables.results import ATTACK, PREDICTIONS, attack_row
from mimic3tf.training.run_files import (
    CONFIG,
    FINISHED,
    METRICS,
    TRIGGER,
    check_run,
    naming_damage,
    read_settings,
    read_summary,
)

MOST = 24
"""Largest number of runs that a page can show."""
EPOCHS: dict[str, type[pl.DataType]] = {
    "epoch": pl.Int64,
    **dict.fromkeys(("loss", "auroc", "auprc", "minpse", "asr"), pl.Float64),
}
PREDICTED: dict[str, type[pl.DataType]] = {
    "prediction_clean": pl.Float64,
    "prediction_triggered": pl.Float64,
    "y_true": pl.Int64,
}
"""Columns of `predictions.csv` that are read; the column with the names of stays is not read."""


@dataclass(frozen=True, repr=False)
class Attack(Described):
    """An attack on a run.

    Attributes:
        name: name of the run, followed by the path of the attack's folder in the run.
        row: settings and results of the attack, as a row of `tables.results`.
        predictions: columns of `PREDICTED`, one row for each test stay; None without a `predictions.csv`.
    """

    name: str
    row: dict[str, Any]
    predictions: pl.DataFrame | None


@dataclass(frozen=True, repr=False)
class RunFolder(Described):
    """A finished run.

    Attributes:
        name: the last parts of the folder's path, as many as are needed to tell the runs apart.
        folder: the run directory.
        config: settings of the run.
        settings: text of `config.yaml`.
        summary: contents of `run.json`.
        epochs: columns of `EPOCHS` and those of `FOLLOWED` that the task has, one row for each epoch; empty
            if the run has no `metrics.csv`.
        trigger: the trigger of the poisoned stays, if the run has one.
        attacks: attacks on the run, found in its folder and in subfolders.
    """

    name: str
    folder: Path
    config: TrainingConfig
    settings: str
    summary: dict[str, Any]
    epochs: pl.DataFrame
    trigger: Trigger | None
    attacks: tuple[Attack, ...]


@dataclass(frozen=True)
class Folders:
    """Folders, sorted by their contents.

    Attributes:
        sweeps: folders that `mimic3tf sweep` wrote.
        runs: folders that hold a finished run.
        audits: folders that hold an audit.
    """

    sweeps: tuple[Path, ...]
    runs: tuple[Path, ...]
    audits: tuple[Path, ...]


def sort_folders(folders: Sequence[Path], sweeps: Sequence[Path]) -> Folders:
    """Find the sweeps, runs and audits in some folders and their subfolders.

    Args:
        folders: each is the folder of a sweep, or holds runs or audits.
        sweeps: more folders of sweeps.

    Returns:
        The folders of the sweeps, runs and audits.

    Raises:
        UsageError: a folder does not exist, or holds no sweep, run or audit; or there are more than `MOST`
            runs, or both runs and sweeps.
    """
    sweeps = list(sweeps)
    runs: dict[Path, Path] = {}
    audits: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(
                f"{folder}: no such folder; name one that 'mimic3tf train', 'audit' or 'sweep' wrote"
                + near_path(folder)
            )
        if (folder / "sweep.yaml").exists():
            sweeps.append(folder)
            continue
        found = {file.resolve(): file.parent for file in sorted(folder.rglob(FINISHED))}
        audited = {file.resolve(): file.parent for file in find_audits([folder])}
        if not (found or audited):
            _refuse(folder)
        # The given folders may overlap: a run or audit that two of them hold counts once.
        runs |= found
        audits |= audited
    if sweeps and runs:
        raise UsageError(
            f"{sweeps[0]} is a sweep, {next(iter(runs.values()))} a run: a page shows one or the other; "
            "write two reports"
        )
    if len(runs) > MOST:
        raise UsageError(
            f"{len(runs)} runs there: more than the {MOST} that a page can show; name fewer, or the folder "
            "of a sweep"
        )
    return Folders(tuple(sweeps), tuple(runs.values()), tuple(audits.values()))


def _refuse(folder: Path) -> None:
    unfinished = sorted(file.parent for file in folder.rglob(CONFIG))
    if unfinished:
        check_run(unfinished[0], place="")
    is_data = any(listfile_of(folder, split).exists() for split in SPLITS)
    what = "is a data directory, and holds" if is_data else "holds"
    data = folder if is_data else "DATA"
    raise UsageError(
        f"{folder}: {what} no run, audit or sweep; train a victim with "
        f"'mimic3tf train --model lr --data {data} --out runs/NAME'"
    )


def read_runs(folders: Sequence[Path]) -> list[RunFolder]:
    """Read finished runs.

    Args:
        folders: the run directories.

    Returns:
        The runs, in the order of the folders.

    Raises:
        DataError: a file of a run is missing or damaged.
    """
    return [_read_run(folder, name) for folder, name in zip(folders, short_names(folders), strict=True)]


def short_names(folders: Sequence[Path]) -> list[str]:
    """Name each folder by the last parts of its path, as many as are needed to tell the folders apart."""
    parts = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(path[-length:]) for path in parts]
        if len(set(names)) == len(names):
            break
    return names if folders else []


def _read_run(folder: Path, name: str) -> RunFolder:
    config, summary = read_settings(folder), read_summary(folder)
    epochs = pl.DataFrame(schema=EPOCHS)
    if (folder / METRICS).exists():
        with naming_damage(folder / METRICS) as file:
            epochs = _read_columns(file, EPOCHS, tuple(FOLLOWED))
    settings = (folder / CONFIG).read_text(encoding="utf-8")
    attacks = tuple(_read_attack(file, folder, name) for file in sorted(folder.rglob(ATTACK)))
    trigger = None if config.trigger is None else load_trigger(folder / TRIGGER)
    return RunFolder(name, folder, config, settings, summary, epochs, trigger, attacks)


def _read_attack(file: Path, run: Path, name: str) -> Attack:
    predictions = file.with_name(PREDICTIONS)
    below = file.parent.relative_to(run)
    try:
        read = _read_columns(predictions, PREDICTED) if predictions.exists() else None
    except (OSError, ValueError, pl.exceptions.PolarsError):
        raise DataError(f"{predictions}: damaged; attack the run again") from None
    return Attack(name if below == Path() else f"{name}/{below}", attack_row(file), read)


def _read_columns(
    file: Path, schema: dict[str, type[pl.DataType]], further: Sequence[str] = ()
) -> pl.DataFrame:
    """Read the columns of a schema, and further columns of numbers that the table may have."""
    text = read_file(file)
    # Polars unpacks a file that starts like a compressed one, to any size. A CSV file starts with the name of
    # its first column, so that other files are refused here.
    if not text.startswith((b"stay,", b"epoch,")):
        raise ValueError("is no table")
    names = text.partition(b"\n")[0].decode().split(",")
    schema = schema | {name: pl.Float64 for name in further if name in names}
    return pl.read_csv(text, columns=list(schema), schema_overrides=schema).select(*schema)
