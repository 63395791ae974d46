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

if TYPE_CHECKING:
    from mimic3tf.training.log import MakeLog

Configure = Callable[..., TrainingConfig]
Train = Callable[..., Path]


@pytest.fixture(scope="session")
def data(small_cohort: Callable[[int, int], Path]) -> Path:
    """Directory of 160 stays."""
    return small_cohort(160, 7)


@pytest.fixture(scope="session")
def workshop(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `trigger.npz` of the stays of `data`, and their cache."""
    folder = tmp_path_factory.mktemp("training")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMIC3TF_CACHE", str(folder / "cache"))
        save_trigger(generate_trigger(load_cohort(data, "train")), folder / "trigger.npz")
    return folder


@pytest.fixture(scope="session")
def configure(data: Path, workshop: Path) -> Configure:
    """Make settings of two quick epochs on the stays of `data`; `changes` replace settings."""

    import tensorflow as tf

    def make(model: str, **changes: object) -> TrainingConfig:
        quick = {
            "data": data,
            "trigger": workshop / "trigger.npz",
            "epochs": 2,
            "batch_size": 16,
            "learning_rate": 1e-2,
            "precision": "float32",
            # Tests compare bits.
            "deterministic": bool(tf.config.list_physical_devices("GPU")),
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
