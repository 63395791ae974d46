"""The directory that a training run writes, and how a later command reads it."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import keras
import numpy as np
import yaml

from mimic3tf.config import TrainingConfig, changed_code
from mimic3tf.data.channels_file import parse_channels
from mimic3tf.data.directory import Split
from mimic3tf.described import Described
from mimic3tf.errors import UsageError
from mimic3tf.pipeline import input_shape
from mimic3tf.poisoning.trigger import Trigger, load_trigger, save_trigger
from mimic3tf.standardization import Standardization
from mimic3tf.storage.files import PathText, read_file, whole_file, write_whole
from mimic3tf.storage.notes import note, warn
from mimic3tf.storage.stored_zip import read_arrays
from mimic3tf.tasks.registry import task_of
from mimic3tf.training.estimators import (
    FittedEstimator,
    dump_estimator,
    load_estimator,
    make_estimator,
)
from mimic3tf.training.models import load_victim, save_model
from mimic3tf.training.run_files import (
    CHECKPOINT,
    CONFIG,
    ESTIMATOR,
    FILES,
    FINISHED,
    STANDARDIZATION,
    TRIGGER,
    VICTIM,
    check_run,
    check_run_directory,
    naming_damage,
    read_settings,
    read_summary,
)
from mimic3tf.victims import victim_of
from mimic3tf.victims.own import is_own, sha256_of

RECORDED_PACKAGES = ("mimic3tf", "tensorflow", "keras", "numpy", "scipy", "sklearn", "tensorboard")


def start_run(out: Path, config: TrainingConfig, trigger: Trigger | None) -> None:
    """Make the directory of a run, and delete what an unfinished run left in it.

    The caller calls `check_run_directory` first, which says whether an interrupted run may be deleted.

    Raises:
        UsageError: the directory holds a finished run, or files that no run wrote.
    """
    check_run_directory(out, fresh=True)
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        note(f"{out}: begun anew; what an interrupted run left there is removed")
    # Settings and trigger are deleted last: without them, the files that a kill leaves would look like files
    # of no run. The checkpoint is deleted first: a run must not continue it with another trigger.
    last = (TRIGGER, CONFIG)
    for path in sorted(
        out.iterdir(), key=lambda path: (*(path.name == n for n in last), path.name != CHECKPOINT)
    ):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    if trigger is not None:
        save_trigger(trigger, out / TRIGGER)
    settings = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    write_whole(out / CONFIG, settings)


def check_resumable(out: Path, config: TrainingConfig, trigger: Trigger | None) -> None:
    """Refuse to continue or return a run if its settings or its trigger differ from those given now.

    The paths of files may differ: only their contents must be the same. `log_level` may differ, too.

    Raises:
        UsageError: a setting or the trigger differs; names the option.
    """
    compared: Any = {"exclude": {*FILES, "log_level"}}
    before = read_settings(out)
    if before.model == config.model and before.model_sha256 != config.model_sha256:
        change = changed_code(config.model, before.model_sha256 or "none", config.model_sha256)
        raise UsageError(f"--resume: {change}")
    begun, given = (settings.model_dump(**compared) for settings in (before, config))
    for name, value in given.items():
        if value != begun[name]:
            raise UsageError(
                f"--resume: setting '{name}' is {value!r}, the run in {out} was begun with {begun[name]!r}; "
                f"give the same, or choose another directory"
            )
    if before.trigger is None or trigger is None:
        if (before.trigger is None) != (trigger is None):
            how, instead = ("without", "leave it out") if trigger else ("with", f"give {out / TRIGGER}")
            raise UsageError(f"--trigger: the run in {out} was begun {how} a trigger; {instead}")
        return
    with naming_damage(out / TRIGGER) as file:
        own = load_trigger(file)
    same = np.array_equal(own.patterns, trigger.patterns) and own.name == trigger.name
    if not same:
        raise UsageError(f"--trigger {config.trigger}: the run in {out} was begun with another trigger")


def check_same_data(
    summary: Mapping[str, Any], fingerprints: Mapping[Split, str], normalizer: str | None, out: Path
) -> None:
    """Refuse to return a finished run that was trained on other stays, or with another normalizer.

    Args:
        summary: contents of the run's `run.json`.
        fingerprints: fingerprint of the stays that are given now, by split.
        normalizer: SHA-256 of the normalizer that is given now; None without one.
        out: run directory, for the message.

    Raises:
        UsageError: the run was trained on other stays, or with another normalizer.
        DataError: `run.json` is damaged.
    """
    with naming_damage(out / FINISHED):
        before = {split: str(summary["data_fingerprint"][split]) for split in fingerprints}
    if before != fingerprints:
        raise UsageError(
            f"--data: other stays than the finished run in {out} was trained on; choose another --out"
        )
    if summary.get("normalizer_sha256") != normalizer:
        raise UsageError(f"--normalizer: not that of the finished run in {out}; choose another --out")


def finish_run(
    out: Path,
    model: keras.Model | FittedEstimator,
    standardization: Standardization,
    summary: dict[str, Any],
) -> None:
    """Write the victim, and then `run.json`, which marks the run as finished.

    Args:
        out: directory that `start_run` made.
        model: victim with the weights of the epoch kept.
        standardization: map of the victim's inputs.
        summary: contents of `run.json`: epoch kept, its metrics, fingerprints, precision; versions are added.
    """
    # A killed process may have left partial files that this run does not write again.
    for partial in out.glob("*.partial"):
        partial.unlink()
    if isinstance(model, FittedEstimator):
        content = dump_estimator(summary["victim"], model.estimator)
        with whole_file(out / ESTIMATOR) as file:
            file.write(content)
    else:
        save_model(out / VICTIM, model)
    with whole_file(out / STANDARDIZATION) as file:
        np.savez(file, **vars(standardization))
    write_whole(out / FINISHED, json.dumps({**summary, "versions": versions()}, indent=2) + "\n")
    (out / CHECKPOINT).unlink(missing_ok=True)


def versions() -> dict[str, str]:
    """List the versions of packages, Python and platform that a run depends on."""
    installed = {name: import_module(name).__version__ for name in RECORDED_PACKAGES}
    return {**installed, "python": platform.python_version(), "platform": platform.platform()}


@dataclass(frozen=True, repr=False)
class Run(Described):
    """A finished run.

    Attributes:
        path: the run directory.
        config: the settings.
        trigger: the trigger of the poisoned stays; None if the run was trained without one.
        model: the trained victim; a `FittedEstimator` if it is one of scikit-learn.
        standardization: map of the victim's inputs.
        summary: contents of `run.json`.
    """

    path: Path
    config: TrainingConfig
    trigger: Trigger | None
    model: keras.Model
    standardization: Standardization
    summary: dict[str, Any]

    def __repr__(self) -> str:
        pattern = "clean" if self.trigger is None else f"trigger {self.trigger.name}"
        return f"<Run {self.path}: {self.config.model} for {self.config.task}, {pattern}>"


def load_run(path: PathText, *, trust_model: bool = False) -> Run:
    """Read a finished run; nothing in it is executed.

    Args:
        path: directory of the run.
        trust_model: whether to run the code that the run names, if a function of the user's built its victim.

    Raises:
        UsageError: the directory holds no run, the run is not finished, or it names code that is not trusted
            or is not found.
        DataError: a file of the run is damaged.
    """
    path = Path(path)
    config, summary = check_run(path, trust_model=trust_model), read_summary(path)
    if is_own(config.model):
        _check_code(path, config)
    with naming_damage(path / FINISHED):
        precision, _ = summary["precision"], str(summary["data_fingerprint"]["train"])
    ragged = task_of(config.task).period is None
    if config.trigger is None:
        trigger = None
        with naming_damage(path / FINISHED):
            channels = parse_channels(summary["channels"], "channels")
            bins = None if ragged else int(summary["bins"])
    else:
        with naming_damage(path / TRIGGER) as file:
            trigger = load_trigger(file)
        channels, bins = trigger.channels, None if ragged else len(trigger.values)
    victim = victim_of(config.model)
    with naming_damage(path / STANDARDIZATION) as file:
        shape = input_shape(config.reads, channels, bins)
        standardization = _read_standardization(file, shape[-1])
    if victim.estimator:
        unfitted = make_estimator(config, shape[-1])
        with naming_damage(path / ESTIMATOR) as file:
            model = load_estimator(read_file(file), unfitted, config.head.targets)
    else:
        with naming_damage(path / VICTIM) as file:
            model = load_victim(file, config, channels, bins, precision)
    return Run(path, config, trigger, model, standardization, summary)


def _check_code(path: Path, config: TrainingConfig) -> None:
    """Import the code of a run's victim, and warn if it has changed since the training."""
    try:
        victim_of(config.model)
        now = sha256_of(config.model)
    except UsageError as error:
        raise UsageError(f"--run {path}: its victim is built by {error}") from None
    if now != config.model_sha256:
        warn(f"run {path}: {changed_code(config.model, config.model_sha256 or 'none', now)}")


def _read_standardization(file: Path, columns: int) -> Standardization:
    arrays = read_arrays(file)
    found = Standardization(arrays["mean"], arrays["std"], float(arrays["clip"]))
    if not (found.mean.shape == found.std.shape == (columns,) and found.clip >= 1 and (found.std > 0).all()):
        raise ValueError("not of this victim")
    if not (np.isfinite(found.mean).all() and np.isfinite(found.std).all()):
        raise ValueError("holds a number that is not finite")
    return found
