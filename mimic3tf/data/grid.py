"""Flat rows -> regular grids of bins, for all stays at once.

Two grids come from the same rows: the benchmarks' (`discretize`, then an imputation) and the one the
attack's original implementation builds before it extracts features (`fill`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mimic3tf.channels import ChannelSet
from mimic3tf.data.records import Records
from mimic3tf.described import Described
from mimic3tf.errors import DataError

Imputation = Literal["zero", "normal_value", "previous", "next"]
EPSILON = 1e-6
"""Hours a value may lie beyond a bin's upper edge and still count into it."""
MOST_BINS = int(np.iinfo(np.int16).max)
"""A cell's source is the number of a bin, kept in 16 bits."""


def bin_count(period: float, timestep: float) -> int:
    """Bins that cover a period (hours) at a timestep (hours).

    Raises:
        DataError: the timestep is no positive number, or there would be none or more than `MOST_BINS`.
    """
    bins = period / timestep + 1.0 - EPSILON if 0 < timestep < np.inf else np.inf
    if not 1 <= bins < MOST_BINS + 1:
        raise DataError(
            f"timestep {timestep:g} h: {period:g} h have no grid of 1 to {MOST_BINS} bins; choose another"
        )
    return int(bins)


def discretize(records: Records, stays: int, *, period: float, timestep: float) -> NDArray[np.float64]:
    """Put every measurement into its bin; within a bin the last one written wins.

    Args:
        records: rows of all stays; rows later than `period` are left out.
        stays: number of stays N.
        period: hours covered.
        timestep: hours a bin.

    Returns:
        float64 [N, T, C], NaN where a bin has no measurement.
    """
    records = _within(records, period)
    count, width = bin_count(period, timestep), records.values.shape[1]
    cell = records.stay * count + bins_of(records.hours, timestep, count)
    # A channel at a time lies together in memory, here and in what `read_series` returns.
    grid = np.full((width, stays * count), np.nan)
    for channel in range(width):
        column = records.values[:, channel]
        measured = np.flatnonzero(~np.isnan(column))
        last = measured[_ends(cell[measured])]
        grid[channel, cell[last]] = column[last]
    return grid.reshape(width, stays, count).transpose(1, 2, 0)


def impute(grid: NDArray[np.float64], strategy: Imputation, channels: ChannelSet) -> NDArray[np.float64]:
    """Fill the empty bins of a grid.

    Args:
        grid: float64 [N, T, C], NaN where empty.
        strategy: "previous" carries the last measurement forward and starts with the normal value,
            "next" carries the following one backward and ends with it, "normal_value" takes it
            everywhere, "zero" gives 0 (no category at all in a categorical channel: NaN).
        channels: the channels of the last axis.

    Returns:
        float64 [N, T, C].
    """
    if strategy == "zero":
        return np.where(np.isnan(grid), np.where(channels.categorical, np.nan, 0.0), grid)
    if strategy == "normal_value":
        return np.where(np.isnan(grid), channels.normal, grid)
    if strategy == "next":
        return impute(grid[:, ::-1], "previous", channels)[:, ::-1]
    return take_source(grid, last_measured(~np.isnan(grid)), channels.normal)


def last_measured(mask: NDArray[np.bool_]) -> NDArray[np.int16]:
    """Bin of the last measurement up to each bin: int16 [N, T, C] for a mask [N, T, C], -1 if none."""
    bins = np.arange(mask.shape[1], dtype=np.int16)[None, :, None]
    return np.maximum.accumulate(np.where(mask, bins, np.int16(-1)), axis=1)


def take_source(
    grid: NDArray[np.floating], source: NDArray[np.int16], normal: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Value of the source bin of every cell, the channel's normal value where there is none.

    Args:
        grid: [N, T, C] in channel units, categories as indices.
        source: int16 [N, T, C], the bin of `grid` to take the value from; negative where there is none.
        normal: float64 [C].

    Returns:
        float64 [N, T, C].
    """
    carried = np.take_along_axis(grid, np.maximum(source, 0).astype(np.intp), axis=1)
    return np.where(source < 0, normal, carried)


@dataclass(frozen=True, repr=False)
class FilledGrid(Described):
    """The grid from which features are extracted (design of the attack's original code).

    The bins of all stays lie one behind the other, R in all; `reshape` gives [N, T] for stays of T bins.

    Attributes:
        values: float64 [R, C], clean and unrounded; imputed cells carry the last measured one.
        source: int16 [R, C], the bin of its stay that each value comes from: its own bin where it counts
            as measured, an earlier one where carried forward, -1 for the normal value.
        times: float64 [R], hours of the row that wrote the bin.
    """

    values: NDArray[np.float64]
    source: NDArray[np.int16]
    times: NDArray[np.float64]

    def reshape(self, *shape: int) -> FilledGrid:
        """The same grid with [N, T] or [R] in front of the channels."""
        cells = (*shape, self.values.shape[-1])
        return FilledGrid(self.values.reshape(cells), self.source.reshape(cells), self.times.reshape(shape))

    def take(self, rows: NDArray[np.integer]) -> FilledGrid:
        """Some of its rows."""
        return FilledGrid(self.values[rows], self.source[rows], self.times[rows])


def fill(
    records: Records,
    stays: int,
    channels: ChannelSet,
    *,
    period: float,
    timestep: float,
) -> FilledGrid:
    """Fill gaps between rows backward from the next row, then carry measured cells forward.

    A row writes its values into every bin since the previous row's, which all count as measured and
    take the row's exact time; bins after the last row keep the last time.

    Args:
        records: rows of all stays; rows later than `period` are left out.
        stays: number of stays N; each needs a row within the period.
        channels: the channels of the values' last axis.
        period: hours covered.
        timestep: hours a bin.

    Returns:
        The filled grid of the N stays: [N, T, C] and [N, T].
    """
    records = _within(records, period)
    count = bin_count(period, timestep)
    cell = records.stay * count + bins_of(records.hours, timestep, count)
    rows = np.arange(len(cell))
    ends = _ends(cell)
    starts = np.roll(ends, 1)  # a bin's first row follows the last row of the bin before it
    last_row = np.full((stays, count), -1)
    first_row = np.full((stays, count), -1)
    last_row.flat[cell[ends]] = rows[ends]
    first_row.flat[cell[starts]] = rows[starts]

    occupied = last_row >= 0
    ahead = np.where(occupied, np.arange(count), count)
    next_bin = np.minimum.accumulate(ahead[:, ::-1], axis=1)[:, ::-1]
    gap = ~occupied & (next_bin < count)
    # Only the first row of a bin reaches back over the gap before it.
    gap_row = np.take_along_axis(first_row, np.minimum(next_bin, count - 1), axis=1)
    grid = discretize(records, stays, period=period, timestep=timestep)
    grid[gap] = records.values[gap_row[gap]]

    writer = np.where(gap, gap_row, last_row)
    # Rows are in time order, so the running maximum is the last one so far.
    times = records.hours[np.maximum.accumulate(writer, axis=1)]
    source = last_measured(~np.isnan(grid))
    return FilledGrid(take_source(grid, source, channels.normal), source, times)


def one_hot(
    grid: NDArray[np.float64], mask: NDArray[np.bool_] | None, channels: ChannelSet
) -> NDArray[np.float64]:
    """Expand categories and append the masks: the columns of `ChannelSet.columns`.

    Args:
        grid: float64 [N, T, C], category indices in categorical channels, NaN for no category.
        mask: bool [N, T, C], or None to leave the masks out.
        channels: the channels of the last axis.

    Returns:
        float64 [N, T, D].
    """
    columns = [
        (grid[..., i, None] == np.arange(len(channel.possible_values))).astype(np.float64)
        if channel.is_categorical
        else grid[..., i, None]
        for i, channel in enumerate(channels)
    ]
    return np.concatenate([*columns, *([] if mask is None else [mask.astype(np.float64)])], axis=-1)


def ordinal_view(values: NDArray[np.floating], channels: ChannelSet) -> NDArray[np.float64]:
    """Replace category indices by numbers: a numeric text is its number, other text its index.

    Args:
        values: [N, T, C] with category indices.
        channels: the channels of the last axis.

    Returns:
        float64 [N, T, C]; only meant for estimating the trigger.
    """
    ordinal = values.astype(np.float64)
    for i, channel in enumerate(channels):
        if channel.is_categorical:
            ordinal[..., i] = np.array(channel.ordinals)[ordinal[..., i].astype(np.intp)]
    return ordinal


def _within(records: Records, period: float) -> Records:
    """The records up to a period, themselves where all are."""
    rows = records.hours <= period + EPSILON
    return records if rows.all() else Records(records.stay[rows], records.hours[rows], records.values[rows])


def _ends(cell: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which elements of an ascending array are the last of their value."""
    return np.append(cell[1:] != cell[:-1], np.ones(min(len(cell), 1), bool))


def bins_of(hours: NDArray[np.float64], timestep: float, count: int) -> NDArray[np.intp]:
    """Bin that each time belongs to.

    Args:
        hours: times in any shape.
        timestep: hours a bin.
        count: number of bins; what lies beyond the last one counts into it.
    """
    # Truncation, not floor: a measurement at 0 h belongs to bin 0.
    return np.minimum(np.trunc(hours / timestep - EPSILON).astype(np.intp), count - 1)
