"""What lies in a run directory, and whether a command can use it; needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mimic3tf.config import TrainingConfig
from mimic3tf.errors import DataError, UsageError, near_path
from mimic3tf.storage.files import read_json
from mimic3tf.storage.notes import command_line
from mimic3tf.storage.yaml_file import read_option_file, read_yaml

CONFIG = "config.yaml"
TRIGGER = "trigger.npz"
"""Written first: a directory without it was started by no run."""
STANDARDIZATION = "standardization.npz"
VICTIM = "victim.keras"
FINISHED = "run.json"
"""Written last: a directory without it holds no finished run."""
METRICS = "metrics.csv"
CHECKPOINT = "checkpoint.npz"
EVENTS = "tensorboard"
UNFINISHED = {CONFIG, TRIGGER, STANDARDIZATION, VICTIM, FINISHED, CHECKPOINT, METRICS, EVENTS}
"""What an interrupted run may leave behind; a directory with anything else is never cleared."""
FILES = {"data", "trigger", "normalizer"}
"""Settings that name files."""


def check_run_directory(out: Path, *, resume: bool = False, fresh: bool = False) -> None:
    """Refuse a run directory that cannot be used without touching what is there.

    Args:
        out: the directory.
        resume: whether a finished run will do, and one that was interrupted goes on.
        fresh: whether an interrupted run may be thrown away.

    Raises:
        UsageError: it holds a finished run, one that was interrupted, or files that no run wrote.
    """
    if (out / CHECKPOINT).exists() and not (resume or fresh):
        raise UsageError(
            f"--out {out}: holds a run that was interrupted; add --resume to go on with it, or --fresh to "
            "throw it away and begin anew"
        )
    if (out / FINISHED).exists():
        # Attacks write into it, too.
        if resume:
            return
        raise UsageError(f"--out {out}: already holds a finished run; choose another directory or delete it")
    # A file that was being written when the run was interrupted bears its name and ".partial".
    names = {path.name.removesuffix(".partial") for path in out.iterdir()} if out.is_dir() else set()
    if (out.exists() and not out.is_dir()) or (names and not {TRIGGER} <= names <= UNFINISHED):
        raise UsageError(f"--out {out}: exists and is no run directory; choose another directory")


def check_run(path: Path) -> TrainingConfig:
    """Settings of a finished run.

    Raises:
        UsageError: there is no run, or it was not finished.
        DataError: its settings are damaged.
    """
    if not path.is_dir():
        raise UsageError(
            f"--run {path}: no such directory; train a victim with 'mimic3tf train'{near_path(path)}"
        )
    if not (path / FINISHED).exists():
        if (path / CONFIG).exists() and (path / TRIGGER).exists():
            config = read_settings(path)
            again = command_line(
                *("train", "--model", config.model, "--config", path / CONFIG, "--data", config.data),
                *("--trigger", path / TRIGGER, "--out", path, "--resume"),
            )
            raise UsageError(f"--run {path}: this run is not finished; go on with: {again}")
        raise UsageError(f"--run {path}: holds no run; train a victim with 'mimic3tf train'")
    return read_settings(path)


def read_summary(out: Path) -> dict[str, Any]:
    """Contents of a finished run's `run.json`.

    Raises:
        DataError: it is damaged.
    """
    with naming_damage(out / FINISHED) as file:
        return dict(read_json(file))


def read_settings(out: Path) -> TrainingConfig:
    """Settings of a run, finished or not.

    Raises:
        DataError: they are damaged.
    """
    with naming_damage(out / CONFIG) as file:
        return TrainingConfig(**read_yaml(read_option_file("--run", file), str(file))[0])


@contextmanager
def naming_damage(file: Path) -> Iterator[Path]:
    """Make one line of whatever goes wrong while a file of a run is read.

    Raises:
        DataError: something did.
    """
    try:
        yield file
    except Exception as error:  # every reader fails in its own ways, some over many lines
        fault = f"missing, damaged or of another version ({type(error).__name__})"
        raise DataError(f"{file}: {fault}; train the run again") from error
