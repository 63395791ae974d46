"""Links in a benchmark directory: those inside it are read, others only where somebody vouches for them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic3tf.data.channels_file import read_channels
from mimic3tf.data.cohort import Cohort
from mimic3tf.data.listfiles import read_listfile
from mimic3tf.data.loading import load_cohort
from mimic3tf.data.readers import InHospitalMortalityReader
from mimic3tf.errors import DataError
from mimic3tf.poisoning.comparison import compare_records
from mimic3tf.poisoning.copies import poison_records
from mimic3tf.poisoning.trigger import Trigger
from mimic3tf.tasks.registry import MORTALITY

FIRST = "9000_episode1_timeseries.csv"
PLACES = [f"train/{FIRST}", "train", "train_listfile.csv"]


@pytest.fixture
def data(synthetic_stays: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(synthetic_stays, tmp_path / "data"))


@pytest.fixture
def plain(synthetic_stays: Path) -> Cohort:
    return load_cohort(synthetic_stays, "train")


def move(path: Path, to: Path, *, absolute: bool = True) -> None:
    """Put a file or folder elsewhere, and a link to it where it was."""
    to.parent.mkdir(parents=True, exist_ok=True)
    path.rename(to)
    path.symlink_to(to if absolute else os.path.relpath(to, path.parent))


def linked(data: Path, store: Path) -> None:
    """Keep all series of a directory in a store, as git-annex and DVC do."""
    for number, path in enumerate(sorted(data.rglob("*_timeseries.csv"))):
        move(path, store / f"{number:02}")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("absolute", [True, False])
def test_a_link_that_stays_inside_the_directory_is_read(
    data: Path, plain: Cohort, place: str, absolute: bool
) -> None:
    move(data / place, data / ".store" / "it", absolute=absolute)
    assert load_cohort(data, "train").fingerprint == plain.fingerprint


def test_a_directory_that_is_itself_a_link_may_hold_links_into_itself(
    data: Path, plain: Cohort, tmp_path: Path
) -> None:
    (tmp_path / "alias").symlink_to(data)
    move(tmp_path / "alias" / "train", tmp_path / "alias" / ".store" / "train")
    linked(data, tmp_path / "alias" / ".store" / "annex")
    for directory in (data, tmp_path / "alias"):
        assert load_cohort(directory, "train").fingerprint == plain.fingerprint


@pytest.mark.parametrize("place", PLACES)
def test_a_link_that_leads_out_is_read_where_somebody_vouches_for_it(
    data: Path, plain: Cohort, tmp_path: Path, place: str
) -> None:
    move(data / place, tmp_path / "elsewhere")
    with pytest.raises(DataError, match=rf"{place}: is a link that leads out of .*; give --follow-links"):
        load_cohort(data, "train")
    cohort = load_cohort(data, "train", follow_links=True)
    assert cohort.fingerprint == plain.fingerprint
    np.testing.assert_array_equal(cohort.values, plain.values)
    # Nor does the cache lead there afterwards.
    with pytest.raises(DataError, match="is a link"):
        load_cohort(data, "train")


def test_a_folder_inside_that_holds_links_which_lead_out_is_refused(data: Path, tmp_path: Path) -> None:
    move(data / "train", data / ".store" / "train")
    linked(data, tmp_path / "elsewhere")
    with pytest.raises(DataError, match=rf"{FIRST}: is a link that leads out"):
        load_cohort(data, "train")


@pytest.mark.parametrize("target", [FIRST, "nothing"])
def test_a_link_that_leads_nowhere_is_told_as_an_unreadable_series(data: Path, target: str) -> None:
    (data / "train" / FIRST).unlink()
    (data / "train" / FIRST).symlink_to(target)
    with pytest.raises(DataError, match=rf"{FIRST}: the listfile names this stay, but its series file"):
        load_cohort(data, "train")


def test_a_link_to_other_contents_of_the_same_size_and_time_is_noticed(data: Path, tmp_path: Path) -> None:
    store, series = tmp_path / "store", data / "train" / FIRST
    move(series, store / "one")
    before = load_cohort(data, "train", follow_links=True)
    text = (store / "one").read_text()
    (store / "two").write_text(text.replace("36.", "37."))
    status = (store / "one").stat()
    os.utime(store / "two", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (store / "two").stat().st_size == status.st_size
    series.unlink()
    series.symlink_to(store / "two")
    assert load_cohort(data, "train", follow_links=True).fingerprint != before.fingerprint


def test_channels_and_listfiles_follow_the_same_rule(data: Path, tmp_path: Path) -> None:
    (data / "channels.yaml").write_text("channels: [{name: Pulse, normal: 80}]\n")
    move(data / "channels.yaml", tmp_path / "elsewhere.yaml")
    move(data / "val_listfile.csv", tmp_path / "val.csv")
    for read in (
        lambda **links: read_channels(data, **links),
        lambda **links: read_listfile(data / "val_listfile.csv", MORTALITY, **links),
    ):
        with pytest.raises(DataError, match="is a link that leads out"):
            read()
        assert read(follow_links=True)
    (data / "channels.yaml").unlink()
    move(data / "val_listfile.csv", data / "lists" / "val.csv")
    with pytest.raises(DataError, match="is a link that leads out"):
        read_listfile(data / "val_listfile.csv", MORTALITY)


def test_the_benchmarks_reader_follows_links_as_the_cohort_does(data: Path, tmp_path: Path) -> None:
    listfile = data / "train_listfile.csv"
    expected = InHospitalMortalityReader(data / "train", listfile).read_example(0)["X"]
    linked(data, data / ".store")
    inside = InHospitalMortalityReader(data / "train", listfile).read_example(0)["X"]
    np.testing.assert_array_equal(inside, expected)
    (data / ".store").rename(tmp_path / "store")
    for path in data.rglob("*_timeseries.csv"):
        target = tmp_path / "store" / path.readlink().name
        path.unlink()
        path.symlink_to(target)
    with pytest.raises(DataError, match="is a link that leads out"):
        InHospitalMortalityReader(data / "train", listfile).read_example(0)
    vouched = InHospitalMortalityReader(data / "train", listfile, follow_links=True)
    np.testing.assert_array_equal(vouched.read_example(0)["X"], expected)


def test_a_listfile_from_elsewhere_does_not_widen_what_the_reader_may_read(
    data: Path, tmp_path: Path
) -> None:
    shutil.copy(data / "train_listfile.csv", tmp_path / "mine.csv")
    folder = (data / "train").rename(tmp_path / "series")
    move(folder / FIRST, tmp_path / "private")
    with pytest.raises(DataError, match="is a link that leads out"):
        InHospitalMortalityReader(folder, tmp_path / "mine.csv").read_example(0)


# --- Poisoned copies ----------------------------------------------------------------------------------


@pytest.fixture
def poison(trigger_of: Callable[..., Trigger]) -> Callable[..., None]:
    trigger = trigger_of(np.ones((48, 17)))

    def run(data: Path, out: Path, **links: Any) -> None:
        poison_records(data, out, trigger, proportion=0.5, strength=2.0, **links)

    return run


def contents(directory: Path) -> dict[str, bytes]:
    assert not any(path.is_symlink() for path in directory.rglob("*"))
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.mark.parametrize("whole_folder", [True, False])
def test_a_copy_holds_what_the_links_lead_to(
    data: Path, tmp_path: Path, poison: Callable[..., None], whole_folder: bool
) -> None:
    poison(data, tmp_path / "of-files")
    if whole_folder:
        move(data / "train", tmp_path / "store" / "train")
    else:
        linked(data, tmp_path / "store")
    stored = contents(tmp_path / "store")
    with pytest.raises(DataError, match="is a link that leads out"):
        poison(data, tmp_path / "of-links")
    assert not (tmp_path / "of-links").exists()
    poison(data, tmp_path / "of-links", follow_links=True)
    assert contents(tmp_path / "of-links") == contents(tmp_path / "of-files")
    # The origin is only read, also where it lies elsewhere.
    assert contents(tmp_path / "store") == stored
    with pytest.raises(DataError, match="is a link that leads out"):
        compare_records(data, tmp_path / "of-links")
    compared = compare_records(data, tmp_path / "of-links", follow_links=True)
    assert compared.cells.height > 0
    assert compared.stays_changed == 8


def test_a_copy_of_links_inside_the_directory_needs_no_word(
    data: Path, tmp_path: Path, poison: Callable[..., None]
) -> None:
    poison(data, tmp_path / "of-files")
    move(data / "train", data / ".store" / "train", absolute=False)
    poison(data, tmp_path / "of-links")
    copied = contents(tmp_path / "of-links")
    hidden = {name for name in copied if name.startswith(".store")}
    assert {name: copied[name] for name in copied.keys() - hidden} == contents(tmp_path / "of-files")


@pytest.mark.parametrize("follow_links", [True, False])
@pytest.mark.parametrize("target", [".", "train", "/"])
def test_a_copy_goes_into_no_other_folder_that_is_a_link(
    data: Path, tmp_path: Path, poison: Callable[..., None], target: str, follow_links: bool
) -> None:
    (data / "notes").symlink_to(target)
    with pytest.raises(DataError, match="notes: is a link"):
        poison(data, tmp_path / "copy", follow_links=follow_links)
    assert not (tmp_path / "copy").exists()


def test_a_series_folder_that_leads_in_a_circle_is_refused(
    data: Path, tmp_path: Path, poison: Callable[..., None]
) -> None:
    shutil.rmtree(data / "test")
    (data / "test").symlink_to(".")
    with pytest.raises(DataError, match="is a link to a folder"):
        poison(data, tmp_path / "copy", follow_links=True)
