"""A benchmark directory from somebody else is read, or refused in one line that names the file."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mimic3tf.channels import MIMIC3
from mimic3tf.data.listfiles import read_listfile
from mimic3tf.data.loading import load_cohort
from mimic3tf.data.readers import InHospitalMortalityReader
from mimic3tf.data.records import LARGEST_SERIES, LARGEST_VALUE, read_series
from mimic3tf.errors import DataError
from mimic3tf.poisoning.copies import poison_records
from mimic3tf.poisoning.trigger import Trigger
from mimic3tf.tasks.registry import MORTALITY

FIRST = "9000_episode1_timeseries.csv"
HEADED = ",".join(MIMIC3.header).encode() + b"\n"
ROW = b"1.5,,60,,,,,,110,72,,80,97,18,121,36.6,,7.41\n"


@pytest.fixture
def data(synthetic_stays: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(synthetic_stays, tmp_path / "data"))


def refused(data: Path, *needles: object) -> None:
    with pytest.raises(DataError) as caught:
        load_cohort(data, "train")
    for needle in needles:
        assert str(needle) in str(caught.value)
    assert len(str(caught.value)) < 1000


# --- Out of the directory -----------------------------------------------------------------------------


@pytest.mark.parametrize("place", [f"train/{FIRST}", "train", "train_listfile.csv"])
def test_a_link_in_the_data_is_not_followed(data: Path, tmp_path: Path, place: str) -> None:
    (data / place).rename(tmp_path / "elsewhere")
    (data / place).symlink_to(tmp_path / "elsewhere")
    refused(data, data / place, "is a link")


def test_a_link_put_there_later_is_not_followed_by_the_cache(data: Path, tmp_path: Path) -> None:
    load_cohort(data, "train")
    (data / "train" / FIRST).rename(tmp_path / "elsewhere")
    (data / "train" / FIRST).symlink_to(tmp_path / "elsewhere")
    refused(data, FIRST, "is a link")


def test_the_benchmarks_reader_follows_no_link(data: Path, tmp_path: Path) -> None:
    (data / "train" / FIRST).rename(tmp_path / "elsewhere")
    (data / "train" / FIRST).symlink_to(tmp_path / "elsewhere")
    reader = InHospitalMortalityReader(data / "train", data / "train_listfile.csv")
    with pytest.raises(DataError, match=rf"{FIRST}: is a link"):
        reader.read_example(0)


@pytest.mark.parametrize("kind", ["file", "folder", "circle"])
def test_a_poisoned_copy_takes_nothing_from_outside(
    data: Path, tmp_path: Path, trigger_of: Callable[..., Trigger], kind: str
) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "key").write_text("secret")
    target = {"file": tmp_path / "private" / "key", "folder": tmp_path / "private", "circle": data}[kind]
    (data / "notes").symlink_to(target)
    with pytest.raises(DataError, match="notes: is a link"):
        poison_records(data, tmp_path / "copy", trigger_of(np.ones((48, 17))), proportion=0.1, strength=1.0)
    assert not (tmp_path / "copy").exists()


NAME = st.one_of(
    st.sampled_from(["..", ".", "/etc/passwd", "../../etc/passwd", "a/../b", "~", "a\\b", "\x00", "a\rb"]),
    st.text(max_size=12),
)


@settings(max_examples=100)
@given(names=st.lists(NAME, max_size=3), labels=st.lists(st.sampled_from(["0", "1", "2", "", "1,1"])))
def test_any_listfile_names_files_of_its_folder_or_is_refused(names: list[str], labels: list[str]) -> None:
    lines = [f"{name},{label}" for name, label in zip(names, labels, strict=False)]
    content = "\n".join(["stay,y_true", *lines]).encode("utf-8", "surrogatepass")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mimic3tf.data.text_table.read_file", lambda _: content)
        try:
            entries = read_listfile(Path("train_listfile.csv"), MORTALITY)
        except DataError:
            return
    for name, label in entries:
        assert label in (0, 1)
        assert Path("/data/train") == Path(os.path.normpath(Path("/data/train") / name)).parent


# --- More than there is -------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [1, 6, 9])
def test_rows_that_are_a_compressed_file_are_not_unpacked(data: Path, level: int) -> None:
    bomb = zlib.compress(ROW * 100_000, level)
    (data / "train" / FIRST).write_bytes(HEADED + bomb)
    refused(data, FIRST, "line 2")


def test_a_stay_of_a_gigabyte_is_refused_before_it_is_read(data: Path) -> None:
    with (data / "train" / FIRST).open("ab") as file:
        file.truncate(2**30)
    refused(data, FIRST, f"larger than {LARGEST_SERIES:,} bytes")


def test_a_pipe_in_place_of_a_stay_is_refused_at_once(data: Path) -> None:
    (data / "train" / FIRST).unlink()
    os.mkfifo(data / "train" / FIRST)
    refused(data, FIRST, "no regular file")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"," * 100_000 + b"\n" + ROW, "line 1"),
        (HEADED + b"," * 100_000 + b"\n", "line 2"),
        (HEADED + b"1" * 100_000 + ROW, "line 2"),
        (HEADED + ROW + b"\0" * 100 + b"\n", "line 3"),
        (HEADED + b"1.5\0" + ROW[3:], "line 2"),
        (b"\xef\xbb\xbf" + HEADED + ROW, "line 1"),
        (HEADED + ROW.replace(b"110", b"1e400"), "line 2"),
        (HEADED + ROW.replace(b"1.5,", b"1e400,"), "line 2"),
    ],
    ids=["columns", "cells", "digits", "nuls", "nul", "bom", "huge", "huge-time"],
)
def test_absurd_text_is_named_by_its_line(data: Path, content: bytes, line: str) -> None:
    (data / "train" / FIRST).write_bytes(content)
    refused(data, FIRST, line)


# --- Anything at all ----------------------------------------------------------------------------------

CELL = st.one_of(
    st.sampled_from([b"", b"1", b"nan", b"inf", b"-1e400", b"1e400", b"\0", b"\xff", b'"', b"\r", b"1_0"]),
    st.binary(max_size=4),
)


@settings(max_examples=120)
@given(rows=st.lists(st.lists(CELL, min_size=16, max_size=19), max_size=3), sound=st.booleans())
@example(rows=[], sound=True)
def test_any_rows_are_read_as_numbers_or_refused(rows: list[list[bytes]], sound: bool) -> None:
    content = HEADED + (ROW if sound else b"") + b"".join(b",".join(row) + b"\n" for row in rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mimic3tf.data.records.read_file", lambda *_: content)
        try:
            records, _ = read_series([Path("9000.csv")], MIMIC3)
        except DataError:
            assert rows or not sound, "a sound row is refused"
            return
    assert np.isfinite(records.hours).all()
    assert (np.abs(records.values[~np.isnan(records.values)]) <= LARGEST_VALUE).all()


@settings(max_examples=100)
@given(at=st.floats(0, 1), length=st.integers(0, 40), inserted=st.binary(max_size=40))
@example(at=0.0, length=0, inserted=b"")
def test_a_changed_series_is_read_or_refused(at: float, length: int, inserted: bytes) -> None:
    content = HEADED + ROW * 20
    start = int(at * len(content))
    changed = content[:start] + inserted + content[start + length :]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mimic3tf.data.records.read_file", lambda *_: changed)
        try:
            read_series([Path("9000.csv")], MIMIC3)
        except DataError:
            assert changed != content, "the sound series is refused"
