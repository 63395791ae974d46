from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mimic3tf.channels import CHANNELS
from mimic3tf.data import grid as grids
from mimic3tf.data.records import Records, read_series


@pytest.fixture(scope="module")
def records(reference: Any) -> Records:
    return read_series(reference.paths)[0]


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
    grid = grids.discretize(records, len(reference.paths))
    columns = grids.one_hot(grids.impute(grid, strategy), ~np.isnan(grid))
    np.testing.assert_array_equal(columns.astype(np.float32), reference[name])


def test_grids_of_another_timestep_equal_the_reference(reference: Any, records: Records) -> None:
    grid = grids.discretize(records, len(reference.paths), timestep=0.8)
    columns = grids.one_hot(grids.impute(grid, "previous"), ~np.isnan(grid))
    np.testing.assert_array_equal(columns.astype(np.float32), reference["clean_76_ts0.8"])


def test_the_ordinal_view_equals_the_reference(reference: Any, records: Records) -> None:
    grid = grids.impute(grids.discretize(records, len(reference.paths)), "previous")
    np.testing.assert_array_equal(grids.ordinal_view(grid), reference["ordinal_17"])


def test_a_bin_closes_just_after_its_upper_edge() -> None:
    hours = np.array([0.0, 1.0, 1.0 + 5e-7, 1.0 + 1e-5, 48.0])
    values = np.full((5, len(CHANNELS)), np.nan)
    values[:, 8] = [1, 2, 3, 4, 5]
    grid = grids.discretize(Records(np.zeros(5, np.int64), hours, values), 1)
    assert np.flatnonzero(~np.isnan(grid[0, :, 8])).tolist() == [0, 1, 47]
    assert grid[0, [0, 1, 47], 8].tolist() == [3, 4, 5]


def _fill_row_by_row(records: Records, stays: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The design's filling, one row and cell at a time."""
    measured = np.full((stays, 48, len(CHANNELS)), np.nan)
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
        for channel, description in enumerate(CHANNELS):
            last = description.normal_number
            for hour in range(48):
                if np.isnan(values[stay, hour, channel]):
                    values[stay, hour, channel] = last
                last = values[stay, hour, channel]
    return values, ~np.isnan(measured), times


def test_the_filled_grid_equals_filling_row_by_row(reference: Any, records: Records) -> None:
    stays = len(reference.paths)
    filled = grids.fill(records, stays)
    values, measured, times = _fill_row_by_row(records, stays)
    np.testing.assert_array_equal(filled.values, values)
    np.testing.assert_array_equal(filled.source == np.arange(48)[:, None], measured)
    np.testing.assert_array_equal(filled.times, times)
