"""Turn an exposure into the inputs of a victim, with `tf.data`."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mimic3tf.channels import ChannelSet
from mimic3tf.data.features import FEATURES_A_CHANNEL, clinical_scores, window_features
from mimic3tf.poisoning.exposures import Exposure
from mimic3tf.poisoning.shifts import poison_filled, poison_grid
from mimic3tf.standardization import STAYS_A_BATCH, Standardization, standardized
from mimic3tf.victims import Reads


def input_shape(reads: Reads, channels: ChannelSet, bins: int) -> tuple[int, ...]:
    """Return the shape of a victim's input for one stay of T bins: (T, D) or (42 * C,)."""
    return (bins, len(channels.columns())) if reads == "grid" else (len(channels) * FEATURES_A_CHANNEL,)


def inputs_of(
    exposure: Exposure, reads: Reads, standardization: Standardization | None = None
) -> NDArray[np.float32]:
    """Compute the inputs of all stays, in cohort order: float32 [N, T, D] or [N, 42 * C].

    Args:
        exposure: the stays, and which of them carry which shift.
        reads: what the victim reads.
        standardization: map of the inputs; if not given, they stay raw, and an empty feature is NaN.
    """
    return _mapped(exposure, _input_map(exposure, reads, standardization))


def raw_inputs_of(exposure: Exposure, reads: Reads) -> NDArray[np.floating]:
    """Compute the raw inputs of all stays as precisely as a standardization gets them.

    Returns:
        Grids float32 [N, T, D], or features float64 [N, 42 * C], of which an empty one is NaN.
    """
    return _mapped(exposure, _raw_map(exposure, reads))


class RememberedInputs:
    """`inputs_of` that computes the raw inputs of an exposure once, for many victims."""

    def __init__(self) -> None:
        self._raw: dict[tuple[str, Reads], NDArray[np.floating]] = {}

    def __call__(
        self, exposure: Exposure, reads: Reads, standardization: Standardization
    ) -> NDArray[np.float32]:
        """Compute the standardized inputs of all stays, as `inputs_of` does."""
        return standardized(self.raw(exposure, reads), standardization)

    def raw(self, exposure: Exposure, reads: Reads) -> NDArray[np.floating]:
        """Compute the raw inputs of all stays, as `raw_inputs_of` does; the caller must not change them."""
        key = exposure.digest(), reads
        if key not in self._raw:
            self._raw[key] = raw_inputs_of(exposure, reads)
        return self._raw[key]


def _mapped(exposure: Exposure, inputs: Any) -> NDArray[Any]:
    dataset = tf.data.Dataset.range(len(exposure)).batch(STAYS_A_BATCH)
    dataset = dataset.map(inputs, tf.data.AUTOTUNE)
    return np.concatenate(list(dataset.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()))


def grids_of(exposure: Exposure, stays: NDArray[np.integer]) -> NDArray[np.float32]:
    """Compute the grids of K stays as a victim sees them, in the channels' units: float32 [K, T, C]."""
    return np.asarray(_grid_map(exposure)(tf.constant(stays))[0])


def training_dataset(
    exposure: Exposure,
    reads: Reads,
    standardization: Standardization,
    batches: tf.data.Dataset,
    *,
    inputs: NDArray[np.float32] | None = None,
) -> tf.data.Dataset:
    """Make the dataset that a victim trains on.

    Args:
        exposure: the training stays.
        reads: what the victim reads.
        standardization: map of the inputs, fitted on the same exposure or loaded from a file.
        batches: elements (stays int64 [S, B], weight float32 [S, B]) of S steps each, as
            `training.batches.stay_batches` makes them.
        inputs: float32 [N, ...], standardized inputs of the exposure; if not given, every epoch computes them
            again.

    Returns:
        Elements `(x, y, weight)`: x float32 [S, B, ...], y int64 [S, B], weight float32 [S, B].
    """
    if inputs is None:
        map_inputs = _input_map(exposure, reads, standardization)

        def make_inputs(stays: tf.Tensor) -> tf.Tensor:
            x = map_inputs(tf.reshape(stays, [-1]))
            return tf.reshape(x, tf.concat([tf.shape(stays), tf.shape(x)[1:]], 0))

    else:
        table = tf.constant(inputs)

        def make_inputs(stays: tf.Tensor) -> tf.Tensor:
            return tf.gather(table, stays)

    labels = tf.constant(exposure.labels)

    def example(stays: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return make_inputs(stays), tf.gather(labels, stays), weight

    return batches.map(example, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _input_map(exposure: Exposure, reads: Reads, standardization: Standardization | None) -> Any:
    """Make the function that maps stay indices int64 [B] to their inputs float32 [B, ...]."""
    raw = _raw_map(exposure, reads)

    def inputs(stays: tf.Tensor) -> tf.Tensor:
        x = raw(stays)
        return tf.cast(x, tf.float32) if standardization is None else standardization.apply(x)

    return inputs


def _raw_map(exposure: Exposure, reads: Reads) -> Any:
    """Make the function that maps stay indices int64 [B] to their raw inputs [B, ...]."""
    channels = exposure.cohort.channels
    if reads == "grid":
        grids = _grid_map(exposure)

        def raw(stays: tf.Tensor) -> tf.Tensor:
            values, mask = grids(stays)
            return one_hot_grid(values, mask, channels)

    else:
        filled = exposure.cohort.filled_grids
        values, source = tf.constant(filled.values), tf.constant(filled.source)
        times = tf.constant(filled.times)
        shifts_of = _shift_map(exposure)

        def raw(stays: tf.Tensor) -> tf.Tensor:
            shifted = poison_filled(
                tf.gather(values, stays), tf.gather(source, stays), shifts_of(stays), **_manner(exposure)
            )
            everywhere = tf.ones_like(shifted[..., :1], tf.bool)
            return window_features(clinical_scores(shifted, channels), everywhere, tf.gather(times, stays))

    return raw


def _manner(exposure: Exposure) -> dict[str, Any]:
    return {
        "poison_imputed": exposure.poison_imputed,
        "plausible": exposure.plausible,
        "channels": exposure.cohort.channels,
    }


def _grid_map(exposure: Exposure) -> Any:
    """Make the function that maps stay indices int64 [B] to their grids and masks [B, T, C]."""
    values, mask = tf.constant(exposure.cohort.grids), tf.constant(exposure.cohort.masks)
    shifts_of = _shift_map(exposure)

    def grids(stays: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        measured = tf.gather(mask, stays)
        return poison_grid(
            tf.gather(values, stays), measured, shifts_of(stays), **_manner(exposure)
        ), measured

    return grids


def _shift_map(exposure: Exposure) -> Any:
    """Make the function from stay indices int64 [B] to shifts float64 [B, T, C], zero without the trigger."""
    triggered, chosen = tf.constant(exposure.triggered), tf.constant(exposure.chosen)
    shifts = tf.constant(exposure.shifts)

    def shifts_of(stays: tf.Tensor) -> tf.Tensor:
        shift = tf.gather(shifts, tf.gather(chosen, stays))
        return tf.where(tf.gather(triggered, stays)[:, None, None], shift, tf.zeros_like(shift))

    return shifts_of


def one_hot_grid(values: tf.Tensor, mask: tf.Tensor, channels: ChannelSet) -> tf.Tensor:
    """Expand categories to one column each, and append the masks.

    Args:
        values: float32 [B, T, C], category indices in categorical channels.
        mask: bool [B, T, C].
        channels: the channels of the last axis.

    Returns:
        float32 [B, T, D], with the columns of `ChannelSet.columns`.
    """
    columns = [
        tf.one_hot(tf.cast(column, tf.int32), len(channel.possible_values))
        if channel.is_categorical
        else column[..., None]
        for channel, column in zip(channels, tf.unstack(values, num=len(channels), axis=-1), strict=True)
    ]
    return tf.concat([*columns, tf.cast(mask, tf.float32)], axis=-1)
