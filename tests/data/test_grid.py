from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mimic3tf.channels import MIMIC3
from mimic3tf.data import grid as grids
from mimic3tf.data.records import Records, read_series
from mimic3tf.errors import DataError


@pytest.fixture(scope="module")
def records(reference: Any) -> Records:
    return read_series(reference.paths, MIMIC3)[0]


@pytest.mark.parametrize(
    ("strategy", "name"),
    [
        ("previous", "clean_76"),
        ("zero", "clean_76_zero"),
        ("normal_value", "clean_76_normal_value"),
        ("next", "clean_76_next"),
    ],
)
def test_grids_equal_the_reference(
    reference: Any, records: Records, strategy: grids.Imputation, name: str
) -> None:
    grid = grids.discretize(records, len(reference.paths), period=48, timestep=1)
    columns = grids.one_hot(grids.impute(grid, strategy, MIMIC3), ~np.isnan(grid), MIMIC3)
    np.testing.assert_array_equal(columns.astype(np.float32), reference[name])


def test_grids_of_another_timestep_equal_the_reference(reference: Any, records: Records) -> None:
    grid = grids.discretize(records, len(reference.paths), period=48, timestep=0.8)
    columns = grids.one_hot(grids.impute(grid, "previous", MIMIC3), ~np.isnan(grid), MIMIC3)
    np.testing.assert_array_equal(columns.astype(np.float32), reference["clean_76_ts0.8"])


def test_the_ordinal_view_equals_the_reference(reference: Any, records: Records) -> None:
    grid = grids.discretize(records, len(reference.paths), period=48, timestep=1)
    ordinal = grids.ordinal_view(grids.impute(grid, "previous", MIMIC3), MIMIC3)
    np.testing.assert_array_equal(ordinal, reference["ordinal_17"])


def test_a_bin_closes_just_after_its_upper_edge() -> None:
    hours = np.array([0.0, 1.0, 1.0 + 5e-7, 1.0 + 1e-5, 48.0])
    values = np.full((5, len(MIMIC3)), np.nan)
    values[:, 8] = [1, 2, 3, 4, 5]
    grid = grids.discretize(Records(np.zeros(5, np.int64), hours, values), 1, period=48, timestep=1)
    assert np.flatnonzero(~np.isnan(grid[0, :, 8])).tolist() == [0, 1, 47]
    assert grid[0, [0, 1, 47], 8].tolist() == [3, 4, 5]


def _fill_row_by_row(records: Records, stays: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The design's filling, one row and cell at a time."""
    measured = np.full((stays, 48, len(MIMIC3)), np.nan)
    times = np.zeros((stays, 48))
    for stay in range(stays):
        previous_bin = -1
        for row in np.flatnonzero(records.stay == stay):
            row_bin = int(records.hours[row] - 1e-6)
            for hour in range(previous_bin + 1, row_bin + 1) or [row_bin]:
                times[stay, hour] = records.hours[row]
                for channel, value in enumerate(records.values[row]):
                    if not np.isnan(value):
                        measured[stay, hour, channel] = value
            previous_bin = row_bin
        times[stay, previous_bin + 1 :] = times[stay, previous_bin]
    values = measured.copy()
    for stay in range(stays):
        for channel, description in enumerate(MIMIC3):
            last = description.normal_number
            for hour in range(48):
                if np.isnan(values[stay, hour, channel]):
                    values[stay, hour, channel] = last
                last = values[stay, hour, channel]
    return values, ~np.isnan(measured), times


def test_the_filled_grid_equals_filling_row_by_row(reference: Any, records: Records) -> None:
    stays = len(reference.paths)
    filled = grids.fill(records, stays, MIMIC3, period=48, timestep=1)
    values, measured, times = _fill_row_by_row(records, stays)
    np.testing.assert_array_equal(filled.values, values)
    np.testing.assert_array_equal(filled.source == np.arange(48)[:, None], measured)
    np.testing.assert_array_equal(filled.times, times)


@pytest.mark.parametrize("timestep", [0.25, 0.8, 1, 5, 48])
def test_a_row_a_breath_after_the_period_counts_into_the_stays_own_last_bin(timestep: float) -> None:
    """Not into the first bin of the stay that follows."""
    values = np.full((3, len(MIMIC3)), np.nan)
    values[:, 8] = [1, 2, 3]
    records = Records(np.array([0, 0, 1]), np.array([timestep * 0.5, 48 + 9e-7, timestep * 1.5]), values)
    grid = grids.discretize(records, 2, period=48, timestep=timestep)[..., 8]
    assert grid[0, -1] == 2
    assert np.nansum(grid[0]) == (2 if grid.shape[1] == 1 else 3)
    if timestep < 48:
        assert np.flatnonzero(~np.isnan(grid[1])).tolist() == [1]
        assert grids.fill(records, 2, MIMIC3, period=48, timestep=timestep).times[0, -1] == 48 + 9e-7


@pytest.mark.parametrize(
    ("period", "timestep", "bins"),
    [(48, 1, 48), (48, 0.8, 60), (48, 5, 10), (10, 3, 4), (1, 48, 1), (48, 1 / 3, 144), (32767, 1, 32767)],
)
def test_the_last_bin_may_reach_beyond_the_period(period: float, timestep: float, bins: int) -> None:
    assert grids.bin_count(period, timestep) == bins


@pytest.mark.parametrize(
    ("period", "timestep"),
    [
        (48, 0),
        (48, -1),
        (48, math.nan),
        (48, math.inf),
        (48, 1e-3),
        (48, 1e-320),
        (0, 1),
        (-1, 1),
        (math.nan, 1),
    ],
)
def test_a_grid_of_no_bins_or_too_many_is_refused(period: float, timestep: float) -> None:
    with pytest.raises(DataError, match=r"timestep .* have no grid of 1 to 32767 bins; choose another"):
        grids.bin_count(period, timestep)
