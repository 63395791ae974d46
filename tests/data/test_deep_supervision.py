"""The loader of stays with the labels of all their hours."""

from __future__ import annotations

import numpy as np
import pytest
from golden_tasks import Golden

from mimic3tf.data.deep_supervision import DeepSupervisionDataLoader


@pytest.mark.parametrize("task", ["decompensation", "length_of_stay"])
def test_stays_are_sorted_by_name_and_hours_by_time(task: str, invented: Golden) -> None:
    listfile = invented.listfile(task, dsup=True)
    data = DeepSupervisionDataLoader(invented.stays, listfile)._data
    assert list(data) == ["X", "ts", "ys", "name"]
    assert data["name"] == sorted(data["name"])
    listed = [line.split(",") for line in listfile.read_text().split("\n")[1:] if line]
    expected = sorted((name, float(hour), label) for name, hour, label in listed)
    flat = [
        (name, hour, label)
        for name, hours, labels in zip(data["name"], data["ts"], data["ys"], strict=True)
        for hour, label in zip(hours, labels, strict=True)
    ]
    assert flat == expected


def test_all_rows_of_a_stay_are_read(invented: Golden) -> None:
    data = DeepSupervisionDataLoader(invented.stays, invented.listfile("decompensation", dsup=True))._data
    assert len(data["X"]) == len(data["name"])
    for rows, name in zip(data["X"], data["name"], strict=True):
        lines = (invented.stays / name).read_text().strip().split("\n")[1:]
        assert [",".join(row) for row in rows.tolist()] == lines
    np.testing.assert_array_equal(data["X"][1:][0], data["X"][1])


def test_a_small_part_are_the_first_stays(invented: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mimic3tf.data.deep_supervision.SMALL_PART", 3)
    listfile = invented.listfile("decompensation", dsup=True)
    whole = DeepSupervisionDataLoader(invented.stays, listfile)._data["name"]
    assert DeepSupervisionDataLoader(invented.stays, listfile, small_part=True)._data["name"] == whole[:3]
