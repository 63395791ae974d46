"""`mimic3tf prepare mimic3` on the command line; its rules are tested in tests/sources/test_mimic3.py."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

USAGE, FAILURE = 2, 1
TABLES = {
    "PATIENTS": "SUBJECT_ID,DOB,DOD\n7,2090-01-01,\n",
    "ADMISSIONS": "SUBJECT_ID,HADM_ID,ADMITTIME,DISCHTIME,DEATHTIME\n"
    "7,70,2150-05-01 10:00:00,2150-05-09 10:00:00,2150-05-09 10:00:00\n",
    "ICUSTAYS": "SUBJECT_ID,HADM_ID,ICUSTAY_ID,FIRST_CAREUNIT,LAST_CAREUNIT,FIRST_WARDID,LAST_WARDID,INTIME,"
    "OUTTIME,LOS\n7,70,700,MICU,MICU,52,52,2150-05-01 12:00:00,2150-05-04 12:00:00,3.0\n",
    "DIAGNOSES_ICD": "SUBJECT_ID,HADM_ID,ICD9_CODE\n7,70,0389\n",
    "D_ICD_DIAGNOSES": "ICD9_CODE\n0389\n",
    "CHARTEVENTS": "SUBJECT_ID,HADM_ID,ICUSTAY_ID,ITEMID,CHARTTIME,VALUE,VALUEUOM\n"
    "7,70,700,211,2150-05-01 13:00:00,80,bpm\n",
    "LABEVENTS": "SUBJECT_ID,HADM_ID,ITEMID,CHARTTIME,VALUE,VALUEUOM\n"
    "7,70,50931,2150-05-01 14:00:00,>600,mg/dL\n",
}


@pytest.fixture
def prepare(mimic3tf: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """The command on tables of one stay, which succeeds unless something is changed."""
    raw = tmp_path / "raw"
    raw.mkdir()
    for table, text in TABLES.items():
        (raw / f"{table}.csv").write_text(text)
    return lambda *more: mimic3tf("prepare", "mimic3", "--csv", raw, "--out", tmp_path / "out", *more)


def test_the_cohort_and_what_was_left_out_are_printed(prepare: Callable[..., Any], tmp_path: Path) -> None:
    done = prepare()
    assert done.status == 0
    assert "100.0%" in done.out
    assert "left out 1 values: Glucose is no value of the channel" in done.out
    assert (tmp_path / "out").is_dir()


def test_the_folder_of_the_other_mimic_is_told(
    prepare: Callable[..., Any], mimic3tf: Callable[..., Any], tmp_path: Path
) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    swapped = mimic3tf("prepare", "mimic4", "--data", raw, "--out", out)
    swapped.fails(2, f"a table of MIMIC-III; its command is: mimic3tf prepare mimic3 --csv {raw} --out {out}")
    for name in ("hosp", "icu"):
        (raw / name).mkdir()
    prepare().fails(2, f"of MIMIC-IV; its command is: mimic3tf prepare mimic4 --data {raw} --out {out}")


def test_blood_only_is_an_option_and_is_recorded(prepare: Callable[..., Any], tmp_path: Path) -> None:
    with (tmp_path / "raw" / "LABEVENTS.csv").open("a") as table:
        table.write("7,70,51491,2150-05-01 15:00:00,5.5,units\n")
    assert prepare("--blood-only").status == 0
    assert '"blood_only": true' in (tmp_path / "out" / "prepared.json").read_text()
    (series,) = (tmp_path / "out").glob("t*/*_timeseries.csv")
    assert "5.5" not in series.read_text()


def test_a_task_is_made_and_its_samples_are_printed(prepare: Callable[..., Any], tmp_path: Path) -> None:
    table = tmp_path / "raw" / "PATIENTS.csv"
    table.write_text("SUBJECT_ID,GENDER,DOB,DOD\n7,F,2090-01-01,\n")
    done = prepare("--task", "decompensation")
    assert done.status == 0
    # Hours 5 to 72; death is 190 hours off.
    assert "samples" in done.out
    assert "68" in done.out
    listed = [file.read_text().splitlines() for file in (tmp_path / "out").glob("*_listfile.csv")]
    assert sorted(map(len, listed)) == [1, 1, 69]
    assert {lines[0] for lines in listed} == {"stay,period_length,y_true"}


def test_a_task_that_is_none_is_refused(prepare: Callable[..., Any], tmp_path: Path) -> None:
    prepare("--task", "phenotypes").fails(USAGE, "--task", "phenotypes", "did you mean", "phenotyping")
    assert not (tmp_path / "out").exists()


def test_a_column_that_only_some_tasks_need_is_named_by_them(
    prepare: Callable[..., Any], tmp_path: Path
) -> None:
    prepare("--task", "phenotyping").fails(FAILURE, tmp_path / "raw" / "PATIENTS.csv", "GENDER")


def test_a_missing_folder_is_named(mimic3tf: Callable[..., Any], tmp_path: Path) -> None:
    done = mimic3tf("prepare", "mimic3", "--csv", tmp_path / "nowhere", "--out", tmp_path / "out")
    done.fails(USAGE, "--csv", tmp_path / "nowhere", "no such directory")


def test_a_missing_table_is_named(prepare: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "raw" / "CHARTEVENTS.csv").unlink()
    prepare().fails(FAILURE, tmp_path / "raw", "CHARTEVENTS.csv.gz")


def test_a_date_that_is_none_is_named(prepare: Callable[..., Any], tmp_path: Path) -> None:
    table = tmp_path / "raw" / "ICUSTAYS.csv"
    table.write_text(TABLES["ICUSTAYS"].replace("2150-05-01", "May 1st"))
    prepare().fails(FAILURE, f"{table}, line 2", "INTIME", "May 1st")
    assert not (tmp_path / "out").exists()


def test_a_memory_limit_that_is_none_is_wrong_usage(prepare: Callable[..., Any]) -> None:
    prepare("--memory-limit", "plenty").fails(USAGE, "memory limit", "plenty")


def test_a_missing_list_of_subjects_is_named(prepare: Callable[..., Any], tmp_path: Path) -> None:
    prepare("--test-subjects", tmp_path / "none.csv").fails(USAGE, "--test-subjects", tmp_path / "none.csv")


def test_a_table_that_unpacks_to_one_endless_line_is_refused(
    prepare: Callable[..., Any], tmp_path: Path
) -> None:
    table = tmp_path / "raw" / "CHARTEVENTS.csv"
    bomb = gzip.compress(table.read_bytes() + b"7" + b"," * 10_000_000 + b"\n", 1)
    assert len(bomb) < 100_000
    table.with_name("CHARTEVENTS.csv.gz").write_bytes(bomb)
    table.unlink()
    prepare("--memory-limit", "512MB").fails(FAILURE, "CHARTEVENTS.csv.gz", "line 3")
    assert not (tmp_path / "out").exists()
