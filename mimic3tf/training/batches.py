"""Batches of training stays: which stays share a batch, their weights, and the replica that gets them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

STEPS_A_CALL = 50
"""Number of training steps that TensorFlow runs in one call; one element of the dataset has their stays."""


def epoch_batches(
    labels: NDArray[np.int64],
    *,
    class_weights: Sequence[float],
    batch_size: int,
    seed: int,
    epoch: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Make the batches of one epoch on one replica.

    Args:
        labels: as for `stay_batches`.
        class_weights: as for `stay_batches`.
        batch_size: number of stays in a step, at most N.
        seed: as for `stay_batches`.
        epoch: number of the epoch, int64, from 0.

    Returns:
        Stays int64 [steps, B] and weight float32 [steps, B], as an element of `stay_batches` has them.
    """
    weight_of = tf.gather(tf.constant(class_weights, tf.float32), tf.constant(labels))
    steps = -(-len(labels) // batch_size)

    def batched(part: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.pad(part, [[0, steps * batch_size - len(labels)]]), [steps, batch_size])

    stays = tf.range(len(labels), dtype=tf.int64)
    order = tf.random.experimental.stateless_shuffle(stays, tf.stack([tf.constant(seed, tf.int64), epoch]))
    weight = batched(tf.gather(weight_of, order))
    return batched(order), weight / tf.reduce_sum(weight, axis=1, keepdims=True)


def stay_batches(
    labels: NDArray[np.int64],
    *,
    class_weights: Sequence[float],
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
    replicas: int = 1,
    own: range = range(1),
) -> tf.data.Dataset:
    """Make batches of stay indices: each epoch has every stay once, in an order that only seed and epoch fix.

    `Dataset.shuffle` is not used: its order depends on a state that the epochs before left, and this state is
    lost when the process ends.

    Args:
        labels: int64 [N], the labels that the victim is shown.
        class_weights: weight of label 0 and of label 1 in the loss.
        batch_size: number of stays in a step, over all replicas; N if N is smaller.
        seed: fixes the order of every epoch.
        first_epoch: number of the first epoch, from 0.
        replicas: number of replicas that take each step together.
        own: the replicas that this process feeds.

    Returns:
        An endless dataset. For each call of S <= `STEPS_A_CALL` steps of one epoch, it has one element for
        each replica in `own`: stays int64 [S, ceil(B / replicas)], and weight float32 of the same shape. The
        weights of a step sum to 1 over all replicas, so the sum of weight * loss is the weighted mean of the
        batch, however its stays are spread. A batch with too few stays is filled up with stay 0 at weight 0.
    """
    # Otherwise a batch would be filled up to whatever size the settings name.
    batch_size = min(batch_size, len(labels))

    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        batches = epoch_batches(
            labels, class_weights=class_weights, batch_size=batch_size, seed=seed, epoch=epoch
        )
        return tf.data.Dataset.from_tensor_slices(batches).batch(STEPS_A_CALL).map(of_call)

    def of_call(*parts: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return tuple(deal(part)[own.start : own.stop] for part in parts)

    def deal(part: tf.Tensor) -> tf.Tensor:
        filled = tf.pad(part, [[0, 0], [0, -batch_size % replicas]])
        # The batch size is static, so victims need not fill batches up themselves.
        return tf.transpose(tf.reshape(filled, [-1, -(-batch_size // replicas), replicas]), [2, 0, 1])

    calls = tf.data.Dataset.counter(first_epoch).flat_map(of_epoch).unbatch()
    # If workers did not know that the dataset is endless, they would ask each other before every call.
    return calls.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
