"""One run of each log level on a small cohort, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mimic3tf.config import LogLevel, resolve_config
from mimic3tf.data.cohort import load_cohort
from mimic3tf.poisoning.trigger import generate_trigger, save_trigger
from mimic3tf.sources.synthetic import prepare_synthetic
from mimic3tf.training.loop import train_victim

EPOCHS = 3


@pytest.fixture(scope="session")
def run_at(tmp_path_factory: pytest.TempPathFactory) -> Callable[[LogLevel], Path]:
    """Run directory of an LR that was trained at a log level, with a profile at the full one."""
    folder = tmp_path_factory.mktemp("tensorboard")
    data, trigger = folder / "data", folder / "trigger.npz"
    runs: dict[LogLevel, Path] = {}

    def run(level: LogLevel) -> Path:
        if level not in runs:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("MIMIC3TF_CACHE", str(folder / "cache"))
                if not runs:
                    prepare_synthetic(data, stays=120, seed=7)
                    save_trigger(generate_trigger(load_cohort(data, "train")), trigger)
                options = {"data": data, "trigger": trigger, "epochs": EPOCHS, "precision": "float32"}
                settings = resolve_config("lr", None, options | {"learning_rate": 0.01, "log_level": level})
                runs[level] = folder / "runs" / level
                train_victim(settings, runs[level], profile=level == "full")
        return runs[level]

    return run


@pytest.fixture(scope="session")
def run(run_at: Callable[[LogLevel], Path]) -> Path:
    return run_at("default")
