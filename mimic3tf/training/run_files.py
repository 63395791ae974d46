"""The files of a run directory, and whether a command can use it. This module needs no TensorFlow."""

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
from mimic3tf.victims.own import is_own

CONFIG = "config.yaml"
TRIGGER = "trigger.npz"
"""Written first, if the run has a trigger."""
NO_TRIGGER = (
    "was trained without a trigger; give the one to attack it with by --trigger FILE, which "
    "'mimic3tf generate-trigger' makes"
)
STANDARDIZATION = "standardization.npz"
VICTIM = "victim.keras"
ESTIMATOR = "victim.skops"
"""The victim, if it is an estimator of scikit-learn."""
FINISHED = "run.json"
"""Written last: a directory without this file holds no finished run."""
METRICS = "metrics.csv"
CHECKPOINT = "checkpoint.npz"
EVENTS = "events.out.tfevents."
"""Names of files of TensorBoard's events begin so."""
PROJECTOR, METADATA = "projector_config.pbtxt", "activations-metadata.tsv"
ACTIVATIONS, LATEST = "activations", "checkpoint"
"""Files of the projector: its configuration, who the stays are, a checkpoint of TensorFlow's with the
activations, and the file that names the latest checkpoint."""
LOGGED = {
    *(EVENTS, PROJECTOR, METADATA, LATEST),
    *(f"{ACTIVATIONS}.index", f"{ACTIVATIONS}.data-00000-of-00001"),
    # Of TensorFlow's profile, and of earlier versions.
    *("plugins", "tensorboard"),
}
"""What a log may write into a run's directory."""
UNFINISHED = {CONFIG, TRIGGER, STANDARDIZATION, VICTIM, ESTIMATOR, FINISHED, CHECKPOINT, METRICS, *LOGGED}
"""Files that an interrupted run may leave behind; a directory with any other file is never cleared."""
FILES = {"data", "trigger", "normalizer"}
"""Settings that name files."""


def check_run_directory(out: Path, *, resume: bool = False, fresh: bool = False) -> None:
    """Refuse a directory if a run there would change or delete files that it must not.

    Args:
        out: the directory.
        resume: whether a finished run may be returned, and an interrupted run may be continued.
        fresh: whether an interrupted run may be deleted.

    Raises:
        UsageError: the directory holds a finished run, an interrupted run, or files that no run wrote.
    """
    if (out / CHECKPOINT).exists() and not (resume or fresh):
        raise UsageError(
            f"--out {out}: holds a run that was interrupted; add --resume to go on with it, or --fresh to "
            "throw it away and begin anew"
        )
    if (out / FINISHED).exists():
        # Attacks write into a finished run, too, so its file names are not checked.
        if resume:
            return
        raise UsageError(f"--out {out}: already holds a finished run; choose another directory or delete it")
    # A file that was being written when the run was interrupted has the ending ".partial".
    found = {path.name.removesuffix(".partial") for path in out.iterdir()} if out.is_dir() else set()
    names = {EVENTS if name.startswith(EVENTS) else name for name in found}
    if (out.exists() and not out.is_dir()) or (
        names and not (names <= UNFINISHED and _has_begun(out, found))
    ):
        raise UsageError(f"--out {out}: exists and is no run directory; choose another directory")


def _has_begun(out: Path, names: set[str]) -> bool:
    """Tell whether a run has begun in a directory: it has left its trigger or, without one, its settings.

    A folder may also hold settings that a user wrote. A run writes every setting, a user only a few.

    Args:
        out: the directory.
        names: names of its files, without the ending ".partial".
    """
    if TRIGGER in names or (out / f"{CONFIG}.partial").exists():
        return True
    try:
        settings = read_settings(out).model_fields_set
    except DataError:
        return False
    # An earlier version may have known fewer settings, but a user writes no checkpoint.
    return CHECKPOINT in names or settings == set(TrainingConfig.model_fields)


def check_run(path: Path, *, trust_model: bool = False, place: str = "--run ") -> TrainingConfig:
    """Read the settings of a finished run.

    Args:
        path: directory of the run.
        trust_model: whether code that the run names may be run. A victim of the package needs none; that of
            a function of the user's is built by this function.
        place: what stands before the path in a message: the option that names it, and a blank.

    Raises:
        UsageError: the directory holds no run, the run is not finished, or it names code that is not trusted.
        DataError: the settings are damaged.
    """
    if not path.is_dir():
        raise UsageError(
            f"{place}{path}: no such directory; train a victim with 'mimic3tf train'{near_path(path)}"
        )
    if not (path / FINISHED).exists():
        if (path / CONFIG).exists() and _has_begun(path, {file.name for file in path.iterdir()}):
            config = read_settings(path)
            trigger = () if config.trigger is None else ("--trigger", path / TRIGGER)
            again = command_line(
                *("train", "--model", config.model, "--config", path / CONFIG, "--data", config.data),
                *(*trigger, "--out", path, "--resume"),
            )
            raise UsageError(f"{place}{path}: this run is not finished; go on with: {again}")
        raise UsageError(f"{place}{path}: holds no run; train a victim with 'mimic3tf train'")
    settings = read_settings(path)
    if is_own(settings.model) and not trust_model:
        raise UsageError(
            f"{place}{path}: reading it runs the code {settings.model}, which builds its victim; if "
            "you trust this code, add --trust-model (in Python: trust_model=True)"
        )
    return settings


def read_summary(out: Path) -> dict[str, Any]:
    """Read the `run.json` of a finished run.

    Raises:
        DataError: the file is damaged.
    """
    with naming_damage(out / FINISHED) as file:
        return dict(read_json(file))


def read_settings(out: Path) -> TrainingConfig:
    """Read the settings of a run, finished or not.

    Raises:
        DataError: the settings are damaged.
    """
    with naming_damage(out / CONFIG) as file:
        return TrainingConfig(**read_yaml(read_option_file("--run", file), str(file))[0])


@contextmanager
def naming_damage(file: Path) -> Iterator[Path]:
    """Turn any error while a file of a run is read into one line that names the file.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        yield file
    except Exception as error:  # readers raise many kinds of errors, some with texts of many lines
        fault = f"missing, damaged or of another version ({type(error).__name__})"
        raise DataError(f"{file}: {fault}; train the run again") from error
