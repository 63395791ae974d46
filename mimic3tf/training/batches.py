"""Batches of training stays: which stays share a batch, their weights, and the replica that gets them."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

STEPS_A_CALL = 50
"""Number of training steps that TensorFlow runs in one call; one element of the dataset has their stays."""


def epoch_batches(
    weights: NDArray[np.floating],
    *,
    batch_size: int,
    seed: int,
    epoch: tf.Tensor,
    lengths: NDArray[np.int64] | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Make the batches of one epoch on one replica.

    Args:
        weights: as for `stay_batches`.
        batch_size: number of stays in a step, at most N.
        seed: as for `stay_batches`.
        epoch: number of the epoch, int64, from 0.
        lengths: as for `stay_batches`.

    Returns:
        Stays int64 [steps, B] and weight float32 [steps, B] or [steps, B, H], as an element of `stay_batches`
        has them.
    """
    count = len(weights)
    steps = -(-count // batch_size)
    number = tf.stack([tf.constant(seed, tf.int64), epoch])
    order = tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), number)
    order = order if lengths is None else _by_length(order, number, lengths, batch_size)

    def batched(part: tf.Tensor) -> tf.Tensor:
        width = part.shape[1:]
        filled = tf.pad(part, [[0, steps * batch_size - count], *([0, 0] for _ in width)])
        return tf.reshape(filled, [steps, batch_size, *width])

    weight = batched(tf.gather(tf.constant(weights, tf.float32), order))
    # A head may predict nothing in a batch.
    return batched(order), tf.math.divide_no_nan(weight, tf.reduce_sum(weight, axis=1, keepdims=True))


def stay_batches(
    weights: NDArray[np.floating],
    *,
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
    replicas: int = 1,
    own: range = range(1),
    lengths: NDArray[np.int64] | None = None,
) -> tf.data.Dataset:
    """Make batches of stay indices: each epoch has every stay once, in an order that only seed and epoch fix.

    `Dataset.shuffle` is not used: its order depends on a state that the epochs before left, and this state is
    lost when the process ends.

    Args:
        weights: float [N], weight of every stay in the loss; or [N, H], its weight in the loss of each head.
        batch_size: number of stays in a step, over all replicas; N if N is smaller.
        seed: fixes the order of every epoch.
        first_epoch: number of the first epoch, from 0.
        replicas: number of replicas that take each step together.
        own: the replicas that this process feeds.
        lengths: int64 [N], number of bins of every stay, if stays differ. Then a batch has stays of similar
            lengths, as in the benchmarks, and every call has one step, which is padded for itself.

    Returns:
        An endless dataset. For each call of S <= `STEPS_A_CALL` steps of one epoch, it has one element for
        each replica in `own`: stays int64 [S, ceil(B / replicas)], and weight float32 of the same shape, or
        of this shape and H. The weights of a step sum to 1 over all replicas, so the sum of weight * loss is
        the weighted mean of the batch, however its stays are spread. A batch with too few stays is filled up
        with stay 0 at weight 0.
    """
    # Otherwise a batch would be filled up to whatever size the settings name.
    batch_size = min(batch_size, len(weights))

    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        batches = epoch_batches(weights, batch_size=batch_size, seed=seed, epoch=epoch, lengths=lengths)
        dataset = tf.data.Dataset.from_tensor_slices(batches)
        return dataset.batch(steps_a_call(lengths)).map(of_call)

    def of_call(*parts: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return tuple(_dealt(part, replicas)[own.start : own.stop] for part in parts)

    calls = tf.data.Dataset.counter(first_epoch).flat_map(of_epoch).unbatch()
    # If workers did not know that the dataset is endless, they would ask each other before every call.
    return calls.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))


def _dealt(part: tf.Tensor, replicas: int) -> tf.Tensor:
    """Deal the stays of steps, [S, B, ...], to replicas: [replicas, S, ceil(B / replicas), ...]."""
    batch_size, *width = part.shape[1:]
    filled = tf.pad(part, [[0, 0], [0, -batch_size % replicas], *([0, 0] for _ in width)])
    # The batch size is static, so victims need not fill batches up themselves.
    dealt = tf.reshape(filled, [-1, -(-batch_size // replicas), replicas, *width])
    return tf.transpose(dealt, [2, 0, 1, *range(3, 3 + len(width))])


def steps_a_call(lengths: NDArray[np.int64] | None) -> int:
    """Return the number of steps of a call: 1 if stays differ in length, so that it is padded alone."""
    return STEPS_A_CALL if lengths is None else 1


def _by_length(order: tf.Tensor, number: tf.Tensor, lengths: NDArray[np.int64], batch_size: int) -> tf.Tensor:
    """Reorder stays [N] so that a batch has stays of similar lengths, and the batches come at random.

    Args:
        order: int64 [N], the stays in random order.
        number: int64 [2], seed and number of the epoch.
        lengths: int64 [N], number of bins of every stay.
        batch_size: number of stays in a step. The last step, which may have fewer, stays the last.
    """
    whole = len(lengths) // batch_size
    some, rest = order[: whole * batch_size], order[whole * batch_size :]
    group = tf.range(whole * batch_size, dtype=tf.int64) // (STEPS_A_CALL * batch_size)
    rank = tf.argsort(group * (int(np.max(lengths)) + 1) + tf.gather(lengths, some), stable=True)
    batches = tf.reshape(tf.gather(some, rank), [whole, batch_size])
    batches = tf.random.experimental.stateless_shuffle(batches, number + 1)
    return tf.concat([tf.reshape(batches, [-1]), rest], 0)
