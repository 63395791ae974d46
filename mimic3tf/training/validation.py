"""Measures a victim on validation stays, and remembers the epoch that the selection rule prefers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import log_loss

from mimic3tf import pipeline
from mimic3tf.config import TrainingConfig
from mimic3tf.data.cohort import Cohort
from mimic3tf.errors import UserError
from mimic3tf.poisoning import exposures
from mimic3tf.standardization import Standardization
from mimic3tf.tasks.metrics import Risks, benchmark_metrics, death_probability, positive_rate
from mimic3tf.training.prediction import outputs_of
from mimic3tf.training.selection import score_epoch
from mimic3tf.victims import Victim

MEASURED = ("auroc", "auprc", "minpse", "prec1", "rec1")


class Validation:
    """Clean validation stays, and those of label 0 with the trigger.

    Attributes:
        cohort: the clean stays.

    Args:
        config: strength and mode of the trigger, and what to name where training diverged.
        victim: what is trained; says what it reads.
        val: the validation stays.
        triggered: those of label 0, with the trigger.
        standardization: map of the victim's inputs.
    """

    def __init__(
        self,
        config: TrainingConfig,
        victim: Victim,
        val: Cohort,
        triggered: exposures.Exposure,
        standardization: Standardization,
    ) -> None:
        self._config, self.cohort = config, val
        self._clean, self._triggered = (
            pipeline.inputs_of(exposure, victim.representation, standardization)
            for exposure in (exposures.clean(val), triggered)
        )

    def predict(self, model: keras.Model) -> Risks:
        """What the victim predicts.

        Raises:
            UserError: training diverged.
        """
        clean, triggered = (self._risks(logits) for logits in self.outputs(model))
        return Risks(self.cohort.labels, clean, triggered)

    def measure(self, risks: Risks) -> dict[str, float]:
        """The victim's loss, auroc, auprc, minpse, prec1 and rec1, and how often it predicts death.

        Returns:
            Among them `val_loss`, weighted by class as in training; `asr`, the share of survivors who are
            predicted to die with the trigger; `baseline_positive_rate`, the same without it.
        """
        measured = benchmark_metrics(risks.labels, risks.clean)
        weights = np.array(self._config.class_weights)[risks.labels]
        return {
            "val_loss": float(log_loss(risks.labels, risks.clean, sample_weight=weights)),
            **{name: measured[name] for name in MEASURED},
            "asr": positive_rate(risks.triggered).rate,
            "baseline_positive_rate": positive_rate(risks.survivors).rate,
        }

    def outputs(self, model: keras.Model) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Outputs of a model that reads what the victim does: [N, ...] clean, [M, ...] with the trigger."""
        return outputs_of(model, self._clean), outputs_of(model, self._triggered)

    def _risks(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        probabilities = death_probability(logits)
        if not np.isfinite(probabilities).all():
            raise UserError(
                f"the victim predicts no numbers any more; lower learning_rate "
                f"(now {self._config.learning_rate:g}) or poisoning_strength "
                f"(now {self._config.poisoning_strength:g})"
            )
        return probabilities


class History:
    """Metrics of every epoch, and the weights of the one to keep.

    Attributes:
        epochs: metrics of the epochs trained.
        kept: number of the epoch kept, from 1.
        score: its score; None until an epoch qualifies, up to which the latest one is kept.
        weights: its weights.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config
        self.epochs: list[dict[str, float]] = []
        self.kept = 0
        self.score: float | None = None
        self.weights: Sequence[NDArray[Any]] = []

    def add(self, metrics: dict[str, float], model: keras.Model) -> None:
        """Add an epoch, after which the model has the weights it has now."""
        self.epochs.append(metrics)
        score = score_epoch(self._config.selection, self._config.model, metrics)
        if self.score is None or (score is not None and score > self.score):
            self.weights, self.kept, self.score = model.get_weights(), len(self.epochs), score

    @property
    def best(self) -> dict[str, float]:
        """Metrics of the epoch kept."""
        return self.epochs[self.kept - 1]

    @property
    def finished(self) -> bool:
        """Whether all epochs are trained, or none got better for `patience` epochs."""
        stale = self.score is not None and len(self.epochs) - self.kept >= self._config.patience
        return stale or len(self.epochs) >= self._config.epochs
