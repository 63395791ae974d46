"""How strongly poisoned and clean stays change the victim's weights: norms of their gradients."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mimic3tf.config import TrainingConfig
from mimic3tf.poisoning.exposures import Exposure
from mimic3tf.tasks.registry import task_of

SAMPLE = 32
"""Number of stays of each kind; recurrent victims are compiled for this batch size anyway."""


class GradientNorms:
    """Norms of the loss gradient on the first poisoned and the first clean training stays.

    Args:
        exposure: the training stays.
        inputs: their standardized inputs, `pipeline.Inputs`.
        config: gives the task, and the weight of label 0 and of label 1 in the loss.
        model: the victim; `measure` uses the weights that it has at that time.
    """

    def __init__(
        self,
        exposure: Exposure,
        inputs: Any,
        config: TrainingConfig,
        model: keras.Model,
    ) -> None:
        targets = task_of(config.task).targets
        self._model, self._losses = model, targets.losses
        self._samples: dict[str, tuple[tf.Tensor, ...]] = {}
        for kind, flags in (("poisoned", exposure.triggered), ("clean", ~exposure.triggered)):
            stays = np.flatnonzero(flags)[:SAMPLE]
            if len(stays):
                labels = exposure.labels[stays]
                weight = np.float32(targets.weights(labels, config.class_weights))
                sample = (inputs[stays], labels, weight / weight.sum())
                self._samples[f"gradient_norm_{kind}"] = tuple(map(tf.constant, sample))
        # Traced once, without arguments: checking arguments takes as long as a small victim's gradients.
        self._traced_norms = tf.function(self._norms).get_concrete_function()

    def measure(self) -> dict[str, float]:
        """Measure the Euclidean norms of the gradients of the weighted mean loss, without dropout and L2.

        Returns:
            `gradient_norm_poisoned` and `gradient_norm_clean`, each if there are such stays.
        """
        return dict(zip(self._samples, self._traced_norms().numpy().tolist(), strict=True))

    def _norms(self) -> tf.Tensor:
        return tf.stack([self._norm(*sample) for sample in self._samples.values()])

    def _norm(self, x: tf.Tensor, y: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = self._model(x, training=False)
            loss = tf.reduce_sum(weight * self._losses(y, logits))
        return tf.linalg.global_norm(tape.gradient(loss, self._model.trainable_variables))
