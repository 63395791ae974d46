"""MEDS data sets of one's own making -> the task; every rule is one claim."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from raw_records import labels_of, series_of

from mimic3tf.channels import MIMIC3
from mimic3tf.data.directory import SPLITS
from mimic3tf.data.listfiles import read_rows
from mimic3tf.errors import DataError, UsageError
from mimic3tf.sources.layout import Summary
from mimic3tf.sources.meds import UNKNOWN, prepare_meds
from mimic3tf.sources.meds_explain import explain_meds
from mimic3tf.sources.mimic4 import prepare_mimic4
from mimic3tf.tasks.phenotypes import PHENOTYPES
from mimic3tf.tasks.registry import task_of

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
DEMO, DEMO_TABLES = SHARED / "mimic-iv-demo-meds", SHARED / "mimic-iv-demo-2.2"
IN = datetime(2150, 5, 1, 12, 0, 0)
HEART_RATE, EYE = "LAB//220045//bpm", "LAB//220739//UNK"
UNIT = "Medical Intensive Care Unit (MICU)"
SCHEMA: dict[str, Any] = {
    "subject_id": pl.Int64,
    "time": pl.Datetime("us"),
    "code": pl.String,
    "numeric_value": pl.Float32,
    "text_value": pl.String,
    "hadm_id": pl.Int64,
    "icustay_id": pl.Int64,
    "insurance": pl.String,
}


@dataclass
class Hospital:
    """A MEDS data set under construction; every patient is admitted and enters the ICU at `IN`."""

    directory: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    splits: list[tuple[int, str]] = field(default_factory=list)

    def admit(
        self,
        subject: int,
        *,
        hours: float | None = 72,
        stay: int = 0,
        charted: bool = True,
        start: datetime = IN,
        died: bool = False,
        birth: datetime | None = datetime(2090, 1, 1),
        units: tuple[str, str] = (UNIT, UNIT),
        place: str | None = "HOME",
        hadm: int | None = None,
    ) -> None:
        """A patient (at stay 0) with an admission, an ICU stay of some hours, and one heart rate."""
        ids = {"hadm_id": 10 * subject + stay if hadm is None else hadm}
        unit = ids | {"icustay_id": 1000 * subject + stay}
        if stay == 0 and birth is not None:
            self.add(subject, birth, "MEDS_BIRTH")
            self.add(subject, None, "GENDER//F")
        self.add(subject, start, "HOSPITAL_ADMISSION//URGENT//PHYSICIAN REFERRAL", **ids)
        self.add(subject, start, f"ICU_ADMISSION//{units[0]}", **unit)
        if charted:
            self.chart(subject, 1, HEART_RATE, 80, stay=stay, start=start, hadm_id=ids["hadm_id"])
        if hours is not None:
            self.add(subject, start + timedelta(hours=hours), f"ICU_DISCHARGE//{units[1]}", **unit)
        if place is not None:
            place = "DIED" if died else place
            self.add(subject, start + timedelta(days=9), f"HOSPITAL_DISCHARGE//{place}", **ids)

    def chart(
        self,
        subject: int,
        hour: float | None,
        code: str,
        value: float | None,
        text: str | None = None,
        *,
        stay: int = 0,
        start: datetime = IN,
        **changed: Any,
    ) -> None:
        """One measurement."""
        time = None if hour is None else start + timedelta(hours=hour)
        ids = {"hadm_id": 10 * subject + stay, "icustay_id": 1000 * subject + stay}
        self.add(subject, time, code, **(ids | {"numeric_value": value, "text_value": text} | changed))

    def add(self, subject: int, time: datetime | None, code: str, **more: Any) -> None:
        self.rows.append({"subject_id": subject, "time": time, "code": code, **more})

    def frame(self) -> pl.DataFrame:
        return pl.DataFrame(self.rows, SCHEMA)

    def write(self, **shards: pl.DataFrame) -> Path:
        """Write one shard, or those that are given."""
        for name, frame in (shards or {"train/0": self.frame()}).items():
            file = self.directory / "data" / f"{name}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            frame.write_parquet(file)
        (self.directory / "metadata").mkdir(exist_ok=True)
        if self.splits:
            splits = pl.DataFrame(self.splits, {"subject_id": pl.Int64, "split": pl.String}, orient="row")
            splits.write_parquet(self.splits_file)
        return self.directory

    @property
    def splits_file(self) -> Path:
        return self.directory / "metadata" / "subject_splits.parquet"

    @property
    def out(self) -> Path:
        return self.directory.parent / "out"

    def prepare(self, **options: Any) -> Summary:
        return prepare_meds(self.write(), self.out, **options)

    def read(self, **options: Any) -> Summary:
        """Prepare what is on the disk."""
        return prepare_meds(self.directory, self.out, **options)

    def labels(self, split: str | None = None) -> dict[str, int]:
        return labels_of(self.out, split)

    def series(self, episode: str) -> list[dict[str, str]]:
        return series_of(self.out, episode)


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path / "raw")


def cells_of(hospital: Hospital, channel: str) -> list[str]:
    """What stands in one channel of the only patient, in order of time."""
    hospital.prepare()
    return [row[channel] for row in hospital.series("7_episode1") if channel in row]


# --- Which stays ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"units": (UNIT, "Surgical Intensive Care Unit (SICU)")}, "transfer between ICU units or wards"),
        ({"birth": datetime(2133, 1, 1)}, "younger than 18"),
        ({"birth": None}, "no date of birth"),
        ({"hours": 47.9}, "shorter than 48 hours"),
        ({"hours": None}, "of unknown length"),
        ({"place": None}, UNKNOWN),
        ({"charted": False}, "no measurement in the first 48 hours"),
    ],
)
def test_stays_outside_the_cohort_are_left_out_and_counted(
    hospital: Hospital, changes: dict[str, Any], reason: str
) -> None:
    hospital.admit(7)
    hospital.admit(8, **changes)
    summary = hospital.prepare()
    assert hospital.labels() == {"7_episode1": 0}
    assert summary.dropped_stays == {reason: 1}


def test_the_limits_of_age_and_length_are_inside(hospital: Hospital) -> None:
    # Born on 1 January: the age is the difference of the years, as anchor_age has it.
    hospital.admit(7, hours=48, birth=datetime(2132, 1, 1))
    assert hospital.prepare().dropped_stays == {}
    assert hospital.labels().keys() == {"7_episode1"}


def test_several_icu_stays_of_an_admission_count_with_all_stays_only(hospital: Hospital) -> None:
    hospital.admit(7)
    hospital.admit(7, stay=1, start=IN + timedelta(days=4), hadm=70, died=True)
    hospital.admit(8, units=(UNIT, "Elsewhere"))
    hospital.admit(9)
    assert hospital.prepare().dropped_stays == {
        "several in one admission": 2,
        "transfer between ICU units or wards": 1,
    }
    assert hospital.labels() == {"9_episode1": 0}
    other = hospital.out.with_name("all")
    prepare_meds(hospital.directory, other, all_stays=True)
    assert labels_of(other) == {"7_episode1": 1, "7_episode2": 1, "8_episode1": 0, "9_episode1": 0}
    assert json.loads((other / "prepared.json").read_text())["options"] == {
        "mapping": "mimic4",
        "all_stays": True,
        "splits": "hash",
    }


def test_an_admission_id_counts_within_its_subject_only(hospital: Hospital) -> None:
    """In eICU_MEDS, hadm_id is the number of the hospital."""
    hospital.admit(7, hadm=1)
    hospital.admit(8, hadm=1, died=True)
    hospital.prepare()
    assert hospital.labels() == {"7_episode1": 0, "8_episode1": 1}


def test_death_after_discharge_is_not_the_label(hospital: Hospital) -> None:
    hospital.admit(7)
    hospital.add(7, IN + timedelta(days=10), "MEDS_DEATH")
    hospital.admit(8, died=True)
    hospital.prepare()
    assert hospital.labels() == {"7_episode1": 0, "8_episode1": 1}


def test_the_label_is_that_of_the_stays_own_admission(hospital: Hospital) -> None:
    hospital.admit(7)
    hospital.admit(7, stay=1, start=IN + timedelta(days=50), died=True)
    hospital.prepare()
    assert hospital.labels() == {"7_episode1": 0, "7_episode2": 1}


def test_overlapping_icu_stays_are_told_apart_by_their_ids(hospital: Hospital) -> None:
    hospital.admit(7, charted=False)
    hospital.admit(7, stay=1, start=IN + timedelta(hours=24), charted=False, hours=100)
    hospital.chart(7, 30, HEART_RATE, 71)
    hospital.chart(7, 30, HEART_RATE, 72, stay=1)
    hospital.chart(7, 31, "LAB//50931//mg/dL", 100, icustay_id=None)
    hospital.prepare()
    assert hospital.series("7_episode1") == [
        {"Hours": "30.0", "Heart Rate": "71"},
        {"Hours": "31.0", "Glucose": "100"},
    ]
    assert hospital.series("7_episode2") == [
        {"Hours": "6.0", "Heart Rate": "72"},
        {"Hours": "7.0", "Glucose": "100"},
    ]


def without_ids(hospital: Hospital) -> None:
    hospital.write(**{"train/0": hospital.frame().drop("hadm_id", "icustay_id")})


def test_without_ids_a_stay_ends_with_the_next_discharge(hospital: Hospital) -> None:
    hospital.admit(7, died=True)
    hospital.admit(7, stay=1, start=IN + timedelta(days=50), hours=60)
    hospital.admit(8, units=(UNIT, "Elsewhere"))
    hospital.admit(9, hours=10)
    hospital.admit(10, place=None)
    without_ids(hospital)
    assert hospital.read().dropped_stays == {
        "transfer between ICU units or wards": 1,
        "shorter than 48 hours": 1,
        UNKNOWN: 1,
    }
    assert hospital.labels() == {"7_episode1": 1, "7_episode2": 0}


def test_without_ids_overlapping_stays_have_no_known_end(hospital: Hospital) -> None:
    hospital.admit(7)
    hospital.admit(7, stay=1, start=IN + timedelta(hours=24), hours=60)
    hospital.admit(8)
    without_ids(hospital)
    assert hospital.read(all_stays=True).dropped_stays == {"of unknown length": 1}
    assert hospital.labels().keys() == {"7_episode2", "8_episode1"}
    assert cells(hospital.series("7_episode2"), "Heart Rate") == ["80"]


def test_without_ids_a_transfer_at_one_instant_ends_the_first_stay(
    hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    hospital.admit(7, hours=50)
    hospital.admit(7, stay=1, start=IN + timedelta(hours=50), hours=60)
    without_ids(hospital)
    assert hospital.read(all_stays=True).dropped_stays == {}
    said = capsys.readouterr().err.replace("\n", " ")
    assert "no column icustay_id, hadm_id: the order of events tells which stay they belong to" in said
    assert hospital.labels().keys() == {"7_episode1", "7_episode2"}


def test_without_ids_the_discharge_of_a_later_admission_tells_nothing(hospital: Hospital) -> None:
    hospital.admit(7, place=None)
    hospital.admit(7, stay=1, start=IN + timedelta(days=50), died=True)
    without_ids(hospital)
    assert hospital.read().dropped_stays == {UNKNOWN: 1}
    assert hospital.labels() == {"7_episode1": 1}
    assert hospital.series("7_episode1")[0]["Hours"] == "1.0"


# --- Which events --------------------------------------------------------------------------------------


def test_the_window_is_the_first_48_hours_with_both_ends(hospital: Hospital) -> None:
    hospital.admit(7, charted=False)
    for hour in (-1 / 3600, 0, 0.35, 48, 48 + 1 / 3600):
        hospital.chart(7, hour, HEART_RATE, 90)
    hospital.prepare()
    assert [row["Hours"] for row in hospital.series("7_episode1")] == ["0.0", "0.35", "48.0"]


def test_height_and_weight_before_the_stay_count_for_its_start(hospital: Hospital) -> None:
    hospital.admit(7)
    hospital.chart(7, -30, "LAB//226730//cm", 170)
    hospital.chart(7, -0.5, "LAB//226531//UNK", 200)
    hospital.chart(7, -0.5, "LAB//224639//kg", 90)
    hospital.chart(7, -0.5, "LAB//226512//kg", 91, icustay_id=None)
    hospital.prepare()
    first = hospital.series("7_episode1")[0]
    assert first == {"Hours": "0.0", "Height": "170", "Weight": str(200 * 0.453592)}


def test_the_order_of_events_does_not_matter(hospital: Hospital, tmp_path: Path) -> None:
    hospital.admit(7)
    hospital.admit(7, stay=1, start=IN + timedelta(days=50))
    for hour in (30, 3, 17):
        hospital.chart(7, hour, HEART_RATE, 60 + hour)
    hospital.prepare()
    shuffled = Hospital(tmp_path / "shuffled" / "raw")
    shuffled.write(**{"a": hospital.frame().sample(fraction=1, shuffle=True, seed=1)})
    shuffled.read()
    assert tree(shuffled.out) == tree(hospital.out)


def test_a_subject_in_two_shards_is_one_subject(hospital: Hospital, tmp_path: Path) -> None:
    hospital.admit(7)
    hospital.chart(7, 3, HEART_RATE, 90)
    hospital.prepare()
    rows = hospital.frame()
    split = Hospital(tmp_path / "split" / "raw")
    split.write(**{"a/0": rows[::2], "b/c/1": rows[1::2]})
    split.read()
    assert tree(split.out) == tree(hospital.out)


def tree(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in sorted(out.rglob("*.csv"))}


def test_duplicated_events_count_once(hospital: Hospital) -> None:
    hospital.admit(7)
    hospital.rows *= 2
    summary = hospital.prepare()
    assert summary.dropped_stays == {}
    assert summary.dropped_values == {"another value of the channel at the same instant": 1}
    assert hospital.series("7_episode1") == [{"Hours": "1.0", "Heart Rate": "80"}]
    without_ids(hospital)
    again = hospital.out.with_name("again")
    assert prepare_meds(hospital.directory, again).dropped_stays == {}
    assert tree(again) == tree(hospital.out)


def test_static_rows_are_ignored_and_measurements_without_a_time_are_counted(hospital: Hospital) -> None:
    hospital.admit(7)
    hospital.chart(7, None, HEART_RATE, 120)
    assert hospital.prepare().dropped_values == {"without a time": 1}
    assert cells(hospital.series("7_episode1"), "Heart Rate") == ["80"]


def cells(series: list[dict[str, str]], channel: str) -> list[str]:
    return [row[channel] for row in series if channel in row]


def test_an_icu_admission_without_a_time_makes_a_stay_of_unknown_length(hospital: Hospital) -> None:
    hospital.admit(7)
    hospital.admit(8)
    for row in hospital.rows:
        if row["subject_id"] == 8 and row["code"].startswith("ICU_ADMISSION"):
            row["time"] = None
    assert hospital.prepare().dropped_stays == {"no date of birth": 1}


@pytest.mark.parametrize(
    ("code", "number", "text", "channel", "cell"),
    [
        ("LAB//220045", 71, None, "Heart Rate", "71"),  # no unit in the code
        ("LAB//50820//units", 7.31, None, "pH", "7.31"),  # the number of 32 bits as it was charted
        ("LAB//50820//units", None, "7.31", "pH", "7.31"),
        ("LAB//RESULT//50820//units", 7.31, None, "pH", "7.31"),  # since version 0.1.0 of the converter
        ("LAB//50931//mg/dL", 101.5, "___", "Glucose", "101.5"),
        ("LAB//223761//°F", 99.5, None, "Temperature", "37.5"),
        ("LAB//226730//cm", 168, None, "Height", "168"),
        ("LAB//223835//UNK", 40, None, "Fraction inspired oxygen", "0.4"),
        ("LAB//50816//%", 0.5, None, "Fraction inspired oxygen", "0.5"),
        (EYE, 1, "None", "Glascow coma scale eye opening", "None"),
        ("LAB//223900//UNK", 1, "No Response-ETT", "Glascow coma scale verbal response", "No Response-ETT"),
        ("LAB//223951//UNK", None, "Abnormal >3 Seconds", "Capillary refill rate", "1.0"),
    ],
)
def test_a_code_with_its_value_becomes_a_cell(
    hospital: Hospital, code: str, number: float | None, text: str | None, channel: str, cell: str
) -> None:
    hospital.admit(7)
    hospital.chart(7, 2, code, number, text)
    found = [row[channel] for row in hospital.series("7_episode1")[1:]] if hospital.prepare() else []
    assert found == [cell]


def test_codes_that_only_look_alike_are_left_alone(hospital: Hospital) -> None:
    hospital.admit(7)
    for code in (
        "LAB//2200451//bpm",
        "LAB//SPECIMEN_COLLECTED//50931",
        "XLAB//220045//bpm",
        "LAB//51491//units",
    ):
        hospital.chart(7, 2, code, 5)
    hospital.prepare()
    assert len(hospital.series("7_episode1")) == 1


def test_values_that_are_none_are_counted(hospital: Hospital) -> None:
    hospital.admit(7)
    hospital.chart(7, 2, "LAB//50931//mg/dL", None, ">600")
    hospital.chart(7, 2, "LAB//223835//UNK", 4)
    hospital.chart(7, 2, HEART_RATE, float("nan"))  # stands for no value
    hospital.chart(7, 2, HEART_RATE, float("inf"))
    assert hospital.prepare().dropped_values == {
        "Fraction inspired oxygen is no value of the channel": 1,
        "Glucose is no value of the channel": 1,
        "Heart Rate is no value of the channel": 1,
    }


# --- Splits --------------------------------------------------------------------------------------------


def test_the_file_of_splits_decides(hospital: Hospital) -> None:
    for subject in range(10, 40):
        hospital.admit(subject)
        hospital.splits.append((subject, ("train", "tuning", "held_out")[subject % 3]))
    hospital.splits.append((99, "train"))  # a subject without a stay
    hospital.prepare()
    for rest, split in enumerate(("train", "val", "test")):
        expected = {f"{subject}_episode1" for subject in range(10, 40) if subject % 3 == rest}
        assert hospital.labels(split).keys() == expected
    assert json.loads((hospital.out / "prepared.json").read_text())["options"]["splits"] == "file"


def test_without_a_file_of_splits_a_subject_stays_together(hospital: Hospital) -> None:
    for subject in range(10, 60):
        hospital.admit(subject)
        hospital.admit(subject, stay=1, start=IN + timedelta(days=50))
    hospital.prepare()
    members = [{name.split("_")[0] for name in hospital.labels(split)} for split in SPLITS]
    assert all(members)
    assert sum(map(len, members)) == len(set.union(*members)) == 50


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (
            [(7, "train"), (8, "validation")],
            r"subject_splits\.parquet, row 2: split is 'validation'; known are",
        ),
        ([(7, "train"), (8, "train"), (7, "held_out")], r"parquet, row 3: subject 7 is in two splits"),
        ([(7, "train")], r"subject_splits\.parquet: has no split of subject 8 and 0 others"),
    ],
)
def test_a_file_of_splits_that_cannot_be_followed_is_refused(
    hospital: Hospital, splits: list[tuple[int, str]], message: str
) -> None:
    hospital.admit(7)
    hospital.admit(8)
    hospital.splits = splits
    with pytest.raises(DataError, match=message):
        hospital.prepare()
    assert not hospital.out.exists()


def test_a_file_of_splits_of_other_types_is_refused(hospital: Hospital) -> None:
    hospital.admit(7)
    hospital.write()
    for frame, message in (
        (pl.DataFrame({"subject_id": ["7"], "split": ["train"]}), "subject_id is of type String, not whole"),
        (pl.DataFrame({"subject_id": [7]}), "lacks the column split; it has subject_id"),
        (pl.DataFrame({"subject_id": [7], "split": [1]}), "split is of type Int64, not text"),
    ):
        frame.write_parquet(hospital.splits_file)
        with pytest.raises(DataError, match=f"subject_splits.parquet: {message}"):
            hospital.read()
    hospital.splits_file.write_bytes(b"")
    with pytest.raises(DataError, match=r"subject_splits\.parquet: is cut short or damaged.*empty"):
        hospital.read()


# --- Mappings ------------------------------------------------------------------------------------------


def test_the_mapping_that_fits_is_found_and_said(
    hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    hospital.admit(7)
    hospital.prepare()
    said = capsys.readouterr().err.replace("\n", " ")
    assert "mapping mimic4; 1 codes measure 1 channels; no code measures Capillary refill rate" in said


def eicu(hospital: Hospital, subject: int, status: str, age: str = "65", *, stay: int = 0) -> None:
    """A unit stay in the codes and columns of eICU_MEDS."""
    ids = {"hadm_id": 60}  # the hospital
    unit = ids | {"icustay_id": 1000 * subject + stay}
    start = IN + timedelta(days=4 * stay)
    years = 90 if age == "> 89" else int(age)
    hospital.add(subject, start - timedelta(days=years * 365.25 - 365.25 / 2), "MEDS_BIRTH")
    hospital.add(subject, None, f"AGE//{age}")
    hospital.add(subject, start - timedelta(hours=9), "HOSPITAL_ADMISSION//Floor//South//f//<100", **ids)
    hospital.add(subject, start, "ICU_ADMISSION//Emergency Department//admit", **unit)
    hospital.add(subject, start, "ICU_ADMISSION_WEIGHT", numeric_value=81.5, **unit)
    hospital.add(subject, start, "ICU_ADMISSION_HEIGHT", numeric_value=180, **unit)
    hospital.add(subject, start + timedelta(days=3), "ICU_DISCHARGE//Alive//Floor", **unit)
    hospital.add(subject, IN + timedelta(days=30), f"HOSPITAL_DISCHARGE//{status}//Home", **ids)
    for code, value in {
        "VITALS//PERIODIC//HEARTRATE": 80,
        "VITALS//PERIODIC//RESPIRATION": 20,
        "VITALS//PERIODIC//SAO2": 97,
        "VITALS//PERIODIC//TEMPERATURE": 37.2,
        "VITALS//PERIODIC//BP//SYSTEMIC_SYSTOLIC": 120,
        "VITALS//APERIODIC//BP//NONINVASIVE_DIASTOLIC": 60,
        "VITALS//APERIODIC//BP//NONINVASIVE_MEAN": 80,
        "VITALS//PERIODIC//BP//PULM_ART_SYSTOLIC": 33,
        "LAB//bedside glucose//mg/dL": 140,
        "LAB//pH//UNK": 7.35,
        "LAB//FiO2//%": 40,
    }.items():
        hospital.add(subject, start + timedelta(hours=1), code, numeric_value=value)


def test_eicu_is_found_by_its_codes(hospital: Hospital, capsys: pytest.CaptureFixture[str]) -> None:
    eicu(hospital, 7, "Alive", "18")  # 17.5 years by MEDS_BIRTH
    eicu(hospital, 8, "Expired", "> 89")
    eicu(hospital, 9, "UNK")
    eicu(hospital, 10, "Alive", "17")
    eicu(hospital, 11, "Alive")
    eicu(hospital, 11, "Alive", stay=1)
    summary = hospital.prepare()
    assert "mapping eicu" in capsys.readouterr().err
    assert hospital.labels() == {"7_episode1": 0, "8_episode1": 1}
    assert summary.dropped_stays == {UNKNOWN: 1, "younger than 18": 1, "several in one admission": 2}
    assert hospital.series("8_episode1") == [
        {"Hours": "0.0", "Height": "180", "Weight": "81.5"},
        {
            "Hours": "1.0",
            "Diastolic blood pressure": "60",
            "Fraction inspired oxygen": "0.4",
            "Glucose": "140",
            "Heart Rate": "80",
            "Mean blood pressure": "80",
            "Oxygen saturation": "97",
            "Respiratory rate": "20",
            "Systolic blood pressure": "120",
            "Temperature": "37.2",
            "pH": "7.35",
        },
    ]


OWN = """
stays:
  icu_admission: "ADMIT//ICU"
  icu_discharge: "LEAVE//ICU"
  hospital_admission: "ADMIT//HOSPITAL"
  hospital_discharge: "LEAVE//HOSPITAL//.*"
  died: "LEAVE//HOSPITAL//DEAD"
channels:
  Heart Rate:
    - code: PULSE
  Temperature:
    - {code: "TEMP//F", unit: degF}
  Weight:
    - {code: "WEIGHT", factor: 0.5}
  Glascow coma scale eye opening:
    - code: GCS//EYE
      categories: {"4": Spontaneously, "1": None}
""".replace('1": None', '1": "None"')


def own(hospital: Hospital) -> Path:
    """A patient in a vocabulary of one's own, without ids; returns the mapping."""
    hospital.add(7, datetime(2090, 1, 1), "MEDS_BIRTH")
    hospital.add(7, IN - timedelta(hours=3), "ADMIT//HOSPITAL")
    hospital.add(7, IN, "ADMIT//ICU")
    hospital.add(7, IN + timedelta(hours=60), "LEAVE//ICU")
    hospital.add(7, IN + timedelta(hours=70), "LEAVE//HOSPITAL//DEAD")
    for code, value in {"PULSE": 70, "TEMP//F": 99.5, "WEIGHT": 160, "GCS//EYE": 4, "LACTATE": 2}.items():
        hospital.add(7, IN + timedelta(hours=1), code, numeric_value=value)
    file = hospital.directory.parent / "own.yaml"
    file.write_text(OWN)
    return file


def test_a_mapping_of_ones_own_is_followed(hospital: Hospital) -> None:
    mapping = own(hospital)
    hospital.prepare(mapping=str(mapping))
    assert hospital.labels() == {"7_episode1": 1}
    assert hospital.series("7_episode1") == [
        {
            "Hours": "1.0",
            "Glascow coma scale eye opening": "Spontaneously",
            "Heart Rate": "70",
            "Temperature": "37.5",
            "Weight": "80",
        }
    ]


def test_codes_that_fit_no_mapping_are_refused_with_the_next_command(hospital: Hospital) -> None:
    own(hospital)
    message = r"fit no shipped mapping \(mimic4, eicu\).*prepare meds --data .*raw --explain.*--mapping FILE"
    with pytest.raises(UsageError, match=message):
        hospital.prepare()
    with pytest.raises(UsageError, match="do not fit the mapping eicu"):
        hospital.prepare(mapping="eicu")
    assert not hospital.out.exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  died:", "  dead:", r"own\.yaml, line \d+: '(died|dead)'"),
        ("code: PULSE", "code: PULSE(", r"own\.yaml, line 10: 'code': 'PULSE\(' is no regular expression"),
        ("ADMIT//ICU", "ADMIT//ICU(", r"own\.yaml, line 3: 'icu_admission': .*no regular expression"),
        ("code: PULSE", "items: [1]", r"own\.yaml: 'Heart Rate': 'items' needs 'item_code'"),
        (
            "code: PULSE",
            'code: "WEI.*"',
            r"own\.yaml: code 'WEIGHT' is mapped twice, to Heart Rate and to Weight",
        ),
        ("Heart Rate", "Heart Rat", r"'Heart Rat': no such channel.*did you mean Heart Rate"),
        ("degF", "degG", r"own\.yaml: channel 'Temperature': unit 'degG' cannot be converted"),
    ],
)
def test_a_fault_of_a_mapping_is_named(hospital: Hospital, old: str, new: str, message: str) -> None:
    mapping = own(hospital)
    assert old in OWN
    mapping.write_text(OWN.replace(old, new))
    with pytest.raises(UsageError, match=message):
        hospital.prepare(mapping=str(mapping))


def test_a_mapping_that_is_no_file_is_named(hospital: Hospital) -> None:
    own(hospital)
    with pytest.raises(UsageError, match="--mapping mimic5: cannot be read"):
        hospital.prepare(mapping="mimic5")


def test_an_explanation_counts_and_converts_and_lists_what_is_left(hospital: Hospital) -> None:
    hospital.admit(7, charted=False)
    for value in (97.0, 98.6, 99.5, 212.0):
        hospital.chart(7, 2, "LAB//223761//°F", value)
    hospital.chart(7, 500, "LAB//223762//°C", 38)
    hospital.chart(7, 2, "LAB//223762//°C", None, "warm")
    hospital.chart(7, 2, EYE, 4, "Spontaneously")
    for number in range(30):
        hospital.chart(7, 2, f"OTHER//{number:02}", number, icustay_id=None)
    hospital.chart(7, 2, "OTHER//07", 3)
    hospital.chart(7, 2, "WORD", None, "text")
    hospital.chart(7, None, "STATIC", 1)
    hospital.write()
    codes = pl.DataFrame({"code": ["OTHER//07", "X"], "description": ["Lactate", None]})
    codes.write_parquet(hospital.directory / "metadata" / "codes.parquet")
    found = explain_meds(hospital.directory)
    assert found.mapping == "mimic4"
    rows = {row["found"]: row for row in found.codes.iter_rows(named=True)}
    fahrenheit, celsius = rows["LAB//223761//°F"], rows["LAB//223762//°C"]
    assert (fahrenheit["events"], fahrenheit["lost"]) == (4, 0)
    assert [fahrenheit[f"charted_{what}"] for what in ("low", "median", "high")] == [97, 99.05, 212]
    assert fahrenheit["number_median"] == pytest.approx((99.05 - 32) * 5 / 9)
    assert fahrenheit["number_high"] == pytest.approx(100)
    assert (celsius["events"], celsius["lost"], celsius["number_median"]) == (2, 1, 38)
    assert (rows[EYE]["categories"], rows[EYE]["number_low"]) == (1, None)
    temperature = found.channels.filter(pl.col("channel") == MIMIC3.position("Temperature")).row(
        0, named=True
    )
    assert (temperature["events"], temperature["number_median"]) == (6, pytest.approx(37.5))
    assert found.stays["icu_admission"] == 1
    unmapped = found.unmapped.rows()
    assert len(unmapped) == 20
    assert unmapped[0] == ("OTHER//07", 2, 2, "Lactate")
    assert unmapped[1] == ("OTHER//00", 1, 1, None)
    assert not hospital.out.exists()


def test_an_explanation_needs_no_mapping_that_fits(hospital: Hospital) -> None:
    mapping = own(hospital)
    hospital.write()
    found = explain_meds(hospital.directory)
    assert (found.mapping, len(found.codes), sum(found.stays.values())) == (None, 0, 1)
    assert {"PULSE", "LACTATE"} <= set(found.unmapped["code"])
    assert explain_meds(hospital.directory, mapping=str(mapping)).unmapped["code"].to_list() == ["LACTATE"]


# --- Files that cannot be read -------------------------------------------------------------------------


def test_a_folder_without_data_is_refused(hospital: Hospital) -> None:
    with pytest.raises(DataError, match="raw: no such directory"):
        hospital.read()
    hospital.directory.mkdir()
    with pytest.raises(DataError, match="raw: holds no folder 'data'"):
        hospital.read()
    (hospital.directory / "data").mkdir()
    with pytest.raises(DataError, match=r"data: holds no \.parquet file"):
        hospital.read()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.exclude("code"), "lacks the column code; it has subject_id, time"),
        (pl.exclude("time"), "lacks the column time"),
        (pl.exclude("subject_id"), "lacks the column subject_id"),
        (
            pl.exclude("numeric_value", "text_value"),
            "lacks the column numeric_value and the column text_value",
        ),
        (pl.col("subject_id").cast(pl.String), r"subject_id is of type String, not whole numbers \(int64\)"),
        (pl.col("time").cast(pl.String), "time is of type String, not times without a time zone"),
        (pl.col("time").cast(pl.Date), "time is of type Date"),
        (pl.col("time").dt.replace_time_zone("Europe/Berlin"), "time has the time zone Europe/Berlin.*None"),
        (pl.col("numeric_value").cast(pl.String), "numeric_value is of type String, not numbers"),
        (pl.col("code").hash(), "code is of type UInt64, not text"),
    ],
)
def test_columns_that_are_no_meds_are_named(hospital: Hospital, change: pl.Expr, message: str) -> None:
    hospital.admit(7)
    rows = hospital.frame()
    kept = change.meta.is_regex_projection() or change.meta.has_multiple_outputs()
    hospital.write(**{"train/0": rows.select(change) if kept else rows.with_columns(change)})
    with pytest.raises(DataError, match=rf"train/0\.parquet: {message}"):
        hospital.read()
    hospital.write()
    hospital.read()


def test_a_damaged_file_is_named(hospital: Hospital) -> None:
    hospital.admit(7)
    rows = pl.concat([hospital.frame()] * 2000)
    directory = hospital.write(**{"train/0": hospital.frame(), "train/1": rows})
    file = directory / "data" / "train" / "1.parquet"
    sound = file.read_bytes()
    for bytes_left, reason in ((0, "it is empty"), (len(sound) // 2, "PAR1"), (8, "at least 12 bytes")):
        file.write_bytes(sound[:bytes_left])
        with pytest.raises(DataError, match=rf"train/1\.parquet: is cut short or damaged; .*{reason}"):
            hospital.read()
    # The end is whole, but not what stands before it.
    file.write_bytes(sound[:4] + bytes(len(sound) // 2 - 4) + sound[len(sound) // 2 :])
    with pytest.raises(
        DataError, match=r"train/1\.parquet: is cut short or damaged; copy it again"
    ) as caught:
        hospital.read()
    assert "\n" not in str(caught.value)
    file.write_bytes(sound)
    hospital.read()


def test_empty_shards_and_other_columns_and_types_are_read(hospital: Hospital, tmp_path: Path) -> None:
    hospital.admit(7)
    hospital.chart(7, 2, EYE, 4, "Spontaneously")
    hospital.prepare()
    rows = hospital.frame()
    other = Hospital(tmp_path / "it's [other]*" / "raw")
    other.write(
        **{
            "train/0": rows.filter(pl.col("code") == EYE)
            .with_columns(pl.col("code", "text_value").cast(pl.Categorical), pl.lit(1).alias("new"))
            .drop("insurance"),
            "tuning/deep/er/0": pl.DataFrame({"subject_id": [], "code": []}),
            "tuning/1": rows.head(0),
            "held_out/0": rows.filter(pl.col("code") != EYE).with_columns(
                pl.col("subject_id", "hadm_id").cast(pl.Int32),
                pl.col("time").cast(pl.Datetime("ms")),
                pl.col("numeric_value").cast(pl.Float64),
                pl.lit(None).alias("text_value"),
            ),
        }
    )
    other.read()
    assert tree(other.out) == tree(hospital.out)


@pytest.mark.parametrize("kind", [pl.Int64, pl.Int16, pl.Float64])
def test_numbers_may_be_of_any_size(hospital: Hospital, tmp_path: Path, kind: type[pl.DataType]) -> None:
    hospital.admit(7)
    hospital.prepare()
    other = Hospital(tmp_path / "other" / "raw")
    other.write(a=hospital.frame().with_columns(pl.col("numeric_value").cast(kind)))
    other.read()
    assert tree(other.out) == tree(hospital.out)


def test_a_number_in_32_bits_is_the_shortest_decimal_that_means_it(hospital: Hospital) -> None:
    thousandths = np.random.default_rng(0).integers(-9_000_000, 9_000_000, 3000) / 1000
    edges = [97.8, 8191.998, 8191.999, 8192.001, 8192.4, 16777217, 0.0005, 0.0004, 0.1234567, 1e-7, -0.0, 1e6]
    numbers = np.array([*thousandths, *edges], np.float32)
    hospital.admit(7, charted=False)
    for second, number in enumerate(numbers.tolist()):
        hospital.chart(7, second / 3600, HEART_RATE, number)
    hospital.prepare()
    found = [float(row["Heart Rate"]) for row in hospital.series("7_episode1")]
    assert found == [float(str(number)) for number in numbers]


@pytest.mark.parametrize("kind", [pl.Categorical, pl.Enum([HEART_RATE, "MEDS_BIRTH"])])
def test_codes_may_be_a_dictionary_in_some_shards(
    hospital: Hospital, kind: pl.DataType | type[pl.DataType]
) -> None:
    hospital.admit(7)
    hospital.chart(7, 2, HEART_RATE, 81)
    told = pl.col("code").is_in([HEART_RATE, "MEDS_BIRTH"])
    frame = hospital.frame()
    hospital.write(
        **{
            "train/0": frame.filter(told).with_columns(pl.col("code").cast(kind)),
            "train/1": frame.filter(~told),
        }
    )
    hospital.read()
    assert [row["Heart Rate"] for row in hospital.series("7_episode1")] == ["80", "81"]


def test_ids_may_be_text(hospital: Hospital, tmp_path: Path) -> None:
    hospital.admit(7)
    hospital.chart(7, -3, "LAB//226730//cm", 170)
    hospital.chart(7, 2, HEART_RATE, 99, icustay_id=1)
    hospital.prepare()
    other = Hospital(tmp_path / "text" / "raw")
    other.write(a=hospital.frame().with_columns(pl.col("hadm_id", "icustay_id").cast(pl.String)))
    other.read()
    assert tree(other.out) == tree(hospital.out)


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_ids_may_be_numbers_with_decimals_in_some_shards(
    hospital: Hospital, tmp_path: Path, missing: float | None
) -> None:
    hospital.admit(7)
    hospital.chart(7, 2, HEART_RATE, 99, icustay_id=None)
    hospital.chart(7, 3, HEART_RATE, 90)
    hospital.prepare()
    other = Hospital(tmp_path / "floats" / "raw")
    ids = pl.col("hadm_id", "icustay_id").cast(pl.Float64)
    ids = ids if missing is None else ids.fill_null(missing)
    frame = hospital.frame()
    other.write(a=frame[: len(frame) // 2], b=frame[len(frame) // 2 :].with_columns(ids))
    other.read()
    assert tree(other.out) == tree(hospital.out)


def test_shards_in_folders_that_are_links_are_read_once(hospital: Hospital, tmp_path: Path) -> None:
    hospital.admit(7)
    hospital.prepare()
    store, other = Hospital(tmp_path / "store"), Hospital(tmp_path / "linked" / "raw")
    hospital.admit(8)
    store.write(**{"site/0": hospital.frame().filter(pl.col("subject_id") == 8)})
    other.write(**{"train/0": hospital.frame().filter(pl.col("subject_id") == 7)})
    for name in ("held_out", "again"):
        (other.directory / "data" / name).symlink_to(store.directory / "data" / "site")
    (other.directory / "data" / "train" / "round").symlink_to(other.directory / "data")
    other.read()
    assert sorted(other.labels()) == ["7_episode1", "8_episode1"]


def test_a_shipped_mapping_maps_to_the_benchmarks_channels(hospital: Hospital, tmp_path: Path) -> None:
    hospital.admit(7)
    hospital.prepare()
    other = Hospital(tmp_path / "own" / "raw", hospital.rows)
    other.write()
    (other.directory / "metadata" / "channels.yaml").write_text("channels:\n  - {name: Lactate, normal: 1}\n")
    other.read()
    assert tree(other.out) == tree(hospital.out)


def test_an_explanation_of_ones_own_channels(hospital: Hospital) -> None:
    mapping = own(hospital)
    hospital.write()
    (hospital.directory / "metadata" / "channels.yaml").write_text(
        "channels:\n  - {name: Lactate, unit: mmol/L, normal: 1}\n"
    )
    head, _, _ = OWN.partition("channels:")
    mapping.write_text(f"{head}channels:\n  Lactate:\n    - code: LACTATE\n")
    found = explain_meds(hospital.directory, mapping=str(mapping))
    assert found.codes["found"].to_list() == ["LACTATE"]
    assert "PULSE" in found.unmapped["code"].to_list()


def test_a_data_set_without_events_is_refused(hospital: Hospital) -> None:
    hospital.write(a=hospital.frame())
    with pytest.raises(DataError, match=r"data: its \.parquet files hold no event"):
        hospital.read()


KILLED = """
import sys, time
from pathlib import Path
from mimic3tf.sources import events, meds

def work(source, scratch, limit):
    (scratch / "spilled").touch()
    print("at work", flush=True)
    time.sleep(600)

events._extract = work
meds.prepare_meds(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_run_that_was_killed_can_be_started_again(hospital: Hospital, tmp_path: Path) -> None:
    hospital.admit(7)
    command = [sys.executable, "-c", KILLED, str(hospital.write()), str(hospital.out)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "at work\n"
        with pytest.raises(UsageError, match="another run works there"):
            hospital.prepare()
    finally:
        child.kill()
        child.communicate()
    assert not hospital.out.exists()
    assert list(tmp_path.glob(".out*/spilled"))
    hospital.prepare()
    assert hospital.labels() == {"7_episode1": 0}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]


# --- The real thing ------------------------------------------------------------------------------------

# --- Whole stays -----------------------------------------------------------------------------------------


def stays_csv(hospital: Hospital) -> dict[int, dict[str, Any]]:
    rows = pl.read_csv(hospital.out / "stays.csv", try_parse_dates=True).rows(named=True)
    return {row["subject"]: row for row in rows}


def test_the_time_of_death_is_that_of_the_death_else_of_the_discharge(hospital: Hospital) -> None:
    left = IN + timedelta(days=9)
    hospital.admit(7, died=True)
    hospital.admit(8, died=True)
    hospital.add(8, left - timedelta(hours=2), "MEDS_DEATH")
    hospital.admit(9)
    hospital.add(9, left + timedelta(days=3), "MEDS_DEATH")
    hospital.prepare(task=task_of("decompensation"))
    told = stays_csv(hospital)
    assert [told[subject]["deathtime"] for subject in (7, 8, 9)] == [left, left - timedelta(hours=2), None]
    assert [told[subject]["died"] for subject in (7, 8, 9)] == [1, 1, 0]
    assert [told[subject]["sex"] for subject in (7, 8, 9)] == ["F", "F", "F"]
    assert [told[subject]["length_of_stay"] for subject in (7, 8, 9)] == [72.0, 72.0, 72.0]


def test_phenotypes_are_those_of_the_admission(hospital: Hospital) -> None:
    hospital.admit(7)
    hospital.admit(7, stay=1, start=IN + timedelta(days=50))
    hospital.admit(8)
    out = IN + timedelta(days=9)
    hospital.add(7, out, "DIAGNOSIS//ICD//9//78552", hadm_id=70)
    hospital.add(7, out + timedelta(days=50), "DIAGNOSIS//ICD//10//N17.9", hadm_id=71)
    hospital.add(8, out, "DIAGNOSIS//ICD//9//78552")
    summary = hospital.prepare(task=task_of("phenotyping"))
    assert summary.dropped_stays == {"no diagnosis of the admission": 1}
    (split,) = (split for split, count in summary.stays.items() if count)
    rows = read_rows(hospital.out / f"{split}_listfile.csv", task_of("phenotyping"))
    found = {
        stay[:10]: [*np.flatnonzero(labels)] for stay, labels in zip(rows.stays, rows.labels, strict=True)
    }
    shock, kidney = (PHENOTYPES.index(name) for name in ("Shock", "Acute and unspecified renal failure"))
    assert found == {"7_episode1": [shock], "7_episode2": [kidney]}


@pytest.mark.parametrize(
    ("mapping", "columns", "fault"),
    [
        ("mimic4", [], "no code is a diagnosis by the mapping mimic4"),
        ("mimic4", ["hadm_id"], "no column tells the admission of a diagnosis"),
        ("eicu", [], "the mapping eicu names no codes of diagnoses"),
    ],
)
def test_a_task_with_phenotypes_is_refused_where_no_diagnosis_is_known(
    hospital: Hospital, mapping: str, columns: list[str], fault: str
) -> None:
    hospital.admit(7)
    hospital.add(7, IN, "HOSPITAL_DISCHARGE//Alive")
    hospital.add(7, IN + timedelta(hours=1), "VITALS//PERIODIC//HEARTRATE", numeric_value=80.0)
    if columns:
        hospital.add(7, IN, "DIAGNOSIS//ICD//9//78552", hadm_id=70)
    hospital.write(**{"train/0": hospital.frame().drop(columns)})
    for task in ("phenotyping", "multitask"):
        with pytest.raises(UsageError, match=f"{fault}.*take --task decompensation or length-of-stay"):
            hospital.read(mapping=mapping, task=task_of(task))
    assert not hospital.out.exists()


needs_demo = pytest.mark.skipif(not DEMO.is_dir(), reason="needs the MIMIC-IV demo as MEDS in ../shared")


@pytest.fixture(scope="module", params=[False, True], ids=["benchmark", "all_stays"])
def demos(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The demo from MEDS and from its raw tables."""
    if not (DEMO.is_dir() and DEMO_TABLES.is_dir()):
        pytest.skip("needs the MIMIC-IV demo as MEDS and as tables in ../shared")
    folder = tmp_path_factory.mktemp("demos")
    meds, tables = folder / "meds", folder / "tables"
    prepare_meds(DEMO, meds, all_stays=request.param)
    prepare_mimic4(DEMO_TABLES, tables, all_stays=request.param)
    expected = (74, 12) if request.param else (54, 9)
    assert (len(labels_of(meds)), sum(labels_of(meds).values())) == expected
    return meds, tables


def test_meds_and_the_raw_tables_give_the_same_stays_labels_and_cells(demos: tuple[Path, Path]) -> None:
    """Only the splits differ: those of MEDS come from its file, those of the tables from a hash."""
    meds, tables = demos
    assert labels_of(meds) == labels_of(tables)
    theirs = {path.name: path.read_bytes() for path in tables.glob("t*/*_timeseries.csv")}
    ours = {path.name: path.read_bytes() for path in meds.glob("t*/*_timeseries.csv")}
    assert ours == theirs
    counts = [json.loads((demo / "prepared.json").read_text()) for demo in demos]
    assert counts[0]["dropped_stays"] == counts[1]["dropped_stays"]
    assert counts[0]["dropped_values"] == counts[1]["dropped_values"]


@pytest.mark.slow
@needs_demo
def test_stays_and_labels_need_no_ids(tmp_path: Path) -> None:
    for file in sorted((DEMO / "data").rglob("*.parquet")):
        target = tmp_path / "raw" / file.relative_to(DEMO)
        target.parent.mkdir(parents=True)
        pl.read_parquet(file).drop("hadm_id", "icustay_id").write_parquet(target)
    prepare_meds(DEMO, tmp_path / "with", all_stays=True)
    prepare_meds(tmp_path / "raw", tmp_path / "without", all_stays=True)
    assert labels_of(tmp_path / "without") == labels_of(tmp_path / "with")


TAKEN: dict[str, tuple[list[int], Callable[[float], float | None] | dict[str, str] | None]] = {
    "Capillary refill rate": (
        [223951, 224308],
        {"Normal <3 Seconds": "0.0", "Abnormal >3 Seconds": "1.0"},
    ),
    "Diastolic blood pressure": ([220180, 220051, 225310, 224643], None),
    "Fraction inspired oxygen": (
        [223835, 50816],
        lambda x: x if 0.2 < x <= 1 else x / 100 if 20 <= x <= 100 else None,
    ),
    "Glascow coma scale eye opening": ([220739], {}),
    "Glascow coma scale motor response": ([223901], {}),
    "Glascow coma scale verbal response": ([223900], {}),
    "Glucose": ([225664, 220621, 226537, 50931, 50809], None),
    "Heart Rate": ([220045], None),
    "Height": ([226730], None),
    "Height, inches": ([226707], lambda x: x * 2.54),
    "Mean blood pressure": ([220181, 220052, 225312], None),
    "Oxygen saturation": ([220277, 220227, 50817], None),
    "Respiratory rate": ([220210, 224690], None),
    "Systolic blood pressure": ([220179, 220050, 225309, 224167, 227243], None),
    "Temperature": ([223762], None),
    "Temperature, Fahrenheit": ([223761], lambda x: (x - 32) * 5 / 9),
    "Weight": ([226512, 224639], None),
    "Weight, pounds": ([226531], lambda x: x * 0.453592),
    "pH": ([50820, 223830, 220274], None),
}
"""Items of each channel, and what becomes of their numbers or texts; see `slow`."""
AT_ADMISSION = {226730, 226707, 226512, 226531}

Cells = dict[str, dict[float, dict[str, float | str]]]


def slow(taken: dict[str, tuple[list[int], Any]] = TAKEN) -> tuple[Cells, dict[str, int]]:
    """Cells and labels of all stays of the demo, by loops over rows; shares nothing with the package."""
    meaning = {item: (name, change) for name, (items, change) in taken.items() for item in items}
    columns = ["subject_id", "time", "code", "numeric_value", "text_value", "hadm_id", "icustay_id"]
    rows = pl.concat(
        [pl.read_parquet(file, columns=columns) for file in sorted((DEMO / "data").rglob("*.parquet"))]
    ).rows()
    begins, ends, died, births = {}, {}, set(), {}
    for subject, time, code, _, _, hadm, icustay in rows:
        if code.startswith("ICU_ADMISSION//"):
            begins[icustay] = (subject, time, hadm)
        elif code.startswith("ICU_DISCHARGE//"):
            ends[icustay] = time
        elif code == "HOSPITAL_DISCHARGE//DIED":
            died.add(hadm)
        elif code == "MEDS_BIRTH":
            births[subject] = time.year
    stays, labels = defaultdict(list), {}
    for subject in sorted({subject for subject, _, _ in begins.values()}):
        own = sorted((time, icustay, hadm) for icustay, (who, time, hadm) in begins.items() if who == subject)
        grown = [stay for stay in own if stay[0].year - births[subject] >= 18]
        for k, (intime, icustay, hadm) in enumerate(grown, start=1):
            if ends[icustay] - intime >= timedelta(hours=48):
                name = f"{subject}_episode{k}"
                stays[subject].append((name, icustay, intime))
                labels[name] = int(hadm in died)
    cells: Cells = {name: defaultdict(dict) for name in labels}
    for subject, time, code, number, text, _, icustay in rows:
        parts = code.split("//")
        if parts[0] != "LAB" or not parts[1].isdigit() or int(parts[1]) not in meaning:
            continue
        channel, change = meaning[int(parts[1])]
        channel = channel.split(",")[0]
        value: float | str | None
        if isinstance(change, dict):
            value = change.get(text) if change else text
        else:
            # Seven digits tell a number of 32 bits.
            value = None if number is None else float(f"{number:.7g}")
            value = value if value is None or change is None else change(value)
        for name, own_id, intime in stays[subject]:
            hours = (time - intime) / timedelta(hours=1)
            if icustay is not None and icustay != own_id:
                continue
            if hours < 0 and int(parts[1]) in AT_ADMISSION and icustay == own_id:
                hours = 0.0
            if value is None or not 0 <= hours <= 48:
                continue
            row = cells[name][round(hours, 4)]
            row[channel] = max(value, row.get(channel, value))
    return cells, labels


@needs_demo
def test_a_slow_reading_of_the_demo_agrees_on_every_cell(tmp_path: Path) -> None:
    prepare_meds(DEMO, tmp_path / "out", all_stays=True)
    cells, labels = slow()
    assert labels_of(tmp_path / "out") == labels
    for name, expected in cells.items():
        found = {
            round(float(row.pop("Hours")), 4): {
                channel: plain(channel, cell) for channel, cell in row.items()
            }
            for row in series_of(tmp_path / "out", name)
        }
        assert found.keys() == expected.keys()
        for hours, row in expected.items():
            assert found[hours] == {
                channel: pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
                for channel, value in row.items()
            }


def plain(channel: str, cell: str) -> float | str:
    return cell if MIMIC3[MIMIC3.position(channel)].is_categorical else float(cell)


COUNTED = (454, 4357, 592, 980, 970, 0, 978, 966, 4203, 47, 4366, 4185, 4279, 4357, 1182, 160, 383)
"""Cells of each channel of the demo's 74 stays as a prototype has counted them, which took fewer items: no
FiO2 of the laboratory (50816), no inches (226707), no pounds (226531), and no systolic 224167 and 227243."""
PROTOTYPE = {
    **TAKEN,
    "Fraction inspired oxygen": ([223835], None),
    "Height, inches": ([], None),
    "Weight, pounds": ([], None),
    "Systolic blood pressure": ([220179, 220050, 225309], None),
}


@pytest.mark.slow
@needs_demo
def test_the_cells_of_each_channel_are_those_that_were_counted_before(tmp_path: Path) -> None:
    cells, _ = slow(PROTOTYPE)
    assert counted(cells) == dict(zip(MIMIC3.names, COUNTED, strict=True))
    prepare_meds(DEMO, tmp_path / "out", all_stays=True)
    found = {
        name: {float(row.pop("Hours")): dict(row) for row in series_of(tmp_path / "out", name)}
        for name in labels_of(tmp_path / "out")
    }
    more = {
        name: count - before
        for (name, count), before in zip(counted(found).items(), COUNTED, strict=True)
        if count != before
    }
    # FiO2: 65 of the laboratory, and one less that is a flow. Pounds are charted at other instants than
    # kilograms, inches at the same ones as centimetres.
    assert more == {"Fraction inspired oxygen": 64, "Systolic blood pressure": 1, "Weight": 96}


def counted(cells: Any) -> dict[str, int]:
    """Number of cells of each channel."""
    return {
        name: sum(name in row for rows in cells.values() for row in rows.values()) for name in MIMIC3.names
    }


@needs_demo
@pytest.mark.parametrize("task", ["decompensation", "length-of-stay", "multitask", "phenotyping"])
def test_whole_stays_of_the_demo_are_those_of_its_tables(tmp_path: Path, task: str) -> None:
    if not DEMO_TABLES.is_dir():
        pytest.skip("needs the tables of the MIMIC-IV demo in ../shared")
    made = {"meds": tmp_path / "meds", "tables": tmp_path / "tables"}
    prepare_meds(DEMO, made["meds"], task=task_of(task))
    prepare_mimic4(DEMO_TABLES, made["tables"], task=task_of(task))
    lines, series, stays = {}, {}, {}
    for name, out in made.items():
        lines[name] = sorted(
            line for split in SPLITS for line in (out / f"{split}_listfile.csv").read_text().splitlines()
        )
        series[name] = {file.name: file.read_bytes() for file in out.glob("t*/*_timeseries.csv")}
        stays[name] = pl.read_csv(out / "stays.csv").drop("split").sort("stay").rows()
    assert len(series["meds"]) == 112
    for found in (lines, series, stays):
        assert found["meds"] == found["tables"]
