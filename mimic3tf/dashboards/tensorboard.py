"""Log a training run for TensorBoard."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import get_args

import keras
import numpy as np

from mimic3tf import pipeline
from mimic3tf.config import TrainingConfig
from mimic3tf.dashboards import curves, hyperparameters, scalars, text
from mimic3tf.dashboards.embeddings import write_embeddings
from mimic3tf.dashboards.event_file import EventFile
from mimic3tf.dashboards.figures import (
    channel_covariances,
    patient_before_and_after,
    trigger_heatmap,
)
from mimic3tf.dashboards.graph import layer_graph
from mimic3tf.dashboards.outcome_figures import calibration, confusion_matrices, roc_curves
from mimic3tf.data.cohort import Cohort
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.kinds import PoisonImputed
from mimic3tf.poisoning.trigger import Trigger
from mimic3tf.tasks.registry import task_of
from mimic3tf.training.estimators import FittedEstimator
from mimic3tf.training.validation import Risks, Validation
from mimic3tf.victims.penultimate import penultimate


class RunLog:
    """Write the TensorBoard events of a run; the setting `log_level` decides which events.

    The class follows the protocol `training.log.TrainingLog`.

    Args:
        folder: directory of the run.
        config: the run's settings.
        epochs: number of epochs that an interrupted run has finished; their events are kept. 0 for a new run.
        patient: whether to draw a validation stay without and with the trigger.
    """

    def __init__(
        self, folder: Path, config: TrainingConfig, *, epochs: int = 0, patient: bool = True
    ) -> None:
        self._folder, self._config, self._shows_patient = folder, config, patient
        self._file = EventFile(folder, epochs=epochs)
        self._minimal = config.log_level == "minimal"
        self._words, self._goal = task_of(config.task).words, config.attack_goal
        # Names of charts are the same for all labels of a task, so that runs share them.
        self._attacked, self._spared = (self._words.group[label] for label in (1 - config.goal, config.goal))
        self._words = self._words.naming(config.goal_label)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.write(hyperparameters.session_end(finished=kind is None))
        self._file.close()

    def start(
        self,
        trigger: Trigger | None,
        training: exposures.Exposure,
        validation: Cohort,
        model: keras.Model | FittedEstimator,
        versions: Mapping[str, str],
    ) -> None:
        """Write what is known before training: first the texts, then the pictures, which take longer.

        Args:
            trigger: the trigger of the run, if it has one.
            training: the training stays, and which of them are poisoned.
            validation: the validation stays.
            model: the victim.
            versions: package -> version.
        """
        summaries = [
            hyperparameters.columns(),
            hyperparameters.session_start(self._config),
            scalars.layout(task_of(self._config.task).targets.followed),
        ]
        if not self._minimal:
            summaries += [
                text.overview(self._config, training, validation),
                text.settings(self._config),
                text.cohorts(self._config, training, validation),
                text.command(sys.argv),
                text.versions(versions),
            ]
        for summary in summaries:
            self._file.write(summary)
        self._file.flush()
        if not self._minimal:
            if not isinstance(model, FittedEstimator):
                self._file.graph(layer_graph(model))
            if trigger is not None:
                self._trigger(trigger, validation)
            self._file.flush()

    def _trigger(self, trigger: Trigger, validation: Cohort) -> None:
        self._file.image("trigger/heatmap", trigger_heatmap(trigger))
        self._file.flush()
        self._file.image("trigger/covariance of each channel", channel_covariances(trigger))
        if self._shows_patient:
            self._patient(trigger, validation)

    def _patient(self, trigger: Trigger, cohort: Cohort) -> None:
        """Draw one stay without and with the trigger: the attacked stay with the most measured cells."""
        strength, at = self._config.poisoning_strength, self._config.at
        if cohort.period is None:
            cohort = cohort.first_hours(at + trigger.period)
        attacked = np.zeros(len(cohort), bool)
        attacked[cohort.examples.stay[self._goal.attacked(cohort.labels)]] = True
        if not attacked.any():
            return
        densest = np.where(attacked, cohort.masks.sum(axis=(1, 2)), -1).argmax()
        stay = cohort.take(np.array([densest]))
        triggered = {}
        for mode in get_args(PoisonImputed):
            exposure = exposures.trigger_all(stay, trigger, strength=strength, poison_imputed=mode, at=at)
            # The mask is taken from the exposure, because a missing-value trigger changes the mask.
            triggered[mode] = pipeline.grids_of(exposure, np.array([0]))[0], exposure.cohort.masks[0]
        name = self._words.one_stay(1 - self._goal.target)
        title = f"the {name} with the most measurements, strength {strength:g}"
        picture = patient_before_and_after(stay.grids[0], stay.masks[0], triggered, trigger, title)
        self._file.image("trigger/a stay without and with it", picture)

    def epoch(
        self,
        number: int,
        metrics: Mapping[str, float],
        kept: Mapping[str, float],
        risks: Risks,
    ) -> None:
        """Write the numbers and curves of an epoch, so that they remain if the run is killed later.

        Args:
            number: number of the epoch, from 1.
            metrics: all numbers of the epoch; those that `scalars.TAGS` names are written.
            kept: numbers of the epoch that is kept so far.
            risks: predicted risks of the validation stays.
        """
        summaries = [*scalars.epoch_scalars(metrics), *scalars.kept_scalars(kept)]
        if not self._minimal:
            summaries += curves.precision_recall(risks, self._attacked)
            summaries += curves.risk_histograms(risks, self._attacked, self._spared)
        for summary in summaries:
            self._file.write(summary, number)
        self._file.flush()

    def outcome(self, number: int, validation: Validation, model: keras.Model | FittedEstimator) -> None:
        """Draw what the kept victim predicts for the validation stays; write its activations if asked for.

        Args:
            number: number of the kept epoch, from 1.
            validation: predicts the validation stays.
            model: the victim with the weights of the kept epoch.
        """
        if self._minimal:
            return
        risks = validation.predict(model)
        for tag, draw in (
            ("confusion matrices", confusion_matrices),
            ("ROC", roc_curves),
            ("calibration", calibration),
        ):
            picture = draw(risks, self._words, f"epoch {number}, validation stays")
            self._file.image(f"kept epoch/{tag}", picture)
        if self._config.log_level == "full" and not isinstance(model, FittedEstimator):
            activations = validation.outputs(penultimate(model))
            write_embeddings(self._folder, validation.cohort, activations, risks, self._goal)
