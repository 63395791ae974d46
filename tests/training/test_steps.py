"""A training step is a whole batch's, however the batch goes through the model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from mimic3tf.tasks.registry import MORTALITY
from mimic3tf.training.optimizer import AdamWithL2
from mimic3tf.training.steps import Steps

STAYS, BINS, COLUMNS = 6, 3, 4


class Counted(keras.layers.Layer):
    """Remembers the batches that it is traced with."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def call(self, x: tf.Tensor) -> tf.Tensor:
        if x.shape[0] is not None:
            self.sizes.append(x.shape[0])
        return x


def _model(shape: tuple[int, ...], *layers: keras.layers.Layer) -> tuple[keras.Model, Counted]:
    keras.utils.set_random_seed(0)
    counted, inputs = Counted(), keras.Input(shape)
    hidden = counted(inputs)
    for layer in (*layers, keras.layers.Flatten(), keras.layers.Dense(3, activation="tanh")):
        hidden = layer(hidden)
    return keras.Model(inputs, keras.layers.Dense(2)(hidden)), counted


@pytest.mark.parametrize(
    ("shape", "stays", "normalized", "sizes"),
    [
        ((BINS, COLUMNS), STAYS, False, [3, 3]),
        ((BINS, COLUMNS), STAYS - 1, False, [5]),
        ((BINS, COLUMNS), STAYS, True, [6]),
        ((COLUMNS,), STAYS, False, [6]),
    ],
    ids=["grids", "an odd batch", "batch normalization", "features"],
)
def test_a_step_follows_the_gradient_of_the_whole_batch(
    shape: tuple[int, ...], stays: int, normalized: bool, sizes: list[int]
) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(1, stays, *shape)).astype(np.float32)
    y = np.arange(stays)[None] % 2
    weight = random.uniform(0.1, 1.0, (1, stays)).astype(np.float32)
    weight /= weight.sum()

    def layers() -> list[keras.layers.Layer]:
        return [keras.layers.BatchNormalization()] if normalized else []

    model, counted = _model(shape, *layers())
    config: Any = SimpleNamespace(task=MORTALITY.name, seed=0, input_dropout=0.0, batch_size=stays)
    steps = Steps(model, AdamWithL2(1e-2), config, stays=stays)
    counted.sizes.clear()
    trained = steps.epoch(iter(tf.data.Dataset.from_tensors((x, y, weight))))
    # A GPU takes the whole batch at once.
    assert counted.sizes == ([stays] if tf.config.list_logical_devices("GPU") else sizes)

    plain, _ = _model(shape, *layers())
    with tf.GradientTape() as tape:
        logits = plain(x[0], training=True)
        expected = tf.reduce_sum(weight[0] * tf.nn.sparse_softmax_cross_entropy_with_logits(y[0], logits))
    optimizer = AdamWithL2(1e-2)
    optimizer.apply(tape.gradient(expected, plain.trainable_variables), plain.trainable_variables)
    assert trained.loss == pytest.approx(float(expected), rel=1e-5)
    assert 0 < trained.waited < trained.seconds
    for ours, theirs in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def _before(operation: tf.Operation) -> set[tf.Operation]:
    """All operations of a graph that must end before this one begins."""
    found: set[tf.Operation] = set()
    ahead = [operation]
    while ahead:
        last = ahead.pop()
        inputs = {*(tensor.op for tensor in last.inputs), *last.control_inputs} - found
        found |= inputs
        ahead += inputs
    return found


@pytest.mark.parametrize(("deterministic", "clock"), [(False, "Timestamp"), (True, "PyFunc")])
def test_the_wait_for_stays_is_over_before_the_first_step_begins(
    deterministic: bool, clock: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mimic3tf.training.steps.is_op_determinism_enabled", lambda: deterministic)
    x, y = np.zeros((1, STAYS, COLUMNS), np.float32), np.zeros((1, STAYS), np.int64)
    config: Any = SimpleNamespace(task=MORTALITY.name, seed=0, input_dropout=0.0, batch_size=STAYS)
    steps = Steps(_model((COLUMNS,))[0], AdamWithL2(1e-2), config, stays=STAYS)
    batches = iter(tf.data.Dataset.from_tensors((x, y, np.ones((1, STAYS), np.float32))))
    graph = steps._run.get_concrete_function(batches, tf.constant(0), tf.constant(1)).graph
    (given,) = (operation for operation in graph.get_operations() if operation.type == "IteratorGetNext")
    (loop,) = (operation for operation in graph.get_operations() if operation.type == "While")
    stamps = {operation for operation in graph.get_operations() if operation.type == clock}
    asked = stamps & _before(given)
    waited = {stamp for stamp in stamps if given in _before(stamp)}
    assert len(asked) == len(waited) == 1
    assert asked | waited == stamps & _before(loop)
