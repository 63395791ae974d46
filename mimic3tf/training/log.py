"""What a training tells whoever shows it. Training imports no dashboard: its log is handed in."""

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
from mimic3tf.training.validation import Risks, Validation


class TrainingLog(Protocol):
    """Is told how a training goes; ends with it, well or not."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def start(
        self,
        trigger: Trigger,
        training: Exposure,
        validation: Cohort,
        model: keras.Model,
        versions: Mapping[str, str],
    ) -> None:
        """What is known before training."""

    def epoch(
        self, number: int, metrics: Mapping[str, float], kept: Mapping[str, float], risks: Risks
    ) -> None:
        """An epoch has ended.

        Args:
            number: of the epoch, from 1.
            metrics: its numbers.
            kept: those of the epoch kept so far.
            risks: what the victim predicts now.
        """

    def outcome(self, number: int, validation: Validation, model: keras.Model) -> None:
        """Training has ended.

        Args:
            number: of the epoch kept.
            validation: the stays it was kept for.
            model: the victim with its weights of that epoch.
        """


class MakeLog(Protocol):
    """Makes the log of a training."""

    def __call__(self, folder: Path, config: TrainingConfig, *, epochs: int) -> TrainingLog:
        """Begin a log.

        Args:
            folder: where it may write.
            config: the run's settings.
            epochs: how many epochs an interrupted run finished.
        """


class NoLog:
    """Shows nothing."""

    def __init__(self, folder: Path, config: TrainingConfig, *, epochs: int) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def start(self, *told: object) -> None:
        """Say nothing."""

    def epoch(self, *told: object) -> None:
        """Say nothing."""

    def outcome(self, *told: object) -> None:
        """Say nothing."""
