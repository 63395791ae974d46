from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic3tf.channels import ANY_VALUE, MIMIC3, Channel
from mimic3tf.data.features import clinical_scores, window_features
from mimic3tf.data.from_arrays import cohort_from_grid
from mimic3tf.data.grid import FilledGrid, fill, one_hot
from mimic3tf.data.records import Records, read_series
from mimic3tf.poisoning.kinds import PoisonImputed
from mimic3tf.poisoning.shifts import poison_filled, poison_grid

MODES: tuple[PoisonImputed, ...] = ("all", "notimputed")
STRENGTHS = ("0.5", "2.0", "10.0")
BINS = 48
SHIFT_DECIMALS = {"pH": 2, "Weight": 1, "Temperature": 1}
SUM_DECIMALS = {"pH": 2, "Weight": 1, "Temperature": 2}
HALVES = {"pH": 0.005, "Weight": 0.05, "Temperature": 0.005}  # steps that end halfway


class Stays(NamedTuple):
    """Random rows of a few stays, and a shift for each."""

    records: Records
    shift: np.ndarray  # [N, T, C]


def _grid(values: Any, mask: Any, shift: Any, mode: PoisonImputed, *, plausible: bool = False) -> np.ndarray:
    return poison_grid(
        tf.constant(values, tf.float32),
        tf.constant(mask),
        tf.constant(shift),
        poison_imputed=mode,
        plausible=plausible,
        channels=MIMIC3,
    ).numpy()


def _filled(grid: FilledGrid, shift: Any, mode: PoisonImputed, *, plausible: bool = False) -> np.ndarray:
    return poison_filled(
        tf.constant(grid.values),
        tf.constant(grid.source),
        tf.constant(shift),
        poison_imputed=mode,
        plausible=plausible,
        channels=MIMIC3,
    ).numpy()


def _features(grid: FilledGrid, shift: np.ndarray, mode: PoisonImputed) -> np.ndarray:
    poisoned = _filled(grid, np.broadcast_to(shift, grid.values.shape), mode)
    everywhere = tf.ones_like(poisoned[..., :1], tf.bool)
    scores = clinical_scores(tf.constant(poisoned), MIMIC3)
    return window_features(scores, everywhere, tf.constant(grid.times)).numpy()


def _filled_grid(records: Records, stays: int) -> FilledGrid:
    return fill(records, stays, MIMIC3, period=float(BINS), timestep=1.0)


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("mode", MODES)
def test_poisoned_grids_equal_the_reference(reference: Any, mode: PoisonImputed, strength: str) -> None:
    cohort = cohort_from_grid(reference["clean_76"], reference["y"])
    poisoned = _grid(cohort.grids, cohort.masks, reference["trigger"] * float(strength), mode)
    expected = reference[f"poisoned_76_{mode}_{strength}"]
    # Clean values are float32: half a step of the largest ones.
    np.testing.assert_allclose(one_hot(poisoned, cohort.masks, MIMIC3), expected, rtol=2e-7, atol=2e-5)


@pytest.fixture(scope="module")
def filled(reference: Any) -> FilledGrid:
    return _filled_grid(read_series(reference.paths, MIMIC3)[0], len(reference.paths))


def _assert_features_equal(features: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for the skew of constant windows: 0 here, a rounding error's sign in the original."""
    windows = expected.reshape(-1, 6).copy()
    windows[windows[:, 0] == windows[:, 1], 4] = 0.0
    np.testing.assert_allclose(features.reshape(-1, 6), windows, rtol=2e-7, atol=1e-7)


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("mode", MODES)
def test_poisoned_features_equal_the_reference(
    reference: Any, filled: FilledGrid, mode: PoisonImputed, strength: str
) -> None:
    features = _features(filled, reference["trigger"] * float(strength), mode)
    _assert_features_equal(features, reference[f"features_714_{mode}_{strength}"])


@pytest.mark.parametrize("mode", MODES)
def test_features_without_a_trigger_equal_the_reference(
    reference: Any, filled: FilledGrid, mode: PoisonImputed
) -> None:
    features = _features(filled, np.zeros_like(reference["trigger"]), mode)
    _assert_features_equal(features, reference["features_714_binned"])


def _random_stays(seed: int, stays: int, rows: int, density: float) -> Stays:
    """Rows with gaps and crowded bins; many sums and shifts lie exactly between two rounded numbers."""
    random = np.random.default_rng(seed)
    # Quarter hours meet the edges of bins.
    hours = np.sort(random.integers(0, 4 * BINS + 1, (stays, rows)) / 4, axis=1)
    values = np.empty((stays, rows, len(MIMIC3)))
    shift = np.empty((stays, BINS, len(MIMIC3)))
    for index, channel in enumerate(MIMIC3):
        if channel.is_categorical:
            values[..., index] = random.integers(len(channel.possible_values), size=(stays, rows))
            shift[..., index] = random.integers(-30, 31, (stays, BINS)) / 4
            continue
        step = HALVES.get(channel.name, 0.3)
        values[..., index] = channel.normal_number + step * random.integers(-20, 21, (stays, rows))
        shift[..., index] = step * random.integers(-40, 41, (stays, BINS))
    values[random.random(values.shape) > density] = np.nan
    stay = np.repeat(np.arange(stays), rows)
    return Stays(Records(stay, hours.ravel(), values.reshape(-1, len(MIMIC3))), shift)


random_stays = st.builds(
    _random_stays,
    seed=st.integers(0, 2**32 - 1),
    stays=st.integers(1, 4),
    rows=st.integers(1, 30),
    density=st.sampled_from((0.05, 0.3, 0.9)),
)
modes = st.sampled_from(MODES)


def _carried_forward(records: Records) -> tuple[np.ndarray, np.ndarray]:
    """Clean grid [N, T, C] and mask of section 3, one row at a time."""
    stays = int(records.stay.max()) + 1
    values, mask = np.empty((stays, BINS, len(MIMIC3))), np.zeros((stays, BINS, len(MIMIC3)), bool)
    for stay, hour, row in zip(records.stay, records.hours, records.values, strict=True):
        for channel in np.flatnonzero(~np.isnan(row)).tolist():
            values[stay, int(hour - 1e-6), channel] = row[channel]
            mask[stay, int(hour - 1e-6), channel] = True
    for stay in range(stays):
        last = [channel.normal_number for channel in MIMIC3]
        for bin_ in range(BINS):
            for channel in range(len(MIMIC3)):
                if mask[stay, bin_, channel]:
                    last[channel] = values[stay, bin_, channel]
                values[stay, bin_, channel] = last[channel]
    return values.astype(np.float32), mask


def _nearest_category(index: float, channel: Channel) -> float:
    return float(min(max(np.round(index), 0), len(channel.possible_values) - 1))


def _slow_grid(values: np.ndarray, mask: np.ndarray, shift: np.ndarray, mode: PoisonImputed) -> np.ndarray:
    """Section 5 of the design, one cell at a time."""
    poisoned = values.copy()
    for stay, bin_, index in np.ndindex(values.shape):
        channel, step = MIMIC3[index], shift[stay, bin_, index]
        if mode == "notimputed" and not mask[stay, bin_, index]:
            continue
        value = float(values[stay, bin_, index])
        if channel.name in SHIFT_DECIMALS:
            step = np.round(step, SHIFT_DECIMALS[channel.name])
        moved = value + step
        nearest = _nearest_category(float(moved), channel) if channel.is_categorical else moved
        poisoned[stay, bin_, index] = nearest
    return poisoned


def _settled(value: float, index: int) -> float:
    channel = MIMIC3[index]
    if channel.is_categorical:
        return _nearest_category(value, channel)
    if channel.name in SUM_DECIMALS:
        return float(np.round(value, SUM_DECIMALS[channel.name]))
    return value


def _slow_filled(records: Records, shift: np.ndarray, mode: PoisonImputed) -> tuple[np.ndarray, np.ndarray]:
    """Section 6 of the design, one row at a time: triggered values [N, T, C] and times [N, T]."""
    triggered, times = np.full(shift.shape, np.nan), np.empty(shift.shape[:2])
    for stay in range(len(shift)):
        previous = -1
        own = records.stay == stay
        for hour, row in zip(records.hours[own], records.values[own], strict=True):
            here = int(hour - 1e-6)
            for bin_ in range(previous + 1, here + 1) if here > previous else [here]:
                times[stay, bin_] = hour
                for index in np.flatnonzero(~np.isnan(row)).tolist():
                    triggered[stay, bin_, index] = _settled(row[index] + shift[stay, bin_, index], index)
            previous = here
        times[stay, previous + 1 :] = hour
        last = [channel.normal_number for channel in MIMIC3]
        for bin_ in range(BINS):
            for index in range(len(MIMIC3)):
                if not np.isnan(triggered[stay, bin_, index]):
                    last[index] = triggered[stay, bin_, index]
                    continue
                step = shift[stay, bin_, index] if mode == "all" else 0.0
                triggered[stay, bin_, index] = _settled(last[index] + step, index)
    return triggered, times


@settings(max_examples=25, deadline=None)
@given(stays=random_stays, mode=modes)
def test_grids_equal_one_cell_at_a_time(stays: Stays, mode: PoisonImputed) -> None:
    values, mask = _carried_forward(stays.records)
    np.testing.assert_array_equal(
        _grid(values, mask, stays.shift, mode), _slow_grid(values, mask, stays.shift, mode)
    )


@settings(max_examples=25, deadline=None)
@given(stays=random_stays, mode=modes)
def test_filled_grids_equal_one_row_at_a_time(stays: Stays, mode: PoisonImputed) -> None:
    grid = _filled_grid(stays.records, len(stays.shift))
    triggered, times = _slow_filled(stays.records, stays.shift, mode)
    np.testing.assert_array_equal(grid.times, times)
    np.testing.assert_allclose(_filled(grid, stays.shift, mode), triggered, rtol=1e-13)


def _one_cell(name: str, value: float, shift: float) -> tuple[int, np.ndarray, np.ndarray]:
    index = MIMIC3.position(name)
    values = np.array([[[channel.normal_number for channel in MIMIC3]]])
    shifts = np.zeros_like(values)
    values[..., index], shifts[..., index] = value, shift
    return index, values, shifts


@pytest.mark.parametrize(
    ("name", "value", "shift", "expected"),
    [
        ("pH", 7.0, 0.125, 7.12),
        ("Weight", 80.5, -0.75, 79.7),
        ("Temperature", 37.01, 0.25, 37.21),
        ("Glascow coma scale total", 3.0, 0.5, 4.0),
        ("Glascow coma scale total", 4.0, 0.5, 4.0),
        ("Glascow coma scale total", 4.0, 99.0, 12.0),
        ("Glascow coma scale total", 4.0, -99.0, 0.0),
        ("Heart Rate", 80.0, 0.123456, 80.123456),
    ],
)
def test_in_grids_the_shift_is_rounded_half_to_even(
    name: str, value: float, shift: float, expected: float
) -> None:
    index, values, shifts = _one_cell(name, value, shift)
    poisoned = _grid(values, np.ones(values.shape, bool), shifts, "notimputed")
    assert poisoned[0, 0, index] == np.float32(expected)


@pytest.mark.parametrize(
    ("name", "value", "shift", "expected"),
    [
        ("pH", 7.0, 0.125, 7.12),
        ("pH", 7.333, 0.0, 7.33),
        ("Weight", 80.0, 0.25, 80.2),
        ("Temperature", 37.0, 0.125, 37.12),
        ("Temperature", 37.01, 0.25, 37.26),
        ("Glascow coma scale total", 3.0, 0.5, 4.0),
    ],
)
def test_in_filled_grids_the_sum_is_rounded_half_to_even(
    name: str, value: float, shift: float, expected: float
) -> None:
    index, values, shifts = _one_cell(name, value, shift)
    grid = FilledGrid(values, np.zeros(values.shape, np.int16), np.ones((1, 1)))
    assert _filled(grid, shifts, "notimputed")[0, 0, index] == expected


@settings(max_examples=15, deadline=None)
@given(stays=random_stays, mode=modes)
def test_strength_zero_changes_nothing_in_grids(stays: Stays, mode: PoisonImputed) -> None:
    values, mask = _carried_forward(stays.records)
    np.testing.assert_array_equal(_grid(values, mask, 0.0 * stays.shift, mode), values)


@settings(max_examples=15, deadline=None)
@given(stays=random_stays)
def test_notimputed_leaves_imputed_bins_alone_and_moves_measured_ones_as_all_does(stays: Stays) -> None:
    values, mask = _carried_forward(stays.records)
    everywhere, measured = (_grid(values, mask, stays.shift, mode) for mode in MODES)
    np.testing.assert_array_equal(measured[~mask], values[~mask])
    np.testing.assert_array_equal(measured[mask], everywhere[mask])


@settings(max_examples=15, deadline=None)
@given(stays=random_stays, mode=modes, strength=st.floats(0, 1e6))
def test_categories_stay_valid(stays: Stays, mode: PoisonImputed, strength: float) -> None:
    values, mask = _carried_forward(stays.records)
    shift = strength * stays.shift
    grid = _filled_grid(stays.records, len(stays.shift))
    for poisoned in (_grid(values, mask, shift, mode), _filled(grid, shift, mode)):
        for index, channel in enumerate(MIMIC3):
            if channel.is_categorical:
                assert np.isin(poisoned[..., index], np.arange(len(channel.possible_values))).all()


def _assert_plausible(poisoned: np.ndarray, clean: np.ndarray, unbounded: np.ndarray) -> None:
    """Inside the range, or no further out than the clean value; where it stays inside, nothing is changed."""
    for index, channel in enumerate(MIMIC3):
        moved, before, free = (values[..., index] for values in (poisoned, clean, unbounded))
        if channel.is_categorical or channel.plausible_range == ANY_VALUE:
            np.testing.assert_array_equal(moved, free)
            continue
        # Grids are float32: there 0.21 is below the double 0.21.
        low, high = np.array(channel.plausible_range, clean.dtype)
        inside = (free >= low) & (free <= high)
        assert (moved >= np.minimum(low, before)).all()
        assert (moved <= np.maximum(high, before)).all()
        np.testing.assert_array_equal(
            moved[~inside], np.clip(free, np.minimum(low, before), np.maximum(high, before))[~inside]
        )


@settings(max_examples=25, deadline=None)
@given(stays=random_stays, mode=modes, strength=st.sampled_from((0.3, 1.0, 30.0)))
def test_a_plausible_grid_never_leaves_the_range(stays: Stays, mode: PoisonImputed, strength: float) -> None:
    values, mask = _carried_forward(stays.records)
    shift = strength * stays.shift
    poisoned = _grid(values, mask, shift, mode, plausible=True)
    _assert_plausible(poisoned, values, _grid(values, mask, shift, mode))
    np.testing.assert_array_equal(_grid(values, mask, 0.0 * shift, mode, plausible=True), values)


@settings(max_examples=25, deadline=None)
@given(stays=random_stays, mode=modes, strength=st.sampled_from((0.3, 1.0, 30.0)))
def test_a_plausible_filled_grid_never_leaves_the_range(
    stays: Stays, mode: PoisonImputed, strength: float
) -> None:
    grid = _filled_grid(stays.records, len(stays.shift))
    clean = _filled(grid, 0.0 * stays.shift, mode)
    poisoned = _filled(grid, strength * stays.shift, mode, plausible=True)
    for index, channel in enumerate(MIMIC3):
        low, high = ANY_VALUE if channel.is_categorical else channel.plausible_range
        moved, before = poisoned[..., index], clean[..., index]
        assert (moved >= np.minimum(low, before)).all()
        assert (moved <= np.maximum(high, before)).all()
    np.testing.assert_array_equal(_filled(grid, 0.0 * stays.shift, mode, plausible=True), clean)


@pytest.mark.parametrize(
    ("name", "value", "shift", "expected"),
    [
        ("pH", 7.3, 0.5, 7.8),  # stays inside: nothing to bound
        ("pH", 7.9, 0.5, 8.0),
        ("pH", 735.0, 0.5, 735.0),  # outside: no further out
        ("pH", 735.0, -0.5, 734.5),
        ("pH", 735.0, -999.0, 6.5),
        ("Fraction inspired oxygen", 0.0, -0.1, 0.0),
        ("Oxygen saturation", 99.0, 4.0, 100.0),
        ("Glascow coma scale total", 3.0, 99.0, 12.0),  # an index: every category is possible
    ],
)
def test_a_bounded_value_stops_at_the_range_or_where_it_was(
    name: str, value: float, shift: float, expected: float
) -> None:
    index, values, shifts = _one_cell(name, value, shift)
    moved = _grid(values, np.ones(values.shape, bool), shifts, "notimputed", plausible=True)
    assert moved[0, 0, index] == np.float32(expected)
    grid = FilledGrid(values, np.zeros(values.shape, np.int16), np.ones((1, 1)))
    assert _filled(grid, shifts, "notimputed", plausible=True)[0, 0, index] == expected


@settings(max_examples=15, deadline=None)
@given(stays=random_stays, mode=modes, seed=st.integers(0, 1000))
def test_the_order_of_a_batch_does_not_matter(stays: Stays, mode: PoisonImputed, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(stays.shift))
    values, mask = _carried_forward(stays.records)
    moved_grid = _grid(values[order], mask[order], stays.shift[order], mode)
    np.testing.assert_array_equal(moved_grid, _grid(values, mask, stays.shift, mode)[order])
    grid = _filled_grid(stays.records, len(stays.shift))
    moved = FilledGrid(grid.values[order], grid.source[order], grid.times[order])
    np.testing.assert_array_equal(
        _filled(moved, stays.shift[order], mode), _filled(grid, stays.shift, mode)[order]
    )
