from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic3tf.data import (
    Discretizer,
    InHospitalMortalityReader,
    Normalizer,
    load_data,
    read_chunk,
    save_results,
)


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
