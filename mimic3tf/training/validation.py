"""Measure a victim on the validation stays, and remember the epoch that the selection rule prefers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from mimic3tf import pipeline
from mimic3tf.config import TrainingConfig
from mimic3tf.data.cohort import Cohort
from mimic3tf.described import Described
from mimic3tf.errors import UserError
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.trigger import Trigger
from mimic3tf.standardization import Standardization
from mimic3tf.tasks.metrics import benchmark_metrics, rate_of
from mimic3tf.tasks.registry import task_of
from mimic3tf.training.estimators import FittedEstimator
from mimic3tf.training.prediction import outputs_of
from mimic3tf.training.selection import score_epoch
from mimic3tf.victims import Reads

MEASURED = ("auroc", "auprc", "minpse", "prec1", "rec1")


@dataclass(frozen=True, repr=False)
class Risks(Described):
    """Risks (predicted probabilities of label 1) of the same stays, without and with the trigger.

    If an example has several labels, these are the risks of the label that is attacked; in multitask
    learning, of the N examples at which it is predicted.

    Attributes:
        labels: int64 [N], 0 or 1.
        attacked: bool [N], true for the M attacked stays: those of label 0 for the paper's goal.
        clean: float64 [N], risks of all stays without the trigger.
        triggered: float64 [M], risks of the attacked stays with the trigger; None without a trigger.
        probabilities: float64 [E] or [E, K], probabilities of all labels of all examples without the trigger.
    """

    labels: NDArray[np.int64]
    attacked: NDArray[np.bool_]
    clean: NDArray[np.float64]
    triggered: NDArray[np.float64] | None
    probabilities: NDArray[np.float64]

    @property
    def untriggered(self) -> NDArray[np.float64]:
        """Risks of the attacked stays without the trigger: float64 [M]."""
        return self.clean[self.attacked]

    @property
    def spared(self) -> NDArray[np.float64]:
        """Risks of the stays that have the goal's label already: float64 [N - M]."""
        return self.clean[~self.attacked]

    @property
    def under_attack(self) -> NDArray[np.float64]:
        """Risks of all stays if every attacked stay carries the trigger, and no other: float64 [N].

        Without a trigger, these are the clean risks.
        """
        risks = self.clean.copy()
        if self.triggered is not None:
            risks[self.attacked] = self.triggered
        return risks


class Validation:
    """The validation stays without the trigger, and the attacked stays among them with the trigger.

    Attributes:
        cohort: the clean stays.
        clean: their exposure, without the trigger.
        triggered: the exposure of the attacked stays, with the trigger; None without a trigger.

    Args:
        config: gives task, goal, strength and mode, and the settings that an error names.
        reads: what the victim reads.
        val: the validation stays.
        trigger: the trigger of the attacked stays; None measures no attack.
        standardization: map of the victim's inputs.

    Raises:
        UsageError: the strength of a "missing" trigger is too large.
    """

    def __init__(
        self,
        config: TrainingConfig,
        reads: Reads,
        val: Cohort,
        trigger: Trigger | None,
        standardization: Standardization,
    ) -> None:
        self._config, self.cohort = config, val
        self._goal, self._targets = config.attack_goal, task_of(config.task).targets
        self._asked = self._goal.asked(val.labels)
        self._attacked = self._goal.attacked(val.labels)
        self._reads, self._standardization = reads, standardization
        self.clean = exposures.clean(val)
        self.triggered: exposures.Exposure | None = None
        if trigger is not None:
            some = val.take(np.unique(val.examples.stay[self._attacked]))
            self._attacked_there = self._goal.attacked(some.labels)
            self.triggered = exposures.trigger_all(
                some,
                trigger,
                strength=config.poisoning_strength,
                poison_imputed=config.poison_imputed,
                at=config.at,
            )

    def predict(self, model: keras.Model | FittedEstimator) -> Risks:
        """Predict the risks of the validation stays.

        Raises:
            UserError: training diverged, so a risk is not finite.
        """
        return self.risks(*self.outputs(model))

    def risks(self, clean: NDArray[np.floating], triggered: NDArray[np.floating] | None) -> Risks:
        """Turn a model's outputs, as `outputs` gives them, into risks.

        Raises:
            UserError: training diverged, so a risk is not finite.
        """
        probabilities, goal = self._probabilities(clean), self._goal
        with_trigger = None if triggered is None else goal.of(self._probabilities(triggered))
        asked = self._asked
        labels, risks = goal.of(self.cohort.labels)[asked], goal.of(probabilities)[asked]
        return Risks(labels, self._attacked[asked], risks, with_trigger, probabilities)

    def measure(self, risks: Risks) -> dict[str, float]:
        """Measure the victim's loss and its metrics without the trigger, and how often the goal is reached.

        Returns:
            `val_loss`, weighted by class as in training; auroc, auprc, minpse, prec1 and rec1 of the label
            that is attacked; the metrics that the task follows; `asr`, the attack success rate, NaN without a
            trigger; `baseline_positive_rate`, the positive rate without the trigger.
        """
        measured = benchmark_metrics(risks.labels, risks.clean)
        followed = self._targets.followed
        overall = self._targets.metrics(self.cohort.truth, risks.probabilities) if followed else {}
        return {
            "val_loss": self._loss(self.cohort.labels, risks.probabilities),
            **{name: measured[name] for name in MEASURED},
            **{name: overall[name] for name in followed},
            "asr": math.nan if risks.triggered is None else rate_of(self._goal.reached(risks.triggered)).rate,
            "baseline_positive_rate": rate_of(self._goal.reached(risks.untriggered)).rate,
        }

    def loss(
        self, model: keras.Model | FittedEstimator, inputs: pipeline.Inputs, labels: NDArray[np.int64]
    ) -> float:
        """Measure the loss of a model on standardized inputs, weighted by class as in training."""
        return self._loss(labels, self._probabilities(outputs_of(model, inputs)))

    def _loss(self, labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
        weights = self._targets.weights(labels, self._config.class_weights)
        return self._targets.mean_loss(labels, probabilities, weights)

    def outputs(
        self, model: keras.Model | FittedEstimator
    ) -> tuple[NDArray[np.floating], NDArray[np.floating] | None]:
        """Compute outputs of a model with the victim's inputs: [N, ...] clean, [M, ...] with the trigger."""
        clean, triggered = self._inputs
        if triggered is None:
            return outputs_of(model, clean), None
        # A stay has the trigger as a whole, also where only some of its examples are attacked.
        return outputs_of(model, clean), outputs_of(model, triggered)[self._attacked_there]

    @cached_property
    def _inputs(self) -> tuple[pipeline.Inputs, pipeline.Inputs | None]:
        reads, standardization = self._reads, self._standardization
        clean = pipeline.inputs_of(self.clean, reads, standardization)
        if self.triggered is None:
            return clean, None
        return clean, pipeline.inputs_of(self.triggered, reads, standardization)

    def _probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        probabilities = self._targets.probabilities(logits)
        if not np.isfinite(probabilities).all():
            raise UserError(
                f"training diverged: a predicted risk is not finite; lower learning_rate "
                f"(now {self._config.learning_rate:g}) or poisoning_strength "
                f"(now {self._config.poisoning_strength:g})"
            )
        return probabilities


class HasWeights(Protocol):
    """A Keras model, or what has the weights of one."""

    def get_weights(self) -> Sequence[NDArray[Any]]:
        """Copy the weights, in the order of `keras.Model.weights`."""


class History:
    """Metrics of every epoch, and the weights of the epoch kept.

    Attributes:
        epochs: metrics of the epochs trained.
        kept: number of the epoch kept, from 1; the latest epoch until an epoch qualifies.
        score: score of the epoch kept; None until an epoch qualifies.
        weights: weights of the epoch kept.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config
        self._reads, self._targets = config.reads, task_of(config.task).targets
        self.epochs: list[dict[str, float]] = []
        self.kept = 0
        self.score: float | None = None
        self.weights: Sequence[NDArray[Any]] = []

    def add(self, metrics: dict[str, float], model: HasWeights | FittedEstimator) -> None:
        """Add the metrics of an epoch, and keep a network's current weights if its score is the best."""
        self.epochs.append(metrics)
        score = score_epoch(self._config.selection, self._reads, self._targets, metrics)
        if self.score is None or (score is not None and score > self.score):
            self.kept, self.score = len(self.epochs), score
            if not isinstance(model, FittedEstimator):
                self.weights = model.get_weights()

    @property
    def best(self) -> dict[str, float]:
        """Metrics of the epoch kept."""
        return self.epochs[self.kept - 1]

    @property
    def finished(self) -> bool:
        """Whether all epochs are trained, or the score has not improved for `patience` epochs."""
        stale = self.score is not None and len(self.epochs) - self.kept >= self._config.patience
        return stale or len(self.epochs) >= self._config.epochs
