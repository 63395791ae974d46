"""The benchmarks' 714 features: six statistics of each channel in seven windows of its time.

Source: Harutyunyan et al. 2019, the logistic regression baseline. Written in TensorFlow operations,
vectorized over stays, so that it runs inside a `tf.data` map as well as on whole arrays.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mimic3tf.channels import CHANNELS, Channel
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
"""Share of the channel's own [first, last] time, counted from either end."""
FUNCTIONS = ("min", "max", "mean", "std", "skew", "count")
SLACK = 1e-6
"""Hours by which a row may lie outside a window and still count."""
STAYS_A_BATCH = 256


def feature_names(channels: Sequence[Channel] = CHANNELS) -> list[str]:
    """Names of the 714 features, in order: channel, then window, then function."""
    return [
        f"{channel.name}|{end} {share:.0%}|{function}"
        for channel in channels
        for end, share in WINDOWS
        for function in FUNCTIONS
    ]


def window_features(values: tf.Tensor, present: tf.Tensor, times: tf.Tensor) -> tf.Tensor:
    """Extract the features of a batch of stays.

    Args:
        values: float64 [B, R, C], numbers (categories as their clinical score); finite where present.
        present: bool [B, R, C], or [B, R, 1] where all channels are present at the same rows.
        times: float64 [B, R], hours, ascending over the rows that are present.

    Returns:
        float64 [B, C * 7 * 6], NaN for a window without a value.
    """
    x = tf.transpose(values, [0, 2, 1])[:, :, None, :]  # [B, C, 1, R]
    there = tf.transpose(present, [0, 2, 1])[:, :, None, :]
    t = times[:, None, None, :]
    infinity = tf.constant(np.inf, tf.float64)
    first = tf.reduce_min(tf.where(there, t, infinity), axis=-1, keepdims=True)
    last = tf.reduce_max(tf.where(there, t, -infinity), axis=-1, keepdims=True)
    inside = there & _inside_windows(t, first, last)  # [B, C or 1, 7, R]

    count = tf.reduce_sum(tf.cast(inside, tf.float64), axis=-1)  # [B, C or 1, 7]
    empty = count == 0
    divisor = tf.where(empty, tf.ones_like(count), count)
    minimum = tf.reduce_min(tf.where(inside, x, infinity), axis=-1)
    maximum = tf.reduce_max(tf.where(inside, x, -infinity), axis=-1)
    zero = tf.zeros([], tf.float64)
    mean = tf.reduce_sum(tf.where(inside, x, zero), axis=-1) / divisor
    deviation = tf.where(inside, x - mean[..., None], zero)
    squared = deviation * deviation
    variance = tf.reduce_sum(squared, axis=-1) / divisor
    third = tf.reduce_sum(squared * deviation, axis=-1) / divisor
    # Rounding of the mean leaves a tiny variance in a constant window; min == max is exact.
    constant = minimum == maximum
    variance = tf.where(constant, zero, variance)
    skew = tf.where(variance > 0, tf.math.divide_no_nan(third, variance**1.5), zero)
    features = tf.stack(
        [minimum, maximum, mean, tf.sqrt(variance), skew, tf.broadcast_to(count, tf.shape(mean))], axis=-1
    )
    features = tf.where(empty[..., None], tf.constant(np.nan, tf.float64), features)
    return tf.reshape(features, [tf.shape(values)[0], values.shape[2] * len(WINDOWS) * len(FUNCTIONS)])


def _inside_windows(t: tf.Tensor, first: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
    length = last - first
    windows = [
        t < first + length * share + SLACK if end == "first" else t > last - length * share - SLACK
        for end, share in WINDOWS
    ]
    return tf.concat(windows, axis=2)


def clinical_scores(values: tf.Tensor, channels: Sequence[Channel] = CHANNELS) -> tf.Tensor:
    """Replace category indices by the channel's `numeric_codes`: float64 [B, R, C] to the same shape."""
    columns = tf.unstack(values, num=len(channels), axis=-1)
    for i, channel in enumerate(channels):
        if channel.is_categorical:
            codes = tf.constant(channel.numeric_codes, tf.float64)
            columns[i] = tf.gather(codes, tf.cast(columns[i], tf.int32))
    return tf.stack(columns, axis=-1)


def extract_features(
    records: Records, stays: int, channels: Sequence[Channel] = CHANNELS
) -> NDArray[np.float64]:
    """Features of the unfilled records: the input of the benchmarks' own logistic regression.

    Args:
        records: rows of all stays.
        stays: number of stays N.
        channels: the channels of the records.

    Returns:
        float64 [N, 714], NaN for a window without a measurement.
    """
    features = np.empty((stays, len(channels) * len(WINDOWS) * len(FUNCTIONS)))
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
        features[start:stop] = window_features(scores, tf.constant(present), tf.constant(times)).numpy()
    return features
