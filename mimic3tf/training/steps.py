"""Training steps of a victim."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from tensorflow.python.framework.config import is_op_determinism_enabled

from mimic3tf.config import TrainingConfig
from mimic3tf.tasks.registry import task_of
from mimic3tf.training.batches import STEPS_A_CALL
from mimic3tf.training.input_dropout import drop_columns


class TrainedEpoch(NamedTuple):
    """Loss and duration of a training epoch.

    Attributes:
        loss: mean of the batches' losses, weighted by the number of stays in each batch.
        seconds: duration of the epoch; that of the first epoch includes compilation.
        waited: seconds of the duration in which training waited for the next stays.
    """

    loss: float
    seconds: float
    waited: float


def step_seed(seed: int | tf.Tensor, optimizer: keras.optimizers.Optimizer) -> tf.Tensor:
    """Make the seed int64 [2] for the draws of a step: the run's seed, and the number of steps taken."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return tf.stack([tf.cast(seed, tf.int64), tf.cast(tf.convert_to_tensor(inner.iterations), tf.int64)])


def side_by_side(model: keras.Model, x: tf.Tensor) -> int:
    """Return the number of parts of a batch's inputs [B, ...] that go through the model side by side."""
    # On a CPU an operation runs on one core (`startup.py`), and a recurrent victim's operations wait for
    # each other; two halves of a batch use two cores. Batch normalization must see the whole batch.
    splits = x.shape.rank == 3 and x.shape[0] % 2 == 0 and not model.non_trainable_weights
    return 2 if splits and not tf.config.list_logical_devices("GPU") else 1


def _now() -> tf.Tensor:
    """Read the clock, in seconds."""
    # TensorFlow refuses to read its own clock while operations must be deterministic. Python's takes longer.
    if is_op_determinism_enabled():
        return tf.numpy_function(time.time, [], tf.float64)
    return tf.timestamp()


class Steps:
    """Takes training steps on all replicas of the current `tf.distribute` strategy.

    `Model.fit` is not used: on several workers it fails (keras issues 20329 and 20585), and it averages the
    means of the replicas, which is not the mean over all stays if the stays have weights.

    Args:
        model: the victim, built under the strategy.
        optimizer: the victim's optimizer; its variables are made here.
        config: gives the task, the number of stays in a step over all replicas, and the dropout of inputs.
        stays: number of stays in an epoch.
        steps_a_call: number of steps in an element of the batches.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        config: TrainingConfig,
        *,
        stays: int,
        steps_a_call: int = STEPS_A_CALL,
    ) -> None:
        self._model, self._optimizer, self._config = model, optimizer, config
        self._losses, batch_size = task_of(config.task).targets.losses, config.batch_size
        self._stays, self._batch_size = stays, min(batch_size, stays)
        self._steps_a_call = steps_a_call
        self._strategy = tf.distribute.get_strategy()
        scales = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        self._overflows = scales and self._strategy.num_replicas_in_sync > 1
        optimizer.build(model.trainable_variables)

    def epoch(self, batches: Any, *, profile: Path | None = None) -> TrainedEpoch:
        """Train for an epoch.

        Args:
            batches: iterator over elements `(x, y, weight)` of `pipeline.training_dataset`. It must stand at
                the start of an epoch, and afterwards stands at the start of the next one.
            profile: folder for TensorFlow's profile of the first call's steps; None writes none.
        """
        steps = -(-self._stays // self._batch_size)
        loss = waited = 0.0
        begun = time.perf_counter()
        for first in range(0, steps, self._steps_a_call):
            last = min(first + self._steps_a_call, steps)
            profiled = profile is not None and first == 0
            with tf.profiler.experimental.Profile(str(profile)) if profiled else nullcontext():
                total, wait = self._run(batches, tf.constant(first), tf.constant(last))
                loss += float(total)
            waited += float(wait)
        return TrainedEpoch(loss / self._stays, time.perf_counter() - begun, waited)

    # Compilation with XLA takes longer than it saves on these small models.
    @tf.function(reduce_retracing=True, jit_compile=False)  # type: ignore[untyped-decorator]
    def _run(self, batches: Any, first: tf.Tensor, last: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        total = tf.constant(0.0)
        # No step can begin before its stays have arrived, so training waits during all of this time.
        asked = _now()
        with tf.control_dependencies([asked]):
            given = next(batches)
        with tf.control_dependencies(
            [part for each in given for part in self._strategy.experimental_local_results(each)]
        ):
            waited = _now() - asked
        # Without this order, TensorFlow may read the clock after the steps: on one core it did.
        with tf.control_dependencies([waited]):
            for step in tf.range(first, last):
                losses = self._strategy.run(self._step, args=(step - first, *given))
                loss = self._strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)
                size = tf.minimum(self._batch_size, self._stays - step * self._batch_size)
                total += loss * tf.cast(size, tf.float32)
        return total, waited

    def _step(self, step: tf.Tensor, *given: tf.Tensor) -> tf.Tensor:
        x, *others = (part[step] for part in given)
        batch = [
            drop_columns(x, self._config.input_dropout, step_seed(self._config.seed, self._optimizer)),
            *others,
        ]
        count = side_by_side(self._model, batch[0]) if self._strategy.num_replicas_in_sync == 1 else 1
        halves = zip(*(tf.split(part, count) for part in batch), strict=True)
        losses, gradients = zip(*(self._gradients(*half) for half in halves), strict=True)
        summed = [tf.add_n(parts) for parts in zip(*gradients, strict=True)]
        if self._overflows:
            # Keras looks for overflow on one replica only, so every replica gets the mean gradient.
            context = tf.distribute.get_replica_context()
            summed = context.all_reduce(tf.distribute.ReduceOp.MEAN, summed)
        self._optimizer.apply(summed, self._model.trainable_variables)
        return tf.add_n(losses)

    def _gradients(self, x: tf.Tensor, y: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Compute the loss of some stays and its gradients, scaled as the optimizer expects them."""
        with tf.GradientTape() as tape:
            logits = self._model(x, training=True)
            # A sum and not a mean: the weights of a batch sum to 1, and the optimizer sums over replicas.
            loss = tf.reduce_sum(weight * self._losses(y, logits))
            scaled = self._optimizer.scale_loss(loss)
        return loss, tape.gradient(scaled, self._model.trainable_variables)
