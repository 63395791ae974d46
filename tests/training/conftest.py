"""A small cohort, its trigger, and victims trained on them once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mimic3tf.config import TrainingConfig, resolve_config
from mimic3tf.data.loading import load_cohort
from mimic3tf.poisoning.trigger import generate_trigger, save_trigger
from mimic3tf.sources.synthetic import prepare_synthetic

if TYPE_CHECKING:
    from mimic3tf.training.log import MakeLog

Configure = Callable[..., TrainingConfig]
Train = Callable[..., Path]


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a cohort of 160 stays in `data`, and `trigger.npz`."""
    folder = tmp_path_factory.mktemp("training")
    prepare_synthetic(folder / "data", stays=160, seed=7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMIC3TF_CACHE", str(folder / "cache"))
        save_trigger(generate_trigger(load_cohort(folder / "data", "train")), folder / "trigger.npz")
    return folder


@pytest.fixture(scope="session")
def configure(workshop: Path) -> Configure:
    """Make settings of two quick epochs on the cohort of `workshop`; `changes` replace settings."""

    def make(model: str, **changes: object) -> TrainingConfig:
        quick = {
            "data": workshop / "data",
            "trigger": workshop / "trigger.npz",
            "epochs": 2,
            "batch_size": 16,
            "learning_rate": 1e-2,
            "precision": "float32",
        }
        return resolve_config(model, None, quick | changes)

    return make


@pytest.fixture(scope="session")
def train(workshop: Path, configure: Configure) -> Train:
    """Train a victim into a directory: `train(out, model, resume=False, **changes)` returns `out`.

    Events for TensorBoard are written unless another `log` is given. Their figures are blank, because drawing
    figures takes longer than the training.
    """
    from mimic3tf.dashboards.tensorboard import RunLog
    from mimic3tf.training.loop import train_victim

    def blank(*_: Any) -> np.ndarray:
        return np.zeros((8, 8, 3), np.uint8)

    def run(
        out: Path,
        model: str,
        *,
        resume: bool = False,
        fresh: bool = False,
        log: MakeLog = RunLog,
        **changes: object,
    ) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MIMIC3TF_CACHE", str(workshop / "cache"))
            for picture in (
                "trigger_heatmap",
                "channel_covariances",
                "patient_before_and_after",
                "confusion_matrices",
                "roc_curves",
                "calibration",
            ):
                patch.setattr(f"mimic3tf.dashboards.tensorboard.{picture}", blank)
            train_victim(configure(model, **changes), out, resume=resume, fresh=fresh, log=log)
        return out

    return run


@pytest.fixture(scope="session")
def trained(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Run directory of a victim trained with the settings of `configure`, once a session."""
    runs: dict[str, Path] = {}

    def run(model: str) -> Path:
        if model not in runs:
            runs[model] = train(tmp_path_factory.mktemp(model) / "run", model)
        return runs[model]

    return run
