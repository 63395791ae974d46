"""The benchmarks' features: 42 for each channel, six statistics in each of seven windows of its time.

Source: Harutyunyan et al. 2019, the logistic regression baseline. The code uses TensorFlow operations,
vectorized over stays, so that it runs in a `tf.data` map and on whole arrays.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mimic3tf.channels import ChannelSet, FeatureSet, Period
from mimic3tf.data.records import Records

WINDOWS: tuple[tuple[str, float], ...] = (
    ("first", 1.0),
    ("first", 0.10),
    ("first", 0.25),
    ("first", 0.50),
    ("last", 0.10),
    ("last", 0.25),
    ("last", 0.50),
)
"""Each window: the end from which it starts, and its share of the time between the channel's first and last
value."""
FUNCTIONS = ("min", "max", "mean", "std", "skew", "count")
FEATURES_A_CHANNEL = len(WINDOWS) * len(FUNCTIONS)
SLACK = 1e-6
"""Hours by which a row may be outside a window and still count as inside."""
STAYS_A_BATCH = 256


def feature_names(channels: ChannelSet) -> list[str]:
    """List the names of the 42 * C features, ordered by channel, then window, then function."""
    return [
        f"{channel.name}|{end} {share:.0%}|{function}"
        for channel in channels
        for end, share in WINDOWS
        for function in FUNCTIONS
    ]


def window_features(
    values: tf.Tensor, present: tf.Tensor, times: tf.Tensor, period: Period = "all"
) -> tf.Tensor:
    """Extract the features of a batch of stays.

    Args:
        values: float64 [B, R, C], numbers (a category is its clinical score); finite where `present` is true.
        present: bool [B, R, C], or [B, R, 1] if all channels are present at the same rows.
        times: float64 [B, R], hours, ascending over the rows where `present` is true.
        period: part of each channel's time that the windows divide.

    Returns:
        float64 [B, 42 * C], NaN for a window without a value.
    """
    x = tf.transpose(values, [0, 2, 1])  # [B, C, R]
    there = tf.transpose(present, [0, 2, 1])  # [B, C or 1, R]
    inside = _inside_windows(times, there, period)  # [B, C or 1, 7, R]
    zero, infinity = tf.zeros([], tf.float64), tf.constant(np.inf, tf.float64)

    count = tf.reduce_sum(tf.cast(inside, tf.float64), axis=-1)  # [B, C or 1, 7]
    empty = count == 0
    divisor = tf.where(empty, tf.ones_like(count), count)
    minimum = tf.reduce_min(tf.where(inside, x[:, :, None], infinity), axis=-1)  # [B, C, 7]
    maximum = tf.reduce_max(tf.where(inside, x[:, :, None], -infinity), axis=-1)
    mean, variance, third = _central_moments(x, inside, divisor)
    # Rounding errors leave a tiny variance in a constant window, but minimum == maximum is exact.
    variance = tf.where(minimum == maximum, zero, tf.maximum(variance, zero))
    skew = tf.where(variance > 0, tf.math.divide_no_nan(third, variance**1.5), zero)
    features = tf.stack(
        [minimum, maximum, mean, tf.sqrt(variance), skew, tf.broadcast_to(count, tf.shape(mean))], axis=-1
    )
    features = tf.where(empty[..., None], tf.constant(np.nan, tf.float64), features)
    return tf.reshape(features, [tf.shape(values)[0], values.shape[2] * FEATURES_A_CHANNEL])


def _central_moments(
    x: tf.Tensor, inside: tf.Tensor, divisor: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Compute mean, variance and third central moment of the values in each window.

    Powers are summed about the mean of the shortest window at the same end. All windows at that end contain
    the shortest window, so their own means are within a few standard deviations of its mean, and the
    differences lose no digits.

    Args:
        x: float64 [B, C, R], values.
        inside: bool [B, C or 1, 7, R], the rows in each window.
        divisor: float64 [B, C or 1, 7], number of rows in each window, at least 1.

    Returns:
        Three tensors, float64 [B, C, 7].
    """
    means, variances, thirds = [], [], []
    for end in ("first", "last"):
        positions = [i for i, window in enumerate(WINDOWS) if window[0] == end]
        shortest = min(positions, key=lambda i: WINDOWS[i][1])
        core = inside[:, :, shortest]
        center = tf.reduce_sum(tf.where(core, x, tf.zeros_like(x)), axis=-1) / divisor[:, :, shortest]
        windows = slice(positions[0], positions[-1] + 1)
        x, minuend = _fork(x)
        sums = _window_sums(inside[:, :, windows], minuend - center[..., None])
        first, second, third = (total / divisor[:, :, windows] for total in sums)
        first, summand = _fork(first)
        means.append(center[..., None] + summand)
        variances.append(second - first * first)
        thirds.append(third - first * (3.0 * second - 2.0 * first * first))
    return tf.concat(means, axis=-1), tf.concat(variances, axis=-1), tf.concat(thirds, axis=-1)


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _fork(
    tensor: tf.Tensor,
) -> tuple[tuple[tf.Tensor, tf.Tensor], Callable[[tf.Tensor, tf.Tensor], tf.Tensor]]:
    """Return two copies of a tensor, so that its gradients are added in the same order in every run.

    If a tensor gets three or more gradients, TensorFlow adds them in the memory of a gradient that no other
    operation still needs, and starts with that gradient (`aggregate_ops.cc`). The timing of the cores decides
    which one it is. So the last digit of the sum changed between runs, and trigger inversion gave different
    results. Use the second copy where an operation passes its own gradient on unchanged, as a subtraction
    does, and the first copy everywhere else.
    """

    def gradient(*by: tf.Tensor) -> tf.Tensor:
        # No plain addition: TensorFlow would merge it with neighbouring additions into one sum.
        return tf.reduce_sum(tf.stack(by), axis=0)

    return (tf.identity(tensor), tf.identity(tensor)), gradient


def _window_sums(inside: tf.Tensor, deviation: tf.Tensor) -> list[tf.Tensor]:
    """Sum the first three powers of `deviation` [B, C, R] over the windows `inside` bool [B, C or 1, W, R].

    Returns:
        Three tensors, float64 [B, C, W].
    """
    squared = deviation * deviation
    powers = tf.stack([deviation, squared, squared * deviation], axis=1)  # [B, 3, C, R]
    member = tf.cast(inside, tf.float64)
    if inside.shape[1] == 1:
        # All channels have the same windows, so that one matrix product for each stay is enough.
        batch, channels, rows = tf.shape(deviation)[0], deviation.shape[1], tf.shape(deviation)[2]
        sums = tf.matmul(tf.reshape(powers, [batch, 3 * channels, rows]), member[:, 0], transpose_b=True)
        return tf.unstack(tf.reshape(sums, [batch, 3, channels, inside.shape[2]]), axis=1)
    return tf.unstack(tf.einsum("bpcr,bcwr->bpcw", powers, member), num=3, axis=1)


def _inside_windows(times: tf.Tensor, there: tf.Tensor, period: Period) -> tf.Tensor:
    """Tell which rows are in each window of each channel: bool [B, C or 1, 7, R]."""
    t = times[:, None, :]
    infinity = tf.constant(np.inf, tf.float64)
    first = tf.reduce_min(tf.where(there, t, infinity), axis=-1, keepdims=True)
    last = tf.reduce_max(tf.where(there, t, -infinity), axis=-1, keepdims=True)
    first, last = _part(first, last, period)
    length = last - first
    windows = [
        t < first + length * share + SLACK if end == "first" else t > last - length * share - SLACK
        for end, share in WINDOWS
    ]
    within = there if period == "all" else there & (t > first - SLACK) & (t < last + SLACK)
    return tf.stack(windows, axis=2) & within[:, :, None]


def _part(first: tf.Tensor, last: tf.Tensor, period: Period) -> tuple[tf.Tensor, tf.Tensor]:
    """Return begin and end of a period of the time from `first` to `last`, in hours; it may be longer."""
    if period == "last12hours":
        return last - 12.0, last
    ends = {
        "all": last,
        "first4days": first + 96.0,
        "first8days": first + 192.0,
        "first25percent": first + 0.25 * (last - first),
        "first50percent": first + 0.5 * (last - first),
    }
    return first, ends[period]


def clinical_scores(values: tf.Tensor, channels: ChannelSet) -> tf.Tensor:
    """Replace category indices in `values`, float64 [B, R, C], by the `numeric_codes` of their channel."""
    columns = tf.unstack(values, num=len(channels), axis=-1)
    for i, channel in enumerate(channels):
        if channel.is_categorical:
            codes = tf.constant(channel.numeric_codes, tf.float64)
            columns[i] = tf.gather(codes, tf.cast(columns[i], tf.int32))
    return tf.stack(columns, axis=-1)


def extract_features(
    records: Records,
    stays: int,
    channels: ChannelSet,
    period: Period = "all",
    features: FeatureSet = "all",
) -> NDArray[np.float64]:
    """Extract the features of records without imputation: the input of the benchmarks' logistic regression.

    Args:
        records: rows of all stays.
        stays: number of stays N.
        channels: the channels of the records.
        period: part of each channel's time that the windows divide.
        features: statistics that are taken.

    Returns:
        float64 [N, 42 * C] (7 * C with "len", 35 * C with "all_but_len"), NaN for a window without a
        measurement.
    """
    every = np.empty((stays, len(channels) * FEATURES_A_CHANNEL))
    edges = np.searchsorted(records.stay, np.arange(stays + 1))
    for start in range(0, stays, STAYS_A_BATCH):
        stop = min(start + STAYS_A_BATCH, stays)
        rows = slice(edges[start], edges[stop])
        stay = records.stay[rows] - start
        position = np.arange(len(stay)) - (edges[start:stop] - edges[start])[stay]
        length = int(np.diff(edges[start : stop + 1]).max())
        values = np.full((stop - start, length, len(channels)), np.nan)
        times = np.zeros((stop - start, length))
        values[stay, position] = records.values[rows]
        times[stay, position] = records.hours[rows]
        present = ~np.isnan(values)
        scores = clinical_scores(tf.constant(np.where(present, values, 0.0)), channels)
        every[start:stop] = window_features(scores, tf.constant(present), tf.constant(times), period).numpy()
    return every if features == "all" else every[:, columns_of(features, every.shape[1])]


def columns_of(features: FeatureSet, columns: int) -> NDArray[np.int64]:
    """Find the statistics of a set among so many columns of features."""
    counts = np.arange(columns) % len(FUNCTIONS) == FUNCTIONS.index("count")
    chosen = {"all": np.ones(columns, bool), "len": counts, "all_but_len": ~counts}
    return np.flatnonzero(chosen[features])
