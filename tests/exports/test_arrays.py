"""Arrays that are exported are the cells of the cohort, in the form that audits of arrays read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from bedside_cohort import BEDSIDE, HOURS, write_bedside_cohort

from mimic3tf.channels import MIMIC3, ChannelSet
from mimic3tf.data.array_files import OwnArrays, read_own_arrays
from mimic3tf.data.arrays import array_of_cohort, cohort_of_arrays
from mimic3tf.data.channels_file import parse_channels
from mimic3tf.data.directory import Split
from mimic3tf.data.loading import load_cohort
from mimic3tf.errors import DataError
from mimic3tf.exports.arrays import export_arrays

SPLITS: tuple[Split, ...] = get_args(Split)


def exported(file: Path) -> OwnArrays:
    return read_own_arrays(file, "label", None)


def last_of_bins(file: Path, channels: ChannelSet, period: float, timestep: float) -> np.ndarray:
    """The last measurement of each bin of a series file, read as plain text: [T, C]."""
    bins = round(period / timestep)
    cells = np.full((bins, len(channels)), np.nan, np.float32)
    _, *lines = file.read_text(encoding="utf-8").splitlines()
    for hours, *texts in (line.split(",") for line in lines):
        if float(hours) > period + 1e-6:
            continue
        # The rule of the benchmarks: the last instant of a bin belongs to the bin.
        place = min(int(float(hours) / timestep - 1e-6), bins - 1)
        for column, (channel, text) in enumerate(zip(channels, texts, strict=True)):
            if text:
                cells[place, column] = (
                    channel.possible_values.index(text) if channel.is_categorical else np.float32(text)
                )
    return cells


@pytest.mark.parametrize("timestep", [1.0, 4.0])
@pytest.mark.parametrize("own_channels", [False, True])
def test_every_bin_holds_its_last_measurement(
    synthetic_stays: Path, tmp_path: Path, own_channels: bool, timestep: float
) -> None:
    data, channels, period = synthetic_stays, MIMIC3, 48.0
    if own_channels:
        data, channels, period = tmp_path / "data", BEDSIDE, HOURS
        write_bedside_cohort(data, stays=20)
    summary = export_arrays(data, tmp_path / "out", period=period, timestep=timestep)
    for number, split in enumerate(SPLITS):
        found = exported(tmp_path / "out" / f"{split}.npz")
        _, *lines = (data / f"{split}_listfile.csv").read_text().split()
        names, labels = zip(*(line.split(",") for line in lines), strict=True)
        folder = data / ("test" if split == "test" else "train")
        expected = np.array([last_of_bins(folder / name, channels, period, timestep) for name in names])
        assert found.x.dtype == np.float32
        np.testing.assert_array_equal(found.x, expected)
        assert found.y.dtype == np.int64
        assert found.y.tolist() == [int(label) for label in labels]
        assert found.ids == list(names)
        assert found.channels == list(channels.names)
        measured = float((~np.isnan(expected)).mean())
        shape = (int(period / timestep), len(channels))
        assert summary.row(number) == (split, len(names), found.y.sum(), *shape, pytest.approx(measured))
    text = (tmp_path / "out" / "channels.yaml").read_text(encoding="utf-8")
    assert parse_channels(text, "channels.yaml") == channels


def test_a_cohort_of_the_arrays_is_the_cohort(synthetic_stays: Path, tmp_path: Path) -> None:
    export_arrays(synthetic_stays, tmp_path / "out")
    found = exported(tmp_path / "out" / "train.npz")
    cohort = load_cohort(synthetic_stays, "train")
    again = cohort_of_arrays(found.x, found.y, ids=found.ids, channels=cohort.channels)
    for name in ("values", "mask", "stays", "starts"):
        np.testing.assert_array_equal(getattr(again, name), getattr(cohort, name))
    np.testing.assert_array_equal(again.labels, cohort.labels)
    np.testing.assert_array_equal(array_of_cohort(again), found.x)


def test_a_faulty_file_leaves_nothing_behind(synthetic_stays: Path, tmp_path: Path) -> None:

    data = Path(shutil.copytree(synthetic_stays, tmp_path / "data"))
    file = sorted((data / "test").iterdir())[0]
    file.write_text("Hours,pH\n1,7.4\n")
    with pytest.raises(DataError, match=file.name):
        export_arrays(data, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} <= {"data", "cohort-cache"}
