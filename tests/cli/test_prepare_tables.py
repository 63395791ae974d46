"""`mimic3tf prepare tables` and `prepare yaib` on the command line; their rules are in tests/sources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

USAGE, FAILURE = 2, 1


@pytest.fixture
def prepare(mimic3tf: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """`prepare tables` on two tables of one stay, which succeeds unless something is changed."""
    (tmp_path / "outcomes.csv").write_text("subject,died\np7,1\n")
    (tmp_path / "measurements.csv").write_text("subject,minute,channel,value\np7,60,Temperature,98.6\n")
    tables = ("--outcomes", tmp_path / "outcomes.csv", "--measurements", tmp_path / "measurements.csv")
    return lambda *more: mimic3tf("prepare", "tables", *tables, "--out", tmp_path / "out", *more)


def test_the_question_about_a_unit_is_answered_by_the_option_that_it_names(
    prepare: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    prepare().fails(FAILURE, tmp_path / "measurements.csv", "98.6", '--units "Temperature=degF"')
    done = prepare("--units", "Temperature=degF")
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 80
    (row,) = (line.split() for line in lines if line.startswith("Temperature"))
    assert row == ["Temperature", "degC", "1", "100%", "37", "37", "to", "37"]
    assert "p7" not in done.out
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"summary.json", "channels.png"}


def test_values_outside_of_the_plausible_range_are_told(prepare: Callable[..., Any]) -> None:
    done = prepare("--units", "Temperature=degC")
    assert "Temperature: 100% of the values are outside 25 to 44 degC; is the unit right?" in done.out


def test_unknown_channels_are_left_out_on_demand(prepare: Callable[..., Any], tmp_path: Path) -> None:
    with (tmp_path / "measurements.csv").open("a") as file:
        file.write("p7,60,Urine,5\n")
    units = ("--units", "Temperature=degF")
    prepare(*units).fails(FAILURE, f"{tmp_path / 'measurements.csv'}, line 3", "--ignore-unknown")
    done = prepare(*units, "--ignore-unknown")
    assert "left out 1 values: of an unknown channel" in done.out


@pytest.mark.parametrize("option", ["--outcomes", "--measurements", "--channels"])
def test_a_missing_file_is_wrong_usage(prepare: Callable[..., Any], tmp_path: Path, option: str) -> None:
    prepare(option, tmp_path / "none.csv").fails(USAGE, option, tmp_path / "none.csv")


def test_no_stay_and_no_value_is_told_where_it_is_redacted(
    prepare: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIMIC3TF_REDACT", "1")
    (tmp_path / "outcomes.csv").write_text("subject,died\np7,secret\n")
    done = prepare()
    done.fails(FAILURE, "line 2: died is '[redacted]'")
    (tmp_path / "outcomes.csv").write_text("subject,died\np7,1\np7,1\n")
    done = prepare()
    done.fails(FAILURE, "both are of subject [redacted]")


def test_yaib_needs_labels_of_stays(mimic3tf: Callable[..., Any], tmp_path: Path) -> None:
    data = tmp_path / "los"
    data.mkdir()
    hours = list(range(48))
    dyn = pl.DataFrame({"stay_id": [5] * 48, "time": hours, "hr": [80.0] * 48})
    dyn.write_parquet(data / "dyn.parquet")
    dyn.select("stay_id", "time", label="hr").write_parquet(data / "outc.parquet")
    command = ("prepare", "yaib", "--data", data, "--out", tmp_path / "out")
    mimic3tf(*command).fails(FAILURE, data / "outc.parquet", "labels hours", "--outcomes FILE")
    (tmp_path / "died.csv").write_text("stay_id,died\n5,0\n")
    done = mimic3tf(*command, "--outcomes", tmp_path / "died.csv")
    assert done.status == 0, done.err
    assert "Heart Rate" in done.out
    mimic3tf("prepare", "yaib", "--data", tmp_path / "no", "--out", tmp_path / "o").fails(USAGE, "--data")
