"""Training steps that limit how much a victim learns from any single stay.

Source: Abadi et al. 2016, DP-SGD. The gradient of every stay is clipped to a length, and Gaussian noise is
added to the sum of the gradients.
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
"""Largest length of the gradient of one stay."""
NOISE_MULTIPLIER = 0.1
"""Standard deviation of the noise, in units of `CLIP`."""
DELTA = 1e-5
"""Probability with which the privacy bound may fail."""


def epsilon(epochs: int, noise_multiplier: float = NOISE_MULTIPLIER, delta: float = DELTA) -> float:
    """Compute the differential privacy (epsilon) of the values of a training stay whose label is known.

    An epoch reads every stay once, so it is one Gaussian mechanism: other values of a stay change a sum of
    gradients by up to twice the clip. The bound does not use that batches are shuffled. It does not cover the
    standardization, which the audited run fitted to the stays.

    Source: Balle and Wang 2018, Theorem 8; Dong et al. 2019, composition.

    Args:
        epochs: number of all trained epochs, also those after the kept one, because choosing the best
            epoch compares all of them.
        noise_multiplier: standard deviation of the noise, in units of the clip.
        delta: probability with which the bound may fail.

    Returns:
        Epsilon; 0 if the bound holds for 0.
    """
    mu = 2 * np.sqrt(epochs) / noise_multiplier

    def excess(at: float) -> float:
        return float(np.exp(log_ndtr(mu / 2 - at / mu)) - np.exp(at + log_ndtr(-mu / 2 - at / mu)) - delta)

    if excess(0.0) <= 0:
        return 0.0
    return float(brentq(excess, 0.0, mu**2 / 2 + mu * np.sqrt(2 * np.log(1 / delta))))


def is_dense(model: keras.Model) -> bool:
    """Return whether all weights belong to dense layers with a bias, linear or ReLU, as in LR and MLP."""
    trained = [layer for layer in model.layers if layer.weights]
    activations = (keras.activations.linear, keras.activations.relu)
    return all(
        isinstance(layer, keras.layers.Dense) and layer.use_bias and layer.activation in activations
        for layer in trained
    )


class PrivateSteps:
    """Take training steps of one replica with clipped gradients and noise.

    The gradient of a dense layer for one stay is the outer product of the layer's input and the gradient at
    its output. Its length follows from these two, so gradients of single stays are never computed.

    Args:
        model: a model for which `is_dense` is true.
        optimizer: the model's optimizer, not yet built.
        config: settings; task, batch size and input dropout are read.
        stays: number of stays in an epoch.
        clip: largest length of a stay's gradient, where the loss of a batch is the mean over its stays.
        noise_multiplier: standard deviation of the noise in the sum of each weight's gradients, in units of
            `clip`.
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
                x[step], self._config.input_dropout, step_seed(self._config.seed, self._optimizer)
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
