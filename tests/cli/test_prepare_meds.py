"""`mimic3tf prepare meds` on the command line; its rules are tested in tests/sources/test_meds.py."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

USAGE, FAILURE = 2, 1
IN = datetime(2150, 5, 1, 12)


@pytest.fixture
def prepare(mimic3tf: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """The command on a data set of one stay."""
    ids = {"hadm_id": 70, "icustay_id": 700}
    rows: list[dict[str, Any]] = [
        {"time": datetime(2090, 1, 1), "code": "MEDS_BIRTH"},
        {"time": IN, "code": "ICU_ADMISSION//MICU", **ids},
        {"time": IN + timedelta(hours=1), "code": "LAB//220045//bpm", "numeric_value": 80.0, **ids},
        {"time": IN + timedelta(hours=1), "code": "LAB//223761//°F", "numeric_value": 98.6, **ids},
        {"time": IN + timedelta(hours=2), "code": "LAB//50931//mg/dL", "text_value": ">600", "hadm_id": 70},
        {"time": IN + timedelta(hours=2), "code": "LAB//50813//[mmol/L]", "numeric_value": 2.0},
        {"time": IN + timedelta(days=3), "code": "ICU_DISCHARGE//MICU", **ids},
        {"time": IN + timedelta(days=5), "code": "HOSPITAL_DISCHARGE//DIED", "hadm_id": 70},
    ]
    file = tmp_path / "raw" / "data" / "0.parquet"
    file.parent.mkdir(parents=True)
    pl.DataFrame([{"subject_id": 7, **row} for row in rows], infer_schema_length=None).write_parquet(file)
    return lambda *more: mimic3tf("prepare", "meds", "--data", tmp_path / "raw", *more)


def test_the_cohort_and_what_was_left_out_are_printed(prepare: Callable[..., Any], tmp_path: Path) -> None:
    done = prepare("--out", tmp_path / "out", "--all-stays")
    assert done.status == 0
    assert "100.0%" in done.out
    assert "left out 1 values: Glucose is no value of the channel" in done.out
    assert "mapping mimic4" in done.err
    assert '"all_stays": true' in (tmp_path / "out" / "prepared.json").read_text()


def test_an_explanation_fits_into_80_columns_and_makes_nothing(
    prepare: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = prepare("--explain")
    assert done.status == 0
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 80
    (fahrenheit,) = (line.split() for line in lines if "LAB//223761//°F" in line)
    assert fahrenheit[1:] == ["1", "0", "98.6", "(98.6", "to", "98.6)", "37", "(37", "to", "37)"]
    (lactate,) = (line.split() for line in lines if "LAB//50813" in line)
    assert lactate[1:3] == ["1", "1"]
    assert "1 icu_admission" in done.out
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_an_explanation_of_unknown_codes_shows_a_mapping_that_can_be_read(
    prepare: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "raw" / "data" / "0.parquet"
    rows = pl.read_parquet(file)
    rows.with_columns(pl.col("code").str.replace("LAB//220045//bpm", "HR//x")).filter(
        ~pl.col("code").str.starts_with("LAB")
    ).write_parquet(file)
    prepare("--out", tmp_path / "out").fails(USAGE, tmp_path / "raw", "no shipped mapping", "--explain")
    done = prepare("--explain")
    assert done.status == 0
    assert done.out.lstrip().startswith("No mapping fits ")
    mapping = done.out[done.out.index("\nstays:") :]
    (tmp_path / "mine.yaml").write_text(mapping)
    assert prepare("--mapping", tmp_path / "mine.yaml", "--out", tmp_path / "out").status == 0
    own = tmp_path / "raw" / "metadata" / "mapping.yaml"
    own.parent.mkdir(exist_ok=True)
    own.write_text(mapping)
    prepare("--out", tmp_path / "again").fails(USAGE, f"it brings its own; give --mapping {own}")
    told = "".join(prepare("--explain").out.split())
    assert f"brings one: --mapping {own}".replace(" ", "") in told


@pytest.mark.parametrize("options", [(), ("--explain", "--out", "out")])
def test_either_a_directory_or_an_explanation_is_made(
    prepare: Callable[..., Any], options: tuple[str, ...]
) -> None:
    prepare(*options).fails(USAGE, "--out DIR", "--explain")


@pytest.mark.parametrize("options", [("--all-stays",), ("--task", "phenotyping")])
def test_an_explanation_chooses_no_stays(prepare: Callable[..., Any], options: tuple[str, ...]) -> None:
    prepare("--explain", *options).fails(USAGE, "--explain shows the codes of all events", "leave out --task")


def test_a_missing_folder_is_named(mimic3tf: Callable[..., Any], tmp_path: Path) -> None:
    done = mimic3tf("prepare", "meds", "--data", tmp_path / "nowhere", "--out", tmp_path / "out")
    done.fails(USAGE, "--data", tmp_path / "nowhere", "no such directory")


def test_a_damaged_file_is_named(prepare: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "raw" / "data" / "0.parquet"
    file.write_bytes(b"")
    prepare("--out", tmp_path / "out").fails(FAILURE, file, "is cut short or damaged")
    assert not (tmp_path / "out").exists()
