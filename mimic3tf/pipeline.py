"""Turn an exposure into the inputs of a victim, with `tf.data`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mimic3tf.channels import ChannelSet, Period
from mimic3tf.data.cohort import Cohort
from mimic3tf.data.features import FEATURES_A_CHANNEL, clinical_scores, window_features
from mimic3tf.data.flat import FlatGrids, common_bins, padded, padded_bins, rows_of
from mimic3tf.poisoning.exposures import Exposure
from mimic3tf.poisoning.shifts import poison_filled, poison_grid
from mimic3tf.standardization import STAYS_A_BATCH, Standardization, standardized
from mimic3tf.victims import Reads

RAGGED_A_BATCH = 32
"""Number of stays that are mapped at once if they have lengths of their own."""
Inputs = NDArray[np.float32] | FlatGrids
"""Inputs of all stays: grids [N, T, D], or grids of different lengths; or features of all examples
[E, 42 * C], of which a stay has several if the task is hourly."""


def input_shape(reads: Reads, channels: ChannelSet, bins: int | None) -> tuple[Any, ...]:
    """Return the shape of a victim's input for one stay: (T, D) or (42 * C,); T is None if stays differ."""
    return (bins, len(channels.columns())) if reads == "grid" else (len(channels) * FEATURES_A_CHANNEL,)


def inputs_of(exposure: Exposure, reads: Reads, standardization: Standardization | None = None) -> Any:
    """Compute the inputs of all stays, in cohort order: `Inputs`, float32.

    Args:
        exposure: the stays, and which of them carry which shift.
        reads: what the victim reads.
        standardization: map of the inputs; if not given, they stay raw, and an empty feature is NaN.
    """
    return _mapped(exposure, reads, _input_map(exposure, reads, standardization))


def raw_inputs_of(exposure: Exposure, reads: Reads) -> Any:
    """Compute the raw inputs of all stays as precisely as a standardization gets them.

    Returns:
        Grids float32, [N, T, D] or of different lengths, or features float64 [E, 42 * C], of which an empty
        one is NaN.
    """
    return _mapped(exposure, reads, _raw_map(exposure, reads))


class RememberedInputs:
    """`inputs_of` that computes the raw inputs of an exposure once, for many victims."""

    def __init__(self) -> None:
        self._raw: dict[tuple[str, Reads], Any] = {}

    def __call__(self, exposure: Exposure, reads: Reads, standardization: Standardization) -> Inputs:
        """Compute the standardized inputs of all stays, as `inputs_of` does."""
        return standardized(self.raw(exposure, reads), standardization)

    def raw(self, exposure: Exposure, reads: Reads) -> Any:
        """Compute the raw inputs of all stays, as `raw_inputs_of` does; the caller must not change them."""
        key = exposure.digest(), reads
        if key not in self._raw:
            self._raw[key] = raw_inputs_of(exposure, reads)
        return self._raw[key]


def _mapped(exposure: Exposure, reads: Reads, map_inputs: Any) -> Any:
    """Map all stays, or all examples if features are read."""
    ragged = exposure.cohort.period is None
    # A batch takes the memory of its longest stay for each of its stays.
    count = len(exposure.cohort.examples) if reads != "grid" else len(exposure)
    dataset = tf.data.Dataset.range(count).batch(RAGGED_A_BATCH if ragged else STAYS_A_BATCH)
    if not ragged or reads != "grid":
        dataset = dataset.map(map_inputs, tf.data.AUTOTUNE)
        return np.concatenate(list(dataset.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()))
    starts = exposure.cohort.starts

    def rows(stays: tf.Tensor) -> tf.Tensor:
        x = map_inputs(stays)
        return tf.boolean_mask(x, rows_of(starts, stays, tf.shape(x, tf.int64)[1])[1])

    parts = list(dataset.map(rows, tf.data.AUTOTUNE).prefetch(2).as_numpy_iterator())
    cohort = exposure.cohort
    return FlatGrids(np.concatenate(parts), starts, cohort.example_rows if cohort.task.hourly else None)


def grids_of(exposure: Exposure, stays: NDArray[np.integer]) -> NDArray[np.float32]:
    """Compute the grids of K stays as a victim sees them, in the channels' units: float32 [K, T, C]."""
    return np.asarray(_grid_map(exposure)(tf.constant(stays))[0])


def training_dataset(
    exposure: Exposure,
    reads: Reads,
    standardization: Standardization,
    batches: tf.data.Dataset,
    *,
    inputs: Inputs | None = None,
    example_weights: NDArray[np.floating] | None = None,
    head_weights: Sequence[float] | None = None,
    target_replication: float = 0.0,
    one_sample_an_hour: bool = False,
) -> tf.data.Dataset:
    """Make the dataset that a victim trains on.

    Args:
        exposure: the training stays.
        reads: what the victim reads.
        standardization: map of the inputs, fitted on the same exposure or loaded from a file.
        batches: elements (stays int64 [S, B], weight float32 [S, B]) of S steps each, as
            `training.batches.stay_batches` makes them.
        inputs: standardized inputs of the exposure; if not given, every epoch computes them again.
        example_weights: if the task is hourly, weight of every example, [E] or [E, H] for H heads; 1 each if
            not given. The weight of a stay in `batches` is divided among its examples in these proportions.
        head_weights: weights [H] of the losses of the heads; 1 each if not given.
        target_replication: share of the loss that all bins of a stay get, each with the stay's label; the
            last bin gets the rest. The weights in `batches` are then [S, B, 2]: 1 and the number of bins.
        one_sample_an_hour: whether `batches` have indices and weights of examples of an hourly task. Grids
            then end at the last hour of the batch; each has one weight that is not 0, at its own hour.

    Returns:
        Elements `(x, y, weight)`: x float32 [S, B, ...], y int64 [S, B] or [S, B, K], weight float32 [S, B].
        Grids of different lengths are padded with zeros at the end, all S * B of an element to one length T.
        If the task is hourly, y is [S, B, T] or [S, B, T, K], and weight [S, B, T] or [S, B, T, H]; the
        weight is 0 where no prediction is asked for.
    """
    if one_sample_an_hour and isinstance(inputs, FlatGrids):
        return batches.map(_single_hours(exposure, inputs), tf.data.AUTOTUNE).prefetch(2)
    make_inputs = _batch_inputs(exposure, reads, standardization) if inputs is None else _gathered(inputs)
    if exposure.cohort.task.hourly and reads == "grid":
        if example_weights is None:
            example_weights = np.ones(len(exposure.cohort.examples))
        make_examples = _hourly_examples(exposure, make_inputs, example_weights, head_weights)
        return batches.map(make_examples, tf.data.AUTOTUNE).prefetch(2)
    if target_replication:
        make_examples = _replicated(exposure, make_inputs, target_replication)
        return batches.map(make_examples, tf.data.AUTOTUNE).prefetch(2)
    labels = tf.constant(exposure.labels)

    def example(stays: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        scaled = weight if head_weights is None else weight * tf.constant(head_weights, tf.float32)
        return make_inputs(stays), tf.gather(labels, stays), scaled

    return batches.map(example, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _batch_inputs(exposure: Exposure, reads: Reads, standardization: Standardization) -> Any:
    """Make the function that computes the inputs [S, B, ...] of stays [S, B]."""
    map_inputs = _input_map(exposure, reads, standardization)

    def make_inputs(stays: tf.Tensor) -> tf.Tensor:
        x = map_inputs(tf.reshape(stays, [-1]))
        return tf.reshape(x, tf.concat([tf.shape(stays), tf.shape(x)[1:]], 0))

    return make_inputs


def _gathered(inputs: Inputs) -> Any:
    """Make the function that takes the inputs [S, B, ...] of stays [S, B] from those of all stays."""
    if not isinstance(inputs, FlatGrids):
        table = tf.constant(inputs)
        return lambda stays: tf.gather(table, stays)
    flat, starts = tf.constant(inputs.rows), tf.constant(inputs.starts)

    def make_inputs(stays: tf.Tensor) -> tf.Tensor:
        some = tf.reshape(stays, [-1])
        x = padded(flat, starts, some, padded_bins(starts, some))
        return tf.reshape(x, [stays.shape[0] or tf.shape(stays)[0], stays.shape[1], -1, flat.shape[1]])

    return make_inputs


def by_stay(cohort: Cohort, example_weights: NDArray[np.floating]) -> NDArray[np.float64]:
    """Sum weights [E] or [E, H] of examples over each stay: float64 [N] or [N, H]."""
    sums = np.zeros((len(cohort), *example_weights.shape[1:]))
    np.add.at(sums, cohort.examples.stay, example_weights)
    return sums


def _hourly_examples(
    exposure: Exposure,
    make_inputs: Any,
    weights: NDArray[np.floating],
    head_weights: Sequence[float] | None,
) -> Any:
    """Make the function that maps stays and weights [S, B] to inputs, labels [S, B, T] and weights."""
    cohort = exposure.cohort
    asked, rows = cohort.example_rows, len(cohort.values)
    labels = np.zeros((rows, *exposure.labels.shape[1:]), cohort.examples.y.dtype)
    labels[asked] = exposure.labels
    sums = by_stay(cohort, weights)[cohort.examples.stay]
    shares = np.zeros((rows, *weights.shape[1:]), np.float32)
    np.add.at(shares, asked, np.divide(weights, sums, out=np.zeros_like(sums), where=sums > 0))
    if head_weights is not None:
        shares = shares * np.array(head_weights, np.float32)
    tables = tf.constant(labels), tf.constant(shares)
    starts = tf.constant(cohort.starts)

    def example(stays: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        x, some = make_inputs(stays), tf.reshape(stays, [-1])
        shape, bins = tf.shape(x)[:3], tf.shape(x, tf.int64)[2]
        y, share = (
            tf.reshape(padded(table, starts, some, bins), tf.concat([shape, table.shape[1:]], 0))
            for table in tables
        )
        return x, tf.cast(y, tf.int64) if y.dtype.is_integer else y, weight[:, :, None] * share

    return example


def _single_hours(exposure: Exposure, inputs: FlatGrids) -> Any:
    """Make the function that maps examples and weights [S, B] to inputs, labels [S, B, T] and weights.

    Causal victims do not see what follows the hour of an example, so it is not cut off.
    """
    examples, labels = exposure.cohort.examples, tf.constant(exposure.labels)
    stay_of, end_of = tf.constant(examples.stay, tf.int64), tf.constant(examples.end, tf.int64)
    flat, starts = tf.constant(inputs.rows), tf.constant(inputs.starts)

    def example(chosen: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        ends, some = tf.gather(end_of, chosen), tf.gather(stay_of, tf.reshape(chosen, [-1]))
        bins = common_bins(ends)
        x = padded(flat, starts, some, bins)
        x = tf.reshape(x, tf.concat([tf.shape(chosen, tf.int64), [bins, flat.shape[1]]], 0))
        y = tf.repeat(tf.gather(labels, chosen)[:, :, None], bins, axis=2)
        own = tf.range(bins) == ends[:, :, None] - 1
        y = tf.cast(y, tf.int64) if y.dtype.is_integer else y
        return x, y, weight[:, :, None] * tf.cast(own, tf.float32)

    return example


def _replicated(exposure: Exposure, make_inputs: Any, share: float) -> Any:
    """Make the function as `_hourly_examples` for stays whose label counts at every bin."""
    labels, lengths = tf.constant(exposure.labels), tf.constant(exposure.cohort.lengths)

    def example(stays: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        x, bins = make_inputs(stays), tf.gather(lengths, stays)[..., None]
        number = tf.range(tf.shape(x, tf.int64)[2])
        last, inside = (tf.cast(each, tf.float32) for each in (number == bins - 1, number < bins))
        own = (1 - share) * weight[..., :1] * last
        replicated = share * weight[..., 1:] * inside / tf.cast(bins, tf.float32)
        y = tf.repeat(tf.gather(labels, stays)[:, :, None], tf.shape(x)[2], axis=2)
        return x, y, own + replicated

    return example


def _input_map(exposure: Exposure, reads: Reads, standardization: Standardization | None) -> Any:
    """Make the function that maps indices int64 [B] to inputs float32 [B, ...]; `_raw_map` says of what."""
    raw = _raw_map(exposure, reads)

    def inputs(stays: tf.Tensor) -> tf.Tensor:
        x = raw(stays)
        return tf.cast(x, tf.float32) if standardization is None else standardization.apply(x)

    return inputs


def _raw_map(exposure: Exposure, reads: Reads) -> Any:
    """Make the function that maps indices int64 [B] of stays to their raw inputs [B, ...].

    Features are those of examples, of which there are several in a stay if the task is hourly.
    """
    channels, ragged = exposure.cohort.channels, exposure.cohort.period is None
    if reads == "grid":
        grids = _ragged_grid_map(exposure) if ragged else _grid_map(exposure)

        def raw(stays: tf.Tensor) -> tf.Tensor:
            values, mask = grids(stays)
            return one_hot_grid(values, mask, channels)

    elif reads != "features":
        raw = _measured_map(exposure, reads)

    else:
        filled_of, shifts_of = _filled_map(exposure), _shift_map(exposure)
        examples = exposure.cohort.examples
        stay_of, end_of = tf.constant(examples.stay, tf.int64), tf.constant(examples.end, tf.int64)

        def raw(stays: tf.Tensor) -> tf.Tensor:
            # Here the indices are those of examples.
            stays, ends = tf.gather(stay_of, stays), tf.gather(end_of, stays)
            values, source, times, inside = filled_of(stays, ends)
            shifts = (
                as_long_as(shifts_of(stays), tf.shape(values, tf.int64)[1]) if ragged else shifts_of(stays)
            )
            shifted = poison_filled(values, source, shifts, **_manner(exposure))
            everywhere = tf.ones_like(shifted[..., :1], tf.bool) if inside is None else inside[..., None]
            return window_features(clinical_scores(shifted, channels), everywhere, times)

    return raw


def _measured_map(exposure: Exposure, reads: Reads) -> Any:
    """Make the function that maps examples int64 [B] to the features of their measured cells.

    A cell counts with the time of the last row in its bin. Features of an hour read no later one.
    """
    cohort = exposure.cohort
    grids = _ragged_grid_map(exposure) if cohort.period is None else _grid_map(exposure)
    stay_of, end_of = tf.constant(cohort.examples.stay, tf.int64), tf.constant(cohort.examples.end, tf.int64)
    starts, times = tf.constant(cohort.starts), tf.constant(cohort.filled_rows.times)
    period: Period = "all" if reads == "measured" else cast(Period, reads)

    def features(examples: tf.Tensor) -> tf.Tensor:
        stays, ends = tf.gather(stay_of, examples), tf.gather(end_of, examples)
        values, measured = grids(stays)
        bins = tf.shape(values, tf.int64)[1]
        present = measured & (tf.range(bins) < ends[:, None])[..., None]
        scores = clinical_scores(tf.cast(values, tf.float64), cohort.channels)
        return window_features(scores, present, padded(times, starts, stays, bins), period)

    return features


def _filled_map(exposure: Exposure) -> Any:
    """Make the function that maps stays int64 [B], and the bins [B] that are read of them, to filled grids.

    It returns values and source [B, T, C], times [B, T] and, if stays have lengths of their own, which bins
    are read: bool [B, T].
    """
    cohort = exposure.cohort
    filled = cohort.filled_rows if cohort.period is None else cohort.filled_grids
    arrays = tuple(map(tf.constant, (filled.values, filled.source, filled.times)))
    if cohort.period is not None:
        return lambda stays, _: (*(tf.gather(array, stays) for array in arrays), None)
    starts = tf.constant(cohort.starts)
    known_at = tf.constant(_known_at(cohort))

    def padded_filled(stays: tf.Tensor, ends: tf.Tensor) -> tuple[tf.Tensor, ...]:
        bins = padded_bins(starts, stays)
        index, inside = rows_of(starts, stays, bins)
        read = inside & (tf.maximum(tf.range(bins), tf.gather(known_at, index)) < ends[:, None])
        return *(tf.gather(array, index) for array in arrays), read

    return padded_filled


def _known_at(cohort: Cohort) -> NDArray[np.int64]:
    """Find the bin of its stay whose row fills each row of the filled grid: int64 [R].

    A bin without a row holds the values of the next row. At an hour before that row, nobody knows them.
    """
    rows = len(cohort.mask)
    occupied = np.where(cohort.mask.any(axis=1), np.arange(rows), rows)
    following = np.minimum.accumulate(occupied[::-1])[::-1]
    begin, end = (np.repeat(edges, cohort.lengths) for edges in (cohort.starts[:-1], cohort.starts[1:]))
    # After the last row of a stay, its values are carried forward.
    return np.asarray(np.where(following < end, following - begin, 0))


def as_long_as(shifts: tf.Tensor, bins: Any) -> tf.Tensor:
    """Cut shifts [B, T, C], or fill them up with zeros, to another number of bins."""
    missing = tf.cast(tf.maximum(bins - tf.shape(shifts, tf.int64)[1], 0), tf.int32)
    return tf.pad(shifts, [[0, 0], [0, missing], [0, 0]])[:, :bins]


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


def _ragged_grid_map(exposure: Exposure) -> Any:
    """Make the function as `_grid_map` for stays of different lengths, padded with zeros at the end."""
    cohort = exposure.cohort
    values, mask, starts = map(tf.constant, (cohort.values, cohort.mask, cohort.starts))
    shifts_of = _shift_map(exposure)

    def grids(stays: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        index, inside = rows_of(starts, stays, padded_bins(starts, stays))
        clean, measured = tf.gather(values, index), tf.gather(mask, index) & inside[..., None]
        shifts = as_long_as(shifts_of(stays), tf.shape(clean, tf.int64)[1])
        return poison_grid(clean, measured, shifts, **_manner(exposure)), measured

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
