"""The interface of a training log. Training imports no dashboard: its caller passes in the log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import keras

from mimic3tf.config import TrainingConfig
from mimic3tf.data.cohort import Cohort
from mimic3tf.poisoning.exposures import Exposure
from mimic3tf.poisoning.trigger import Trigger
from mimic3tf.training.estimators import FittedEstimator
from mimic3tf.training.validation import Risks, Validation


class TrainingLog(Protocol):
    """Receives the course of a training. As a context manager, it ends when the training ends or fails."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def start(
        self,
        trigger: Trigger | None,
        training: Exposure,
        validation: Cohort,
        model: keras.Model | FittedEstimator,
        versions: Mapping[str, str],
    ) -> None:
        """Receive what is known before training: trigger or None, stays, untrained victim, versions."""

    def epoch(
        self, number: int, metrics: Mapping[str, float], kept: Mapping[str, float], risks: Risks
    ) -> None:
        """Receive the numbers of an epoch that has ended.

        Args:
            number: number of the epoch, from 1.
            metrics: metrics of this epoch.
            kept: metrics of the epoch kept so far.
            risks: what the victim predicts of the validation stays after this epoch.
        """

    def outcome(self, number: int, validation: Validation, model: keras.Model | FittedEstimator) -> None:
        """Receive the outcome of a training that has ended.

        Args:
            number: number of the epoch kept.
            validation: the validation stays, by which this epoch was chosen.
            model: the victim with the weights of this epoch.
        """


class MakeLog(Protocol):
    """Makes the log of a training."""

    def __call__(self, folder: Path, config: TrainingConfig, *, epochs: int) -> TrainingLog:
        """Begin a log.

        Args:
            folder: the run's directory. The log may write the files of `run_files.LOGGED` there.
            config: the run's settings.
            epochs: number of epochs that an interrupted run has finished; 0 for a new run.
        """


class NoLog:
    """A log that does nothing."""

    def __init__(self, folder: Path, config: TrainingConfig, *, epochs: int) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def start(self, *told: object) -> None:
        """Do nothing."""

    def epoch(self, *told: object) -> None:
        """Do nothing."""

    def outcome(self, *told: object) -> None:
        """Do nothing."""
