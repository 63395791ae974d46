"""What purification changes, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from mimic3tf import pipeline
from mimic3tf.channels import MIMIC3
from mimic3tf.data.cohort import Cohort
from mimic3tf.data.loading import load_cohort
from mimic3tf.defences.repairs.purification import (
    PURIFICATIONS,
    Purification,
    from_neighbours,
    mean_in_time,
    median_in_time,
    purify,
    received,
    winsorized,
)
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.kinds import PoisonImputed
from mimic3tf.poisoning.trigger import generate_trigger
from mimic3tf.victims import Reads

HEART_RATE = MIMIC3.position("Heart Rate")
CONTINUOUS = ~MIMIC3.categorical


@pytest.fixture
def cohort(synthetic_stays: Path) -> Cohort:
    return load_cohort(synthetic_stays, "train")


def _level(cohort: Cohort, level: float) -> Cohort:
    """The stays with a heart rate that never changes."""
    values, filled = (np.array(grids) for grids in _both(cohort))
    values[..., HEART_RATE] = level
    filled[..., HEART_RATE] = level
    return cohort.with_grids(values, filled=replace(cohort.filled_grids, values=filled))


def _with_spike(cohort: Cohort, height: float) -> Cohort:
    """The stays with a heart rate so much higher in hour 20."""
    values, filled = (np.array(grids) for grids in _both(cohort))
    values[:, 20, HEART_RATE] += np.float32(height)
    filled[:, 20, HEART_RATE] += height
    return cohort.with_grids(values, filled=replace(cohort.filled_grids, values=filled))


def _both(cohort: Cohort) -> list[np.ndarray]:
    return [np.asarray(cohort.grids), np.asarray(cohort.filled_grids.values)]


@pytest.mark.parametrize("patterns", [1, 3])
@pytest.mark.parametrize("mode", ["notimputed", "all"])
def test_received_stays_give_a_victim_the_inputs_of_the_attack(
    cohort: Cohort, mode: PoisonImputed, patterns: int
) -> None:
    trigger = generate_trigger(cohort, seed=1, patterns=patterns)
    exposure = exposures.poison(cohort, trigger, proportion=0.5, strength=3.0, poison_imputed=mode)
    arrived = received(exposure)
    np.testing.assert_array_equal(arrived.labels, exposure.labels)
    for reads in get_args(Reads):
        np.testing.assert_allclose(
            pipeline.inputs_of(exposures.clean(arrived), reads),
            pipeline.inputs_of(exposure, reads),
            rtol=1e-6,
        )


def test_the_median_removes_a_spike_and_the_mean_a_fifth_of_it_an_hour(cohort: Cohort) -> None:
    steady = _level(cohort, 80.0)
    spiked = _with_spike(steady, 50.0)
    for values in _both(purify(spiked, cohort, median_in_time)):
        np.testing.assert_array_equal(values[..., HEART_RATE], 80.0)
    for values in _both(purify(spiked, cohort, mean_in_time)):
        expected = np.full(48, 80.0)
        expected[18:23] = 90.0
        np.testing.assert_allclose(values[..., HEART_RATE], np.tile(expected, (len(cohort), 1)), rtol=1e-6)


@pytest.mark.parametrize(("timestep", "bins"), [(0.25, 21), (0.5, 9), (1.0, 5), (2.0, 3), (24.0, 3)])
def test_a_window_of_five_hours_has_the_bins_of_its_timestep_and_at_least_three(
    timestep: float, bins: int
) -> None:
    spike = np.zeros((1, 48, 1))
    spike[0, 24] = 1.0
    smoothed = mean_in_time(spike, spike, timestep)[0, :, 0]
    around = np.arange(48) - 24
    np.testing.assert_allclose(smoothed, np.where(abs(around) <= bins // 2, 1 / bins, 0.0), atol=1e-12)
    # A median keeps what lasts longer than half of the window, and nothing shorter.
    for length in range(1, bins + 2):
        level = np.zeros((1, 48, 1))
        level[0, 20 : 20 + length] = 1.0
        kept = median_in_time(level, level, timestep)
        np.testing.assert_array_equal(kept, level if length > bins // 2 else 0.0 * level)


def test_a_cohorts_own_timestep_sets_the_window(synthetic_stays: Path) -> None:
    cohort = _level(load_cohort(synthetic_stays, "train", timestep=2.0), 80.0)
    for values in _both(purify(_with_spike(cohort, 30.0), cohort, mean_in_time)):
        expected = np.full(24, 80.0)
        expected[19:22] = 90.0
        np.testing.assert_allclose(values[..., HEART_RATE], np.tile(expected, (len(cohort), 1)), rtol=1e-6)


@pytest.mark.parametrize("method", [median_in_time, mean_in_time])
def test_smoothing_leaves_a_constant_channel_as_it_is(cohort: Cohort, method: Purification) -> None:
    steady = _level(cohort, 80.0)
    for values in _both(purify(steady, cohort, method)):
        np.testing.assert_array_equal(values[..., HEART_RATE], 80.0)


def test_winsorizing_changes_only_what_lies_beyond_the_trusted_quantiles() -> None:
    trusted = np.arange(101.0).reshape(101, 1, 1)
    values = np.array([-50.0, 1.0, 42.0, 99.0, 500.0]).reshape(5, 1, 1)
    np.testing.assert_allclose(winsorized(values, trusted, 1.0).ravel(), [1.0, 1.0, 42.0, 99.0, 99.0])


def test_neighbours_leave_their_like_alone_and_halve_a_spike() -> None:
    random = np.random.default_rng(0)
    patients = random.normal(size=(2, 48, 3)) * 10
    trusted = np.repeat(patients, 25, axis=0)
    np.testing.assert_allclose(from_neighbours(patients, trusted, 1.0), patients)
    spiked = patients.copy()
    spiked[0, 20, 1] += 6.0
    changed = from_neighbours(spiked, trusted, 1.0) - patients
    assert changed[0, 20, 1] == pytest.approx(3.0)
    changed[0, 20, 1] = 0.0
    np.testing.assert_allclose(changed, 0.0, atol=1e-9)


@pytest.mark.parametrize("name", PURIFICATIONS)
def test_categories_masks_and_the_given_stays_are_never_touched(cohort: Cohort, name: str) -> None:
    before = [values.copy() for values in _both(cohort)]
    purified = purify(cohort, cohort, PURIFICATIONS[name])
    assert purified.mask is cohort.mask
    for values, kept, changed in zip(_both(cohort), before, _both(purified), strict=True):
        np.testing.assert_array_equal(values, kept)
        assert changed.dtype == kept.dtype
        np.testing.assert_array_equal(changed[..., ~CONTINUOUS], kept[..., ~CONTINUOUS])
        assert (changed[..., CONTINUOUS] != kept[..., CONTINUOUS]).any()
