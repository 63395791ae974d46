from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_tasks import SHARED, Golden, at_hand, discretizer, normalizer

from mimic3tf.channels import MIMIC3
from mimic3tf.data import Discretizer, Normalizer
from mimic3tf.errors import DataError


def _rows(*rows: tuple[str, str]) -> np.ndarray:
    """Rows of hours and heart rate."""
    cells = np.full((len(rows), 18), "", dtype="<U32")
    for row, (hours, heart_rate) in enumerate(rows):
        cells[row, 0], cells[row, 9] = hours, heart_rate
    return cells


def test_relative_time_starts_at_the_first_row() -> None:
    grid, _ = Discretizer(1.0, impute_strategy="zero", start_time="relative").transform(
        _rows(("5.5", "80"), ("7.0", "90")), end=10.0
    )
    heart_rate = grid[:, Discretizer(1.0).transform(_rows(("1", "1")))[1].split(",").index("Heart Rate")]
    assert grid.shape[0] == 5  # 4.5 hours
    assert heart_rate.tolist() == [80, 90, 0, 0, 0]


def test_without_an_end_the_grid_ends_with_the_last_row() -> None:
    grid, _ = Discretizer(1.0).transform(_rows(("0.5", "80"), ("6.2", "90")))
    assert grid.shape[0] == 7


def test_masks_can_be_left_out() -> None:
    grid, header = Discretizer(1.0, store_masks=False).transform(_rows(("0.5", "80")), end=48.0)
    assert grid.shape == (48, 59)
    assert len(header.split(",")) == 59


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(ValueError, match="impute_strategy"):
        Discretizer(impute_strategy="mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="start_time"):
        Discretizer(start_time="noon")


def test_a_header_that_lacks_a_channel_is_refused() -> None:
    header = ["Hours", *MIMIC3.names[:-1], "Pulse"]
    with pytest.raises(DataError, match="header"):
        Discretizer(1.0).transform(_rows(("0.5", "80")), header=header)


def test_another_channel_table_can_be_given(tmp_path: Path) -> None:
    config = {
        "id_to_channel": ["Pulse", "Mood"],
        "is_categorical_channel": {"Pulse": False, "Mood": True},
        "possible_values": {"Pulse": [], "Mood": ["low", "high"]},
        "normal_values": {"Pulse": "70", "Mood": "high"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    discretizer = Discretizer(1.0, impute_strategy="previous", config_path=tmp_path / "config.json")
    grid, header = discretizer.transform(np.array([["0.5", "", "low"], ["1.5", "75", ""]]), end=2.0)
    assert header == "Pulse,Mood->low,Mood->high,mask->Pulse,mask->Mood"
    assert grid.tolist() == [[70, 1, 0, 0, 1], [75, 1, 0, 1, 0]]


def test_statistics_count_what_was_not_used(capsys: pytest.CaptureFixture[str]) -> None:
    discretizer = Discretizer(1.0)
    discretizer.transform(_rows(("0.2", "80"), ("0.4", "81")), end=48.0)
    discretizer.print_statistics()
    output = capsys.readouterr().out
    assert "converted 1 examples" in output
    assert "unused data = 50.00 percent" in output


def test_a_normalizer_learns_mean_and_deviation(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(5, 3, (40, 4))
    normalizer = Normalizer([0, 2])
    normalizer._feed_data(rows[:10])
    normalizer._feed_data(rows[10:])
    normalizer._save_params(tmp_path / "normalizer.json")
    other = Normalizer([0, 2])
    other.load_params(tmp_path / "normalizer.json")
    expected = rows.copy()
    expected[:, [0, 2]] = ((rows - rows.mean(axis=0)) / rows.std(axis=0, ddof=1))[:, [0, 2]]
    np.testing.assert_allclose(other.transform(rows), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_the_benchmarks_pickles_are_read(tmp_path: Path, protocol: int) -> None:
    statistics = {"means": np.array([1.0, 2.0]), "stds": np.array([3.0, 4.0])}
    (tmp_path / "old.normalizer").write_bytes(pickle.dumps(statistics, protocol=protocol))
    normalizer = Normalizer()
    normalizer.load_params(tmp_path / "old.normalizer")
    np.testing.assert_array_equal(normalizer.transform(np.array([[4.0, 6.0]])), [[1.0, 1.0]])


class _Touch:
    """Pickles into a call that writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_that_calls_something_is_refused_unrun(tmp_path: Path) -> None:
    target = tmp_path / "pwned"
    evil = {"means": _Touch(target), "stds": np.ones(2)}
    (tmp_path / "evil.normalizer").write_bytes(pickle.dumps(evil))
    with pytest.raises(DataError, match="only plain arrays"):
        Normalizer().load_params(tmp_path / "evil.normalizer")
    assert not target.exists()


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x02", b"not a pickle", b"{}", b'{"mean": [1], "std": [1, 2]}']
)
def test_a_damaged_normalizer_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken").write_bytes(content)
    with pytest.raises(DataError, match="broken: not a normalizer"):
        Normalizer().load_params(tmp_path / "broken")


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    objects = {"means": np.array([1, None], dtype=object), "stds": np.ones(2)}
    (tmp_path / "objects").write_bytes(pickle.dumps(objects, protocol=2))
    with pytest.raises(DataError, match="not floating-point"):
        Normalizer().load_params(tmp_path / "objects")


@pytest.mark.parametrize("task", ["decompensation", "length_of_stay", "phenotyping"])
def test_grids_of_any_length_are_the_benchmarks(task: str, golden: Golden, tmp_path: Path) -> None:
    expected = golden.arrays(task)
    reader, grids = golden.reader(task), discretizer()
    lengths = []
    for index in range(reader.get_number_of_examples()):
        example = reader.read_example(index)
        grid, header = grids.transform(example["X"], end=example["t"])
        lengths.append(len(grid))
        start, stop = expected["offsets"][index : index + 2]
        np.testing.assert_array_equal(grid.astype(np.float32), expected["grid"][start:stop])
    assert header.split(",") == expected["header"].tolist()
    np.testing.assert_array_equal(np.cumsum([0, *lengths]), expected["offsets"])


@pytest.mark.parametrize("task", ["decompensation", "length_of_stay", "phenotyping"])
def test_grids_are_standardized_as_by_the_benchmarks(task: str, golden: Golden, tmp_path: Path) -> None:
    expected = golden.arrays(task)
    found = normalizer(task, tmp_path).transform(expected["grid"])
    np.testing.assert_allclose(found, expected["grid_standardized"], rtol=1e-6, atol=1e-6)


def test_other_settings_of_the_discretizer_are_the_benchmarks(
    of_demo: Golden, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = of_demo.arrays("discretizer_settings")
    reader = of_demo.reader("phenotyping")
    examples = [reader.read_example(index) for index in range(reader.get_number_of_examples())]
    rows = {example["name"]: example["X"] for example in examples}
    settings = [key for key in expected if key.count("|") == 3]
    assert len(settings) == 5
    for setting in settings:
        timestep, start, imputation, masks = setting.split("|")
        grids = Discretizer(float(timestep), masks == "masks", imputation, start)  # type: ignore[arg-type]
        found = [
            grids.transform(rows[name], end=t)[0]
            for name, t in zip(expected["names"], expected["t"], strict=True)
        ]
        np.testing.assert_array_equal(np.cumsum([0, *map(len, found)]), expected[f"{setting}|offsets"])
        np.testing.assert_array_equal(
            np.concatenate(found).astype(np.float32), expected[setting], err_msg=setting
        )
        grids.print_statistics()
        empty, unused = 100 * expected[f"{setting}|statistics"]
        printed = capsys.readouterr().out
        assert f"average empty bins = {empty:.2f} percent" in printed
        assert f"average unused data = {unused:.2f} percent" in printed


def test_the_benchmarks_normalizers_of_all_tasks_are_read(tmp_path: Path) -> None:
    table = json.loads(at_hand(SHARED / "normalizers.json").read_text())
    assert len(table) == 10
    for name, statistics in table.items():
        file = tmp_path / "normalizer"
        file.write_bytes(
            pickle.dumps({"means": np.array(statistics["mean"]), "stds": np.array(statistics["std"])})
        )
        loaded = Normalizer()
        loaded.load_params(file)
        np.testing.assert_array_equal(loaded.means, statistics["mean"], err_msg=name)
        np.testing.assert_array_equal(loaded.stds, statistics["std"], err_msg=name)
    # Those of four tasks are one and the same file.
    whole_stays = [table[name] for name in table if "_ts1.0." in name and "ihm" not in name]
    assert len(whole_stays) == 4
    assert all(statistics == whole_stays[0] for statistics in whole_stays)
