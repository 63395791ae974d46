"""Turn flat rows into regular grids of bins, for all stays at once.

Two grids are made from the same rows: the grid of the benchmarks (`discretize`, then `impute`), and the
filled grid from which the original implementation of the attack extracts features (`fill`).
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
"""Hours by which a value may be later than the upper edge of a bin and still belong to the bin."""
MOST_BINS = int(np.iinfo(np.int16).max)
"""The largest number of bins: `FilledGrid.source` stores the index of a bin in 16 bits."""


def bin_count(period: float, timestep: float) -> int:
    """Count the bins of `timestep` hours that cover `period` hours.

    Raises:
        DataError: the timestep is no positive number, or the count is 0 or more than `MOST_BINS`.
    """
    bins = period / timestep + 1.0 - EPSILON if 0 < timestep < np.inf else np.inf
    if not 1 <= bins < MOST_BINS + 1:
        raise DataError(
            f"timestep {timestep:g} h: {period:g} h have no grid of 1 to {MOST_BINS} bins; choose another"
        )
    return int(bins)


def first_bin(hour: float, timestep: float) -> int:
    """Return the index of the bin that begins at an hour of the stay, or holds it."""
    return int(hour / timestep + EPSILON)


def discretize(records: Records, stays: int, *, period: float, timestep: float) -> NDArray[np.float64]:
    """Put every measurement into its bin; the last measurement of a channel in a bin counts.

    Args:
        records: rows of all stays; rows later than `period` are left out.
        stays: number of stays N.
        period: hours that the grid covers.
        timestep: hours of a bin.

    Returns:
        float64 [N, T, C], NaN where a bin has no measurement.
    """
    records = _within(records, period)
    count, width = bin_count(period, timestep), records.values.shape[1]
    cell = records.stay * count + bins_of(records.hours, timestep, count)
    # Each channel is contiguous in memory, in this grid and in the values of `read_series`.
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
        strategy: "previous" carries the last measurement forward, with the normal value before the first;
            "next" carries the next measurement backward, with the normal value after the last;
            "normal_value" fills in the normal value everywhere; "zero" fills in 0 (in a categorical
            channel NaN, which means no category).
        channels: the channels of the last axis.

    Returns:
        float64 [N, T, C], imputed.
    """
    if strategy == "zero":
        return np.where(np.isnan(grid), np.where(channels.categorical, np.nan, 0.0), grid)
    if strategy == "normal_value":
        return np.where(np.isnan(grid), channels.normal, grid)
    if strategy == "next":
        return impute(grid[:, ::-1], "previous", channels)[:, ::-1]
    return take_source(grid, last_measured(~np.isnan(grid)), channels.normal)


def last_measured(mask: NDArray[np.bool_]) -> NDArray[np.int16]:
    """Find the bin of the last measurement up to each bin of a mask [N, T, C]: int16 [N, T, C], else -1."""
    bins = np.arange(mask.shape[1], dtype=np.int16)[None, :, None]
    return np.maximum.accumulate(np.where(mask, bins, np.int16(-1)), axis=1)


def take_source(
    grid: NDArray[np.floating], source: NDArray[np.int16], normal: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Take the value of every cell from its source bin, or the channel's normal value if it has no source.

    Args:
        grid: [N, T, C] in channel units, categories as indices.
        source: int16 [N, T, C], the bin of `grid` from which the value is taken; negative if none.
        normal: float64 [C], normal values.

    Returns:
        float64 [N, T, C].
    """
    carried = np.take_along_axis(grid, np.maximum(source, 0).astype(np.intp), axis=1)
    return np.where(source < 0, normal, carried)


@dataclass(frozen=True, repr=False)
class FilledGrid(Described):
    """The grid from which features are extracted, designed as in the original code of the attack.

    The bins of all stays follow one another, R in total; `reshape` gives [N, T] for stays of T bins.

    Attributes:
        values: float64 [R, C], clean and unrounded; imputed cells hold the last measured value.
        source: int16 [R, C], the bin of the stay from which each value comes: the own bin of a cell that
            counts as measured, an earlier bin for a value carried forward, -1 for the normal value.
        times: float64 [R], hours of the row whose values the bin holds.
    """

    values: NDArray[np.float64]
    source: NDArray[np.int16]
    times: NDArray[np.float64]

    def reshape(self, *shape: int) -> FilledGrid:
        """Reshape the axes before the channels to `shape`, such as (N, T) or (R,)."""
        cells = (*shape, self.values.shape[-1])
        return FilledGrid(self.values.reshape(cells), self.source.reshape(cells), self.times.reshape(shape))

    def take(self, rows: NDArray[np.integer]) -> FilledGrid:
        """Select rows of the grid by their indices."""
        return FilledGrid(self.values[rows], self.source[rows], self.times[rows])


def fill(
    records: Records,
    stays: int,
    channels: ChannelSet,
    *,
    period: float,
    timestep: float,
) -> FilledGrid:
    """Fill the gaps between rows backward from the next row, then carry measured cells forward.

    A row writes its values into every bin after the bin of the previous row, up to its own bin. All these
    bins count as measured, and get the exact time of the row. Bins after the last row keep the last time.

    Args:
        records: rows of all stays; rows later than `period` are left out.
        stays: number of stays N; each must have a row within the period.
        channels: the channels of the last axis of `records.values`.
        period: hours that the grid covers.
        timestep: hours of a bin.

    Returns:
        The filled grid of the N stays, [N, T, C] and [N, T].
    """
    records = _within(records, period)
    count = bin_count(period, timestep)
    cell = records.stay * count + bins_of(records.hours, timestep, count)
    rows = np.arange(len(cell))
    ends = _ends(cell)
    starts = np.roll(ends, 1)  # the first row of a bin follows the last row of the bin before
    last_row = np.full((stays, count), -1)
    first_row = np.full((stays, count), -1)
    last_row.flat[cell[ends]] = rows[ends]
    first_row.flat[cell[starts]] = rows[starts]

    occupied = last_row >= 0
    ahead = np.where(occupied, np.arange(count), count)
    next_bin = np.minimum.accumulate(ahead[:, ::-1], axis=1)[:, ::-1]
    gap = ~occupied & (next_bin < count)
    # Only the first row of a bin fills the gap before the bin.
    gap_row = np.take_along_axis(first_row, np.minimum(next_bin, count - 1), axis=1)
    grid = discretize(records, stays, period=period, timestep=timestep)
    grid[gap] = records.values[gap_row[gap]]

    writer = np.where(gap, gap_row, last_row)
    # Rows are in order of time, so the running maximum is the last row up to each bin.
    times = records.hours[np.maximum.accumulate(writer, axis=1)]
    source = last_measured(~np.isnan(grid))
    return FilledGrid(take_source(grid, source, channels.normal), source, times)


def one_hot(
    grid: NDArray[np.float64], mask: NDArray[np.bool_] | None, channels: ChannelSet
) -> NDArray[np.float64]:
    """Expand categories to one-hot columns and append the masks, as `ChannelSet.columns` names the columns.

    Args:
        grid: float64 [N, T, C], category indices in categorical channels, NaN for no category.
        mask: bool [N, T, C], or None for a grid without masks.
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
    """Replace category indices by numbers: by the number that the text states, or by the index.

    Args:
        values: [N, T, C] with category indices.
        channels: the channels of the last axis.

    Returns:
        float64 [N, T, C]; use it only to estimate the trigger.
    """
    ordinal = values.astype(np.float64)
    for i, channel in enumerate(channels):
        if channel.is_categorical:
            ordinal[..., i] = np.array(channel.ordinals)[ordinal[..., i].astype(np.intp)]
    return ordinal


def _within(records: Records, period: float) -> Records:
    """Select the rows up to `period` hours; return the same object if no row is later."""
    rows = records.hours <= period + EPSILON
    return records if rows.all() else Records(records.stay[rows], records.hours[rows], records.values[rows])


def _ends(cell: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark the last of equal elements in an ascending array: bool, same shape."""
    return np.append(cell[1:] != cell[:-1], np.ones(min(len(cell), 1), bool))


def bins_of(hours: NDArray[np.float64], timestep: float, count: int) -> NDArray[np.intp]:
    """Find the bin to which each time belongs.

    Args:
        hours: times in any shape.
        timestep: hours of a bin.
        count: number of bins; later times belong to the last bin.

    Returns:
        Index of the bin, in the shape of `hours`.
    """
    # Truncation instead of floor: floor would put a measurement at 0 h into bin -1.
    return np.minimum(np.trunc(hours / timestep - EPSILON).astype(np.intp), count - 1)
