"""Raw tables of one's own making -> the task; every rule is one claim."""

from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_tasks import at_hand
from raw_records import cut_gzip, labels_of, replaced, series_of

from mimic3tf.channels import MIMIC3
from mimic3tf.data.directory import SPLITS
from mimic3tf.data.listfiles import read_rows
from mimic3tf.errors import DataError, UsageError
from mimic3tf.sources.csv_tables import open_tables
from mimic3tf.sources.database import Database, parse_size
from mimic3tf.sources.layout import Summary
from mimic3tf.sources.mimic3 import TABLES, prepare_mimic3
from mimic3tf.sources.mimic3_items import ITEMS, UNITS
from mimic3tf.tasks.phenotypes import PHENOTYPES
from mimic3tf.tasks.registry import MORTALITY, MULTITASK, PHENOTYPING, TASKS, task_of
from mimic3tf.tasks.task import Task

SHARED = Path(__file__).resolve().parents[3] / "shared"
IN = datetime(2150, 5, 1, 12, 0, 0)
HEART_RATE, SYSTOLIC, DIASTOLIC = 211, 455, 8441
COLUMNS = {
    "PATIENTS": "ROW_ID,SUBJECT_ID,GENDER,DOB,DOD,DOD_HOSP,DOD_SSN,EXPIRE_FLAG",
    "ADMISSIONS": "ROW_ID,SUBJECT_ID,HADM_ID,ADMITTIME,DISCHTIME,DEATHTIME,ADMISSION_TYPE,DIAGNOSIS",
    "ICUSTAYS": "ROW_ID,SUBJECT_ID,HADM_ID,ICUSTAY_ID,DBSOURCE,FIRST_CAREUNIT,LAST_CAREUNIT,FIRST_WARDID,"
    "LAST_WARDID,INTIME,OUTTIME,LOS",
    "DIAGNOSES_ICD": "ROW_ID,SUBJECT_ID,HADM_ID,SEQ_NUM,ICD9_CODE",
    "D_ICD_DIAGNOSES": "ROW_ID,ICD9_CODE,SHORT_TITLE,LONG_TITLE",
    "CHARTEVENTS": "ROW_ID,SUBJECT_ID,HADM_ID,ICUSTAY_ID,ITEMID,CHARTTIME,STORETIME,CGID,VALUE,VALUENUM,"
    "VALUEUOM,WARNING,ERROR,RESULTSTATUS,STOPPED",
    "LABEVENTS": "ROW_ID,SUBJECT_ID,HADM_ID,ITEMID,CHARTTIME,VALUE,VALUENUM,VALUEUOM,FLAG",
}
"""A part of the columns of the real tables, in their order, with some that nobody needs."""


@dataclass
class Hospital:
    """Raw tables under construction; every patient is admitted and enters the ICU at `IN`."""

    directory: Path
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {table: [] for table in COLUMNS})

    def admit(
        self,
        subject: int,
        *,
        hours: float = 72,
        stay: int = 0,
        charted: bool = True,
        icd: str | None = "0389",
        **changed: Any,
    ) -> None:
        """A patient (at stay 0) with an admission, an ICU stay of some hours, a diagnosis, one heart rate."""
        intime = changed.pop("INTIME", IN)
        ids = {"SUBJECT_ID": subject, "HADM_ID": 10 * subject + stay, "ICUSTAY_ID": 1000 * subject + stay}
        person = {"DOB": IN - timedelta(days=60 * 365)}
        admission = {
            "ADMITTIME": intime,
            "DISCHTIME": intime + timedelta(days=9),
            "DIAGNOSIS": "FALL, TO ARM",
        }
        unit = {
            **dict.fromkeys(("FIRST_CAREUNIT", "LAST_CAREUNIT"), "MICU"),
            **dict.fromkeys(("FIRST_WARDID", "LAST_WARDID"), 52),
            **{"INTIME": intime, "OUTTIME": intime + timedelta(hours=hours), "LOS": hours / 24},
        }
        if stay == 0:
            self.rows["PATIENTS"].append(ids | person | changed)
        self.rows["ADMISSIONS"].append(ids | admission | changed)
        self.rows["ICUSTAYS"].append(ids | unit | changed)
        self.rows["D_ICD_DIAGNOSES"] = [{"ICD9_CODE": "0389", "LONG_TITLE": 'Sepsis, "unspecified"'}]
        if icd is not None:
            self.rows["DIAGNOSES_ICD"].append(ids | {"ICD9_CODE": icd})
        if charted:
            self.chart(subject, 1, HEART_RATE, 80, stay=stay, start=intime)

    def chart(
        self,
        subject: int,
        hour: float,
        item: int,
        value: object,
        unit: str = "",
        *,
        stay: int = 0,
        start: datetime = IN,
        **changed: Any,
    ) -> None:
        """One event; items of laboratories go to LABEVENTS."""
        event = {
            "SUBJECT_ID": subject,
            "HADM_ID": 10 * subject + stay,
            "ICUSTAY_ID": 1000 * subject + stay,
            "ITEMID": item,
            "CHARTTIME": start + timedelta(hours=hour),
            "VALUE": value,
            "VALUEUOM": unit,
        }
        table = "LABEVENTS" if 50000 <= item < 52000 else "CHARTEVENTS"
        self.rows[table].append(event | changed)

    def write(self) -> Path:
        self.directory.mkdir(exist_ok=True)
        for table, columns in COLUMNS.items():
            with (self.directory / f"{table}.csv").open("w", newline="") as file:
                writer = csv.DictWriter(
                    file, columns.split(","), restval="", extrasaction="ignore", lineterminator="\n"
                )
                writer.writeheader()
                writer.writerows(
                    {"ROW_ID": number, **row} for number, row in enumerate(self.rows[table], start=1)
                )
        return self.directory

    def prepare(self, **options: Any) -> Summary:
        return prepare_mimic3(self.write(), self.directory.parent / "out", **options)

    def labels(self, split: str | None = None) -> dict[str, int]:
        """Label of each stay that was written: `<subject>_episode<k>`."""
        return labels_of(self.directory.parent / "out", split)

    def series(self, episode: str) -> list[dict[str, str]]:
        """Rows of a stay, without the empty cells."""
        return series_of(self.directory.parent / "out", episode)


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path / "raw")


def cells_of(hospital: Hospital, channel: str) -> list[str]:
    """What stands in one channel of the only patient, in order of time."""
    hospital.prepare()
    return [row[channel] for row in hospital.series("7_episode1") if channel in row]


def values_of(hospital: Hospital, channel: str) -> list[float]:
    return [float(cell) for cell in cells_of(hospital, channel)]


# --- Which stays ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"LAST_CAREUNIT": "SICU"}, "transfer between ICU units or wards"),
        ({"LAST_WARDID": 53}, "transfer between ICU units or wards"),
        ({"FIRST_WARDID": ""}, "transfer between ICU units or wards"),
        ({"DOB": IN - timedelta(days=18 * 365 - 1)}, "younger than 18"),
        ({"DOB": ""}, "no date of birth"),
        ({"icd": None}, "no diagnosis of the admission that D_ICD_DIAGNOSES knows"),
        ({"icd": "389"}, "no diagnosis of the admission that D_ICD_DIAGNOSES knows"),
        ({"icd": ""}, "no diagnosis of the admission that D_ICD_DIAGNOSES knows"),
        ({"hours": 47.9}, "shorter than 48 hours"),
        ({"LOS": ""}, "of unknown length"),
        ({"LOS": "nan"}, "of unknown length"),
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


def test_what_breaks_several_rules_is_counted_once_by_the_first(hospital: Hospital) -> None:
    hospital.admit(7)
    hospital.admit(8, LAST_WARDID=53, DOB=IN, icd=None, LOS="")
    hospital.admit(9, DOB=IN, icd=None, LOS="")
    hospital.admit(10, icd=None, LOS="")
    reasons = ("transfer between ICU units or wards", "younger than 18")
    diagnosis = "no diagnosis of the admission that D_ICD_DIAGNOSES knows"
    assert hospital.prepare().dropped_stays == dict.fromkeys((*reasons, diagnosis), 1)


def test_a_diagnosis_of_another_admission_or_patient_does_not_count(hospital: Hospital) -> None:
    hospital.admit(7, stay=0)
    hospital.admit(7, stay=1, INTIME=IN + timedelta(days=50), icd=None)
    hospital.admit(8, icd=None)
    hospital.rows["DIAGNOSES_ICD"].append({"SUBJECT_ID": 7, "HADM_ID": 80, "ICD9_CODE": "0389"})
    hospital.prepare()
    assert hospital.labels() == {"7_episode1": 0}


def test_the_reasons_are_counted_where_no_stay_is_left(hospital: Hospital) -> None:
    hospital.admit(7, icd=None)
    hospital.admit(8, hours=10)
    hospital.admit(9, LAST_WARDID=53)
    hospital.admit(10, charted=False)
    with pytest.raises(DataError) as caught:
        hospital.prepare()
    for count in ("1 no diagnosis", "1 shorter than 48", "1 transfer", "1 no measurement"):
        assert count in str(caught.value)


def test_a_birth_after_the_admission_hides_an_age_above_89(hospital: Hospital) -> None:
    hospital.admit(7, DOB=IN + timedelta(days=1))
    hospital.prepare()
    assert hospital.labels().keys() == {"7_episode1"}


def test_the_limits_of_age_and_length_are_inside(hospital: Hospital) -> None:
    hospital.admit(7, hours=48, DOB=IN - timedelta(days=18 * 365))
    hospital.admit(8, DOB=IN - timedelta(days=300 * 365))
    hospital.prepare()
    assert hospital.labels().keys() == {"7_episode1", "8_episode1"}


def test_an_admission_with_two_icu_stays_is_left_out(hospital: Hospital) -> None:
    hospital.admit(7)
    hospital.admit(8)
    hospital.rows["ICUSTAYS"].append(hospital.rows["ICUSTAYS"][1] | {"ICUSTAY_ID": 8999})
    assert hospital.prepare().dropped_stays == {"several in one admission": 2}
    assert hospital.labels().keys() == {"7_episode1"}


def test_a_stay_with_a_transfer_does_not_make_an_admission_a_double_one(hospital: Hospital) -> None:
    hospital.admit(7)
    moved = {"ICUSTAY_ID": 7999, "LAST_WARDID": 1}
    hospital.rows["ICUSTAYS"].append(hospital.rows["ICUSTAYS"][0] | moved)
    hospital.prepare()
    assert hospital.labels().keys() == {"7_episode1"}


@pytest.mark.parametrize("changes", [{"hours": 10}, {"icd": None}])
def test_episodes_are_numbered_by_time_before_short_and_undiagnosed_stays_are_left_out(
    hospital: Hospital, changes: dict[str, Any]
) -> None:
    hospital.admit(7, stay=0, INTIME=IN + timedelta(days=50))
    hospital.admit(7, stay=1, **changes)
    hospital.prepare()
    assert hospital.labels().keys() == {"7_episode2"}
    assert hospital.series("7_episode2") == [{"Hours": "1.0", "Heart Rate": "80"}]


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({}, 0),
        ({"DEATHTIME": IN + timedelta(days=9)}, 1),
        ({"DOD": IN + timedelta(days=3)}, 1),
        ({"DOD": IN + timedelta(days=10)}, 0),
        ({"DEATHTIME": IN - timedelta(days=1)}, 0),
    ],
)
def test_the_label_is_death_before_discharge(hospital: Hospital, changes: dict[str, Any], label: int) -> None:
    hospital.admit(7, **changes)
    hospital.prepare()
    assert hospital.labels() == {"7_episode1": label}


# --- Which events --------------------------------------------------------------------------------------


def test_the_window_is_the_first_48_hours_with_both_ends(hospital: Hospital) -> None:
    hospital.admit(7, charted=False)
    for hour in (-1 / 3600, 0, 0.35, 48, 48 + 1 / 3600):
        hospital.chart(7, hour, HEART_RATE, 90)
    hospital.prepare()
    assert [row["Hours"] for row in hospital.series("7_episode1")] == ["0.0", "0.35", "48.0"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"HADM_ID": ""}, "no admission is named"),
        ({"HADM_ID": 99}, "of an admission that is left out"),
        ({"HADM_ID": 80}, "of an admission that is left out"),
        ({"ICUSTAY_ID": 99}, "of an ICU stay that is left out"),
    ],
)
def test_events_of_no_known_stay_are_left_out(
    hospital: Hospital, changes: dict[str, Any], reason: str
) -> None:
    hospital.admit(7)
    hospital.admit(8)
    hospital.chart(7, 5, HEART_RATE, 120, **changes)
    assert hospital.prepare().dropped_values == {reason: 1}
    assert hospital.series("7_episode1") == [{"Hours": "1.0", "Heart Rate": "80"}]


def test_an_event_without_icu_stay_is_found_by_its_admission(hospital: Hospital) -> None:
    hospital.admit(7, charted=False)
    hospital.chart(7, 5, HEART_RATE, 120, ICUSTAY_ID="")
    assert cells_of(hospital, "Heart Rate") == ["120"]


def test_a_rate_may_have_spaces_around_it(hospital: Hospital) -> None:
    hospital.admit(7, charted=False)
    hospital.chart(7, 5, HEART_RATE, " 84")
    hospital.chart(7, 6, HEART_RATE, "8_6 ")
    assert cells_of(hospital, "Heart Rate") == ["84", "86"]


def test_an_instant_of_two_icu_stays_has_a_row_for_each_of_them(hospital: Hospital) -> None:
    hospital.admit(7, hours=60, charted=False)
    hospital.admit(7, hours=10, stay=1, charted=False, INTIME=IN + timedelta(hours=50))
    for hour in (10, 20, 30):
        hospital.chart(7, hour, HEART_RATE, 80)
    hospital.chart(7, 20, SYSTOLIC, 120, stay=1)
    hospital.chart(7, 30, SYSTOLIC, "nothing", stay=1)
    hospital.chart(7, 40, SYSTOLIC, 130, stay=1)
    summary = hospital.prepare()
    both = {"Hours": "20.0", "Heart Rate": "80", "Systolic blood pressure": "120"}
    first, last = {"Hours": "10.0", "Heart Rate": "80"}, {"Hours": "40.0", "Systolic blood pressure": "130"}
    assert hospital.series("7_episode1") == [first, both, both, {"Hours": "30.0", "Heart Rate": "80"}, last]
    assert summary.dropped_values == {"Systolic blood pressure is no value of the channel": 1}


def test_other_items_and_empty_values_make_no_row(hospital: Hospital) -> None:
    hospital.admit(7)
    hospital.chart(7, 2, HEART_RATE, "")
    hospital.chart(7, 3, 1, "33%")
    hospital.prepare()
    assert len(hospital.series("7_episode1")) == 1


def test_channels_of_one_instant_share_a_row_in_order_of_time(hospital: Hospital) -> None:
    hospital.admit(7, charted=False)
    hospital.chart(7, 30, HEART_RATE, 70)
    hospital.chart(7, 2.5, SYSTOLIC, 120)
    hospital.chart(7, 2.5, 50931, 101.5, "mg/dL")
    hospital.prepare()
    first, second = hospital.series("7_episode1")
    assert first == {"Hours": "2.5", "Systolic blood pressure": "120", "Glucose": "101.5"}
    assert second == {"Hours": "30.0", "Heart Rate": "70"}


@pytest.mark.parametrize(
    ("channel", "items", "values", "kept"),
    [
        ("Systolic blood pressure", (455, 51), (99, 100), 100),  # numbers: the largest
        ("Heart Rate", (211, 211), (99, 100), 99),  # never parsed: the last as text
        ("Mean blood pressure", (52, 456), ("61.5", "61"), 61.5),
    ],
)
def test_of_several_values_at_an_instant_the_last_in_order_stays(
    hospital: Hospital, channel: str, items: tuple[int, int], values: tuple[object, object], kept: float
) -> None:
    hospital.admit(7, charted=False)
    for item, value in zip(items, values, strict=True):
        hospital.chart(7, 2, item, value)
    assert values_of(hospital, channel) == [kept]


# --- What a value means --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channel", "item", "value", "unit", "expected"),
    [
        ("Systolic blood pressure", SYSTOLIC, "120/80", "mmHg", 120),
        ("Diastolic blood pressure", DIASTOLIC, "120/80", "mmHg", 80),
        ("Diastolic blood pressure", DIASTOLIC, "80", "mmHg", 80),
        ("Fraction inspired oxygen", 223835, "40", "", 0.4),
        ("Fraction inspired oxygen", 3420, "0.5", "%", 0.005),
        ("Fraction inspired oxygen", 189, ".5", "torr", 0.5),
        ("Oxygen saturation", 646, "97", "%", 97),
        ("Oxygen saturation", 50817, "0.97", "", 97),
        ("Oxygen saturation", 834, "1", "", 100),
        ("Temperature", 678, "98.6", "Deg. F", (98.6 - 32) * 5 / 9),
        ("Temperature", 676, "37.2", "Deg. C", 37.2),
        ("Temperature", 223762, "98.6", "?C", (98.6 - 32) * 5 / 9),
        ("Weight", 3580, "80", "kg", 80),
        ("Weight", 226531, "200", "", 200 * 0.453592),
        ("Weight", 3581, "200", "", 200 * 0.453592),
        ("Weight", 3582, "3200", "", 3200 / 16 * 0.453592),
        ("Weight", 763, "200", "Lbs", 200 * 0.453592),
        ("Height", 1394, "68", "", 173),
        ("Height", 226707, "75", "Inch", 190),  # 190.5: half to even
        ("Height", 226730, "168", "cm", 168),
        ("pH", 50820, "7.31", "units", 7.31),
        ("Glucose", 50931, "118.", "", 118),
    ],
)
def test_units_are_brought_to_the_channels_own(
    hospital: Hospital, channel: str, item: int, value: str, unit: str, expected: float
) -> None:
    hospital.admit(7)
    hospital.chart(7, 2, item, value, unit)
    assert values_of(hospital, channel) == [expected]


@pytest.mark.parametrize(
    ("channel", "item", "value", "category"),
    [
        ("Capillary refill rate", 3348, "Normal <3 secs", "0.0"),
        ("Capillary refill rate", 8377, "Abnormal >3 secs", "1.0"),
        ("Capillary refill rate", 115, "Brisk", "0.0"),
        ("Capillary refill rate", 115, "Delayed", "1.0"),
        ("Glascow coma scale eye opening", 220739, "None", "None"),
        ("Glascow coma scale verbal response", 723, "1.0 ET/Trach", "1.0 ET/Trach"),
        ("Glascow coma scale total", 198, "15", "15"),
    ],
)
def test_categories_keep_the_channels_text(
    hospital: Hospital, channel: str, item: int, value: str, category: str
) -> None:
    hospital.admit(7)
    hospital.chart(7, 2, item, value)
    assert cells_of(hospital, channel) == [category]


@pytest.mark.parametrize(
    ("channel", "item", "value"),
    [
        ("Glucose", 50931, ">600"),
        ("Glucose", 50931, "-5"),
        ("pH", 50820, "ERROR"),
        ("Oxygen saturation", 50817, "nan"),
        ("Temperature", 678, "warm"),
        ("Weight", 763, "inf"),
        ("Heart Rate", 211, "fast"),
        ("Systolic blood pressure", SYSTOLIC, "120/"),
        ("Capillary refill rate", 115, "Other/Remarks"),
        ("Glascow coma scale total", 198, "16"),
    ],
)
def test_what_is_no_value_is_left_out_and_counted(
    hospital: Hospital, channel: str, item: int, value: str
) -> None:
    hospital.admit(7)
    hospital.chart(7, 2, item, value)
    summary = hospital.prepare()
    assert summary.dropped_values == {f"{channel} is no value of the channel": 1}
    assert len(hospital.series("7_episode1")) == 1


@pytest.mark.parametrize(
    ("item", "channel"), [(item, "pH") for item in (51094, 51491, 50831)] + [(51478, "Glucose")]
)
def test_urine_and_other_fluids_are_left_out_where_blood_is_asked_for(
    hospital: Hospital, tmp_path: Path, item: int, channel: str
) -> None:
    hospital.admit(7)
    hospital.chart(7, 2, item, 5.5)
    hospital.chart(7, 3, 50820, 7.4)
    hospital.chart(7, 3, 50931, 120)
    assert hospital.prepare(blood_only=True).dropped_values == {"measured in urine or another fluid": 1}
    blood = {"Hours": "3.0", "Glucose": "120", "pH": "7.4"}
    assert hospital.series("7_episode1") == [{"Hours": "1.0", "Heart Rate": "80"}, blood]
    (tmp_path / "out").rename(tmp_path / "blood")
    hospital.prepare()
    assert hospital.series("7_episode1")[1] == {"Hours": "2.0", channel: "5.5"}


def test_the_directory_says_how_it_was_made(hospital: Hospital, tmp_path: Path) -> None:
    hospital.admit(7)
    hospital.admit(8, icd=None)
    hospital.chart(7, 2, 50820, "ERROR")
    (tmp_path / "tests.csv").write_text("7,1\n")
    summary = hospital.prepare(blood_only=True, test_subjects=tmp_path / "tests.csv")
    made = json.loads((tmp_path / "out" / "prepared.json").read_text())
    options = {"blood_only": True, "test_subjects": "list", "val_subjects": "hash"}
    assert (made["source"], made["options"]) == ("mimic3", options)
    assert made["dropped_stays"] == summary.dropped_stays != {}
    assert made["dropped_values"] == summary.dropped_values != {}
    assert (made["stays"], made["deaths"]) == (summary.stays, summary.deaths)


def test_every_item_belongs_to_one_channel() -> None:
    assert list(ITEMS) == list(MIMIC3.names)
    ids = [item for items in ITEMS.values() for item in items]
    assert len(ids) == len(set(ids))
    assert set(UNITS) <= set(ids)


# --- Whole stays ----------------------------------------------------------------------------------------

WHOLE = [name for name, task in TASKS.items() if task.period is None]


@pytest.mark.parametrize("task", WHOLE)
def test_whole_stays_of_any_length_are_taken_to_their_end(hospital: Hospital, task: str) -> None:
    hospital.admit(7, hours=6)
    for hour in (-0.1, 0, 6, 6 + 1 / 3600):
        hospital.chart(7, hour, HEART_RATE, 90)
    hospital.admit(8, charted=False)
    hospital.admit(9, LOS="")
    summary = hospital.prepare(task=task_of(task))
    assert [row["Hours"] for row in hospital.series("7_episode1")] == ["0.0", "1.0", "6.0"]
    assert summary.dropped_stays == {"no measurement in the stay": 1, "of unknown length": 1}


def test_the_end_is_the_length_of_the_table_not_the_time_of_leaving(hospital: Hospital) -> None:
    hospital.admit(7, hours=6, OUTTIME=IN + timedelta(hours=6, seconds=4))
    for second in (0, 1):
        hospital.chart(7, 6 + second / 3600, HEART_RATE, 90)
    hospital.prepare(task=task_of("length-of-stay"))
    assert [row["Hours"] for row in hospital.series("7_episode1")] == ["1.0", "6.0"]


def test_stays_csv_tells_length_times_age_sex_and_death(hospital: Hospital) -> None:
    death = IN + timedelta(hours=9)
    hospital.admit(7, hours=6, GENDER="F", DEATHTIME=death, DISCHTIME=death)
    hospital.admit(8, DOB=IN - timedelta(days=300 * 365), GENDER="M")
    hospital.prepare(task=task_of("decompensation"))
    with (hospital.directory.parent / "out" / "stays.csv").open() as file:
        rows = {row.pop("stay"): row for row in csv.DictReader(file)}
    first, old = (rows[f"{subject}_episode1_timeseries.csv"] for subject in (7, 8))
    assert first.pop("split") in SPLITS
    assert first == {
        **{"subject": "7", "episode": "1", "length_of_stay": "6.000000", "first_row": "1.000000"},
        **{"death": "9.000000", "died": "1", "age": "60.000000", "sex": "F"},
        **{"intime": f"{IN}", "outtime": f"{IN + timedelta(hours=6)}", "deathtime": f"{death}"},
    }
    assert (old["age"], old["sex"], old["death"], old["deathtime"]) == ("90.000000", "M", "", "")


@pytest.mark.parametrize("task", [PHENOTYPING, MULTITASK])
def test_phenotypes_are_those_of_the_admission_with_codes_that_the_table_knows(
    hospital: Hospital, tmp_path: Path, task: Task
) -> None:
    hospital.admit(7, stay=0)
    hospital.admit(7, stay=1, INTIME=IN + timedelta(days=50))
    for code in ("78552", "5849", "not in the table"):
        hospital.rows["DIAGNOSES_ICD"].append({"SUBJECT_ID": 7, "HADM_ID": 70, "ICD9_CODE": code})
    hospital.rows["D_ICD_DIAGNOSES"].append({"ICD9_CODE": "78552"})
    hospital.prepare(task=task)
    labels: dict[str, np.ndarray] = {}
    for split in SPLITS:
        if len((tmp_path / "out" / f"{split}_listfile.csv").read_text().splitlines()) > 1:
            found = read_rows(tmp_path / "out" / f"{split}_listfile.csv", task)
            labels |= dict(zip(found.stays, found.labels[:, -25:], strict=True))
    shock, septicemia = PHENOTYPES.index("Shock"), PHENOTYPES.index("Septicemia (except in labor)")
    assert [*np.flatnonzero(labels["7_episode1_timeseries.csv"])] == sorted((septicemia, shock))
    assert [*np.flatnonzero(labels["7_episode2_timeseries.csv"])] == [septicemia]


def test_the_directory_says_how_many_samples_have_a_label(hospital: Hospital, tmp_path: Path) -> None:
    for subject in (7, 8):
        (tmp_path / f"{subject}.csv").write_text(f"{subject}\n")
    hospital.admit(7, hours=10, DEATHTIME=IN + timedelta(hours=33.5), DISCHTIME=IN + timedelta(hours=33.5))
    hospital.admit(8, hours=8)
    hospital.admit(9, hours=7)
    summary = hospital.prepare(
        task=task_of("decompensation"), test_subjects=tmp_path / "7.csv", val_subjects=tmp_path / "8.csv"
    )
    assert summary.samples == {"train": 3, "val": 4, "test": 6}
    assert summary.positives == {"y_true": {"train": 0, "val": 0, "test": 1}}
    for name in ("prepared.json", "summary.json"):
        told = json.loads((tmp_path / "out" / name).read_text())
        assert (told["samples"], told["positives"]) == (summary.samples, summary.positives)
    made = json.loads((tmp_path / "out" / "prepared.json").read_text())
    assert made["options"]["task"] == "decompensation"


# --- Splits --------------------------------------------------------------------------------------------


def ward_of(hospital: Hospital, subjects: range) -> Hospital:
    for subject in subjects:
        hospital.admit(subject)
    return hospital


@pytest.mark.parametrize(
    ("tests", "vals"),
    [("1,1\n2,0\n3,1\n4,0\n5,0\n", "1,1\n2,1\n4,0\n"), ("1\n\n3\n", "2\r\n")],
    ids=["flags", "one a line"],
)
def test_splits_follow_the_lists_of_subjects(
    hospital: Hospital, tmp_path: Path, tests: str, vals: str
) -> None:
    (tmp_path / "tests.csv").write_text(tests)
    (tmp_path / "vals.csv").write_text(vals, newline="")
    ward_of(hospital, range(1, 6)).prepare(
        test_subjects=tmp_path / "tests.csv", val_subjects=tmp_path / "vals.csv"
    )
    listed = {split: {name.split("_")[0] for name in hospital.labels(split)} for split in SPLITS}
    assert listed == {"train": {"4", "5"}, "val": {"2"}, "test": {"1", "3"}}


def test_the_hash_deals_subjects_once_and_for_all(hospital: Hospital, tmp_path: Path) -> None:
    summary = ward_of(hospital, range(1, 401)).prepare()
    assert summary.stays["test"] == pytest.approx(60, abs=20)
    assert summary.stays["val"] == pytest.approx(60, abs=20)
    fewer = Hospital(tmp_path / "again" / "raw")
    fewer.directory.parent.mkdir()
    ward_of(fewer, range(1, 101)).prepare()
    for split in SPLITS:
        assert [name for name in hospital.labels(split) if name in fewer.labels()] == list(
            fewer.labels(split)
        )


def test_stays_of_a_subject_share_a_split(hospital: Hospital) -> None:
    for subject in range(1, 21):
        for stay in range(3):
            hospital.admit(subject, stay=stay, INTIME=IN + timedelta(days=100 * stay))
    hospital.prepare()
    found = [{name.split("_")[0] for name in hospital.labels(split)} for split in SPLITS]
    assert sum(map(len, found)) == len(set.union(*found)) == 20


@pytest.mark.parametrize(
    ("text", "needle"), [("7,1\nx,1\n", "line 2"), ("7,2\n", "line 1"), ("8\n", "no subject of this cohort")]
)
def test_a_faulty_list_of_subjects_is_named(
    hospital: Hospital, tmp_path: Path, text: str, needle: str
) -> None:
    hospital.admit(7)
    (tmp_path / "tests.csv").write_text(text)
    with pytest.raises(DataError, match=rf"tests\.csv.*{needle}"):
        hospital.prepare(test_subjects=tmp_path / "tests.csv")
    assert not (tmp_path / "out").exists()


# --- Faulty tables -------------------------------------------------------------------------------------


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("table", "spoil", "needles"),
    [
        ("LABEVENTS", remove, ["holds neither LABEVENTS.csv nor LABEVENTS.csv.gz"]),
        ("D_ICD_DIAGNOSES", remove, ["neither D_ICD_DIAGNOSES.csv nor", "DIAGNOSES_ICD, D_ICD_DIAGNOSES"]),
        ("ICUSTAYS", replaced("INTIME", "INN"), ["ICUSTAYS.csv, line 1", "INTIME"]),
        ("CHARTEVENTS", replaced("CGID", "VALUE"), ["CHARTEVENTS.csv, line 1", "repeats the column VALUE"]),
        ("CHARTEVENTS", cut_gzip, ["CHARTEVENTS.csv.gz", "cut short or damaged"]),
        (
            "CHARTEVENTS",
            replaced("2150-05-01 13:00:00", "2150-05-32 13:00:00"),
            ["CHARTEVENTS.csv, line 2: CHARTTIME is '2150-05-32 13:00:00', not a date and time"],
        ),
        (
            "PATIENTS",
            replaced(",7,", ",seven,"),
            ["PATIENTS.csv, line 2: SUBJECT_ID is 'seven'", "whole number"],
        ),
        (
            "ICUSTAYS",
            replaced("MICU,MICU", "MICU"),
            ["ICUSTAYS.csv, line 2: 11 cells where the header names 12"],
        ),
        ("ADMISSIONS", replaced("FALL", "FÄLL"), []),
        ("PATIENTS", lambda path: path.write_bytes(b""), ["PATIENTS.csv, line 1", "SUBJECT_ID"]),
        ("PATIENTS", lambda path: path.write_text(path.read_text() * 2), ["PATIENTS.csv"]),
        ("ICUSTAYS", lambda path: path.write_text(COLUMNS["ICUSTAYS"] + "\n"), ["no stay of 48 hours"]),
    ],
)
def test_a_faulty_table_is_named(
    hospital: Hospital, tmp_path: Path, table: str, spoil: Callable[[Path], None], needles: list[str]
) -> None:
    hospital.admit(7)
    directory = hospital.write()
    spoil(directory / f"{table}.csv")
    if not needles:
        prepare_mimic3(directory, tmp_path / "out")
        return
    with pytest.raises(DataError) as caught:
        prepare_mimic3(directory, tmp_path / "out")
    assert "\n" not in str(caught.value)
    for needle in needles:
        assert needle in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_words_in_a_path_tell_nothing_of_the_fault(hospital: Hospital, tmp_path: Path) -> None:
    hospital.admit(7)
    directory = hospital.write().rename(tmp_path / "gzip of unicode")
    file = directory / "ICUSTAYS.csv"
    replaced("MICU,MICU", '"MICU,MICU')(file)
    with pytest.raises(DataError, match=r"ICUSTAYS\.csv, line 2: Value with unterminated quote"):
        prepare_mimic3(directory, tmp_path / "out")
    replaced('"MICU,MICU', "MICU,MICU")(file)
    (tmp_path / "scratch").mkdir()
    with Database(tmp_path / "scratch", 10**9) as database:
        open_tables(database, directory, TABLES, "MIMIC-III")
        file.unlink()
        with pytest.raises(DataError, match=r"ICUSTAYS\.csv: IO Error: No files found"):
            database.run("SELECT * FROM ICUSTAYS")


def test_words_in_a_cell_tell_nothing_of_the_fault(hospital: Hospital, tmp_path: Path) -> None:
    hospital.admit(7)
    directory = hospital.write()
    replaced("MICU,MICU", "unicode GZIP Expected Number of Columns: 3 Found: 4")(directory / "ICUSTAYS.csv")
    with pytest.raises(DataError, match=r"ICUSTAYS\.csv, line 2: 11 cells where the header names 12$"):
        prepare_mimic3(directory, tmp_path / "out")
    replaced("unicode GZIP Expected", 'a,"unicode Expected')(directory / "ICUSTAYS.csv")
    with pytest.raises(DataError, match=r"ICUSTAYS\.csv, line 2: Value with unterminated quote"):
        prepare_mimic3(directory, tmp_path / "out")


def test_a_repeated_key_is_named(hospital: Hospital, tmp_path: Path) -> None:
    hospital.admit(7)
    hospital.rows["PATIENTS"] *= 2
    with pytest.raises(DataError, match=r"PATIENTS\.csv: SUBJECT_ID 7 is on several lines"):
        hospital.prepare()


@pytest.mark.parametrize("limit", ["4", "4 parsecs", "-1GB", "100MB", ""])
def test_a_memory_limit_that_is_none_is_refused(hospital: Hospital, limit: str) -> None:
    with pytest.raises(UsageError, match="memory limit"):
        hospital.prepare(memory_limit=limit)


def test_sizes_are_read_in_both_kinds_of_units() -> None:
    assert (parse_size("4GB"), parse_size("1.5 GiB")) == (4 * 10**9, 3 * 2**29)


def test_tables_may_be_compressed_with_names_and_headers_in_small_letters(
    hospital: Hospital, tmp_path: Path
) -> None:
    hospital.admit(7)
    odd = tmp_path / "it's [raw]*"
    odd.mkdir()
    for path in hospital.write().iterdir():
        header, _, body = path.read_text().partition("\n")
        text = header.lower() + "\n" + body
        (odd / f"{path.name.lower()}.gz").write_bytes(gzip.compress(text.encode()))
    prepare_mimic3(odd, tmp_path / "out")
    assert hospital.labels() == {"7_episode1": 0}


def test_files_in_the_way_are_refused_before_any_work(hospital: Hospital, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")
    with pytest.raises(UsageError, match="not empty"):
        hospital.prepare()


# --- Large tables, and runs that were killed -----------------------------------------------------------

CHILD = """
import sys
from pathlib import Path
from mimic3tf.sources.mimic3 import TABLES, prepare_mimic3
from mimic3tf.tasks.registry import task_of
task = task_of(sys.argv[3])
prepare_mimic3(Path(sys.argv[1]), Path(sys.argv[2]), memory_limit="512MB", task=task)
# Not getrusage: its maximum starts with the memory of the process that started this one.
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) * 1024)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of 1000 patients with 2 million events that are all used, 220 MB."""
    hospital = Hospital(tmp_path_factory.mktemp("large") / "raw")
    ward_of(hospital, range(1, 1001))
    directory = hospital.write()
    with (directory / "CHARTEVENTS.csv").open("a") as file:
        for subject in range(1, 1001):
            ids = f"1,{subject},{10 * subject},{1000 * subject}"
            clocks = [IN + timedelta(seconds=170 * step) for step in range(1000)]
            padding = "x" * 60
            for item in (HEART_RATE, SYSTOLIC):
                file.writelines(
                    f"{ids},{item},{clock},,,8{clock.second},,{padding},,,,\n" for clock in clocks
                )
    return directory


@pytest.mark.parametrize("task", ["in-hospital-mortality", "multitask"])
def test_memory_stays_below_the_limit(large: Path, tmp_path: Path, task: str) -> None:
    command = [sys.executable, "-c", CHILD, str(large), str(tmp_path / "out"), task]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 512 * 10**6
    files = list((tmp_path / "out").glob("t*/*_timeseries.csv"))
    assert len(files) == 1000
    assert all(file.read_bytes().count(b"\n") > 1000 for file in files)


KILLED = """
import sys, time
from pathlib import Path
from mimic3tf.sources import events, mimic3

def work(source, scratch, limit):
    (scratch / "spilled").touch()
    print("at work", flush=True)
    time.sleep(600)

events._extract = work
mimic3.prepare_mimic3(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_run_that_was_killed_can_be_started_again(hospital: Hospital, tmp_path: Path) -> None:
    out = tmp_path / "out"
    hospital.admit(7)
    command = [sys.executable, "-c", KILLED, str(hospital.write()), str(out)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "at work\n"
        with pytest.raises(UsageError, match="another run works there"):
            hospital.prepare()
        assert list(tmp_path.glob(".out*/spilled"))
    finally:
        child.kill()
        child.communicate()
    assert not out.exists()
    assert list(tmp_path.glob(".out*/spilled"))
    hospital.prepare()
    assert hospital.labels() == {"7_episode1": 0}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]


NO_LOCKS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
int flock(int file, int operation) { errno = ENOSYS; return -1; }
#define WITHOUT_LOCKS(name) \\
    int name(int file, int command, ...) { \\
        va_list rest; va_start(rest, command); void *argument = va_arg(rest, void *); va_end(rest); \\
        if (command == F_SETLK || command == F_SETLKW || command == F_GETLK) { errno = ENOSYS; return -1; } \\
        return ((int (*)(int, int, ...)) dlsym(RTLD_NEXT, #name))(file, command, argument); \\
    }
WITHOUT_LOCKS(fcntl)
WITHOUT_LOCKS(fcntl64)
"""
"""Functions that take the place of the system's own, and answer as a file system without locks does."""


def test_no_locks_are_needed(hospital: Hospital, tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("a file system without locks is simulated with a C compiler, on Linux")
    library = tmp_path / "no_locks.so"
    build = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(library), "-ldl"]
    subprocess.run(build, input=NO_LOCKS, text=True, check=True)
    hospital.admit(7)
    # Whose these are nobody can tell, and the run goes on beside them.
    left = tmp_path / ".out.work.partial-killed"
    left.mkdir()
    arguments = [str(hospital.write()), str(tmp_path / "out"), MORTALITY.name]
    command = [sys.executable, "-c", CHILD, *arguments]
    done = subprocess.run(
        command, env=os.environ | {"LD_PRELOAD": str(library)}, capture_output=True, text=True, check=True
    )
    assert hospital.labels() == {"7_episode1": 0}
    assert f"rm -r {left}" in done.stderr
    assert sorted(path.name for path in tmp_path.glob(".out*")) == [left.name]


NOTEBOOK = """
import sys, types

class Shell:
    config = {"IPKernelApp": {}}

sys.modules["IPython"] = types.SimpleNamespace(
    get_ipython=Shell, display=types.SimpleNamespace(), version_info=(9, 0, 0)
)
sys.modules["ipywidgets"] = None
import duckdb
try:
    duckdb.connect().execute("SET enable_progress_bar = true")
    print("this engine needs no ipywidgets")
except duckdb.InvalidInputException:
    pass
"""
"""What the engine takes for a Jupyter kernel, without the package that draws bars there."""


def test_a_notebook_needs_no_widgets(hospital: Hospital, tmp_path: Path) -> None:
    hospital.admit(7)
    arguments = [str(hospital.write()), str(tmp_path / "out"), MORTALITY.name]
    command = [sys.executable, "-c", NOTEBOOK + CHILD, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "this engine needs" not in done.stdout
    assert hospital.labels() == {"7_episode1": 0}


# --- The real thing ------------------------------------------------------------------------------------


def test_the_demo_equals_what_the_benchmarks_make_of_it(demo_directory: Path, tmp_path: Path) -> None:
    reference = SHARED / "reference"
    prepare_mimic3(
        SHARED / "data" / "mimic-iii-demo",
        tmp_path / "out",
        test_subjects=reference / "testset.csv",
        val_subjects=reference / "valset.csv",
    )
    for split in SPLITS:
        ours, theirs = (
            set((directory / f"{split}_listfile.csv").read_text().splitlines())
            for directory in (tmp_path / "out", demo_directory)
        )
        assert ours == theirs
    series = sorted(path.relative_to(demo_directory) for path in demo_directory.glob("*/*_timeseries.csv"))
    assert len(series) == 57
    for path in series:
        assert plain(tmp_path / "out" / path) == plain(demo_directory / path), path


@pytest.mark.parametrize("task", ["phenotyping", "decompensation", "length-of-stay", "multitask"])
def test_every_task_of_the_demo_is_what_the_benchmarks_make_of_it(tmp_path: Path, task: str) -> None:
    golden, lists, out = at_hand(SHARED / "golden-tasks"), SHARED / "reference", tmp_path / "out"
    summary = prepare_mimic3(
        at_hand(SHARED / "data" / "mimic-iii-demo"),
        out,
        test_subjects=lists / "testset.csv",
        val_subjects=lists / "valset.csv",
        task=task_of(task),
    )
    samples = {}
    for split in SPLITS:
        ours, theirs = (
            (directory / f"{split}_listfile.csv").read_text().splitlines()
            for directory in (out, golden / "listfiles" / task)
        )
        assert ours[0] == theirs[0]
        assert sorted(ours) == sorted(theirs)
        samples[split] = len(theirs) - 1
    assert summary.samples == samples
    with tarfile.open(golden / "series.tar.xz") as file:
        file.extractall(tmp_path, filter="data")
    reference = tmp_path / "series"
    series = sorted(path.relative_to(reference) for path in reference.glob("*/*_timeseries.csv"))
    assert series == sorted(path.relative_to(out) for path in out.glob("*/*_timeseries.csv"))
    for path in series:
        assert plain(out / path) == plain(reference / path), path
    assert told_of_stays(out) == told_by_the_benchmarks(golden / "stays.csv")


TIMES = ("intime", "outtime", "deathtime")


def told_of_stays(out: Path) -> dict[str, tuple[object, ...]]:
    with (out / "stays.csv").open() as file:
        return {
            row["stay"]: (
                *("test" if row["split"] == "test" else "train", float(row["length_of_stay"]), row["died"]),
                *(row[time] for time in TIMES),
                round(float(row["first_row"]), 6),
            )
            for row in csv.DictReader(file)
        }


def told_by_the_benchmarks(path: Path) -> dict[str, tuple[object, ...]]:
    with path.open() as file:
        return {
            row["series"]: (
                *(row["part"], round(float(row["los_hours"]), 6), row["mortality"]),
                *(row[time] and str(datetime.fromisoformat(row[time])) for time in TIMES),
                round(float(row["first_kept"]), 6),
            )
            for row in csv.DictReader(file)
            if row["first_kept"]
        }


def plain(path: Path) -> list[list[float | str]]:
    """Cells of a file, numbers as such."""

    def value(cell: str) -> float | str:
        try:
            return float(cell)
        except ValueError:
            return cell

    with path.open() as file:
        return [[value(cell) for cell in row] for row in csv.reader(file)]
