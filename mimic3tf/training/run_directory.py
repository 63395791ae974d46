"""What a training run leaves behind, and how a later command reads it."""

from __future__ import annotations

import json
import platform
import shutil
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import keras
import numpy as np
import yaml

from mimic3tf.attack.trigger import Trigger, load_trigger, save_trigger
from mimic3tf.config import TrainingConfig
from mimic3tf.errors import DataError, UsageError
from mimic3tf.pipeline import Standardization

CONFIG = "config.yaml"
FINISHED = "run.json"
"""Written last: a directory without it holds no finished run."""
RECORDED_PACKAGES = ("mimic3tf", "tensorflow", "keras", "numpy", "scipy", "sklearn", "tensorboard")


def start_run(out: Path, config: TrainingConfig, trigger: Trigger) -> None:
    """Make the directory of a run, clearing what an unfinished one left there.

    Raises:
        UsageError: it holds a finished run, or files that no run wrote.
    """
    if (out / FINISHED).exists():
        raise UsageError(f"--out {out}: already holds a finished run; choose another directory or delete it")
    if out.exists():
        if not out.is_dir() or (any(out.iterdir()) and not (out / CONFIG).exists()):
            raise UsageError(f"--out {out}: exists and is no run directory; choose another directory")
        shutil.rmtree(out)
    out.mkdir(parents=True)
    settings = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    (out / CONFIG).write_text(settings, encoding="utf-8")
    save_trigger(trigger, out / "trigger.npz")


def finish_run(
    out: Path, model: keras.Model, standardization: Standardization, summary: dict[str, Any]
) -> None:
    """Write the victim, and then the marker that makes the run a finished one.

    Args:
        out: directory of `start_run`.
        model: victim with the weights that were kept.
        standardization: map of its inputs.
        summary: what to record: epoch kept, its metrics, fingerprints, precision.
    """
    model.save(out / "victim.keras")
    np.savez(out / "standardization.npz", mean=standardization.mean, std=standardization.std)
    versions = {name: import_module(name).__version__ for name in RECORDED_PACKAGES}
    versions |= {"python": platform.python_version(), "platform": platform.platform()}
    partial = out / f"{FINISHED}.partial"
    partial.write_text(json.dumps({**summary, "versions": versions}, indent=2) + "\n", encoding="utf-8")
    partial.replace(out / FINISHED)


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        path: its directory.
        config: its settings.
        trigger: the trigger it was poisoned with.
        model: the victim.
        standardization: map of the victim's inputs.
        summary: contents of `run.json`.
    """

    path: Path
    config: TrainingConfig
    trigger: Trigger
    model: keras.Model
    standardization: Standardization
    summary: dict[str, Any]


def load_run(path: Path) -> Run:
    """Read a finished run; nothing in it is executed.

    Raises:
        UsageError: there is no run, or it was not finished.
        DataError: a file of it is damaged.
    """
    if not path.is_dir():
        raise UsageError(f"--run {path}: no such directory; train a victim with 'mimic3tf train'")
    if not (path / FINISHED).exists():
        raise UsageError(f"--run {path}: holds no finished run; run 'mimic3tf train' into it again")
    try:
        config = TrainingConfig(**yaml.safe_load((path / CONFIG).read_text(encoding="utf-8")))
        summary = json.loads((path / FINISHED).read_text(encoding="utf-8"))
        with np.load(path / "standardization.npz", allow_pickle=False) as file:
            standardization = Standardization(file["mean"], file["std"])
        model = keras.models.load_model(path / "victim.keras", compile=False, safe_mode=True)
    except Exception as error:  # any reader of any of these files may fail in its own way
        raise DataError(f"--run {path}: the run is damaged ({error}); train it again") from None
    return Run(path, config, load_trigger(path / "trigger.npz"), model, standardization, summary)
