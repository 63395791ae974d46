"""Apply a trigger to a batch of stays, in TensorFlow operations.

Grids and features are shifted differently, on purpose, as in the original: grids carry *clean* values forward
and round the shift; features carry *triggered* values forward and round the sum. Three other modules shift
cells, each for its own reason: `copies` shifts charted texts, which keep their decimals, `arrays` does
without TensorFlow, and `defences.inspection.shifted_inputs` does not round, because rounding has no gradient.
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
        mask: bool [B, T, C], true where a cell was measured.
        shift: float64 [B, T, C] or [T, C], strength * trigger in channel units; zero changes nothing.
        poison_imputed: "notimputed" shifts measured cells only, "all" shifts imputed cells, too.
        plausible: move no value out of `ChannelSet.plausible_values`, and no value outside it further away.
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
        values: float64 [B, T, C] of `FilledGrid`, clean and unrounded.
        source: int16 [B, T, C] of `FilledGrid`, the bin from which each value comes.
        shift: float64 [B, T, C], strength * trigger in channel units; if zero, the sum is still rounded.
        poison_imputed: with "notimputed", an imputed cell carries the shift of its source bin; with "all",
            its own shift is added.
        plausible: as for `poison_grid`.
        channels: the channels of the last axis.

    Returns:
        float64 [B, T, C].
    """
    bins = tf.range(values.shape[1] or tf.shape(values)[1])[:, None]
    source = tf.cast(source, tf.int32)
    # Transposed to [B, C, T], because the source bin is looked up along the last axis.
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
    """Clip shifted values to the plausible range, extended to the clean value if that is outside."""
    low, high = channels.plausible_values.T
    return tf.clip_by_value(values, tf.minimum(low, clean), tf.maximum(high, clean))


def _keep_categories(values: tf.Tensor, channels: ChannelSet) -> tf.Tensor:
    """Round shifted category indices to the nearest category, half to even."""
    nearest = tf.clip_by_value(tf.round(values), 0.0, tf.constant(channels.largest_index))
    return tf.where(channels.categorical, nearest, values)


def _round_columns(values: tf.Tensor, decimals: Sequence[int | None]) -> tf.Tensor:
    """Round each channel of [..., C] to its decimals, half to even as NumPy; None leaves it unrounded."""
    rounds = tf.constant([places is not None for places in decimals])
    scale = tf.constant([10.0 ** (places or 0) for places in decimals], tf.float64)
    return tf.where(rounds, tf.round(values * scale) / scale, values)
