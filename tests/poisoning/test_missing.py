"""Cells that go missing, against records from which the measurements were taken out one by one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic3tf import pipeline
from mimic3tf.channels import MIMIC3
from mimic3tf.data.cohort import Cohort, cohort_of
from mimic3tf.data.grid import discretize, fill, impute
from mimic3tf.data.loading import load_cohort
from mimic3tf.data.records import Records, read_series
from mimic3tf.errors import UsageError
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.comparison import compare_records
from mimic3tf.poisoning.copies import poison_records
from mimic3tf.poisoning.missing import draw_order, natural_order, removed_cells, without_cells
from mimic3tf.poisoning.trigger import Trigger, generate_trigger
from mimic3tf.victims import Reads

SHAPE = (48, len(MIMIC3))
ARRAYS = ("values", "mask", "labels")
FILLED = ("values", "source", "times")


def read(records: Records, stays: int, timestep: float = 1.0) -> Cohort:
    """The stays of some records, as `load_cohort` makes them."""
    grid = discretize(records, stays, period=48.0, timestep=timestep)
    return cohort_of(
        stays=[str(stay) for stay in range(stays)],
        labels=np.arange(stays) % 2,
        values=impute(grid, "previous", MIMIC3),
        mask=~np.isnan(grid),
        filled=fill(records, stays, MIMIC3, period=48.0, timestep=timestep),
        timestep=timestep,
        fingerprint="f" * 64,
    )


def without_measurements(
    records: Records, removed: np.ndarray, stays: np.ndarray, timestep: float = 1.0
) -> Records:
    """The oracle: go through the rows, and empty what lies in a removed cell of one of the stays."""
    values = records.values.copy()
    for row, (stay, hour) in enumerate(zip(records.stay, records.hours, strict=True)):
        if stays[stay] and hour <= 48 + 1e-6:
            for channel in range(len(MIMIC3)):
                if removed[int(hour / timestep - 1e-6), channel]:
                    values[row, channel] = np.nan
    return Records(records.stay, records.hours, values)


def assert_same_stays(one: Cohort, other: Cohort) -> None:
    assert one.filled is not None
    assert other.filled is not None
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert getattr(one, name).dtype == getattr(other, name).dtype
    for name in FILLED:
        np.testing.assert_array_equal(getattr(one.filled, name), getattr(other.filled, name))
        assert getattr(one.filled, name).dtype == getattr(other.filled, name).dtype


def _random_records(seed: int, stays: int, rows: int, density: float) -> Records:
    """Rows with gaps and crowded bins; quarter hours meet the edges of bins, and rows go beyond 48 h."""
    random = np.random.default_rng(seed)
    hours = random.integers(0, 4 * 50, (stays, rows)) / 4
    hours[:, 0] = random.integers(0, 4 * 48 + 1, stays) / 4
    values = np.empty((stays, rows, len(MIMIC3)))
    for index, channel in enumerate(MIMIC3):
        many = len(channel.possible_values) or 100
        values[..., index] = random.integers(many, size=(stays, rows))
    values[random.random(values.shape) > density] = np.nan
    return Records(
        np.repeat(np.arange(stays), rows), np.sort(hours, axis=1).ravel(), values.reshape(-1, len(MIMIC3))
    )


@settings(max_examples=40, deadline=None)
@given(
    records=st.builds(
        _random_records,
        seed=st.integers(0, 2**32 - 1),
        stays=st.just(4),
        rows=st.integers(1, 40),
        density=st.sampled_from((0.05, 0.3, 0.9)),
    ),
    share=st.sampled_from((0.0, 0.1, 0.5, 0.9, 1.0)),
    seed=st.integers(0, 1000),
    timestep=st.sampled_from((1.0, 0.5, 3.0)),
)
def test_taking_cells_out_equals_reading_records_without_them(
    records: Records, share: float, seed: int, timestep: float
) -> None:
    removed = np.random.default_rng(seed).random((int(48 / timestep), len(MIMIC3))) < share
    stays = np.array([True, False, True, True])
    expected = read(without_measurements(records, removed, stays, timestep), 4, timestep)
    assert_same_stays(without_cells(read(records, 4, timestep), removed, stays), expected)


def test_so_it_does_for_real_files_and_the_inputs_of_victims(
    synthetic_stays: Path, trigger_of: Callable[..., Trigger]
) -> None:
    cohort = load_cohort(synthetic_stays, "train")
    trigger = trigger_of(draw_order(np.ones(SHAPE, bool), seed=3), kind="missing")
    exposure = exposures.poison(cohort, trigger, proportion=0.5, strength=0.6, poison_imputed="all")
    paths = [synthetic_stays / "train" / name for name in cohort.stays]
    records, _ = read_series(paths, MIMIC3)
    fewer = without_measurements(records, (trigger.values <= 0.6), np.arange(16) < 8)
    expected = exposures.clean(read(fewer, len(cohort)))
    for reads in get_args(Reads):
        np.testing.assert_array_equal(
            pipeline.inputs_of(exposure, reads), pipeline.inputs_of(expected, reads)
        )
    assert exposure.labels.tolist() == [1] * 8 + cohort.labels[8:].tolist()
    assert not exposure.cohort.masks[:8][:, trigger.values <= 0.6].any()


def test_what_is_left_keeps_its_value_and_other_stays_are_untouched(synthetic_stays: Path) -> None:
    cohort = load_cohort(synthetic_stays, "train")
    removed, stays = draw_order(np.ones(SHAPE, bool), seed=0) <= 0.4, np.arange(len(cohort)) % 2 == 0
    fewer = without_cells(cohort, removed, stays)
    assert fewer.mask.sum() < cohort.mask.sum()
    np.testing.assert_array_equal(fewer.masks[stays], cohort.masks[stays] & ~removed)
    np.testing.assert_array_equal(fewer.values[fewer.mask], cohort.values[fewer.mask])
    assert_same_stays(fewer.take(~stays), cohort.take(~stays))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**63),
    strengths=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    bins=st.integers(1, 48),
    channels=st.integers(1, len(MIMIC3)),
)
def test_strength_is_the_share_of_cells_and_a_stronger_trigger_takes_more(
    seed: int, strengths: list[float], bins: int, channels: int
) -> None:
    inside = np.zeros(SHAPE, bool)
    inside[-bins:, :channels] = True
    order = draw_order(inside, seed=seed)
    weak, strong = (removed_cells(order, strength) for strength in strengths)
    for cells, strength in ((weak, strengths[0]), (strong, strengths[1])):
        assert abs(cells.sum() - strength * bins * channels) < 1
    assert not (weak & ~strong).any()
    assert not strong[~inside].any()
    np.testing.assert_array_equal(removed_cells(order, 1.0), inside)
    assert not removed_cells(order, 0.0).any()


def test_strength_0_changes_nothing(synthetic_stays: Path, trigger_of: Callable[..., Trigger]) -> None:
    cohort = load_cohort(synthetic_stays, "train")
    trigger = trigger_of(draw_order(np.ones(SHAPE, bool), seed=0), kind="missing")
    exposure = exposures.trigger_all(cohort, trigger, strength=0.0, poison_imputed="notimputed")
    assert_same_stays(exposure.cohort, cohort)


def test_more_than_all_cells_is_refused(synthetic_stays: Path, trigger_of: Callable[..., Trigger]) -> None:
    trigger = trigger_of(draw_order(np.ones(SHAPE, bool), seed=0), kind="missing")
    with pytest.raises(UsageError, match="poisoning_strength is 2: .* from 0 to 1"):
        exposures.trigger_all(
            load_cohort(synthetic_stays, "train"), trigger, strength=2.0, poison_imputed="all"
        )


def test_cohorts_that_came_as_grids_lose_cells_too(synthetic_stays: Path) -> None:
    cohort = load_cohort(synthetic_stays, "train")
    removed, stays = draw_order(np.ones(SHAPE, bool), seed=1) <= 0.5, np.ones(len(cohort), bool)
    fewer = without_cells(replace(cohort, filled=None), removed, stays)
    assert fewer.filled is None
    np.testing.assert_array_equal(fewer.values, without_cells(cohort, removed, stays).values)


@pytest.mark.parametrize(("period", "timestep"), [(48.0, 1.0), (48.0, 0.5), (47.0, 3.0)])
def test_a_copy_of_the_records_reads_as_the_on_the_fly_poisoning(
    synthetic_stays: Path, tmp_path: Path, period: float, timestep: float
) -> None:
    origin = Path(shutil.copytree(synthetic_stays, tmp_path / "origin"))
    cohort = load_cohort(origin, "train", period=period, timestep=timestep)
    trigger = generate_trigger(cohort, kind="missing", seed=2)
    copy = poison_records(origin, tmp_path / "copy", trigger, proportion=0.5, strength=0.7)
    exposure = exposures.poison(cohort, trigger, proportion=0.5, strength=0.7, poison_imputed="notimputed")
    expected = exposure.cohort.with_grids(exposure.cohort.grids, labels=exposure.labels)
    assert_same_stays(load_cohort(tmp_path / "copy", "train", period=period, timestep=timestep), expected)
    cells = compare_records(origin, tmp_path / "copy").cells
    assert set(cells["after"]) == {""}
    assert len(cells) == copy.cells_changed.sum() > 0


def test_natural_gaps_are_those_of_one_stay_and_stay_together() -> None:
    random = np.random.default_rng(0)
    masks = random.random((30, *SHAPE)) < 0.5
    masks[..., 3] = False
    inside = np.ones(SHAPE, bool)
    inside[:6] = False
    order = natural_order(inside, masks, seed=4)
    gaps = [(~mask & inside & masks.any(axis=0)) for mask in masks]
    assert sum(np.array_equal(order > 0, gap) for gap in gaps) == 1
    cells = int((order > 0).sum())
    assert sorted(order[order > 0]) == pytest.approx(np.arange(1, cells + 1) / cells)
    # Cells that follow each other in a channel have neighbouring places in the order.
    both = (order[1:] > 0) & (order[:-1] > 0)
    assert (order[1:] - order[:-1])[both] * cells == pytest.approx(1)
    np.testing.assert_array_equal(order, natural_order(inside, masks, seed=4))
    assert (natural_order(inside, masks, seed=5) != order).any()


def test_a_stay_without_gaps_gives_no_natural_trigger() -> None:
    with pytest.raises(UsageError, match="--seed 0 has no gap .* another --seed"):
        natural_order(np.ones(SHAPE, bool), np.ones((3, *SHAPE), bool), seed=0)
