"""Which stays share a batch, with what weight, on which replica."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

STEPS_A_CALL = 50
"""Training steps that TensorFlow runs before it returns to Python, and whose stays it is given at once."""


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
    """Batches of stay indices, each stay once an epoch, in an order that seed and epoch alone fix.

    `tf.data`'s own shuffling draws an epoch's order from the state that the epochs before it left, which
    dies with the process.

    Args:
        labels: int64 [N], the labels a victim is shown.
        class_weights: weight of label 0 and of label 1 in the loss.
        batch_size: stays a step, on all replicas together; all stays if there are fewer.
        seed: fixes the order of every epoch.
        first_epoch: number of the epoch that comes first, from 0.
        replicas: number of replicas in step.
        own: the replicas that this process feeds.

    Returns:
        Without end, for each call of S <= `STEPS_A_CALL` steps, which belong to one epoch, an element for
        each of the own replicas: stays int64 [S, ceil(B / replicas)], and weight float32 of the same shape.
        The weights of a step sum to 1 over all replicas, so that the sum of weight * loss is the batch's
        weighted mean, however its stays are spread. A batch that lacks stays is filled up with stay 0 at
        weight 0.
    """
    # A batch that could hold more would be filled up to any size that settings name.
    batch_size = min(batch_size, len(labels))
    weight_of = tf.gather(tf.constant(class_weights, tf.float32), tf.constant(labels))
    steps = -(-len(labels) // batch_size)

    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        stays = tf.range(len(labels), dtype=tf.int64)
        order = tf.random.experimental.stateless_shuffle(
            stays, tf.stack([tf.constant(seed, tf.int64), epoch])
        )
        weight = batched(tf.gather(weight_of, order))
        weight /= tf.reduce_sum(weight, axis=1, keepdims=True)
        return tf.data.Dataset.from_tensor_slices((batched(order), weight)).batch(STEPS_A_CALL).map(of_call)

    def batched(part: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.pad(part, [[0, steps * batch_size - len(labels)]]), [steps, batch_size])

    def of_call(*parts: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return tuple(deal(part)[own.start : own.stop] for part in parts)

    def deal(part: tf.Tensor) -> tf.Tensor:
        filled = tf.pad(part, [[0, 0], [0, -batch_size % replicas]])
        # A size that is known beforehand spares victims what they would do to fill batches up.
        return tf.transpose(tf.reshape(filled, [-1, -(-batch_size // replicas), replicas]), [2, 0, 1])

    calls = tf.data.Dataset.counter(first_epoch).flat_map(of_epoch).unbatch()
    # Where workers cannot know that there is no end, they ask each other before every call.
    return calls.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
