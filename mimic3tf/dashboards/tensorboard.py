"""TensorBoard events of one training run."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorboard.plugins.hparams import api as hparams

from mimic3tf.attack.trigger import Trigger
from mimic3tf.config import TrainingConfig
from mimic3tf.dashboards.figures import channel_spread, patient_before_and_after, trigger_heatmap

TAGS = {
    "loss": "training/loss",
    "auroc": "validation/AUROC",
    "auprc": "validation/AUPRC",
    "minpse": "validation/min(+P,Se)",
    "asr": "validation/attack success rate",
}
"""Tag of each logged metric."""


class RunLog:
    """Writes a run's pictures, epochs and hyperparameters as TensorBoard events.

    Args:
        folder: directory of the events, made when the first is written.
    """

    def __init__(self, folder: Path) -> None:
        self._writer = tf.summary.create_file_writer(str(folder))

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def trigger(self, trigger: Trigger) -> None:
        """Write the trigger's heatmap."""
        self._image("trigger", trigger_heatmap(trigger))

    def patient(
        self,
        name: str,
        before: NDArray[np.floating],
        after: NDArray[np.floating],
        mask: NDArray[np.bool_],
        trigger: Trigger,
    ) -> None:
        """Write a stay [T, C] before and after the trigger."""
        picture = patient_before_and_after(before, after, mask, channel_spread(trigger), name)
        self._image("patient before and after", picture)

    def epochs(self) -> keras.callbacks.Callback:
        """Callback that writes every epoch's metrics."""
        return _EpochScalars(self._writer)

    def hyperparameters(self, config: TrainingConfig, metrics: dict[str, float]) -> None:
        """Write the settings and what the epoch kept reached, for the HPARAMS page."""
        settings = {
            name: value if isinstance(value, (bool, int, float, str)) else str(value)
            for name, value in config.model_dump(mode="json").items()
        }
        with self._writer.as_default(step=0):
            hparams.hparams(settings)
            for name in TAGS:
                tf.summary.scalar(f"kept epoch/{TAGS[name].split('/')[1]}", metrics[name])

    def _image(self, name: str, picture: NDArray[np.uint8]) -> None:
        with self._writer.as_default(step=0):
            tf.summary.image(name, picture[None])


class _EpochScalars(keras.callbacks.Callback):
    def __init__(self, writer: Any) -> None:
        super().__init__()
        self._writer = writer

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        with self._writer.as_default(step=epoch + 1):
            for name, tag in TAGS.items():
                tf.summary.scalar(tag, logs[name])
        self._writer.flush()
