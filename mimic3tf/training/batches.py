"""Which stays share a batch, with what weight, on which replica."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


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
        batch_size: stays a step, on all replicas together.
        seed: fixes the order of every epoch.
        first_epoch: number of the epoch that comes first, from 0.
        replicas: number of replicas in step.
        own: the replicas that this process feeds.

    Returns:
        Without end, for each step one element for each of the own replicas: stays int64
        [ceil(B / replicas)], and weight float32 of the same length. The weights of a step sum to 1 over
        all replicas, so that the sum of weight * loss is the batch's weighted mean, however its stays are
        spread. A batch that does not divide is filled up with stay 0 at weight 0.
    """
    weight_of = tf.gather(tf.constant(class_weights, tf.float32), tf.constant(labels))

    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        stays = tf.range(len(labels), dtype=tf.int64)
        order = tf.random.experimental.stateless_shuffle(
            stays, tf.stack([tf.constant(seed, tf.int64), epoch])
        )
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size).map(of_step)

    def of_step(stays: tf.Tensor) -> tuple[tf.Tensor, ...]:
        weight = tf.gather(weight_of, stays)
        parts: Any = (stays, weight / tf.reduce_sum(weight))
        return tuple(deal(part)[own.start : own.stop] for part in parts)

    def deal(part: tf.Tensor) -> tf.Tensor:
        filled = tf.pad(part, [[0, -tf.size(part) % replicas]])
        return tf.transpose(tf.reshape(filled, [-1, replicas]))

    steps = tf.data.Dataset.counter(first_epoch).flat_map(of_epoch).unbatch()
    # Where workers cannot know that there is no end, they ask each other before every step.
    return steps.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
