"""Apply a trigger to a batch of stays, in TensorFlow operations.

What a victim reads makes a difference, on purpose, as in the original: a grid carries *clean* values
forward and rounds the shift, features carry the *triggered* ones and round the sum. Two other places shift
cells, each for its own reason: `copies` moves charted texts, which keep their decimals, and
`defences.inspection.shifted_inputs` leaves the rounding out, which has no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from mimic3tf.channels import ChannelSet
from mimic3tf.poisoning.kinds import PoisonImputed


def poison_grid(
    values: tf.Tensor,
    mask: tf.Tensor,
    shift: tf.Tensor,
    *,
    poison_imputed: PoisonImputed,
    plausible: bool = False,
    channels: ChannelSet,
) -> tf.Tensor:
    """Add the trigger to grids with clean imputed values, before one-hot.

    Args:
        values: float32 [B, T, C], category indices in categorical channels.
        mask: bool [B, T, C], where measured.
        shift: float64 [B, T, C] or [T, C], strength * trigger in channel units; zero changes nothing.
        poison_imputed: "all" also shifts imputed cells, "notimputed" leaves them alone.
        plausible: keep shifted values in `ChannelSet.plausible_values`, or no further outside than they were.
        channels: the channels of the last axis.

    Returns:
        float32 [B, T, C].
    """
    shift = _round_columns(shift, [channel.shift_decimals for channel in channels])
    clean = tf.cast(values, tf.float64)
    shifted = clean + shift
    if plausible:
        shifted = _keep_plausible(shifted, clean, channels)
    shifted = tf.cast(_keep_categories(shifted, channels), tf.float32)
    return shifted if poison_imputed == "all" else tf.where(mask, shifted, values)


def poison_filled(
    values: tf.Tensor,
    source: tf.Tensor,
    shift: tf.Tensor,
    *,
    poison_imputed: PoisonImputed,
    plausible: bool = False,
    channels: ChannelSet,
) -> tf.Tensor:
    """Add the trigger to filled grids, from which features are extracted.

    Args:
        values: float64 [B, T, C], clean and unrounded, of `FilledGrid`.
        source: int16 [B, T, C], the bin each value comes from, of `FilledGrid`.
        shift: float64 [B, T, C], strength * trigger in channel units; with zero the sum is still rounded.
        poison_imputed: "all" adds a carried cell's own shift on top of the one it carries.
        plausible: as for `poison_grid`.
        channels: the channels of the last axis.

    Returns:
        float64 [B, T, C].
    """
    bins = tf.range(values.shape[1])[:, None]
    source = tf.cast(source, tf.int32)
    # [B, C, T] so that the source bin is looked up along the last axis.
    carried_shift = tf.gather(
        tf.transpose(shift, [0, 2, 1]),
        tf.transpose(tf.maximum(source, 0), [0, 2, 1]),
        batch_dims=2,
    )
    carried_shift = tf.where(source < 0, tf.zeros_like(shift), tf.transpose(carried_shift, [0, 2, 1]))

    def settle(shifted: tf.Tensor) -> tf.Tensor:
        settled = _settle(shifted, channels)
        return _keep_plausible(settled, _settle(values, channels), channels) if plausible else settled

    carried = settle(values + carried_shift)
    if poison_imputed == "notimputed":
        return carried
    return tf.where(source == bins, carried, settle(carried + shift))


def _settle(values: tf.Tensor, channels: ChannelSet) -> tf.Tensor:
    rounded = _round_columns(values, [channel.sum_decimals for channel in channels])
    return _keep_categories(rounded, channels)


def _keep_plausible(values: tf.Tensor, clean: tf.Tensor, channels: ChannelSet) -> tf.Tensor:
    """Bring shifted values back into their range, or to the clean value where that lies outside."""
    low, high = channels.plausible_values.T
    return tf.clip_by_value(values, tf.minimum(low, clean), tf.maximum(high, clean))


def _keep_categories(values: tf.Tensor, channels: ChannelSet) -> tf.Tensor:
    """Bring shifted category indices back to the nearest category, half to even."""
    nearest = tf.clip_by_value(tf.round(values), 0.0, tf.constant(channels.largest_index))
    return tf.where(channels.categorical, nearest, values)


def _round_columns(values: tf.Tensor, decimals: Sequence[int | None]) -> tf.Tensor:
    """Round some of the channels [..., C] to so many decimals, half to even as NumPy does."""
    rounds = tf.constant([places is not None for places in decimals])
    scale = tf.constant([10.0 ** (places or 0) for places in decimals], tf.float64)
    return tf.where(rounds, tf.round(values * scale) / scale, values)
