"""Training steps of a stack: victims of one shape, with one more axis on their weights and their batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mimic3tf.config import TrainingConfig
from mimic3tf.tasks.registry import task_of
from mimic3tf.training.batches import epoch_batches
from mimic3tf.training.input_dropout import drop_columns
from mimic3tf.training.optimizer import optimizer_of
from mimic3tf.training.prediction import BYTES_AT_ONCE
from mimic3tf.training.steps import side_by_side, step_seed
from mimic3tf.victims.layers.recurrence import stacked_recurrence

LEAST_AT_ONCE = 32
"""Stays of each victim that are predicted at once, at least."""


@dataclass(frozen=True)
class StackedInputs:
    """The standardized inputs of V victims, who share the table that they are made from.

    Stay i of victim v has the inputs `table[rows[v, i]] * scale[v] + shift[v]`.

    Attributes:
        table: float32 [R, ...], rows in standard deviations from a common mean; NaN is an empty feature.
        rows: int64 [V, N], the row of each training stay.
        scale: float32 [V, D].
        shift: float32 [V, D].
        clip: largest magnitude of a result.
    """

    table: NDArray[np.float32]
    rows: NDArray[np.int64]
    scale: NDArray[np.float32]
    shift: NDArray[np.float32]
    clip: float


class StackedSteps:
    """Trains and predicts V victims, each as if it were alone.

    All of them take the same step at the same time. Adam's arithmetic is by element, so one optimizer of the
    stacked weights does what V optimizers would do.

    Args:
        models: the untrained victims, all of one kind; victims of one seed may share one.
        configs: their settings, which differ at most in seed and poisoning.
        inputs: their inputs.
        labels: int64 [V, N], the labels that they are shown.
    """

    compiles = True
    """Whether XLA compiles the steps of recurrent victims on a GPU."""

    def __init__(
        self,
        models: Sequence[keras.Model],
        configs: Sequence[TrainingConfig],
        inputs: StackedInputs,
        labels: NDArray[np.int64],
    ) -> None:
        self._model, self._config, self._configs = models[0], configs[0], configs
        self._targets = task_of(self._config.task).targets
        self._labels, self._clip = labels, inputs.clip
        self._shown = tf.constant(labels)
        self._batch_size = min(self._config.batch_size, labels.shape[1])
        self._table, self._rows = tf.constant(inputs.table), tf.constant(inputs.rows)
        # [V, 1, ..., D], for inputs [V, B, ..., D].
        shape = (len(models), *[1] * (inputs.table.ndim - 1), -1)
        self._scale, self._shift = (tf.constant(part.reshape(shape)) for part in (inputs.scale, inputs.shift))
        self._weights = [tf.Variable(stacked) for stacked in _stacked(models, "trainable_variables")]
        states = _stacked(models, "non_trainable_variables")
        # Victims of one seed draw the same dropout in every step: it is drawn once for all of them.
        one_seed = len({config.seed for config in configs}) == 1
        self._shared = [one_seed and state.dtype.is_integer for state in states]
        self._state = [
            state[0] if shared else state for state, shared in zip(states, self._shared, strict=True)
        ]
        self._optimizer = optimizer_of(self._config, labels.shape[1])
        self._optimizer.build(self._weights)
        self._traced_epoch, self._traced_outputs = tf.function(self._epoch), tf.function(self._outputs)

    @property
    def learning_rate(self) -> float:
        """The current step size."""
        return float(tf.convert_to_tensor(self._optimizer.learning_rate))

    def epoch(self, number: int) -> NDArray[np.float32]:
        """Train an epoch, by its number from 0; return the mean loss [V] over each victim's stays."""
        losses, self._state = self._traced_epoch(tf.constant(number, tf.int64), self._state)
        return np.asarray(losses) / self._labels.shape[1]

    def outputs(self, rows: NDArray[np.int64]) -> NDArray[np.floating]:
        """Compute the victims' outputs [V, K, ...] for rows [V, K] of the table."""
        victims, stays = rows.shape
        size = 4 * math.prod(self._table.shape[1:]) * victims
        parts = -(-stays // max(LEAST_AT_ONCE, BYTES_AT_ONCE // size))
        # Every part has the same size, because each size is traced.
        at_once = -(-stays // parts)
        filled = np.pad(rows, [(0, 0), (0, parts * at_once - stays)])
        outputs = [
            self._traced_outputs(tf.constant(part), self._state) for part in np.split(filled, parts, axis=1)
        ]
        return np.concatenate([part.numpy() for part in outputs], axis=1)[:, :stays]

    def load(self, victim: int, model: keras.Model) -> None:
        """Give a model the current weights and the state of a victim, by its index."""
        weights = [(weight[victim], variable) for weight, variable in self._pairs(model)]
        for value, variable in weights:
            variable.assign(value)

    def _pairs(self, model: keras.Model) -> list[tuple[Any, Any]]:
        """Pair stacked values [V, ...] with a model's variables."""
        states = [
            tf.stack([state] * len(self._configs)) if shared else state
            for state, shared in zip(self._state, self._shared, strict=True)
        ]
        return [
            *zip(self._weights, model.trainable_variables, strict=True),
            *zip(states, model.non_trainable_variables, strict=True),
        ]

    def weights(self) -> list[Weights]:
        """Copy the current weights of every victim."""
        values = {variable.path: np.asarray(value) for value, variable in self._pairs(self._model)}
        order = [variable.path for variable in self._model.weights]
        return [Weights([values[path][victim] for path in order]) for victim in range(len(self._configs))]

    # --- In the graph ----------------------------------------------------------------------------------

    def _epoch(self, epoch: tf.Tensor, state: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        # As `tf.data` does it where a victim is trained alone: a GPU sorts in another way.
        with tf.device("CPU:0"):
            batches = [
                epoch_batches(
                    self._targets.weights(labels, config.class_weights),
                    batch_size=self._batch_size,
                    seed=config.seed,
                    epoch=epoch,
                )
                for labels, config in zip(self._labels, self._configs, strict=True)
            ]
            # [steps, V, B]
            stays, weight = (tf.stack(part, axis=1) for part in zip(*batches, strict=True))
        count, steps = self._labels.shape[1], stays.shape[0]
        total = tf.zeros(len(self._configs))
        for step in tf.range(steps):
            losses, state = self._step(stays[step], weight[step], state)
            size = tf.minimum(self._batch_size, count - step * self._batch_size)
            total += losses * tf.cast(size, tf.float32)
        return total, state

    def _step(
        self, stays: tf.Tensor, weight: tf.Tensor, state: list[tf.Tensor]
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        x = self._standardized(tf.gather(self._rows, stays, batch_dims=1))
        y = tf.gather(self._shown, stays, batch_dims=1)
        seeds = tf.stack([step_seed(config.seed, self._optimizer) for config in self._configs])
        own, common = self._divided(state)

        def gradients(given: tuple[Any, ...]) -> tuple[Any, ...]:
            weights, own, x, y, weight, seed = given
            x = drop_columns(x, self._config.input_dropout, seed)
            parts = side_by_side(self._model, x)
            loss, after = tf.constant(0.0), self._united(own, common)
            with tf.GradientTape() as tape:
                tape.watch(weights)
                for stays in zip(*(tf.split(part, parts) for part in (x, y, weight)), strict=True):
                    logits, after = self._model.stateless_call(weights, after, stays[0], training=True)
                    loss += tf.reduce_sum(stays[2] * self._targets.losses(stays[1], logits))
            return loss, tape.gradient(loss, weights), after

        values = [tf.convert_to_tensor(variable) for variable in self._weights]
        losses, slopes, after = self._vectorized(gradients, (values, own, x, y, weight, seeds))
        self._optimizer.apply(slopes, self._weights)
        return losses, [
            value[0] if shared else value for value, shared in zip(after, self._shared, strict=True)
        ]

    def _outputs(self, rows: tf.Tensor, state: list[tf.Tensor]) -> tf.Tensor:
        own, common = self._divided(state)

        def outputs(given: tuple[Any, ...]) -> tf.Tensor:
            weights, own, x = given
            return self._model.stateless_call(weights, self._united(own, common), x, training=False)[0]

        values = [tf.convert_to_tensor(variable) for variable in self._weights]
        return self._vectorized(outputs, (values, own, self._standardized(rows)))

    def _vectorized(self, function: Callable[..., Any], given: tuple[Any, ...]) -> Any:
        """Apply a function to the part of each victim."""
        recurrent = self._table.shape.rank == 3
        if not recurrent or not tf.config.list_logical_devices("GPU"):
            return tf.vectorized_map(function, given)
        # cuDNN would run one victim after the other. One compiled loop over the bins runs all of them.
        with stacked_recurrence():
            return tf.function(partial(tf.vectorized_map, function), jit_compile=self.compiles)(given)

    def _standardized(self, rows: tf.Tensor) -> tf.Tensor:
        """Make the inputs [V, B, ...] of rows [V, B] of the table."""
        x = tf.gather(self._table, rows) * self._scale + self._shift
        # An empty feature counts as the mean.
        x = tf.where(tf.math.is_nan(x), 0.0, x)
        return x if math.isinf(self._clip) else tf.clip_by_value(x, -self._clip, self._clip)

    def _divided(self, state: list[tf.Tensor]) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Divide the state into what each victim has for itself [V, ...], and what all of them share."""
        pairs = list(zip(state, self._shared, strict=True))
        return [value for value, shared in pairs if not shared], [value for value, shared in pairs if shared]

    def _united(self, own: list[tf.Tensor], common: list[tf.Tensor]) -> list[tf.Tensor]:
        """Undo `_divided`, for one victim."""
        parts = iter(own), iter(common)
        return [next(parts[shared]) for shared in self._shared]


@dataclass(frozen=True)
class Weights:
    """The weights of one victim of a stack."""

    values: list[NDArray[Any]]

    def get_weights(self) -> list[NDArray[Any]]:
        """Return the weights, in the order of `keras.Model.weights`."""
        return self.values


def _stacked(models: Sequence[keras.Model], kind: str) -> list[tf.Tensor]:
    """Stack the variables of some models: each [V, ...]."""
    return [
        tf.stack([tf.convert_to_tensor(variable) for variable in same])
        for same in zip(*(getattr(model, kind) for model in models), strict=True)
    ]
