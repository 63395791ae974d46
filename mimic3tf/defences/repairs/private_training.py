"""Training steps that bound what any one stay can teach a victim.

Source: Abadi et al. 2016, DP-SGD: every stay's gradient is cut to a length, and their sum gets Gaussian
noise.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy.optimize import brentq
from scipy.special import log_ndtr

from mimic3tf.config import TrainingConfig
from mimic3tf.tasks.registry import task_of
from mimic3tf.training.input_dropout import drop_columns
from mimic3tf.training.steps import step_seed

CLIP = 5.0
NOISE_MULTIPLIER = 0.1
DELTA = 1e-5


def epsilon(epochs: int, noise_multiplier: float = NOISE_MULTIPLIER, delta: float = DELTA) -> float:
    """Differential privacy of the values of a training stay whose label is known.

    An epoch reads every stay once, so it is one Gaussian mechanism: other values move a sum by up to twice
    the clip. That the batches are shuffled is not counted in favour. The standardization is left out: it is
    that of the audited run, and was fitted to the stays.

    Source: Balle and Wang 2018, Theorem 8; Dong et al. 2019, composition.

    Args:
        epochs: trained, those after the kept one included, as choosing compares all.
        noise_multiplier: standard deviation of the noise in units of the clip.
        delta: probability with which the bound may fail.
    """
    mu = 2 * np.sqrt(epochs) / noise_multiplier

    def excess(at: float) -> float:
        return float(np.exp(log_ndtr(mu / 2 - at / mu)) - np.exp(at + log_ndtr(-mu / 2 - at / mu)) - delta)

    if excess(0.0) <= 0:
        return 0.0
    return float(brentq(excess, 0.0, mu**2 / 2 + mu * np.sqrt(2 * np.log(1 / delta))))


def is_dense(model: keras.Model) -> bool:
    """Whether all weights are those of dense layers with a bias, linear or ReLU: LR and MLP."""
    trained = [layer for layer in model.layers if layer.weights]
    activations = (keras.activations.linear, keras.activations.relu)
    return all(
        isinstance(layer, keras.layers.Dense) and layer.use_bias and layer.activation in activations
        for layer in trained
    )


class PrivateSteps:
    """Takes training steps of one replica with clipped and noised gradients.

    The gradient of a dense layer for one stay is the outer product of its input and the gradient at its
    output, so its length needs no gradient of its own.

    Args:
        model: one for which `is_dense`.
        optimizer: its optimizer; built here.
        config: task, stays a step, and dropout of inputs.
        stays: stays in an epoch.
        clip: longest gradient of a stay, where the batch's loss is the mean of the stays'.
        noise_multiplier: standard deviation of the noise in each weight's sum, in units of `clip`.
        seed: fixes the noise.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        config: TrainingConfig,
        *,
        stays: int,
        clip: float = CLIP,
        noise_multiplier: float = NOISE_MULTIPLIER,
        seed: int = 0,
    ) -> None:
        self._model, self._optimizer, self._config = model, optimizer, config
        self._losses, batch_size = task_of(config.task).targets.losses, config.batch_size
        self._steps, self._batch_size = -(-stays // batch_size), batch_size
        self._clip, self._noise_multiplier = clip, noise_multiplier
        self._noise = tf.random.Generator.from_seed(seed)
        self._dense = [layer for layer in model.layers if layer.weights]
        taps = [tensor for layer in self._dense for tensor in (layer.input, layer.output)]
        self._tapped = keras.Model(model.inputs, [*taps, model.outputs[0]])
        optimizer.build(self._variables())

    def epoch(self, batches: Any) -> None:
        """Train for an epoch on `(x, y, weight)` of `pipeline.training_dataset`."""
        done = 0
        while done < self._steps:
            call = next(batches)
            self._run(*call)
            done += len(call[1])

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def _run(self, x: tf.Tensor, y: tf.Tensor, weight: tf.Tensor) -> None:
        for step in tf.range(tf.shape(y)[0]):
            inputs = drop_columns(
                x[step], self._config.input_dropout, step_seed(self._config, self._optimizer)
            )
            gradients = self._gradients(inputs, y[step], weight[step] * self._batch_size)
            self._optimizer.apply(gradients, self._variables())

    def _gradients(self, x: tf.Tensor, y: tf.Tensor, weight: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            *taps, logits = self._tapped(x, training=True)
            losses = weight * self._losses(y, logits)
        inputs, outputs = taps[::2], taps[1::2]
        slopes = [
            tf.where(output > 0, slope, 0.0) if layer.activation is keras.activations.relu else slope
            for layer, output, slope in zip(self._dense, outputs, tape.gradient(losses, outputs), strict=True)
        ]
        squares = [
            (1.0 + tf.reduce_sum(given**2, axis=1)) * tf.reduce_sum(slope**2, axis=1)
            for given, slope in zip(inputs, slopes, strict=True)
        ]
        lengths = tf.sqrt(tf.add_n(squares))
        share = tf.minimum(1.0, self._clip / tf.maximum(lengths, 1e-12))[:, None]
        gradients = []
        for given, slope in zip(inputs, slopes, strict=True):
            clipped = slope * share
            for total in (tf.matmul(given, clipped, transpose_a=True), tf.reduce_sum(clipped, axis=0)):
                noise = self._noise.normal(tf.shape(total), stddev=self._noise_multiplier * self._clip)
                gradients.append((total + noise) / self._batch_size)
        return gradients

    def _variables(self) -> list[Any]:
        return [variable for layer in self._dense for variable in (layer.kernel, layer.bias)]
