"""Other channels, periods and timesteps: what a cohort holds, and that caches keep them apart."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from mimic3tf.channels import MIMIC3, Channel, ChannelSet
from mimic3tf.data import loading
from mimic3tf.data.channels_file import CHANNELS_FILE, channels_text
from mimic3tf.data.cohort import Cohort
from mimic3tf.data.loading import load_cohort
from mimic3tf.data.records import read_series
from mimic3tf.errors import DataError, UsageError

MONITOR = ChannelSet(
    "monitor",
    (
        Channel("Pulse", "1/min", "80"),
        Channel("Mood", "", "calm", ("restless", "calm", "asleep"), (2, 1, 0)),
        Channel("Lactate", "mmol/L", "1.5"),
    ),
)
READINGS = [(48.0, 1.0), (48.0, 0.8), (48.0, 48.0), (24.0, 2.0), (10.0, 3.0), (6.0, 0.25), (60.0, 5.0)]
"""Periods and timesteps, some of which do not divide the period."""


@pytest.fixture
def monitored(tmp_path: Path) -> Path:
    """Twelve stays of three channels whose rows love the edges of bins; all have one within six hours."""
    data, random = tmp_path / "monitored", np.random.default_rng(5)
    (data / "train").mkdir(parents=True)
    (data / CHANNELS_FILE).write_text(channels_text(MONITOR))
    names = [f"{stay}_episode1_timeseries.csv" for stay in range(12)]
    edges = [
        0,
        0.25,
        2,
        3,
        3 + 5e-7,
        3 + 2e-6,
        5,
        6,
        6 + 9e-7,
        9.999999,
        24,
        24 + 2e-6,
        48,
        48 + 9e-7,
        48.5,
        55,
    ]
    for number, name in enumerate(names):
        hours = np.sort(
            [
                random.uniform(0, 6),
                *random.uniform(0, 60, random.integers(0, 30)),
                *random.choice(edges, random.integers(0, 12)),
            ]
        )
        with (data / "train" / name).open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(MONITOR.header)
            for hour in hours:
                cells = [
                    f"{random.normal(80, 20):.3f}",
                    random.choice(MONITOR[1].possible_values),
                    f"{random.exponential(2):.2f}",
                ]
                measured = random.random(3) < (0.5 if number else 0.0)
                writer.writerow([repr(float(hour)), *np.where(measured, cells, "")])
    labels = "".join(f"{name},{number % 3 == 0:d}\n" for number, name in enumerate(names))
    (data / "train_listfile.csv").write_text("stay,y_true\n" + labels)
    return data


@pytest.fixture
def early(synthetic_stays: Path, tmp_path: Path) -> Path:
    """Those of the invented training stays that have a row within the first six hours."""
    data = Path(shutil.copytree(synthetic_stays, tmp_path / "early"))
    listfile = data / "train_listfile.csv"
    header, *lines = listfile.read_text().splitlines()
    late = ("9003_", "9012_", "9013_")
    listfile.write_text("\n".join([header, *(line for line in lines if not line.startswith(late))]) + "\n")
    return data


def _rows(path: Path, channels: ChannelSet) -> Iterable[tuple[float, list[float | None]]]:
    """Hours and values of a series file, one row at a time."""
    header, *lines = path.read_text().splitlines()
    assert tuple(header.split(",")) == channels.header
    for line in lines:
        hour, *cells = line.split(",")
        yield (
            float(hour),
            [
                None
                if not cell
                else float(channel.possible_values.index(cell) if channel.is_categorical else cell)
                for channel, cell in zip(channels, cells, strict=True)
            ],
        )


def _slowly(
    path: Path, channels: ChannelSet, period: float, timestep: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Values, mask, and values, source and times of the filled grid of one stay, cell by cell."""
    bins = int(period / timestep + 1 - 1e-6)
    grid = np.full((bins, len(channels)), np.nan)
    filled, times = grid.copy(), np.zeros(bins)
    previous = -1
    for hour, values in _rows(path, channels):
        if hour > period + 1e-6:
            continue
        own = min(int(hour / timestep - 1e-6), bins - 1)
        # A row fills the bins since the row before it, as far as what it measured goes.
        written = range(previous + 1, own + 1) if own > previous else [own]
        for number in written:
            times[number] = hour
        for position, value in enumerate(values):
            if value is not None:
                grid[own, position] = value
                for number in written:
                    filled[number, position] = value
        previous = own
    times[previous + 1 :] = times[previous]
    source = np.full(filled.shape, -1)
    imputed = [grid.copy(), filled.copy()]
    for position, channel in enumerate(channels):
        for table in imputed:
            last = channel.normal_number
            for number in range(bins):
                if np.isnan(table[number, position]):
                    table[number, position] = last
                last = table[number, position]
        latest = -1
        for number in range(bins):
            if not np.isnan(filled[number, position]):
                latest = number
            source[number, position] = latest
    return imputed[0].astype(np.float32), ~np.isnan(grid), imputed[1], source, times


def _check_against_slow_reading(data: Path, channels: ChannelSet, period: float, timestep: float) -> None:
    cohort = load_cohort(data, "train", period=period, timestep=timestep)
    assert (cohort.channels, cohort.period, cohort.timestep) == (channels, period, timestep)
    assert cohort.bins == int(period / timestep + 1 - 1e-6)
    for stay, name in enumerate(cohort.stays):
        expected = _slowly(data / "train" / str(name), channels, period, timestep)
        filled = cohort.filled_grids
        found: tuple[np.ndarray, ...] = (
            cohort.grids,
            cohort.masks,
            filled.values,
            filled.source,
            filled.times,
        )
        for part, whole in zip(expected, found, strict=True):
            np.testing.assert_array_equal(whole[stay], part)
    np.testing.assert_array_equal(cohort.examples.stay, np.arange(len(cohort)))
    np.testing.assert_array_equal(cohort.examples.end, np.full(len(cohort), cohort.bins))


@pytest.mark.parametrize(("period", "timestep"), READINGS)
def test_a_cohort_of_other_channels_equals_reading_it_cell_by_cell(
    monitored: Path, period: float, timestep: float
) -> None:
    _check_against_slow_reading(monitored, MONITOR, period, timestep)


@pytest.mark.parametrize(("period", "timestep"), READINGS)
def test_a_cohort_of_the_benchmarks_equals_reading_it_cell_by_cell(
    early: Path, period: float, timestep: float
) -> None:
    _check_against_slow_reading(early, MIMIC3, period, timestep)


def test_a_channels_file_of_the_benchmarks_channels_changes_nothing_but_the_fingerprint(early: Path) -> None:
    without = load_cohort(early, "train")
    (early / CHANNELS_FILE).write_text(channels_text(MIMIC3))
    cohort = load_cohort(early, "train")
    assert cohort.channels == MIMIC3
    np.testing.assert_array_equal(cohort.values, without.values)
    assert cohort.fingerprint != without.fingerprint


def test_a_stay_without_a_row_in_the_period_is_named_with_it(synthetic_stays: Path) -> None:
    with pytest.raises(DataError, match="9003_episode1.*no row within the first 6 hours"):
        load_cohort(synthetic_stays, "train", period=6)


@pytest.mark.parametrize("timestep", [0.0, -1.0, 1e-3])
def test_a_timestep_without_a_grid_is_refused(monitored: Path, timestep: float) -> None:
    with pytest.raises(DataError, match="have no grid of 1 to 32767 bins"):
        load_cohort(monitored, "train", timestep=timestep)


def test_a_task_nobody_knows_is_refused(monitored: Path) -> None:
    with pytest.raises(UsageError, match="'discharge': no such task"):
        load_cohort(monitored, "train", task="discharge")


# --- Caches -------------------------------------------------------------------------------------------


@pytest.fixture
def read_again(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of files of every call that reads series."""
    calls: list[int] = []

    def counted(paths: list[Path], channels: ChannelSet) -> object:
        calls.append(len(paths))
        return read_series(paths, channels)

    monkeypatch.setattr(loading, "read_series", counted)
    return calls


def test_every_period_and_timestep_has_a_cache_of_its_own(monitored: Path, read_again: list[int]) -> None:
    first = {reading: _load(monitored, *reading) for reading in READINGS}
    assert len(read_again) == len(READINGS)
    again = {reading: _load(monitored, *reading) for reading in READINGS}
    assert len(read_again) == len(READINGS)
    for reading in READINGS:
        np.testing.assert_array_equal(again[reading].values, first[reading].values)
        assert (again[reading].period, again[reading].timestep) == reading
    assert len({cohort.values.shape for cohort in first.values()}) > 4
    # It is the fingerprint of the records, however they are put into bins.
    assert len({cohort.fingerprint for cohort in [*first.values(), *again.values()]}) == 1


def _load(data: Path, period: float, timestep: float) -> Cohort:
    return load_cohort(data, "train", period=period, timestep=timestep)


def test_the_tasks_own_period_shares_the_cache_of_its_hours(monitored: Path, read_again: list[int]) -> None:
    load_cohort(monitored, "train")
    load_cohort(monitored, "train", period=48.0, timestep=1.0)
    assert read_again == [12]


@pytest.mark.parametrize(
    ("written", "instead", "seen"),
    [
        ("normal: 80", "normal: 81", True),
        ("normal: calm", "normal: asleep", True),
        ("restless: 2", "restless: 3", False),
        ("unit: mmol/L", "unit: mg/dL", False),
        ("name: monitor", "name: bedside", False),
        ("name: monitor", "name: monitor # on loan", False),
    ],
    ids=["normal value", "normal category", "score", "unit", "name", "remark"],
)
def test_a_changed_channels_file_changes_the_fingerprint_and_is_read_again(
    monitored: Path, read_again: list[int], written: str, instead: str, seen: bool
) -> None:
    before = load_cohort(monitored, "train")
    file = monitored / CHANNELS_FILE
    assert file.read_text().count(written) == 1
    file.write_text(file.read_text().replace(written, instead))
    after = load_cohort(monitored, "train")
    assert len(read_again) == 2
    assert after.fingerprint != before.fingerprint
    assert (after.values != before.values).any() == seen
    load_cohort(monitored, "train")
    assert len(read_again) == 2


def test_channels_that_do_not_fit_the_series_are_named_before_a_cache_answers(monitored: Path) -> None:
    load_cohort(monitored, "train")
    file = monitored / CHANNELS_FILE
    file.write_text(file.read_text().replace("Lactate", "Glucose"))
    with pytest.raises(DataError, match=r"0_episode1_timeseries.csv, line 1: missing channel 'Glucose'"):
        load_cohort(monitored, "train")
    file.unlink()
    with pytest.raises(DataError, match=r"0_episode1_timeseries.csv, line 1: missing channel"):
        load_cohort(monitored, "train")
