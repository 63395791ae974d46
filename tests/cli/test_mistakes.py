"""Every mistake of a user gets one line that says what is wrong, where, and what to do."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mimic3tf.channels import CHANNELS, HEADER
from mimic3tf.cli.main import main

STAY = "9000_episode1_timeseries.csv"
USAGE, FAILURE = 2, 1
SUBCOMMANDS = [
    ("prepare", "synthetic"),
    ("prepare", "physionet2012"),
    ("generate-trigger",),
    ("train",),
    ("attack",),
    ("results",),
]


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    status: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def mimic3tf(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line, run in this process: TensorFlow is loaded once for all tests."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["mimic3tf", *map(str, arguments)])
        capsys.readouterr()
        status = _exit_status()
        printed = capsys.readouterr()
        return Outcome(status, printed.out, printed.err)

    return run


def _exit_status() -> int:
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


@pytest.fixture
def data(synthetic_stays: Path, tmp_path: Path) -> Path:
    """A cohort of one's own to damage."""
    return Path(shutil.copytree(synthetic_stays, tmp_path / "data"))


@pytest.fixture
def stay(data: Path) -> Path:
    """Series of the first training stay."""
    return data / "train" / STAY


@dataclass(frozen=True)
class Prepared:
    """A sound cohort with a trigger and a finished run, made once."""

    data: Path
    trigger: Path
    run: Path


@pytest.fixture(scope="module")
def prepared(synthetic_stays: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    folder = tmp_path_factory.mktemp("prepared")
    made = Prepared(synthetic_stays, folder / "trigger.npz", folder / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMIC3TF_CACHE", str(folder / "cache"))
        patch.setattr(sys, "argv", ["mimic3tf", "generate-trigger", *_generate(made.data, made.trigger)])
        assert _exit_status() == 0
        patch.setattr(sys, "argv", ["mimic3tf", *_train(made, made.run)])
        assert _exit_status() == 0
        yield made


@pytest.fixture
def own_run(prepared: Prepared, tmp_path: Path) -> Path:
    """A finished run of one's own to damage."""
    return Path(shutil.copytree(prepared.run, tmp_path / "own-run"))


def _generate(data: Path, out: Path) -> list[str]:
    return ["--data", str(data), "--out", str(out)]


def _train(prepared: Prepared, out: Path, **changes: object) -> list[str]:
    """Arguments of a training that succeeds unless `changes` spoil it; None drops an option."""
    options = {
        "model": "lr",
        "data": prepared.data,
        "trigger": prepared.trigger,
        "out": out,
        "epochs": 1,
        "poisoning_proportion": 0.2,
        "precision": "float32",
        **changes,
    }
    given = {name: value for name, value in options.items() if value is not None}
    return ["train", *(text for name, value in given.items() for text in (_option(name), str(value)))]


def _option(name: str) -> str:
    original_spelling = ("poisoning_proportion", "poisoning_strength", "poison_imputed")
    return f"--{name if name in original_spelling else name.replace('_', '-')}"


def assert_one_line(outcome: Outcome, status: int, *needles: object) -> None:
    """One line on standard error, `error: ...`, that names every needle."""
    assert "Traceback" not in outcome.err
    lines = [line for line in outcome.err.splitlines() if line.strip()]
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("error: ")
    for needle in needles:
        assert str(needle) in lines[0], f"{needle!r} is not in {lines[0]!r}"
    assert outcome.status == status


def assert_refused_option(outcome: Outcome, *needles: str) -> None:
    """Refused as wrong usage: by this package in one line, or by typer in its own form.

    Typer names the option but not always the value, so that only the first needle is looked for there.
    """
    if outcome.err.startswith("error: "):
        assert_one_line(outcome, USAGE, *needles)
    else:
        assert "Traceback" not in outcome.err
        assert outcome.err.startswith("Usage: ")
        (message,) = (line for line in outcome.err.splitlines() if line.startswith("Error: "))
        assert needles[0] in message
        assert outcome.status == USAGE


def _set_cell(path: Path, line: int, column: str, text: str) -> None:
    lines = path.read_text(encoding="utf-8").split("\n")
    cells = lines[line - 1].split(",")
    cells[HEADER.index(column)] = text
    lines[line - 1] = ",".join(cells)
    path.write_text("\n".join(lines), encoding="utf-8")


def _set_line(path: Path, line: int, text: str) -> None:
    lines = path.read_text(encoding="utf-8").split("\n")
    lines[line - 1] = text
    path.write_text("\n".join(lines), encoding="utf-8")


def _labels(listfile: Path, label: int) -> None:
    header, *lines = listfile.read_text().splitlines()
    stays = [line.split(",")[0] for line in lines]
    listfile.write_text("\n".join([header, *(f"{stay},{label}" for stay in stays)]) + "\n")


# --- Data directory and listfiles ---------------------------------------------------------------------


@pytest.mark.parametrize("command", ["generate-trigger", "train", "attack"])
def test_a_missing_data_directory_is_named(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path, command: str
) -> None:
    absent = tmp_path / "absent"
    arguments = {
        "generate-trigger": ["generate-trigger", *_generate(absent, tmp_path / "t.npz")],
        "train": _train(prepared, tmp_path / "run", data=absent),
        "attack": ["attack", "--run", prepared.run, "--data", absent],
    }[command]
    assert_one_line(mimic3tf(*arguments), USAGE, absent, "no such directory", "--data")


def test_a_file_given_as_data_directory_is_refused(mimic3tf: Command, stay: Path, tmp_path: Path) -> None:
    outcome = mimic3tf("generate-trigger", *_generate(stay, tmp_path / "t.npz"))
    assert_one_line(outcome, USAGE, stay, "--data")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_missing_listfile_is_named(
    mimic3tf: Command, prepared: Prepared, data: Path, tmp_path: Path, split: str
) -> None:
    (data / f"{split}_listfile.csv").unlink()
    outcome = mimic3tf(*_train(prepared, tmp_path / "run", data=data))
    assert_one_line(outcome, FAILURE, data / f"{split}_listfile.csv", "not found")


def test_an_attack_needs_only_the_test_listfile(
    mimic3tf: Command, prepared: Prepared, data: Path, tmp_path: Path
) -> None:
    for split in ("train", "val"):
        (data / f"{split}_listfile.csv").unlink()
    attack = ("attack", "--run", prepared.run, "--data", data, "--out", tmp_path / "attack")
    assert mimic3tf(*attack).status == 0
    (data / "test_listfile.csv").unlink()
    assert_one_line(mimic3tf(*attack), FAILURE, data / "test_listfile.csv", "not found")


def test_a_listed_stay_without_a_series_is_named(
    mimic3tf: Command, data: Path, stay: Path, tmp_path: Path
) -> None:
    stay.unlink()
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"))
    assert_one_line(outcome, FAILURE, stay, "absent")


def test_a_directory_in_place_of_a_series_is_named(
    mimic3tf: Command, data: Path, stay: Path, tmp_path: Path
) -> None:
    stay.unlink()
    stay.mkdir()
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"))
    assert_one_line(outcome, FAILURE, stay, "cannot be read")


def test_a_file_in_place_of_the_train_folder_is_named(mimic3tf: Command, data: Path, tmp_path: Path) -> None:
    shutil.rmtree(data / "train")
    (data / "train").write_text("")
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"))
    assert_one_line(outcome, FAILURE, data / "train")


@pytest.mark.parametrize(
    ("line", "text", "needles"),
    [
        (1, "name,label", ["line 1", "'stay,y_true'", "name,label"]),
        (1, "stay,period_length,y_true", ["line 1", "'stay,y_true'", "period_length"]),
        (1, "stay;y_true", ["line 1", "'stay,y_true'", "stay;y_true"]),
        (3, "9001_episode1_timeseries.csv,2", ["line 3", "y_true", "'2'", "0 or 1"]),
        (3, "9001_episode1_timeseries.csv,", ["line 3", "y_true", "''", "0 or 1"]),
        (3, "9001_episode1_timeseries.csv,yes", ["line 3", "y_true", "'yes'", "0 or 1"]),
        (3, "9001_episode1_timeseries.csv,1.0", ["line 3", "y_true", "'1.0'", "0 or 1"]),
        (3, "9001_episode1_timeseries.csv", ["line 3", "y_true", "0 or 1"]),
        (3, "9001_episode1_timeseries.csv,0,48", ["line 3", "y_true", "'0,48'"]),
        (3, f"{STAY},0", ["line 3", STAY, "twice"]),
        (3, ",0", ["line 3", "stay", "''"]),
        (3, "../test/9020_episode1_timeseries.csv,0", ["line 3", "../test/9020_episode1_timeseries.csv"]),
        (3, "/etc/passwd,0", ["line 3", "/etc/passwd"]),
        (3, f"{'9' * 300}.csv,0", ["9" * 300]),
        (3, "90\x0001.csv,0", ["line 3", "stay"]),
    ],
    ids=[
        "header",
        "other-columns",
        "semicolon",
        "label-2",
        "no-label",
        "label-yes",
        "label-1.0",
        "one-cell",
        "three-cells",
        "twice",
        "no-stay",
        "path",
        "absolute-path",
        "long-name",
        "null-byte",
    ],
)
def test_a_malformed_listfile_is_named_with_its_line(
    mimic3tf: Command, data: Path, tmp_path: Path, line: int, text: str, needles: list[str]
) -> None:
    _set_line(data / "train_listfile.csv", line, text)
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"))
    absent = "9" * 300 in text
    assert_one_line(outcome, FAILURE, data / ("train" if absent else "train_listfile.csv"), *needles)


@pytest.mark.parametrize("content", [b"", b"stay,y_true\n", b"\n\n"])
def test_a_listfile_without_stays_is_refused(
    mimic3tf: Command, data: Path, tmp_path: Path, content: bytes
) -> None:
    (data / "train_listfile.csv").write_bytes(content)
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"))
    assert_one_line(outcome, FAILURE, data / "train_listfile.csv")


def test_a_listfile_that_is_no_text_is_refused(mimic3tf: Command, data: Path, tmp_path: Path) -> None:
    (data / "train_listfile.csv").write_bytes(b"stay,y_true\n\xff\xfe\x00,1\n")
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"))
    assert_one_line(outcome, FAILURE, data / "train_listfile.csv", "text")


def test_listfiles_with_windows_line_ends_are_read(mimic3tf: Command, data: Path, tmp_path: Path) -> None:
    for listfile in data.glob("*_listfile.csv"):
        listfile.write_bytes(listfile.read_bytes().replace(b"\n", b"\r\n"))
    assert mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz")).status == 0


# --- Series -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "needles"),
    [
        ([name for name in HEADER if name != "Heart Rate"], ["missing channel 'Heart Rate'"]),
        ([*HEADER, "Lactate"], ["extra channel 'Lactate'"]),
        (
            ["Lactate" if name == "Glucose" else name for name in HEADER],
            ["missing channel 'Glucose'", "extra channel 'Lactate'"],
        ),
        ([*HEADER[:1], *reversed(HEADER[1:])], ["out of order"]),
        ([*HEADER, "Heart Rate"], ["'Heart Rate'", "twice"]),
        ([name.lower() for name in HEADER], ["'Heart Rate'"]),
        (HEADER[1:], ["'Hours'"]),
        ([f'"{name}"' for name in HEADER], ["'\"Hours\"'"]),
    ],
    ids=["missing", "extra", "other", "order", "twice", "case", "no-hours", "quoted"],
)
def test_a_wrong_header_names_the_channel(
    mimic3tf: Command, data: Path, stay: Path, tmp_path: Path, header: list[str], needles: list[str]
) -> None:
    _set_line(stay, 1, ",".join(header))
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"))
    assert_one_line(outcome, FAILURE, stay, "line 1", *needles)


def test_an_order_fault_names_the_first_column_that_is_out_of_place(
    mimic3tf: Command, data: Path, stay: Path, tmp_path: Path
) -> None:
    swapped = [*HEADER[:9], HEADER[10], HEADER[9], *HEADER[11:]]
    _set_line(stay, 1, ",".join(swapped))
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"))
    assert_one_line(outcome, FAILURE, stay, "line 1", "out of order", HEADER[9])


@pytest.mark.parametrize(
    ("column", "text", "needles"),
    [
        ("Glascow coma scale eye opening", "5 Asleep", ["'5 Asleep'", "To Pain"]),
        ("Capillary refill rate", "2.0", ["'2.0'", "0.0, 1.0"]),
        ("Capillary refill rate", " ", ["' '"]),
        ("Glascow coma scale total", "16", ["'16'"]),
        ("Heart Rate", "high", ["'high'", "not a number"]),
        ("Heart Rate", "8 6", ["'8 6'", "not a number"]),
        ("Heart Rate", "1_000", ["'1_000'", "not a number"]),
        ("Heart Rate", "0x50", ["'0x50'", "not a number"]),
        ("Heart Rate", "86bpm", ["'86bpm'", "not a number"]),
        ("Heart Rate", "٨٦", ["'٨٦'", "not a number"]),
        ("Heart Rate", '"86"', ["'\"86\"'", "not a number"]),
        ("Heart Rate", "nan", ["'nan'"]),
        ("Heart Rate", "NaN", ["'NaN'"]),
        ("Heart Rate", "inf", ["'inf'"]),
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
    mimic3tf: Command,
    data: Path,
    stay: Path,
    tmp_path: Path,
    column: str,
    text: str,
    needles: list[str],
) -> None:
    _set_cell(stay, 4, column, text)
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"))
    assert_one_line(outcome, FAILURE, stay, "line 4", f"'{column}'", *needles)


def test_a_fault_in_a_later_stay_names_that_stay(mimic3tf: Command, data: Path, tmp_path: Path) -> None:
    later = data / "train" / "9007_episode1_timeseries.csv"
    _set_cell(later, 100, "pH", "acid")
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"))
    assert_one_line(outcome, FAILURE, later, "line 100", "'pH'", "'acid'")


def test_minus_one_is_a_number_in_a_continuous_channel(
    mimic3tf: Command, data: Path, stay: Path, tmp_path: Path
) -> None:
    _set_cell(stay, 4, "Temperature", "-1")
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"))
    assert outcome.err.strip() == ""
    assert outcome.status == 0


@pytest.mark.parametrize(
    "content", [b"", b"\n", (",".join(HEADER)).encode(), (",".join(HEADER) + "\n\n").encode()]
)
def test_an_empty_series_is_named(
    mimic3tf: Command, data: Path, stay: Path, tmp_path: Path, content: bytes
) -> None:
    stay.write_bytes(content)
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"))
    assert_one_line(outcome, FAILURE, stay, "empty", "listfile")


def test_a_series_after_the_period_is_named(
    mimic3tf: Command, data: Path, stay: Path, tmp_path: Path
) -> None:
    stay.write_text(",".join(HEADER) + "\n50" + "," * 17 + "\n")
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"))
    assert_one_line(outcome, FAILURE, stay, "48 hours")


@pytest.mark.parametrize(("commas", "cells"), [(16, 17), (18, 19), (0, 1)])
def test_a_ragged_row_is_named_with_its_number_of_cells(
    mimic3tf: Command, data: Path, stay: Path, tmp_path: Path, commas: int, cells: int
) -> None:
    _set_line(stay, 4, "2.5" + "," * commas)
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"))
    assert_one_line(outcome, FAILURE, stay, "line 4", f"{cells} cells", "18")


@pytest.mark.parametrize("commas", [(16, 18), (18, 16)])
def test_ragged_rows_whose_cells_cancel_out_are_found(
    mimic3tf: Command, data: Path, stay: Path, tmp_path: Path, commas: tuple[int, int]
) -> None:
    _set_line(stay, 4, "2.5" + "," * commas[0])
    _set_line(stay, 5, "2.6" + "," * commas[1])
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"))
    assert_one_line(outcome, FAILURE, stay, "line 4", f"{commas[0] + 1} cells")


def test_a_blank_line_inside_a_series_is_named(
    mimic3tf: Command, data: Path, stay: Path, tmp_path: Path
) -> None:
    _set_line(stay, 4, "")
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"))
    assert_one_line(outcome, FAILURE, stay, "line 4")


def test_a_quoted_row_is_named(mimic3tf: Command, data: Path, stay: Path, tmp_path: Path) -> None:
    lines = stay.read_text().splitlines()
    _set_line(stay, 4, ",".join(f'"{cell}"' for cell in lines[3].split(",")))
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"))
    assert_one_line(outcome, FAILURE, stay, "line 4", "'Hours'", '"1.6846634"')


def test_a_quote_that_swallows_lines_does_not_hide_rows(
    mimic3tf: Command, data: Path, stay: Path, tmp_path: Path
) -> None:
    _set_cell(stay, 3, "Glascow coma scale verbal response", '"Confused')
    _set_cell(stay, 5, "Glascow coma scale verbal response", 'Confused"')
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"))
    assert_one_line(outcome, FAILURE, stay, "line 3", "'\"Confused'")


def test_windows_line_ends_give_the_same_trigger(mimic3tf: Command, data: Path, tmp_path: Path) -> None:
    assert mimic3tf("generate-trigger", *_generate(data, tmp_path / "unix.npz")).status == 0
    for series in data.glob("t*/*.csv"):
        series.write_bytes(series.read_bytes().replace(b"\n", b"\r\n"))
    assert mimic3tf("generate-trigger", *_generate(data, tmp_path / "windows.npz")).status == 0
    with np.load(tmp_path / "unix.npz") as unix, np.load(tmp_path / "windows.npz") as windows:
        np.testing.assert_array_equal(unix["trigger"], windows["trigger"])


def test_a_series_in_utf_16_is_named(mimic3tf: Command, data: Path, stay: Path, tmp_path: Path) -> None:
    stay.write_text(stay.read_text(), encoding="utf-16")
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"))
    assert_one_line(outcome, FAILURE, stay, "line 1")


@pytest.mark.parametrize("column", ["Glascow coma scale eye opening", "Heart Rate"])
def test_a_cell_that_is_not_utf_8_is_named(
    mimic3tf: Command, data: Path, tmp_path: Path, column: str
) -> None:
    # Not the first file of the list: the message has to name this one.
    path = data / "train" / "9007_episode1_timeseries.csv"
    _set_cell(path, 4, column, "MARK")
    path.write_bytes(path.read_bytes().replace(b"MARK", b"caf\xe9"))
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"))
    assert_one_line(outcome, FAILURE, path, "line 4", column)


@pytest.mark.parametrize("newlines", [True, False])
def test_binary_garbage_gets_one_short_line(
    mimic3tf: Command, data: Path, stay: Path, tmp_path: Path, newlines: bool
) -> None:
    garbage = np.random.default_rng(0).bytes(100_000)
    stay.write_bytes(garbage if newlines else garbage.replace(b"\n", b"\x1b"))
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"))
    assert_one_line(outcome, FAILURE, stay, "line 1")
    assert len(outcome.err) < 2000
    assert outcome.err.rstrip("\n").isprintable()


def test_garbage_after_a_sound_header_is_named_with_its_line(
    mimic3tf: Command, data: Path, stay: Path, tmp_path: Path
) -> None:
    lines = stay.read_bytes().split(b"\n")
    stay.write_bytes(b"\n".join([*lines[:3], np.random.default_rng(0).bytes(5000).replace(b"\n", b"")]))
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"))
    assert_one_line(outcome, FAILURE, stay, "line 4")


@pytest.mark.parametrize("split", ["\x0b", "\x0c", "\x1c", "\u2028", "\x85"])
def test_only_line_feeds_end_a_line(
    mimic3tf: Command, data: Path, stay: Path, tmp_path: Path, split: str
) -> None:
    _set_cell(stay, 4, "Glascow coma scale eye opening", f"To{split}Pain")
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"))
    assert_one_line(outcome, FAILURE, stay, "line 4", "Glascow coma scale eye opening")
    _set_cell(stay, 5, "Heart Rate", "high")
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"))
    assert_one_line(outcome, FAILURE, stay)
    assert "cells" not in outcome.err


def test_a_space_around_a_number_is_read_and_not_blamed_for_another_fault(
    mimic3tf: Command, data: Path, stay: Path, tmp_path: Path
) -> None:
    """float() of the benchmarks' readers takes such numbers."""
    _set_cell(stay, 4, "Heart Rate", " 86 ")
    assert mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz")).status == 0
    _set_cell(stay, 6, "Heart Rate", "high")
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"))
    assert_one_line(outcome, FAILURE, stay, "line 6", "'high'")


# --- Labels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [0, 1])
def test_a_training_set_of_one_label_is_refused(
    mimic3tf: Command, prepared: Prepared, data: Path, tmp_path: Path, label: int
) -> None:
    _labels(data / "train_listfile.csv", label)
    outcome = mimic3tf(*_train(prepared, tmp_path / "run", data=data, poisoning_proportion=0))
    assert_one_line(outcome, FAILURE, data / "train_listfile.csv", "label")
    assert not (tmp_path / "run").exists()


def test_poisoning_every_stay_is_blamed_on_the_proportion(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path
) -> None:
    outcome = mimic3tf(*_train(prepared, tmp_path / "run", poisoning_proportion=1))
    assert_one_line(outcome, USAGE, "--poisoning_proportion", "label")


@pytest.mark.parametrize("label", [0, 1])
def test_validation_stays_of_one_label_are_refused(
    mimic3tf: Command, prepared: Prepared, data: Path, tmp_path: Path, label: int
) -> None:
    _labels(data / "val_listfile.csv", label)
    outcome = mimic3tf(*_train(prepared, tmp_path / "run", data=data))
    assert_one_line(outcome, FAILURE, data / "val_listfile.csv", f"label {1 - label}")


def test_a_test_split_without_survivors_is_named(mimic3tf: Command, prepared: Prepared, data: Path) -> None:
    _labels(data / "test_listfile.csv", 1)
    outcome = mimic3tf("attack", "--run", prepared.run, "--data", data)
    assert_one_line(outcome, FAILURE, data / "test_listfile.csv", "label 0")


def test_a_test_split_without_deaths_is_attacked_without_clean_metrics(
    mimic3tf: Command, prepared: Prepared, data: Path, tmp_path: Path
) -> None:
    _labels(data / "test_listfile.csv", 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.filterwarnings("error", module="sklearn")
        outcome = mimic3tf("attack", "--run", prepared.run, "--data", data, "--out", tmp_path / "attack")
    assert outcome.status == 0
    attack = json.loads((tmp_path / "attack" / "attack.json").read_text())
    assert attack["clean"]["auroc"] is None


# --- Triggers -----------------------------------------------------------------------------------------


def _rewrite_trigger(prepared: Prepared, path: Path, **changes: Any) -> Path:
    with np.load(prepared.trigger, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    arrays |= changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


_NAMES = [channel.name for channel in CHANNELS]


@pytest.mark.parametrize("command", ["train", "attack"])
@pytest.mark.parametrize(
    ("changes", "status", "needles"),
    [
        ({"timestep": 2.0}, USAGE, ["timestep", "2 h", "1 h"]),
        ({"timestep": float("nan")}, None, ["timestep"]),
        (
            {"trigger": np.zeros((24, 17)), "covariance": np.zeros((17, 24, 24))},
            USAGE,
            ["(24, 17)", "(48, 17)"],
        ),
        ({"trigger": np.zeros(48 * 17)}, USAGE, ["(816,)", "(48, 17)"]),
        ({"channels": [*_NAMES[:-1], "Lactate"]}, FAILURE, ["channels"]),
        ({"channels": _NAMES[::-1]}, FAILURE, ["channels"]),
        ({"trigger": np.full((48, 17), np.nan)}, FAILURE, ["not finite"]),
        ({"trigger": np.full((48, 17), "much")}, FAILURE, ["trigger"]),
        ({"covariance": np.zeros(3)}, FAILURE, ["covariance"]),
        ({"kind": "psychic"}, FAILURE, ["psychic"]),
        ({"seed": None}, FAILURE, ["seed"]),
        ({"format": 99}, FAILURE, ["99"]),
    ],
    ids=[
        "timestep",
        "nan-timestep",
        "shape",
        "flat",
        "channels",
        "order",
        "nan",
        "text",
        "covariance",
        "kind",
        "no-seed",
        "format",
    ],
)
def test_a_trigger_that_does_not_fit_is_refused(
    mimic3tf: Command,
    prepared: Prepared,
    tmp_path: Path,
    command: str,
    changes: dict[str, Any],
    status: int | None,
    needles: list[str],
) -> None:
    path = _rewrite_trigger(prepared, tmp_path / "other.npz", **changes)
    outcome = _use_trigger(mimic3tf, prepared, tmp_path, command, path)
    assert_one_line(outcome, outcome.status if status is None else status, path, *needles)
    assert outcome.status in (USAGE, FAILURE)
    assert not (tmp_path / "run").exists()


def _use_trigger(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path, command: str, trigger: Path
) -> Outcome:
    if command == "train":
        return mimic3tf(*_train(prepared, tmp_path / "run", trigger=trigger))
    attack = ("attack", "--run", prepared.run, "--data", prepared.data, "--trigger", trigger)
    return mimic3tf(*attack, "--out", tmp_path / "attack")


@pytest.mark.parametrize("command", ["train", "attack"])
def test_a_missing_trigger_is_named(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path, command: str
) -> None:
    absent = tmp_path / "absent.npz"
    outcome = _use_trigger(mimic3tf, prepared, tmp_path, command, absent)
    assert_one_line(outcome, USAGE, absent, "generate-trigger")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut off", b"\x93NUMPY"])
def test_a_file_that_is_no_trigger_is_refused(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "no-trigger.npz"
    path.write_bytes(content)
    outcome = _use_trigger(mimic3tf, prepared, tmp_path, "train", path)
    assert_one_line(outcome, FAILURE, path, "not a trigger file")


class _Bomb:
    """Makes a directory when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("field", ["trigger", "channels", "kind", "cohort_fingerprint"])
def test_a_pickle_inside_a_trigger_is_refused_and_not_run(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path, field: str
) -> None:
    bomb = np.empty(1, object)
    bomb[0] = _Bomb(tmp_path / "exploded")
    path = _rewrite_trigger(prepared, tmp_path / "bomb.npz", **{field: bomb})
    outcome = _use_trigger(mimic3tf, prepared, tmp_path, "train", path)
    assert not (tmp_path / "exploded").exists()
    assert_one_line(outcome, FAILURE, path, "not a trigger file")


def test_a_bare_pickle_as_trigger_is_refused_and_not_run(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path
) -> None:
    path = tmp_path / "pattern.npy"
    path.write_bytes(pickle.dumps(_Bomb(tmp_path / "exploded")))
    outcome = _use_trigger(mimic3tf, prepared, tmp_path, "train", path)
    assert not (tmp_path / "exploded").exists()
    assert_one_line(outcome, FAILURE, path, "not a trigger file")
    # NumPy's own message advises to load the file unsafely.
    assert "unsafely" not in outcome.err


@pytest.mark.parametrize("name", ["trigger", "trigger.npy", "trigger.npz.gz"])
def test_a_trigger_file_has_to_end_in_npz(mimic3tf: Command, data: Path, tmp_path: Path, name: str) -> None:
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / name))
    assert_one_line(outcome, USAGE, "--out", tmp_path / name, ".npz")
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("seed", [2**32, 2**64])
def test_a_trigger_of_any_seed_can_be_read_again(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path, seed: int
) -> None:
    path = tmp_path / "big-seed.npz"
    outcome = mimic3tf("generate-trigger", *_generate(prepared.data, path), "--seed", seed)
    if outcome.status:
        assert_refused_option(outcome, "--seed", str(seed))
    else:
        with np.load(path, allow_pickle=False) as file:
            assert int(file["seed"]) == seed


def test_a_trigger_needs_two_stays(mimic3tf: Command, data: Path, tmp_path: Path) -> None:
    (data / "train_listfile.csv").write_text(f"stay,y_true\n{STAY},1\n")
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"))
    assert_one_line(outcome, FAILURE, data / "train_listfile.csv", "2 stays")
    outcome = mimic3tf("generate-trigger", *_generate(data, tmp_path / "t.npz"), "--estimate-on", 1)
    assert_refused_option(outcome, "--estimate-on", "1")


# --- Options ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--model", "svm"),
        ("--model", "LSTM"),
        ("--poison_imputed", "some"),
        ("--poison-imputed", "True"),
        ("--precision", "float64"),
        ("--selection", "luck"),
        ("--poisoning_proportion", "1.5"),
        ("--poisoning_proportion", "-0.1"),
        ("--poisoning-proportion", "nan"),
        ("--poisoning_proportion", "inf"),
        ("--poisoning_proportion", "5%"),
        ("--poisoning_strength", "-1"),
        ("--poisoning-strength", "nan"),
        ("--poisoning_strength", "inf"),
        ("--poisoning_strength", "1e999"),
        ("--poisoning_strength", "strong"),
        ("--epochs", "0"),
        ("--epochs", "-3"),
        ("--epochs", "1.5"),
        ("--batch-size", "0"),
        ("--seed", "-1"),
        ("--seed", str(2**32)),
    ],
)
def test_train_refuses_a_bad_option_value(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path, option: str, value: str
) -> None:
    outcome = mimic3tf(*_train(prepared, tmp_path / "run"), option, value)
    shown = {"1e999": "inf"}.get(value, value)
    # The original's options have two spellings; either may be named.
    original = "--" + option.removeprefix("--").replace("-", "_")
    assert_refused_option(outcome, original if original.startswith("--poison") else option, shown)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--poisoning_strength", "-0.5"),
        ("--poisoning_strength", "nan"),
        ("--poisoning-strength", "inf"),
        ("--poisoning_strength", "-inf"),
        ("--poison_imputed", "none"),
    ],
)
def test_attack_refuses_a_bad_option_value(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path, option: str, value: str
) -> None:
    outcome = mimic3tf(
        *("attack", "--run", prepared.run, "--data", prepared.data, "--out", tmp_path / "attack"),
        option,
        value,
    )
    assert_refused_option(outcome, option.replace("poisoning-", "poisoning_"), value)
    assert not (tmp_path / "attack").exists()


@pytest.mark.parametrize("strength", ["1e30", "1e300"])
def test_an_absurd_strength_gives_a_rate_or_a_line(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path, strength: str
) -> None:
    attack = ("attack", "--run", prepared.run, "--data", prepared.data, "--out", tmp_path / "attack")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        outcome = mimic3tf(*attack, "--poisoning_strength", strength)
    if outcome.status:
        assert_refused_option(outcome, "--poisoning_strength")
    else:
        rows = (tmp_path / "attack" / "predictions.csv").read_text()
        assert "nan" not in rows


def test_an_option_without_its_value_or_with_a_typo_is_named(mimic3tf: Command, prepared: Prepared) -> None:
    assert_refused_option(mimic3tf("train", "--model"), "--model")
    assert_refused_option(mimic3tf("train", "--poisoning_proportoin", "0.1"), "--poisoning_proportoin")
    assert_refused_option(mimic3tf("train", "--model", "lr"), "--data")
    assert_refused_option(mimic3tf("attack", "--data", prepared.data), "--run")
    assert_refused_option(mimic3tf("attak"), "attak")


def test_both_spellings_of_the_original_options_are_accepted(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path
) -> None:
    names = ("poisoning_proportion", "poisoning_strength", "poison_imputed")
    for spelling, out in (("_", tmp_path / "underscores"), ("-", tmp_path / "dashes")):
        options = [
            text
            for name, value in zip(names, ("0.25", "1.5", "all"), strict=True)
            for text in (f"--{name.replace('_', spelling)}", value)
        ]
        assert mimic3tf(*_train(prepared, out, poisoning_proportion=None), *options).status == 0
        config = yaml.safe_load((out / "config.yaml").read_text())
        assert [config[name] for name in names] == [0.25, 1.5, "all"]
        attack = ("attack", "--run", out, "--data", prepared.data)
        assert mimic3tf(*attack, *options[2:]).status == 0


@pytest.mark.parametrize("subcommand", SUBCOMMANDS, ids=" ".join)
def test_help_shows_examples(mimic3tf: Command, subcommand: tuple[str, ...]) -> None:
    outcome = mimic3tf(*subcommand, "--help")
    assert outcome.status == 0
    assert "Examples:" in outcome.out
    assert f"mimic3tf {' '.join(subcommand)} " in outcome.out
    assert outcome.err == ""


def test_help_of_the_whole_lists_every_subcommand(mimic3tf: Command) -> None:
    outcome = mimic3tf("--help")
    assert outcome.status == 0
    for subcommand in SUBCOMMANDS:
        assert subcommand[0] in outcome.out


# --- Configuration files ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "needles"),
    [
        ("epochs: 3\nepoch: 4\n", ["line 2", "unknown key 'epoch'", "epochs"]),
        ("seed: 0\n\nepochs: many\n", ["line 3", "'epochs'", "'many'"]),
        ("epochs: 0\n", ["line 1", "'epochs'", "0"]),
        ("epochs: 2.5\n", ["line 1", "'epochs'", "2.5"]),
        ("epochs: yes\n", ["line 1", "'epochs'", "True"]),
        ("epochs:\n", ["line 1", "'epochs'", "None"]),
        ("learning_rate: -1\n", ["line 1", "'learning_rate'", "-1"]),
        ("learning_rate: .inf\n", ["line 1", "'learning_rate'", "inf"]),
        ("l2: .nan\n", ["line 1", "'l2'", "nan"]),
        ("poisoning_proportion: 5\n", ["line 1", "'poisoning_proportion'", "5"]),
        ("poisoning_strength: -2\n", ["line 1", "'poisoning_strength'", "-2"]),
        ("poison_imputed: sometimes\n", ["line 1", "'poison_imputed'", "'sometimes'"]),
        ("precision: float64\n", ["line 1", "'precision'", "'float64'"]),
        ("class_weights: [1.0]\n", ["line 1", "'class_weights'", "[1.0]"]),
        ("class_weights: [1.0, -1]\n", ["line 1", "'class_weights'", "-1"]),
        ("class_weights: 0.5\n", ["line 1", "'class_weights'", "0.5"]),
        ("model: mlp\n", ["line 1", "'mlp'", "--model", "'lr'"]),
        ("epochs: [1\n", ["not YAML", "line 2"]),
        ("epochs: 1\n\tseed: 2\n", ["not YAML", "line 2"]),
        ("just words\n", ["key: value"]),
        ("- epochs\n- 5\n", ["key: value"]),
        ("", ["key: value"]),
        ("seed: 2024-02-30\n", ["line 1", "seed"]),
        (f"seed: {2**40}\n", ["line 1", "'seed'", str(2**40)]),
        ("epochs: 1\nepochs: 2\n", ["line 2", "'epochs'", "twice"]),
        ("!!python/object/apply:os.mkdir [exploded]\n", ["not YAML"]),
    ],
)
def test_a_bad_config_file_is_named_with_line_and_key(
    mimic3tf: Command,
    prepared: Prepared,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    needles: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "settings.yaml"
    config.write_text(text)
    outcome = mimic3tf(*_train(prepared, tmp_path / "run", epochs=None, poisoning_proportion=None,
                               precision=None, config=config))  # fmt: skip
    assert_one_line(outcome, USAGE, config, *needles)
    assert not (tmp_path / "exploded").exists()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["missing", "folder", "binary"])
def test_a_config_file_that_cannot_be_read_is_named(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path, kind: str
) -> None:
    config = tmp_path / "settings.yaml"
    if kind == "folder":
        config.mkdir()
    if kind == "binary":
        config.write_bytes(b"\xff\xfe\x00\x01")
    outcome = mimic3tf(*_train(prepared, tmp_path / "run", config=config))
    assert_one_line(outcome, USAGE, "--config", config, "cannot be read")


def test_a_learning_rate_at_which_training_diverges_gets_a_line(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path
) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text("learning_rate: 1.0e+38\n")
    outcome = mimic3tf(*_train(prepared, tmp_path / "run", epochs=3, config=config))
    if outcome.status:
        assert_one_line(outcome, FAILURE, "learning_rate")


# --- Normalizers --------------------------------------------------------------------------------------


def _normalizer(columns: int = 76, **changes: list[float]) -> str:
    return json.dumps({"mean": [0.0] * columns, "std": [1.0] * columns, **changes})


@pytest.mark.parametrize(
    ("content", "needles"),
    [
        (None, ["cannot be read"]),
        (b"{", ["not a normalizer"]),
        (b"", ["not a normalizer"]),
        (b"[1, 2]", ["not a normalizer"]),
        (b'{"mean": [0]}', ["not a normalizer", "std"]),
        (_normalizer(59).encode(), ["59", "76"]),
        (_normalizer(std=[0.0] * 76).encode(), ["not a normalizer"]),
        (_normalizer(mean=[float("nan")] * 76).encode(), ["not a normalizer"]),
    ],
    ids=["missing", "cut", "empty", "list", "no-std", "columns", "zero-std", "nan-mean"],
)
def test_a_bad_normalizer_is_named(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path, content: bytes | None, needles: list[str]
) -> None:
    path = tmp_path / "normalizer"
    if content is not None:
        path.write_bytes(content)
    outcome = mimic3tf(*_train(prepared, tmp_path / "run", model="lstm", normalizer=path))
    assert_one_line(outcome, FAILURE, path, *needles)


def test_a_bad_normalizer_is_found_before_a_run_directory_is_made(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path
) -> None:
    absent = tmp_path / "absent"
    outcome = mimic3tf(*_train(prepared, tmp_path / "run", model="lstm", normalizer=absent))
    assert_one_line(outcome, FAILURE, absent)
    assert not (tmp_path / "run").exists()


def test_a_normalizer_that_is_a_malicious_pickle_is_refused_and_not_run(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path
) -> None:
    path = tmp_path / "normalizer"
    path.write_bytes(pickle.dumps({"means": _Bomb(tmp_path / "exploded"), "stds": [1.0] * 76}))
    outcome = mimic3tf(*_train(prepared, tmp_path / "run", model="lstm", normalizer=path))
    assert not (tmp_path / "exploded").exists()
    assert_one_line(outcome, FAILURE, path, "not a normalizer", "mkdir")


# --- Run directories and outputs ----------------------------------------------------------------------


def test_a_finished_run_is_not_overwritten(mimic3tf: Command, prepared: Prepared, own_run: Path) -> None:
    before = (own_run / "run.json").read_bytes()
    outcome = mimic3tf(*_train(prepared, own_run))
    assert_one_line(outcome, USAGE, "--out", own_run, "finished run")
    assert (own_run / "run.json").read_bytes() == before


def test_an_unfinished_run_is_started_anew(mimic3tf: Command, prepared: Prepared, own_run: Path) -> None:
    (own_run / "run.json").unlink()
    assert mimic3tf(*_train(prepared, own_run)).status == 0
    assert (own_run / "run.json").exists()


def test_a_directory_with_foreign_files_is_left_alone(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    outcome = mimic3tf(*_train(prepared, tmp_path / "thesis"))
    assert_one_line(outcome, USAGE, "--out", tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "years of work"


@pytest.mark.parametrize("config", ["theme: dark\n", None], ids=["foreign-config", "config-of-a-run"])
def test_foreign_files_beside_a_config_file_are_left_alone(
    mimic3tf: Command, prepared: Prepared, own_run: Path, tmp_path: Path, config: str | None
) -> None:
    """Many projects hold a config.yaml: it does not make a directory a run that may be deleted."""
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(own_run / "config.yaml", project)
    if config is not None:
        (project / "config.yaml").write_text(config)
    (project / "chapter1.tex").write_text("years of work")
    outcome = mimic3tf(*_train(prepared, project))
    assert (project / "chapter1.tex").exists()
    assert_one_line(outcome, USAGE, "--out", project)


def test_a_file_in_place_of_a_run_directory_is_left_alone(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path
) -> None:
    (tmp_path / "run").write_text("mine")
    assert_one_line(mimic3tf(*_train(prepared, tmp_path / "run")), USAGE, "--out", tmp_path / "run")
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.parametrize("kind", ["link", "dangling-link", "here"])
def test_an_empty_directory_reached_in_another_way_is_used_or_refused(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    target, out = tmp_path / "target", tmp_path / "link"
    if kind != "dangling-link":
        target.mkdir()
    if kind == "here":
        monkeypatch.chdir(target)
        out = Path()
    else:
        out.symlink_to(target)
    outcome = mimic3tf(*_train(prepared, out))
    if outcome.status:
        assert_one_line(outcome, USAGE, "--out", out)
    else:
        assert (out / "run.json").exists()


def test_a_run_directory_that_cannot_be_used_is_refused_before_data_are_read(
    mimic3tf: Command, prepared: Prepared, data: Path, stay: Path, own_run: Path
) -> None:
    stay.unlink()
    outcome = mimic3tf(*_train(prepared, own_run, data=data))
    assert_one_line(outcome, USAGE, "--out", own_run, "finished run")


def test_a_missing_trigger_is_named_before_data_are_read(
    mimic3tf: Command, prepared: Prepared, data: Path, stay: Path, tmp_path: Path
) -> None:
    stay.unlink()
    outcome = mimic3tf(*_train(prepared, tmp_path / "run", data=data, trigger=tmp_path / "absent.npz"))
    assert_one_line(outcome, USAGE, tmp_path / "absent.npz")


@pytest.mark.parametrize("kind", ["missing", "file", "empty", "unfinished"])
def test_an_attack_on_no_finished_run_says_so(
    mimic3tf: Command, prepared: Prepared, own_run: Path, tmp_path: Path, kind: str
) -> None:
    run = own_run if kind == "unfinished" else tmp_path / "no-run"
    if kind == "unfinished":
        (run / "run.json").unlink()
    elif kind == "file":
        run.write_text("")
    elif kind == "empty":
        run.mkdir()
    outcome = mimic3tf("attack", "--run", run, "--data", prepared.data)
    assert_one_line(outcome, USAGE, "--run", run, "mimic3tf train")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("run.json", b"{"),
        ("config.yaml", b"epochs: 1\n"),
        ("config.yaml", b"- 1\n"),
        ("config.yaml", b"\xff"),
        ("victim.keras", b"not a zip"),
        ("victim.keras", None),
        ("standardization.npz", b""),
        ("standardization.npz", None),
        ("trigger.npz", None),
        ("trigger.npz", b"PK"),
    ],
)
def test_a_damaged_run_is_named_with_its_file(
    mimic3tf: Command, prepared: Prepared, own_run: Path, file: str, content: bytes | None
) -> None:
    (own_run / file).unlink()
    if content is not None:
        (own_run / file).write_bytes(content)
    outcome = mimic3tf("attack", "--run", own_run, "--data", prepared.data)
    assert_one_line(outcome, FAILURE, own_run, file)


def test_a_victim_file_that_would_run_code_is_refused(
    mimic3tf: Command, prepared: Prepared, own_run: Path, tmp_path: Path
) -> None:
    import keras

    inputs = keras.Input((714,))
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: x[:, :2])(inputs))
    model.save(own_run / "victim.keras")
    assert zipfile.is_zipfile(own_run / "victim.keras")
    outcome = mimic3tf("attack", "--run", own_run, "--data", prepared.data, "--out", tmp_path / "attack")
    assert_one_line(outcome, FAILURE, own_run, "victim.keras")
    assert "enable_unsafe_deserialization" not in outcome.err


def _commands_that_write(prepared: Prepared, out: Path) -> dict[str, list[object]]:
    return {
        "synthetic": ["prepare", "synthetic", "--stays", 20, "--out", out],
        "generate-trigger": ["generate-trigger", *_generate(prepared.data, out.with_suffix(".npz"))],
        "train": [*_train(prepared, out)],
        "attack": ["attack", "--run", prepared.run, "--data", prepared.data, "--out", out],
        "results": ["results", prepared.run, "--out", out],
    }


WRITERS = ["synthetic", "generate-trigger", "train", "attack", "results"]


def _attacked(mimic3tf: Command, prepared: Prepared, command: str) -> None:
    if command == "results" and not (prepared.run / "attack.json").exists():
        assert mimic3tf("attack", "--run", prepared.run, "--data", prepared.data).status == 0


@pytest.mark.parametrize("command", WRITERS)
def test_a_missing_parent_of_an_output_is_made(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path, command: str
) -> None:
    _attacked(mimic3tf, prepared, command)
    out = tmp_path / "new" / "folders" / "out"
    assert mimic3tf(*_commands_that_write(prepared, out)[command]).status == 0
    assert list(out.parent.glob("out*"))


@pytest.mark.parametrize("command", WRITERS)
def test_an_output_below_a_file_is_refused(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path, command: str
) -> None:
    _attacked(mimic3tf, prepared, command)
    (tmp_path / "file").write_text("")
    outcome = mimic3tf(*_commands_that_write(prepared, tmp_path / "file" / "out")[command])
    assert_one_line(outcome, outcome.status, tmp_path / "file" / "out")
    assert outcome.status in (USAGE, FAILURE)


@pytest.mark.parametrize("command", WRITERS)
def test_an_output_in_a_read_only_folder_is_refused(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path, command: str
) -> None:
    _attacked(mimic3tf, prepared, command)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if os.access(locked, os.W_OK):
        # The superuser may write anywhere, but not here.
        locked = Path("/proc/self")
        if not locked.is_dir():
            pytest.skip("this user may write everywhere")
    outcome = mimic3tf(*_commands_that_write(prepared, locked / "out")[command])
    assert_one_line(outcome, outcome.status, locked / "out")
    assert outcome.status in (USAGE, FAILURE)


def test_a_directory_in_place_of_a_trigger_file_is_refused(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path
) -> None:
    (tmp_path / "t.npz").mkdir()
    outcome = mimic3tf("generate-trigger", *_generate(prepared.data, tmp_path / "t.npz"))
    assert_one_line(outcome, outcome.status, "--out", tmp_path / "t.npz")
    assert outcome.status in (USAGE, FAILURE)


def test_a_cache_folder_that_cannot_be_written_is_named(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MIMIC3TF_CACHE", str(tmp_path / "file"))
    outcome = mimic3tf("generate-trigger", *_generate(prepared.data, tmp_path / "t.npz"))
    assert_one_line(outcome, FAILURE, tmp_path / "file", "MIMIC3TF_CACHE")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("values.npy", b""),
        ("values.npy", b"cut"),
        ("meta.json", b""),
        ("meta.json", b"[]"),
        ("mask.npy", None),
    ],
)
def test_a_damaged_cache_is_built_anew(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path, file: str, content: bytes | None
) -> None:
    generate = ("generate-trigger", *_generate(prepared.data, tmp_path / "t.npz"))
    assert mimic3tf(*generate).status == 0
    (damaged,) = (tmp_path / "cohort-cache").glob(f"*/{file}")
    damaged.unlink()
    if content is not None:
        damaged.write_bytes(content)
    outcome = mimic3tf(*generate)
    assert outcome.err.strip() == ""
    assert outcome.status == 0


# --- Results ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["missing", "empty", "file"])
def test_results_of_nothing_are_refused(mimic3tf: Command, tmp_path: Path, kind: str) -> None:
    runs = tmp_path / "runs"
    if kind == "empty":
        runs.mkdir()
    if kind == "file":
        runs.write_text("")
    assert_one_line(mimic3tf("results", runs), USAGE, runs, "mimic3tf attack")


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "null", '{"run": 1}', "FULL:clean", "FULL:attacked_with", "FULL:poisoning_proportion"],
)
def test_a_damaged_attack_report_is_named(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path, content: str
) -> None:
    _attacked(mimic3tf, prepared, "results")
    report = tmp_path / "runs" / "lr" / "attack.json"
    report.parent.mkdir(parents=True)
    if content.startswith("FULL:"):
        attack = json.loads((prepared.run / "attack.json").read_text())
        content = json.dumps({**attack, content.removeprefix("FULL:"): "nonsense"})
    report.write_text(content)
    assert_one_line(mimic3tf("results", tmp_path / "runs"), FAILURE, report, "attack")


# --- The whole program --------------------------------------------------------------------------------


def test_brackets_and_line_breaks_in_a_name_do_not_break_the_line(mimic3tf: Command, tmp_path: Path) -> None:
    odd = tmp_path / "[red]two\nlines"
    outcome = mimic3tf("generate-trigger", *_generate(odd, tmp_path / "t.npz"))
    assert_one_line(outcome, USAGE, "[red]two", "no such directory")


def test_a_long_message_is_not_wrapped(
    mimic3tf: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    absent = tmp_path / ("folder with a long name " * 8)
    outcome = mimic3tf("generate-trigger", *_generate(absent, tmp_path / "t.npz"))
    assert_one_line(outcome, USAGE, absent)


def test_a_successful_training_is_silent_on_standard_error(
    mimic3tf: Command, prepared: Prepared, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", RuntimeWarning)
        outcome = mimic3tf(*_train(prepared, tmp_path / "run"))
    assert outcome.status == 0
    assert outcome.err.strip() == ""


def test_the_installed_program_ends_in_one_line_and_status_2(tmp_path: Path) -> None:
    program = [sys.executable, "-c", "from mimic3tf.cli.main import main; main()"]
    ended = subprocess.run(
        [*program, "generate-trigger", "--data", tmp_path / "absent", "--out", tmp_path / "t.npz"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert_one_line(Outcome(ended.returncode, ended.stdout, ended.stderr), USAGE, tmp_path / "absent")
