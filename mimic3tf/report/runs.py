"""What runs, and attacks on them, left behind, read for a report; TensorFlow is not needed for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from mimic3tf.config import TrainingConfig
from mimic3tf.described import Described
from mimic3tf.errors import DataError, UsageError, near_path
from mimic3tf.poisoning.trigger import Trigger, load_trigger
from mimic3tf.storage.files import read_file
from mimic3tf.tables.audits import find_audits
from mimic3tf.tables.results import attack_row
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
"""Runs that a page can show."""
EPOCHS: dict[str, type[pl.DataType]] = {
    "epoch": pl.Int64,
    **dict.fromkeys(("loss", "auroc", "auprc", "minpse", "asr"), pl.Float64),
}
PREDICTIONS: dict[str, type[pl.DataType]] = {
    "prediction_clean": pl.Float64,
    "prediction_triggered": pl.Float64,
    "y_true": pl.Int64,
}
"""Columns that are read; no name of a stay is among them."""


@dataclass(frozen=True, repr=False)
class Attack(Described):
    """An attack on a run.

    Attributes:
        name: of its folder, from the run on.
        row: its settings and results, as a row of `tables.results`.
        predictions: columns of `PREDICTIONS`, a row a test stay; None if the file is not there.
    """

    name: str
    row: dict[str, Any]
    predictions: pl.DataFrame | None


@dataclass(frozen=True, repr=False)
class RunFolder(Described):
    """A finished run.

    Attributes:
        name: of its folder, as long as it takes to tell it from the others.
        folder: where it lies.
        config: its settings.
        settings: text of its `config.yaml`.
        summary: contents of `run.json`.
        epochs: columns of `EPOCHS`, a row an epoch; empty if the run was not trained here.
        trigger: what its poisoned stays carry.
        attacks: on it, in its folder and below.
    """

    name: str
    folder: Path
    config: TrainingConfig
    settings: str
    summary: dict[str, Any]
    epochs: pl.DataFrame
    trigger: Trigger
    attacks: tuple[Attack, ...]


@dataclass(frozen=True)
class Folders:
    """Folders by what they hold.

    Attributes:
        sweeps: that `mimic3tf sweep` wrote.
        runs: that hold a finished run.
        audits: that hold an audit.
    """

    sweeps: tuple[Path, ...]
    runs: tuple[Path, ...]
    audits: tuple[Path, ...]


def sort_folders(folders: Sequence[Path], sweeps: Sequence[Path]) -> Folders:
    """Find the sweeps, runs and audits that some folders are, or hold.

    Args:
        folders: of any kind.
        sweeps: more folders, each of a sweep.

    Raises:
        UsageError: a folder does not exist or holds none of them; too many runs; runs beside sweeps.
    """
    sweeps = list(sweeps)
    runs: dict[Path, Path] = {}
    audits: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(
                f"{folder}: no such folder; name one of 'mimic3tf train', 'audit' or 'sweep'"
                + near_path(folder)
            )
        if (folder / "sweep.yaml").exists():
            sweeps.append(folder)
            continue
        found = {file.resolve(): file.parent for file in sorted(folder.rglob(FINISHED))}
        audited = {file.resolve(): file.parent for file in find_audits([folder])}
        if not (found or audited):
            _refuse(folder)
        # Folders may overlap.
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
        try:
            check_run(unfinished[0])
        except UsageError as error:
            raise UsageError(str(error).removeprefix("--run ")) from None
    raise UsageError(
        f"{folder}: holds no run, audit or sweep; train a victim with 'mimic3tf train --out {folder}'"
    )


def read_runs(folders: Sequence[Path]) -> list[RunFolder]:
    """Read finished runs.

    Raises:
        DataError: a file of a run is missing or damaged.
    """
    return [_read_run(folder, name) for folder, name in zip(folders, short_names(folders), strict=True)]


def short_names(folders: Sequence[Path]) -> list[str]:
    """The last parts of some folders' paths, as many of them as it takes to tell the folders apart."""
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
            epochs = _read_columns(file, EPOCHS)
    settings = (folder / CONFIG).read_text(encoding="utf-8")
    attacks = tuple(_read_attack(file, folder, name) for file in sorted(folder.rglob("attack.json")))
    return RunFolder(name, folder, config, settings, summary, epochs, load_trigger(folder / TRIGGER), attacks)


def _read_attack(file: Path, run: Path, name: str) -> Attack:
    predictions = file.with_name("predictions.csv")
    below = file.parent.relative_to(run)
    try:
        read = _read_columns(predictions, PREDICTIONS) if predictions.exists() else None
    except (OSError, ValueError, pl.exceptions.PolarsError):
        raise DataError(f"{predictions}: damaged; attack the run again") from None
    return Attack(name if below == Path() else f"{name}/{below}", attack_row(file), read)


def _read_columns(file: Path, schema: dict[str, type[pl.DataType]]) -> pl.DataFrame:
    text = read_file(file)
    # Polars unpacks what starts like a compressed file, to any size; a CSV file starts with a name.
    if not text.startswith((b"stay,", b"epoch,")):
        raise ValueError("is no table")
    return pl.read_csv(text, columns=list(schema), schema_overrides=schema).select(*schema)
