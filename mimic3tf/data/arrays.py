"""Make a cohort of your own arrays, and your own kind of array of a cohort."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence, Sized

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mimic3tf.channels import TIME, Channel, ChannelSet
from mimic3tf.data.cohort import TIMESTEP, Cohort, cohort_of
from mimic3tf.data.grid import bin_count, last_measured, take_source
from mimic3tf.data.records import LARGEST_VALUE
from mimic3tf.errors import DataError, UsageError, private

OWN = "own arrays"
"""Name of the channel set of arrays."""


def cohort_of_arrays(
    x: ArrayLike,
    y: ArrayLike | None,
    *,
    ids: Iterable[object] | None = None,
    channels: Sequence[str] | ChannelSet | None = None,
    timestep: float = TIMESTEP,
) -> Cohort:
    """Make a cohort of the arrays of N stays, with T bins and C channels.

    A cell that was not measured gets the last measurement of its channel in the stay. Before the first
    measurement it gets the channel's normal value: the median of all measured cells of the channel, or with a
    `ChannelSet` the normal value of the set. Give the channels of a cohort (`cohort.channels`) to make a
    second cohort that is imputed like the first one.

    Args:
        x: numbers [N, T, C] in the channels' units, not standardized; NaN where a cell was not measured.
        y: labels [N], 0 or 1. None gives every stay label 0, for a cohort whose labels nobody reads.
        ids: names of the stays [N], each at most once; 0, 1, 2, ... if not given.
        channels: names of the channels [C], all of them numbers; or a `ChannelSet`, in whose categorical
            channels x holds indices of categories; "channel 0", "channel 1", ... if not given.
        timestep: hours of a bin.

    Returns:
        The cohort. It has no filled grids, so victims that read features cannot use it.

    Raises:
        DataError: x, y or ids have the wrong shape or hold something else; says which shape or value.
        UsageError: there is not one channel for each column, or a name is not usable.
    """
    cells = _numbers(x)
    count, bins, width = cells.shape
    labels = labels_of(y, count)
    bin_count(bins * timestep, timestep)
    masks = ~np.isnan(cells)
    channel_set = _channels_of(channels, cells, masks)
    _check_categories(cells, masks, channel_set)
    values = take_source(cells, last_measured(masks), channel_set.normal).astype(np.float32)
    stays = _names_of(ids, count)
    digest = hashlib.sha256(repr(channel_set).encode())
    for array in (values, masks, labels, stays):
        digest.update(np.ascontiguousarray(array).data)
    return cohort_of(
        stays,
        labels,
        values,
        masks,
        channels=channel_set,
        timestep=timestep,
        fingerprint=digest.hexdigest(),
    )


def array_of_cohort(cohort: Cohort) -> NDArray[np.float32]:
    """Return the measured cells of a cohort as an array float32 [N, T, C], NaN where not measured."""
    return np.where(cohort.masks, cohort.grids, np.float32(np.nan))


def labels_of(y: ArrayLike | None, count: int) -> NDArray[np.int64]:
    """Return the labels of `count` stays as int64 [N]; see `cohort_of_arrays`.

    Raises:
        DataError: y has another shape, or holds something else than 0 and 1.
    """
    if y is None:
        return np.zeros(count, np.int64)
    labels = np.asarray(y)
    if labels.shape != (count,):
        raise DataError(f"y has shape {labels.shape}: expected ({count},), one label for each stay of x")
    if labels.dtype.kind not in "biuf" or not np.isin(labels, (0, 1)).all():
        raise DataError("y holds something else than 0 and 1: give one label of 0 or 1 for each stay")
    return labels.astype(np.int64)


def _numbers(x: ArrayLike) -> NDArray[np.float32]:
    """Check x, and return it as float32 [N, T, C]."""
    cells = np.asarray(x)
    if cells.ndim != 3:
        raise DataError(
            f"x has shape {cells.shape}: expected [N, T, C], with N stays, T bins of time and C channels"
        )
    if 0 in cells.shape:
        raise DataError(f"x has shape {cells.shape}: expected at least one stay, one bin and one channel")
    if cells.dtype.kind not in "biuf":
        raise DataError(f"x holds {cells.dtype}: expected numbers, NaN where a cell was not measured")
    # NaN is not larger than anything; infinity is.
    too_large = np.abs(cells) > LARGEST_VALUE
    if too_large.any():
        stay, time, channel = np.argwhere(too_large)[0]
        raise DataError(
            f"x[{stay}, {time}, {channel}] is infinite or larger than {LARGEST_VALUE:g}: write NaN where a "
            "cell was not measured"
        )
    return cells.astype(np.float32)


def _channels_of(
    channels: Sequence[str] | ChannelSet | None, cells: NDArray[np.float32], masks: NDArray[np.bool_]
) -> ChannelSet:
    """Return the channels of the last axis; channels that came by name get their median as normal value."""
    width = cells.shape[-1]
    if channels is None:
        channels = [f"channel {position}" for position in range(width)]
    if isinstance(channels, str) or not isinstance(channels, Sized) or len(channels) != width:
        given = f"{len(channels)} names" if isinstance(channels, Sized) else f"{channels!r}"
        if isinstance(channels, str):
            given = f"the text '{channels}'"
        raise UsageError(f"channels: {given}, but x has shape {cells.shape}: expected {width} names")
    if isinstance(channels, ChannelSet):
        return channels
    names = [str(name) for name in channels]
    for name in names:
        # What `channels.yaml` takes, because the file of a trigger holds the channels in this form.
        ill = not name or name != name.strip() or not name.isprintable() or "," in name or "->" in name
        if ill or names.count(name) > 1 or name == TIME:
            raise UsageError(
                f"channels: {name!r} cannot be used; give every channel its own name, in one line, without "
                f"commas, '->' and spaces around it, and not '{TIME}'"
            )
    measured = (cells[..., column][masks[..., column]] for column in range(width))
    medians = [float(np.median(found)) if len(found) else 0.0 for found in measured]
    return ChannelSet(
        OWN, tuple(Channel(name, "", repr(median)) for name, median in zip(names, medians, strict=True))
    )


def _check_categories(cells: NDArray[np.float32], masks: NDArray[np.bool_], channels: ChannelSet) -> None:
    for column in np.flatnonzero(channels.categorical).tolist():
        found = cells[..., column][masks[..., column]]
        categories = len(channels[column].possible_values)
        if not np.isin(found, np.arange(categories)).all():
            raise DataError(
                f"x[:, :, {column}]: channel '{channels[column].name}' has {categories} categories: expected "
                f"their indices, 0 to {categories - 1}"
            )


def _names_of(ids: Iterable[object] | None, count: int) -> NDArray[np.str_]:
    names = np.array([str(name) for name in (range(count) if ids is None else ids)])
    if names.shape != (count,):
        raise DataError(f"ids has length {len(names)}: expected {count}, one for each stay of x")
    different, first = np.unique(names, return_index=True)
    if len(different) < count:
        repeated = names[np.setdiff1d(np.arange(count), first)[0]]
        raise DataError(f"ids: '{private(repeated)}' is given twice; give every stay its own")
    return names
