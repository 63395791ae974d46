"""Grids of stays of different lengths, one after the other, and padded batches of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mimic3tf.described import Described

SHORTEST = 32
"""Smallest number of bins to which a batch is padded."""


@dataclass(frozen=True, repr=False)
class FlatGrids(Described):
    """Inputs of N stays of different lengths, without padding.

    Attributes:
        rows: float32 [R, D], the bins of all stays, one stay after the other.
        starts: int64 [N + 1], the first row of every stay, then R.
        predicted: int64 [E], the rows at which a prediction is asked for; None if a stay is predicted as a
            whole.
    """

    rows: NDArray[np.float32]
    starts: NDArray[np.int64]
    predicted: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, stays: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the grids of some stays, padded with zeros at the end: float32 [B, T, D]."""
        return np.asarray(padded(self.rows, self.starts, stays, padded_bins(self.starts, stays)))


def padded_bins(starts: Any, stays: Any) -> Any:
    """Return the number of bins T to which some stays are padded; see `common_bins`."""
    return common_bins(tf.gather(starts, tf.cast(stays, tf.int64) + 1) - tf.gather(starts, stays))


def common_bins(lengths: Any) -> Any:
    """Return the number of bins T to which grids of some lengths are padded: a power of 2.

    Compiled recurrent layers are compiled anew for every T, so there are few of them.
    """
    longest = tf.cast(tf.maximum(tf.reduce_max(lengths), SHORTEST), tf.float64)
    return tf.cast(2.0 ** tf.math.ceil(tf.math.log(longest) / np.log(2.0) - 1e-9), tf.int64)


def padded(rows: Any, starts: Any, stays: Any, bins: Any) -> Any:
    """Gather the rows [R, ...] of some stays [B], padded with zeros at the end: [B, T, ...]."""
    index, inside = rows_of(starts, stays, bins)
    gathered = tf.gather(rows, index)
    shape = tf.concat([tf.shape(inside), tf.ones([tf.rank(gathered) - 2], tf.int32)], 0)
    return tf.where(tf.reshape(inside, shape), gathered, tf.zeros([], gathered.dtype))


def rows_of(starts: Any, stays: Any, bins: Any) -> tuple[Any, Any]:
    """Return the rows of some stays: int64 [B, T], and which of them are no padding: bool [B, T]."""
    first = tf.gather(starts, stays)[:, None]
    end = tf.gather(starts, tf.cast(stays, tf.int64) + 1)[:, None]
    index = first + tf.range(bins, dtype=tf.int64)
    inside = index < end
    return tf.where(inside, index, first), inside
