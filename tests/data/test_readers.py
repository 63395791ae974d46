from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from golden_tasks import READERS, Golden

from mimic3tf.data import (
    Discretizer,
    InHospitalMortalityReader,
    Normalizer,
    load_data,
    read_chunk,
    save_results,
)
from mimic3tf.data.readers import DecompensationReader, LengthOfStayReader
from mimic3tf.errors import DataError
from mimic3tf.tasks.metrics_hours import Partition, targets_of


@pytest.fixture
def reader(synthetic_stays: Path) -> InHospitalMortalityReader:
    return InHospitalMortalityReader(synthetic_stays / "train", synthetic_stays / "train_listfile.csv")


def _discretizer() -> Discretizer:
    return Discretizer(1.0, store_masks=True, impute_strategy="previous", start_time="zero")


def test_an_example_has_the_benchmarks_keys(reader: InHospitalMortalityReader) -> None:
    example = reader.read_example(0)
    assert set(example) == {"X", "t", "y", "header", "name"}
    assert example["X"].shape[1] == len(example["header"]) == 18
    assert example["t"] == 48.0
    assert example["name"] == "9000_episode1_timeseries.csv"
    assert example["y"] == 0


def test_read_next_starts_over_after_the_last_stay(reader: InHospitalMortalityReader) -> None:
    count = reader.get_number_of_examples()
    names = [reader.read_next()["name"] for _ in range(count + 1)]
    assert len(set(names)) == count
    assert names[0] == names[-1]


def test_shuffling_is_reproducible(reader: InHospitalMortalityReader, synthetic_stays: Path) -> None:
    other = InHospitalMortalityReader(synthetic_stays / "train", synthetic_stays / "train_listfile.csv")
    before = read_chunk(reader, reader.get_number_of_examples())["name"]
    reader.random_shuffle(seed=3)
    other.random_shuffle(seed=3)
    after = read_chunk(reader, len(before))["name"]
    assert after == read_chunk(other, len(before))["name"]
    assert after != before
    assert sorted(after) == sorted(before)


def test_an_index_out_of_range_is_refused(reader: InHospitalMortalityReader) -> None:
    with pytest.raises(ValueError, match="index must be from 0"):
        reader.read_example(reader.get_number_of_examples())


def test_load_data_equals_the_reference(reader: InHospitalMortalityReader, reference: Any) -> None:
    if reference.stays.name != "synthetic_stays":
        pytest.skip("the reader of this test reads the synthetic stays")
    loaded = load_data(reader, _discretizer(), None, return_names=True)
    rows = [reference["names"].tolist().index(name) for name in loaded["names"]]
    X, y = loaded["data"]
    np.testing.assert_array_equal(X.astype(np.float32), reference["clean_76"][rows])
    assert y == reference["y"][rows].tolist()


def test_any_object_with_the_methods_can_stand_in(reader: InHospitalMortalityReader) -> None:
    class CountsRows:
        def transform(self, X: np.ndarray, header: Any = None, end: Any = None) -> tuple[np.ndarray, str]:
            return np.full((1, 1), float(len(X))), "rows"

    class Halves:
        def transform(self, X: np.ndarray) -> np.ndarray:
            return X / 2

    X, _ = load_data(reader, CountsRows(), Halves())
    assert X[0, 0, 0] == len(reader.read_example(0)["X"]) / 2


def test_saved_results_are_read_back(tmp_path: Path) -> None:
    save_results(["a", "b"], [0.25, 1 / 3], [0, 1], tmp_path / "new" / "results.csv")
    text = (tmp_path / "new" / "results.csv").read_text()
    assert text == "stay,prediction,y_true\na,0.250000,0\nb,0.333333,1\n"


def test_standardized_grids_equal_the_reference(reference: Any, tmp_path: Path) -> None:
    import json

    statistics = {
        "mean": reference["normalizer_mean"].tolist(),
        "std": reference["normalizer_std"].tolist(),
    }
    (tmp_path / "normalizer.json").write_text(json.dumps(statistics))
    normalizer = Normalizer([i for i, name in enumerate(reference["header"]) if "->" not in name])
    normalizer.load_params(tmp_path / "normalizer.json")
    for i, path in enumerate(reference.paths[:12]):
        folder = path.parent
        lines = [line.split(",") for line in path.read_text().splitlines()]
        grid, header = _discretizer().transform(np.array(lines[1:]), header=lines[0], end=48.0)
        assert header.split(",") == reference["header"].tolist(), folder
        np.testing.assert_allclose(
            normalizer.transform(grid), reference["clean_76_standardized"][i], rtol=1e-6, atol=1e-6
        )


KEYS = {
    "decompensation": ["X", "t", "y", "header", "name"],
    "length_of_stay": ["X", "t", "y", "header", "name"],
    "phenotyping": ["X", "t", "y", "header", "name"],
    "multitask": ["X", "t", "ihm", "los", "pheno", "decomp", "header", "name"],
}


@pytest.mark.parametrize("task", ["decompensation", "length_of_stay", "phenotyping"])
def test_samples_are_read_as_by_the_benchmarks(task: str, golden: Golden) -> None:
    expected = golden.arrays(task)
    reader = golden.reader(task)
    chunk = read_chunk(reader, reader.get_number_of_examples())
    assert list(chunk) == KEYS[task]
    assert chunk["name"] == expected["names"].tolist()
    assert chunk["t"] == expected["t"].tolist()
    assert [len(rows) for rows in chunk["X"]] == expected["rows_read"].tolist()
    hours = "y_reg" if "y_reg" in expected else "y"
    np.testing.assert_array_equal(chunk["y"], expected[hours])
    assert {type(label) for label in chunk["y"]} == {
        {"decompensation": int, "length_of_stay": float, "phenotyping": list}[task]
    }


def test_remaining_hours_become_the_benchmarks_classes(of_demo: Golden) -> None:
    expected = of_demo.arrays("length_of_stay")
    for partition in get_args(Partition)[:2]:
        found = targets_of(expected["y_reg"], partition)
        np.testing.assert_array_equal(found, expected[f"y_{partition}"])


def test_multitask_is_read_as_by_the_benchmarks(of_demo: Golden) -> None:
    expected = of_demo.arrays("multitask")
    reader = of_demo.reader("multitask")
    chunk = read_chunk(reader, reader.get_number_of_examples())
    assert list(chunk) == KEYS["multitask"]
    assert chunk["name"] == expected["names"].tolist()
    assert chunk["t"] == expected["t"].tolist()
    # The benchmarks' generator overwrites labels without a mask in the reader, where these were taken from.
    position, mask, label = np.array(chunk["ihm"]).T
    np.testing.assert_array_equal(np.stack([position, mask, label * mask], axis=1), expected["read_ihm"])
    cells = [line.split(",")[2] for line in of_demo.listfile("multitask").read_text().split("\n")[1:] if line]
    assert [";".join(map(str, ihm)) for ihm in chunk["ihm"]] == cells
    np.testing.assert_array_equal(chunk["pheno"], expected["pheno_y"])
    for task in ("los", "decomp"):
        masks, labels = zip(*chunk[task], strict=True)
        np.testing.assert_array_equal(np.concatenate(masks), expected[f"read_{task}_mask"])
        np.testing.assert_array_equal(np.concatenate(labels), expected[f"f64_read_{task}_labels"])
        offsets = np.cumsum([0, *map(len, masks)])
        np.testing.assert_array_equal(offsets, expected[f"read_{task}_offsets"])


def test_the_phenotypes_are_the_columns_of_the_listfile(of_demo: Golden) -> None:
    names = of_demo.listfile("phenotyping").read_text().split("\n")[0].split(",")[2:]
    assert names == of_demo.arrays("phenotyping")["phenotypes"].tolist()


@pytest.mark.parametrize("task", list(READERS))
def test_every_reader_reads_its_whole_listfile(task: str, golden: Golden, tmp_path: Path) -> None:
    """`listfile.csv` in the folder is the default, reading starts over, and a seed gives one order."""
    reader = golden.reader(task)
    count = reader.get_number_of_examples()
    first = reader.read_next()
    for _ in range(count - 1):
        reader.read_next()
    np.testing.assert_array_equal(reader.read_next()["X"], first["X"])
    for index in (-1, count):
        with pytest.raises(ValueError, match=f"index must be from 0 to {count - 1}, not {index}"):
            reader.read_example(index)
    other = golden.reader(task)
    for each in (reader, other):
        each.random_shuffle(seed=3)
    np.testing.assert_array_equal(reader.hours, other.hours)
    assert [reader.read_example(i)["t"] for i in range(5)] == reader.hours[:5].tolist()
    (tmp_path / "listfile.csv").write_bytes(golden.listfile(task).read_bytes())
    assert READERS[task](tmp_path).get_number_of_examples() == count


ROWS = "Hours,Pulse\n0.5,80\n4.0,81\n5.0000005,82\n5.1,83\n5.0,84\n"


@pytest.fixture
def one_stay(tmp_path: Path) -> Path:
    (tmp_path / "a.csv").write_text(ROWS)
    (tmp_path / "listfile.csv").write_text("stay,period_length,y_true\na.csv,5.000000,1\n")
    return tmp_path


def test_reading_stops_at_the_first_later_row(one_stay: Path) -> None:
    read = DecompensationReader(one_stay).read_example(0)
    assert read["X"].tolist() == [["0.5", "80"], ["4.0", "81"], ["5.0000005", "82"]]
    assert (read["t"], read["y"], read["header"]) == (5.0, 1, ["Hours", "Pulse"])


@pytest.mark.parametrize(
    ("series", "message"),
    [
        (ROWS.replace("0.5,80", "6.5,80"), r"a.csv: has no row up to hour 5; leave this hour out"),
        (
            ROWS.replace("4.0,81", "four,81"),
            "a.csv, line 3: column 'Hours' holds 'four', which is not a time",
        ),
        (ROWS.replace("4.0,81", "4.0"), "a.csv, line 3: 1 cells where the header names 2"),
        ("Hours,Pulse\n", "a.csv: the series is empty"),
    ],
)
def test_a_series_without_usable_rows_is_refused(one_stay: Path, series: str, message: str) -> None:
    (one_stay / "a.csv").write_text(series)
    with pytest.raises(DataError, match=message):
        LengthOfStayReader(one_stay).read_example(0)


def test_a_missing_listfile_or_series_is_named(one_stay: Path) -> None:
    (one_stay / "a.csv").unlink()
    with pytest.raises(
        DataError, match=r"a.csv: the listfile names this stay, but its series file is absent"
    ):
        LengthOfStayReader(one_stay).read_example(0)
    with pytest.raises(DataError, match=r"other.csv: listfile not found"):
        LengthOfStayReader(one_stay, one_stay / "other.csv")
