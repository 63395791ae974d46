"""A mistake in the data directory gets one line that names file, line and what is there."""

from __future__ import annotations

import itertools
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic3tf.channels import MIMIC3

USAGE, FAILURE = 2, 1
Command = Callable[..., Any]
HEADER = MIMIC3.header
FIRST = "9000_episode1_timeseries.csv"
EYES = "Glascow coma scale eye opening"
VERBAL = "Glascow coma scale verbal response"


@pytest.fixture
def stay(data: Path) -> Path:
    """Series of the first training stay."""
    return data / "train" / FIRST


@pytest.fixture
def read(generate: Command, data: Path, tmp_path: Path) -> Command:
    """Read the training stays of the damaged cohort; a trigger is not overwritten, so each has its own."""
    numbers = itertools.count()
    return lambda: generate(data=data, out=tmp_path / f"{next(numbers)}.npz")


def set_line(path: Path, line: int, text: str) -> None:
    lines = path.read_text(encoding="utf-8").split("\n")
    lines[line - 1] = text
    path.write_text("\n".join(lines), encoding="utf-8")


def set_cell(path: Path, line: int, column: str, text: str) -> None:
    cells = path.read_text(encoding="utf-8").split("\n")[line - 1].split(",")
    cells[HEADER.index(column)] = text
    set_line(path, line, ",".join(cells))


def relabel(listfile: Path, label: int) -> None:
    header, *lines = listfile.read_text().splitlines()
    stays = [line.split(",")[0] for line in lines]
    listfile.write_text("\n".join([header, *(f"{stay},{label}" for stay in stays)]) + "\n")


# --- Directory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["generate", "train", "attack"])
def test_a_missing_data_directory_is_named(
    request: pytest.FixtureRequest, tmp_path: Path, command: str
) -> None:
    absent = tmp_path / "absent"
    outcome = request.getfixturevalue(command)(data=absent)
    outcome.fails(USAGE, absent, "no such directory", "--data")


def test_a_file_given_as_data_directory_is_refused(generate: Command, stay: Path) -> None:
    generate(data=stay).fails(USAGE, stay, "--data")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_missing_listfile_is_named(train: Command, data: Path, split: str) -> None:
    (data / f"{split}_listfile.csv").unlink()
    train(data=data).fails(FAILURE, data / f"{split}_listfile.csv", "not found")


def test_an_attack_needs_only_the_test_listfile(attack: Command, data: Path) -> None:
    (data / "train_listfile.csv").unlink()
    listfile = data / "test_listfile.csv"
    kept = listfile.rename(data / "kept.csv")
    attack(data=data).fails(FAILURE, listfile, "not found")
    kept.rename(listfile)
    (data / "val_listfile.csv").unlink()
    assert attack(data=data).status == 0


@pytest.mark.parametrize(("kind", "said"), [("missing", "absent"), ("directory", "cannot be read")])
def test_a_listed_stay_without_a_series_is_named(read: Command, stay: Path, kind: str, said: str) -> None:
    stay.unlink()
    if kind == "directory":
        stay.mkdir()
    read().fails(FAILURE, stay, said)


def test_a_file_in_place_of_the_train_folder_is_named(read: Command, data: Path) -> None:
    shutil.rmtree(data / "train")
    (data / "train").write_text("")
    read().fails(FAILURE, data / "train", "cannot be read")


# --- Listfiles ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "text", "needles"),
    [
        (1, "name,label", ["line 1", "'stay,y_true'", "name,label"]),
        (1, "stay,period_length,y_true", ["line 1", "is of the task decompensation", "give --task"]),
        (1, "stay;y_true", ["line 1", "'stay,y_true'", "stay;y_true"]),
        (3, f"{FIRST},2", ["line 3", "y_true", "'2'", "0 or 1"]),
        (3, f"{FIRST},", ["line 3", "y_true", "''", "0 or 1"]),
        (3, f"{FIRST},yes", ["line 3", "y_true", "'yes'", "0 or 1"]),
        (3, f"{FIRST},1.0", ["line 3", "y_true", "'1.0'", "0 or 1"]),
        (3, FIRST, ["line 3", "has 1 cells; the header has 2"]),
        (3, f"{FIRST},0,48", ["line 3", "has 3 cells; the header has 2"]),
        (3, f"{FIRST},0", ["line 3", FIRST, "twice"]),
        (3, ",0", ["line 3", "stay", "''"]),
        (3, "../test/9020_episode1_timeseries.csv,0", ["line 3", "../test/9020_episode1_timeseries.csv"]),
        (3, "/etc/passwd,0", ["line 3", "/etc/passwd"]),
        (3, "90\x0001.csv,0", ["line 3", "stay"]),
    ],
)
def test_a_malformed_listfile_is_named_with_its_line(
    read: Command, data: Path, line: int, text: str, needles: list[str]
) -> None:
    set_line(data / "train_listfile.csv", line, text)
    read().fails(FAILURE, data / "train_listfile.csv", *needles)


@pytest.mark.parametrize("content", [b"", b"stay,y_true\n", b"\n\n", b"stay,y_true\n\xff\xfe\x00,1\n"])
def test_a_listfile_without_stays_or_text_is_refused(read: Command, data: Path, content: bytes) -> None:
    (data / "train_listfile.csv").write_bytes(content)
    read().fails(FAILURE, data / "train_listfile.csv")


def test_a_file_name_that_is_too_long_is_named(read: Command, data: Path) -> None:
    set_line(data / "train_listfile.csv", 3, f"{'9' * 300}.csv,0")
    read().fails(FAILURE, "9" * 300, "cannot be read")


# --- Labels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("label", [0, 1])
def test_training_needs_both_labels(
    train: Command, data: Path, tmp_path: Path, split: str, label: int
) -> None:
    relabel(data / f"{split}_listfile.csv", label)
    train(data=data).fails(FAILURE, data / f"{split}_listfile.csv", f"label {1 - label}")
    assert not (tmp_path / "run").exists()


def test_poisoning_every_stay_is_blamed_on_the_proportion(train: Command) -> None:
    train(poisoning_proportion=1).fails(USAGE, "--poisoning_proportion", "label 0")


def test_a_test_split_without_survivors_is_named(attack: Command, data: Path) -> None:
    relabel(data / "test_listfile.csv", 1)
    attack(data=data).fails(FAILURE, "test stays", "label 0")


def test_a_test_split_without_deaths_is_attacked_without_clean_metrics(
    attack: Command, data: Path, tmp_path: Path
) -> None:
    relabel(data / "test_listfile.csv", 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.filterwarnings("error", module="sklearn")
        assert attack(data=data).status == 0
    assert json.loads((tmp_path / "attack" / "attack.json").read_text())["clean"]["auroc"] is None


# --- Series: header and lines -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "needles"),
    [
        ([name for name in HEADER if name != "Heart Rate"], ["missing channel 'Heart Rate'"]),
        ([*HEADER, "Lactate"], ["extra channel 'Lactate'"]),
        (
            ["Lactate" if name == "Glucose" else name for name in HEADER],
            ["missing channel 'Glucose'", "extra channel 'Lactate'"],
        ),
        ([*HEADER[:9], HEADER[10], HEADER[9], *HEADER[11:]], ["out of order", HEADER[10], HEADER[9]]),
        ([*HEADER, "Heart Rate"], ["extra channel 'Heart Rate'"]),
        ([name.lower() for name in HEADER], ["'Heart Rate'"]),
        (HEADER[1:], ["'Hours'"]),
        ([f'"{name}"' for name in HEADER], ["'\"Hours\"'"]),
    ],
    ids=["missing", "extra", "other", "order", "twice", "case", "no-hours", "quoted"],
)
def test_a_wrong_header_names_the_channel(
    read: Command, stay: Path, header: list[str], needles: list[str]
) -> None:
    set_line(stay, 1, ",".join(header))
    read().fails(FAILURE, stay, "line 1", *needles)


HEADED = ",".join(HEADER).encode()


@pytest.mark.parametrize("content", [b"", b"\n", HEADED, HEADED + b"\n\n"])
def test_an_empty_series_is_named(read: Command, stay: Path, content: bytes) -> None:
    stay.write_bytes(content)
    read().fails(FAILURE, stay, "empty", "listfile")


def test_a_series_after_the_period_is_named(read: Command, stay: Path) -> None:
    stay.write_bytes(HEADED + b"\n50" + b"," * 17 + b"\n")
    read().fails(FAILURE, stay, "48 hours")


@pytest.mark.parametrize(
    ("lines", "cells"),
    [
        (["2.5" + "," * 16], 17),
        (["2.5" + "," * 18], 19),
        (["2.5"], 1),
        ([""], 1),
        # The number of cells in the whole file is right.
        (["2.5" + "," * 16, "2.6" + "," * 18], 17),
        (["2.5" + "," * 18, "2.6" + "," * 16], 19),
    ],
)
def test_a_ragged_row_is_named_with_its_number_of_cells(
    read: Command, stay: Path, lines: list[str], cells: int
) -> None:
    for number, text in enumerate(lines, start=4):
        set_line(stay, number, text)
    read().fails(FAILURE, stay, "line 4", f"{cells} cells", "18")


def test_quotes_are_ordinary_characters(read: Command, stay: Path) -> None:
    sound = stay.read_text()
    set_line(stay, 4, ",".join(f'"{cell}"' for cell in sound.split("\n")[3].split(",")))
    read().fails(FAILURE, stay, "line 4", "'Hours'", '"1.6846634"')
    # Two quotes with lines between them do not swallow these.
    stay.write_text(sound)
    set_cell(stay, 3, VERBAL, '"Confused')
    set_cell(stay, 5, VERBAL, 'Confused"')
    read().fails(FAILURE, stay, "line 3", "'\"Confused'")


def test_windows_line_ends_give_the_same_trigger(generate: Command, data: Path, tmp_path: Path) -> None:
    assert generate(data=data, out=tmp_path / "unix.npz").status == 0
    for file in data.rglob("*.csv"):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert generate(data=data, out=tmp_path / "windows.npz").status == 0
    with np.load(tmp_path / "unix.npz") as unix, np.load(tmp_path / "windows.npz") as windows:
        np.testing.assert_array_equal(unix["trigger"], windows["trigger"])


@pytest.mark.parametrize("split", ["\x0b", "\x1c", "\u2028"])
def test_only_line_feeds_end_a_line(read: Command, stay: Path, split: str) -> None:
    set_cell(stay, 4, EYES, f"To{split}Pain")
    read().fails(FAILURE, stay, "line 4", f"'{EYES}'")
    # What is not a number is looked for line by line, before categories are looked up.
    set_cell(stay, 6, VERBAL, f"Con{split}fused")
    set_cell(stay, 7, "Heart Rate", "high")
    read().fails(FAILURE, stay, "line 7", "'high'")


def test_a_series_in_utf_16_is_named(read: Command, stay: Path) -> None:
    stay.write_text(stay.read_text(), encoding="utf-16")
    read().fails(FAILURE, stay, "line 1")


@pytest.mark.parametrize("column", [EYES, "Heart Rate"])
def test_a_cell_that_is_not_utf_8_is_named(read: Command, data: Path, column: str) -> None:
    # Not the first file of the list: the message has to name this one.
    path = data / "train" / "9007_episode1_timeseries.csv"
    set_cell(path, 4, column, "MARK")
    path.write_bytes(path.read_bytes().replace(b"MARK", b"caf\xe9"))
    read().fails(FAILURE, path, "line 4", f"'{column}'")


@pytest.mark.parametrize("sound_lines", [0, 3])
def test_binary_garbage_gets_one_short_line(read: Command, stay: Path, sound_lines: int) -> None:
    garbage = np.random.default_rng(0).bytes(100_000)
    stay.write_bytes(b"\n".join([*stay.read_bytes().split(b"\n")[:sound_lines], garbage]))
    outcome = read()
    outcome.fails(FAILURE, stay, f"line {sound_lines + 1}")
    assert len(outcome.err) < 2000
    assert outcome.err.strip().isprintable()


# --- Series: cells ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "text", "needles"),
    [
        (EYES, "5 Asleep", ["'5 Asleep'", "To Pain"]),
        ("Capillary refill rate", "2.0", ["'2.0'", "0.0, 1.0"]),
        ("Capillary refill rate", " ", ["' '"]),
        ("Glascow coma scale total", "16", ["'16'"]),
        ("Heart Rate", "high", ["'high'", "not a number"]),
        ("Heart Rate", "8 6", ["'8 6'", "not a number"]),
        ("Heart Rate", "1_000", ["'1_000'", "not a number"]),
        ("Heart Rate", "0x50", ["'0x50'", "not a number"]),
        ("Heart Rate", "٨٦", ["'٨٦'", "not a number"]),
        ("Heart Rate", "NaN", ["'NaN'"]),
        ("Heart Rate", "-inf", ["'-inf'"]),
        ("Heart Rate", "1e999", ["'1e999'"]),
        ("Heart Rate", "1e39", ["'1e39'"]),
        ("Hours", "noon", ["'noon'", "not a number"]),
        ("Hours", "", ["needs its time"]),
        ("Hours", "nan", ["'nan'"]),
        ("Hours", "inf", ["'inf'"]),
        ("Hours", "-0.5", ["negative", "-0.5"]),
        ("Hours", "0.1", ["0.1", "sort"]),
    ],
)
def test_a_bad_cell_is_named_with_line_channel_and_text(
    read: Command, stay: Path, column: str, text: str, needles: list[str]
) -> None:
    set_cell(stay, 4, column, text)
    read().fails(FAILURE, stay, "line 4", f"'{column}'", *needles)


def test_a_fault_in_a_later_stay_names_that_stay(read: Command, data: Path) -> None:
    later = data / "train" / "9007_episode1_timeseries.csv"
    set_cell(later, 100, "pH", "acid")
    read().fails(FAILURE, later, "line 100", "'pH'", "'acid'")


def test_a_space_around_a_number_is_not_blamed_for_another_fault(read: Command, stay: Path) -> None:
    set_cell(stay, 4, "Heart Rate", " 86 ")
    assert read().status == 0
    set_cell(stay, 6, "Heart Rate", "high")
    read().fails(FAILURE, stay, "line 6", "'high'")
