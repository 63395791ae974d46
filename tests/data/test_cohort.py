from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from mimic3tf.channels import MIMIC3
from mimic3tf.data import BatchGen, Discretizer, InHospitalMortalityReader, loading
from mimic3tf.data.cohort import Cohort
from mimic3tf.data.from_arrays import cohort_from_batches, cohort_from_grid
from mimic3tf.data.listfiles import Listed, read_rows
from mimic3tf.data.loading import load_cohort
from mimic3tf.errors import DataError
from mimic3tf.tasks.registry import MORTALITY


@pytest.fixture
def directory(synthetic_stays: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(synthetic_stays, tmp_path / "data"))


def _same(first: Cohort, second: Cohort) -> None:
    for name in ("stays", "starts", "labels", "values", "mask"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    for name in ("stay", "end", "y"):
        np.testing.assert_array_equal(getattr(first.examples, name), getattr(second.examples, name))
    for name in ("channels", "task", "period", "timestep", "fingerprint"):
        assert getattr(first, name) == getattr(second, name)
    assert first.filled is not None
    assert second.filled is not None
    for name in ("values", "source", "times"):
        np.testing.assert_array_equal(getattr(first.filled, name), getattr(second.filled, name))


def test_the_second_load_reads_no_series(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_cohort(directory, "train")
    monkeypatch.setattr(loading, "read_series", lambda *_, **__: pytest.fail("series were read again"))
    _same(first, load_cohort(directory, "train"))


def test_the_cohort_does_not_depend_on_the_batches(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load_cohort(directory, "train")
    monkeypatch.setattr(loading, "FILES_A_BATCH", 3)
    _same(whole, loading._build(*_listed(directory)))


def test_the_first_of_two_faulty_series_is_named_whatever_the_batches(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listfile, paths, entries, reading = _listed(directory)
    for path in (paths[4], paths[9]):
        path.write_text(path.read_text() + "49,low\n")
    for size in (1, 3, 1000):
        monkeypatch.setattr(loading, "FILES_A_BATCH", size)
        with pytest.raises(DataError, match=re.escape(f"{paths[4]}, line ")):
            loading._build(listfile, paths, entries, reading)


def _listed(directory: Path) -> tuple[Path, list[Path], Listed, loading._Reading]:
    listfile = directory / "train_listfile.csv"
    entries = read_rows(listfile, MORTALITY)
    reading = loading._Reading(MIMIC3, MORTALITY, None, 1.0)
    return listfile, [directory / "train" / name for name in entries.stays], entries, reading


def test_a_changed_series_is_read_again(directory: Path) -> None:
    before = load_cohort(directory, "train")
    path = directory / "train" / "9012_episode1_timeseries.csv"
    path.write_text(path.read_text().replace(",67,", ",68,"))
    os.utime(path, (1, 1))
    after = load_cohort(directory, "train")
    assert before.fingerprint != after.fingerprint
    assert (before.values != after.values).any()


def test_a_changed_listfile_is_read_again(directory: Path) -> None:
    stays = len(load_cohort(directory, "val"))
    listfile = directory / "val_listfile.csv"
    listfile.write_text("\n".join(listfile.read_text().splitlines()[:-1]) + "\n")
    assert len(load_cohort(directory, "val")) == stays - 1


def test_the_second_start_reads_no_row_of_a_listfile(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_cohort(directory, "train")
    monkeypatch.setattr(loading, "read_split", None)
    again = load_cohort(directory, "train")
    _same(first, again)
    assert isinstance(again.values, np.memmap)


def test_a_stay_that_another_split_gets_later_is_refused_in_spite_of_the_cache(directory: Path) -> None:
    load_cohort(directory, "train")
    listfile = directory / "val_listfile.csv"
    listfile.write_text(listfile.read_text() + "9000_episode1_timeseries.csv,0\n")
    with pytest.raises(DataError, match="a stay belongs to one split"):
        load_cohort(directory, "train")


def test_a_damaged_cache_is_rebuilt(directory: Path, tmp_path: Path) -> None:
    first = load_cohort(directory, "train")
    (cache,) = (tmp_path / "cohort-cache").iterdir()
    (cache / "values.npy").write_bytes(b"cut short")
    _same(first, load_cohort(directory, "train"))


def test_every_part_of_a_cache_that_is_not_as_it_was_written_is_noticed(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = load_cohort(directory, "val")
    (cache,) = (tmp_path / "cohort-cache").iterdir()
    sound = {path: path.read_bytes() for path in cache.iterdir()}
    for path, content in sound.items():
        middle = len(content) // 2
        flipped = (
            content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]
            for place in (0, 9, 40, middle, len(content) - 2)
        )
        for damaged in (b"", content[:middle], content[:-1], *flipped):
            path.write_bytes(damaged)
            capsys.readouterr()
            _same(first, load_cohort(directory, "val"))
            # What it was made from is compared first: there a change is taken for other data.
            told = f"{cache}: this cache is damaged; it is made again" in capsys.readouterr().err
            assert told or (path.name == "meta.json" and damaged[:1] == b"{")
            assert {path: path.read_bytes() for path in cache.iterdir()} == sound


@pytest.mark.parametrize(
    "name",
    ["stays", "starts", "values", "mask", "filled_source", "filled_times", "example_stay", "example_y"],
)
def test_a_cache_of_another_shape_is_rebuilt(directory: Path, tmp_path: Path, name: str) -> None:
    first = load_cohort(directory, "train")
    (cache,) = (tmp_path / "cohort-cache").iterdir()
    array = np.load(cache / f"{name}.npy")
    for other in (array[:-1], array[..., None], array.astype("S1"), np.array([{}], object)):
        np.save(cache / f"{name}.npy", other)
        _same(first, load_cohort(directory, "train"))


def test_the_splits_are_the_listfiles(directory: Path) -> None:
    assert load_cohort(directory, "train").stays[0] == "9000_episode1_timeseries.csv"
    assert load_cohort(directory, "val").stays[0] == "9016_episode1_timeseries.csv"
    assert load_cohort(directory, "test").labels.tolist() == [1, 0, 1, 0]


def test_a_batch_generator_gives_the_cohort_of_its_stays(directory: Path) -> None:
    reader = InHospitalMortalityReader(directory / "train", directory / "train_listfile.csv")
    discretizer = Discretizer(1.0, True, "previous", "zero")
    batches = BatchGen(reader, discretizer, None, 7, False, False, shuffle=False)
    cohort, expected = cohort_from_batches(batches), load_cohort(directory, "train")
    for name in ("labels", "values", "mask", "starts"):
        np.testing.assert_array_equal(getattr(cohort, name), getattr(expected, name))
    assert cohort.filled is None


def test_standardized_grids_are_refused(directory: Path) -> None:
    with pytest.raises(DataError, match="not one-hot"):
        cohort_from_grid(np.full((2, 48, 76), 0.3), [0, 1])
    with pytest.raises(DataError, match="expected \\[N, T, 76\\]"):
        cohort_from_grid(np.zeros((2, 48, 59)), [0, 1])


def test_a_stay_without_a_row_in_48_hours_is_named(directory: Path) -> None:
    path = directory / "train" / "9012_episode1_timeseries.csv"
    header, *_ = path.read_text().splitlines()
    path.write_text(f"{header}\n50.5,,,,,,,,,67,,,,,,,,\n")
    with pytest.raises(DataError, match="9012_episode1.*no row within the first 48 hours"):
        load_cohort(directory, "train")
