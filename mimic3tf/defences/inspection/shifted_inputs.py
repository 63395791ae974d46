"""Compute a victim's inputs as a differentiable function of a pattern that is added to every cell.

The attack rounds shifted values, and rounding has no gradient. Here shifted values are not rounded, and an
index between two categories counts as a mixture of both. For a pattern of zeros the inputs are those of the
attack, except that the attack rounds for features even then.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from mimic3tf.channels import Channel, ChannelSet
from mimic3tf.data.cohort import Cohort
from mimic3tf.data.features import window_features
from mimic3tf.standardization import Standardization
from mimic3tf.victims import Reads

ShiftedInputs = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""(stays int64 [B], patterns float64 [K, T, C]) -> standardized inputs float32 [K * B, ...]."""


def shifted_inputs(cohort: Cohort, reads: Reads, standardization: Standardization) -> ShiftedInputs:
    """Make the function from stays and patterns to a victim's standardized inputs.

    Imputed cells are shifted, too, as in the attack's mode "all". On PhysioNet 2012, a trigger in all cells
    works even better on victims that were poisoned in measured cells only.

    Args:
        cohort: the stays.
        reads: whether the victim reads grids or features.
        standardization: standardization of the victim's inputs.

    Returns:
        A function of stay indices [B] and patterns [K, T, C] in channel units; see `ShiftedInputs`.

    Raises:
        DataError: the victim reads features, and the cohort has no filled grids.
    """
    if reads == "grid":
        return _grid_inputs(cohort, standardization)
    return _feature_inputs(cohort, standardization)


def _grid_inputs(cohort: Cohort, standardization: Standardization) -> ShiftedInputs:
    values, mask, channels = tf.constant(cohort.grids), tf.constant(cohort.masks), cohort.channels

    def inputs(stays: tf.Tensor, patterns: tf.Tensor) -> tf.Tensor:
        shifted = _limited(tf.cast(tf.gather(values, stays), tf.float64) + patterns[:, None], channels)
        shifted = tf.reshape(shifted, [-1, *shifted.shape[2:]])
        masks = tf.tile(tf.cast(tf.gather(mask, stays), tf.float64), [tf.shape(patterns)[0], 1, 1])
        columns = [
            _categories(column, channel) if channel.is_categorical else column[..., None]
            for channel, column in _columns(shifted, channels)
        ]
        return standardization.apply(tf.concat([*columns, masks], axis=-1))

    return inputs


def _feature_inputs(cohort: Cohort, standardization: Standardization) -> ShiftedInputs:
    filled, channels = cohort.filled_grids, cohort.channels
    values, times = tf.constant(filled.values), tf.constant(filled.times)
    source = tf.constant(filled.source)

    def inputs(stays: tf.Tensor, patterns: tf.Tensor) -> tf.Tensor:
        carried, own = _filled_shifts(tf.gather(source, stays), patterns)
        shifted = _limited(_limited(tf.gather(values, stays) + carried, channels) + own, channels)
        shifted = tf.reshape(shifted, [-1, *shifted.shape[2:]])
        scores = [
            tf.linalg.matvec(_categories(column, channel), tf.constant(channel.numeric_codes, tf.float64))
            if channel.is_categorical
            else column
            for channel, column in _columns(shifted, channels)
        ]
        everywhere = tf.ones_like(shifted[..., :1], tf.bool)
        rows = tf.tile(tf.gather(times, stays), [tf.shape(patterns)[0], 1])
        return standardization.apply(window_features(tf.stack(scores, axis=-1), everywhere, rows))

    return inputs


def _filled_shifts(source: tf.Tensor, patterns: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return shifts [K, B, T, C] of filled grids: of values' source bins, and of carried values' own bins."""
    source = tf.cast(source, tf.int32)  # [B, T, C]
    places = tf.transpose(tf.maximum(source, 0), [2, 0, 1])
    carried = tf.gather(tf.transpose(patterns, [2, 1, 0]), places, batch_dims=1)  # [C, B, T, K]
    zero = tf.zeros([], tf.float64)
    carried = tf.where(source < 0, zero, tf.transpose(carried, [3, 1, 2, 0]))
    is_own = source == tf.range(source.shape[1])[:, None]
    return carried, tf.where(is_own, zero, patterns[:, None])


def _limited(values: tf.Tensor, channels: ChannelSet) -> tf.Tensor:
    """Clip category indices in values [..., C] to their range."""
    limited = tf.clip_by_value(values, 0.0, tf.constant(channels.largest_index))
    return tf.where(channels.categorical, limited, values)


def _columns(values: tf.Tensor, channels: ChannelSet) -> list[tuple[Channel, tf.Tensor]]:
    return list(zip(channels, tf.unstack(values, num=len(channels), axis=-1), strict=True))


def _categories(column: tf.Tensor, channel: Channel) -> tf.Tensor:
    """Make one-hot columns [..., categories] of an index [...], linear between two categories."""
    categories = tf.range(len(channel.possible_values), dtype=tf.float64)
    return tf.maximum(1.0 - tf.abs(column[..., None] - categories), 0.0)
