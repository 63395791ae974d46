"""Train a victim on arrays of inputs and labels, with the settings of the run under audit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mimic3tf import pipeline
from mimic3tf.channels import ChannelSet
from mimic3tf.config import TrainingConfig
from mimic3tf.data.cohort import Cohort
from mimic3tf.poisoning import exposures
from mimic3tf.standardization import Standardization
from mimic3tf.tasks.registry import task_of
from mimic3tf.training.batches import stay_batches
from mimic3tf.training.estimators import FittedEstimator
from mimic3tf.training.models import build_victim
from mimic3tf.training.optimizer import optimizer_of
from mimic3tf.training.precision import resolve_precision
from mimic3tf.training.prediction import outputs_of
from mimic3tf.training.steps import Steps
from mimic3tf.victims import Reads


@dataclass(frozen=True)
class Examples:
    """Stays as a victim reads them.

    Attributes:
        inputs: float32 [N, ...], standardized.
        labels: int64 [N].
        channels: the channels of the stays.
        bins: number of bins of a stay.
    """

    inputs: NDArray[np.float32]
    labels: NDArray[np.int64]
    channels: ChannelSet
    bins: int

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, stays: NDArray[Any]) -> Examples:
        """Select examples by indices or by a boolean mask [N]."""
        return replace(self, inputs=self.inputs[stays], labels=self.labels[stays])


def examples_of(cohort: Cohort, reads: Reads, standardization: Standardization) -> Examples:
    """Make the examples of a cohort without any trigger: inputs [N, ...] and labels [N]."""
    inputs = pipeline.inputs_of(exposures.clean(cohort), reads, standardization)
    return Examples(inputs, cohort.labels, cohort.channels, cohort.bins)


def retrain(
    config: TrainingConfig,
    examples: Examples,
    judges: Examples,
    *,
    noise: float = 0.0,
    make_steps: Callable[..., Any] = Steps,
) -> keras.Model:
    """Train a new victim and keep the weights of the epoch with the best AUROC on `judges`.

    Args:
        config: settings; its seed fixes initial weights, data order and noise.
        examples: training examples.
        judges: trusted stays of both labels, which choose the epoch.
        noise: standard deviation of Gaussian noise that is drawn for every input in every step.
        make_steps: class that takes the training steps, with the interface of `Steps`.

    Returns:
        The trained model: standardized inputs -> logits [N, 2].
    """
    precision = resolve_precision(config.precision)
    model, optimizer = build_victim(config, examples.channels, examples.bins, precision, stays=len(examples))
    steps = make_steps(model, optimizer, config, stays=len(examples))
    batches = iter(_dataset(config, examples, noise))
    best, kept, stale = -np.inf, model.get_weights(), 0
    for _ in range(config.epochs):
        steps.epoch(batches)
        auroc, stale = auroc_of(model, config, judges), stale + 1
        if auroc > best:
            best, kept, stale = auroc, model.get_weights(), 0
        if stale >= config.patience:
            break
    model.set_weights(kept)
    return model


def tune(model: keras.Model, config: TrainingConfig, examples: Examples) -> keras.Model:
    """Train a copy of a model for `config.epochs` further epochs; the weights of the last epoch are kept."""
    keras.utils.set_random_seed(config.seed)  # of dropout
    tuned = keras.models.clone_model(model)
    tuned.set_weights(model.get_weights())
    optimizer = optimizer_of(config, len(examples), resolve_precision(config.precision))
    steps = Steps(tuned, optimizer, config, stays=len(examples))
    batches = iter(_dataset(config, examples, noise=0.0))
    for _ in range(config.epochs):
        steps.epoch(batches)
    return tuned


def predict(
    model: keras.Model | FittedEstimator, config: TrainingConfig, inputs: pipeline.Inputs
) -> NDArray[np.float64]:
    """Return the risk (probability of label 1) for standardized inputs [N, ...]: float64 [N]."""
    return task_of(config.task).targets.probabilities(outputs_of(model, inputs))


def auroc_of(model: keras.Model, config: TrainingConfig, examples: Examples) -> float:
    """Return the AUROC of a model on some examples; NaN if all of them have the same label."""
    risks = predict(model, config, examples.inputs)
    return task_of(config.task).targets.metrics(examples.labels, risks)["auroc"]


def _dataset(config: TrainingConfig, examples: Examples, noise: float) -> tf.data.Dataset:
    """Make a dataset with elements like those of `pipeline.training_dataset`."""
    inputs, labels = tf.constant(examples.inputs), tf.constant(examples.labels)
    seed = tf.constant(config.seed, tf.int64)

    def example(call: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        stays, weight = batch
        x = tf.gather(inputs, stays)
        if noise:
            x += noise * tf.random.stateless_normal(tf.shape(x), tf.stack([seed, call]))
        return x, tf.gather(labels, stays), weight

    batches = stay_batches(
        task_of(config.task).targets.weights(examples.labels, config.class_weights),
        batch_size=config.batch_size,
        seed=config.seed,
    )
    return batches.enumerate().map(example, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
