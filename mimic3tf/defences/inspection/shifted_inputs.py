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
from mimic3tf.data.flat import padded_bins, rows_of
from mimic3tf.pipeline import as_long_as
from mimic3tf.standardization import Standardization
from mimic3tf.victims import Reads

ShiftedInputs = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""(stays int64 [B], patterns float64 [K, T, C]) -> standardized inputs float32 [K * B, ...]."""


def shifted_inputs(cohort: Cohort, reads: Reads, standardization: Standardization) -> ShiftedInputs:
    """Make the function from stays and patterns to a victim's standardized inputs.

    Imputed cells are shifted, too, as in the attack's mode "all". On PhysioNet 2012, a trigger in all cells
    works even better on victims that were poisoned in measured cells only. If stays have lengths of their
    own, the pattern ends with the stay, and grids are padded with zeros at the end as `FlatGrids` are.

    Args:
        cohort: the stays, each of which is predicted as a whole.
        reads: whether the victim reads grids or features.
        standardization: standardization of the victim's inputs.

    Returns:
        A function of stay indices [B] and patterns [K, T, C] in channel units; see `ShiftedInputs`.

    Raises:
        DataError: the victim reads features, and the cohort has no filled grids.
    """
    shifted = _shifted_grids(cohort) if reads == "grid" else _shifted_features(cohort)
    starts, bins = tf.constant(cohort.starts), None if cohort.period is None else cohort.bins

    def inputs(stays: tf.Tensor, patterns: tf.Tensor) -> tf.Tensor:
        longest = padded_bins(starts, stays) if bins is None else bins
        rows, inside = rows_of(starts, stays, longest)
        repeated = tf.tile(inside, [tf.shape(patterns)[0], 1])[..., None]
        x = shifted(rows, repeated, as_long_as(patterns, longest))
        x = standardization.apply(x)
        return tf.where(repeated, x, tf.zeros([], x.dtype)) if reads == "grid" else x

    return inputs


Shifted = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
"""(rows int64 [B, T]; which are no padding, [K * B, T, 1]; patterns [K, T, C]) -> raw inputs [K * B, ...]"""


def _shifted_grids(cohort: Cohort) -> Shifted:
    values, mask, channels = tf.constant(cohort.values), tf.constant(cohort.mask), cohort.channels

    def shifted(rows: tf.Tensor, _: tf.Tensor, patterns: tf.Tensor) -> tf.Tensor:
        grids = _limited(tf.cast(tf.gather(values, rows), tf.float64) + patterns[:, None], channels)
        masks = tf.tile(tf.cast(tf.gather(mask, rows), tf.float64), [tf.shape(patterns)[0], 1, 1])
        columns = [
            _categories(column, channel) if channel.is_categorical else column[..., None]
            for channel, column in _columns(_merged(grids), channels)
        ]
        return tf.concat([*columns, masks], axis=-1)

    return shifted


def _shifted_features(cohort: Cohort) -> Shifted:
    filled, channels = cohort.filled_rows, cohort.channels
    values, times = tf.constant(filled.values), tf.constant(filled.times)
    source = tf.constant(filled.source)

    def shifted(rows: tf.Tensor, inside: tf.Tensor, patterns: tf.Tensor) -> tf.Tensor:
        carried, own = _filled_shifts(tf.gather(source, rows), patterns)
        grids = _limited(_limited(tf.gather(values, rows) + carried, channels) + own, channels)
        scores = [
            tf.linalg.matvec(_categories(column, channel), tf.constant(channel.numeric_codes, tf.float64))
            if channel.is_categorical
            else column
            for channel, column in _columns(_merged(grids), channels)
        ]
        hours = tf.tile(tf.gather(times, rows), [tf.shape(patterns)[0], 1])
        return window_features(tf.stack(scores, axis=-1), inside, hours)

    return shifted


def _merged(grids: tf.Tensor) -> tf.Tensor:
    """Merge the first two axes of grids [K, B, T, C]."""
    bins = grids.shape[2] or tf.shape(grids)[2]
    return tf.reshape(grids, [-1, bins, grids.shape[3]])


def _filled_shifts(source: tf.Tensor, patterns: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return shifts [K, B, T, C] of filled grids: of values' source bins, and of carried values' own bins."""
    source = tf.cast(source, tf.int32)  # [B, T, C]
    places = tf.transpose(tf.maximum(source, 0), [2, 0, 1])
    carried = tf.gather(tf.transpose(patterns, [2, 1, 0]), places, batch_dims=1)  # [C, B, T, K]
    zero = tf.zeros([], tf.float64)
    carried = tf.where(source < 0, zero, tf.transpose(carried, [3, 1, 2, 0]))
    is_own = source == tf.range(tf.shape(source)[1])[:, None]
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
