"""Raw tables of one's own making -> the task; and the open demo, against a slow reading of it."""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from raw_records import cut_gzip, labels_of, replaced, series_of

from mimic3tf.channels import MIMIC3
from mimic3tf.data.directory import SPLITS
from mimic3tf.data.listfiles import read_rows
from mimic3tf.errors import DataError
from mimic3tf.sources.layout import Summary
from mimic3tf.sources.mimic4 import prepare_mimic4
from mimic3tf.tasks.phenotypes import PHENOTYPES
from mimic3tf.tasks.registry import task_of

DEMO = Path(__file__).resolve().parents[3] / "shared/data/mimic-iv-demo-2.2"
IN = datetime(2180, 5, 1, 12, 0, 0)
COLUMNS = {
    "hosp/patients": "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod",
    "hosp/admissions": "subject_id,hadm_id,admittime,dischtime,deathtime,insurance,hospital_expire_flag",
    "icu/icustays": "subject_id,hadm_id,stay_id,first_careunit,last_careunit,intime,outtime,los",
    "hosp/diagnoses_icd": "subject_id,hadm_id,seq_num,icd_code,icd_version",
    "icu/chartevents": "subject_id,hadm_id,stay_id,caregiver_id,charttime,storetime,itemid,value,valuenum,"
    "valueuom,warning",
    "hosp/labevents": "labevent_id,subject_id,hadm_id,specimen_id,itemid,charttime,storetime,value,valuenum,"
    "valueuom,flag,comments",
}
"""A part of the columns of the real tables, in their order, with some that nobody needs."""
HEART_RATE, GLUCOSE, HEIGHT, WEIGHT_LB, EYE, REFILL, FIO2 = (
    220045,
    50931,
    226730,
    226531,
    220739,
    223951,
    223835,
)


@dataclass
class Hospital:
    """Raw tables under construction; every patient enters the ICU at `IN`, for 72 hours."""

    directory: Path
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {table: [] for table in COLUMNS})

    def admit(
        self, subject: int, stay: int = 0, *, hours: float = 72, start: datetime = IN, **changed: Any
    ) -> None:
        """A patient of 60 years (at stay 0) with an admission, an ICU stay, and one heart rate."""
        ids = {"subject_id": subject, "hadm_id": 10 * subject + stay, "stay_id": 1000 * subject + stay}
        if stay == 0:
            person = {"anchor_age": 60, "anchor_year": 2180}
            self.rows["hosp/patients"].append(ids | person | changed)
        self.rows["hosp/admissions"].append(ids | {"hospital_expire_flag": 0} | changed)
        unit = dict.fromkeys(("first_careunit", "last_careunit"), "Medical Intensive Care Unit (MICU)")
        times = {"intime": start, "outtime": start + timedelta(hours=hours), "los": hours / 24}
        self.rows["icu/icustays"].append(ids | unit | times | changed)
        self.chart(subject, HEART_RATE, 80, stay=stay, start=start)

    def chart(
        self,
        subject: int,
        item: int,
        value: object,
        hour: float = 1,
        stay: int = 0,
        start: datetime = IN,
        **changed: Any,
    ) -> None:
        """One event; items of laboratories go to labevents."""
        event: dict[str, Any] = {
            "subject_id": subject,
            "hadm_id": 10 * subject + stay,
            "stay_id": 1000 * subject + stay,
        }
        event |= {"itemid": item, "charttime": start + timedelta(hours=hour), "value": value}
        event["valuenum"] = value if isinstance(value, int | float) else ""
        self.rows["hosp/labevents" if item < 200000 else "icu/chartevents"].append(event | changed)

    def write(self) -> Path:
        for table, columns in COLUMNS.items():
            path = self.directory / f"{table}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, columns.split(","), restval="", extrasaction="ignore")
                writer.writeheader()
                writer.writerows(self.rows[table])
        return self.directory

    def prepare(self, **options: Any) -> Summary:
        return prepare_mimic4(self.write(), self.out, **options)

    @property
    def out(self) -> Path:
        return self.directory.parent / "out"


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    hospital = Hospital(tmp_path / "raw")
    hospital.admit(7)
    return hospital


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"last_careunit": "Trauma SICU (TSICU)"}, "transfer between ICU units or wards"),
        ({"anchor_age": 17}, "younger than 18"),
        ({"anchor_age": ""}, "no date of birth"),
        ({"hours": 47.9}, "shorter than 48 hours"),
        ({"los": ""}, "of unknown length"),
        ({"hospital_expire_flag": ""}, "no such patient or admission"),
    ],
)
def test_stays_outside_the_cohort_are_left_out_and_counted(
    hospital: Hospital, changes: dict[str, Any], reason: str
) -> None:
    hospital.admit(8, **changes)
    assert hospital.prepare().dropped_stays == {reason: 1}
    assert labels_of(hospital.out) == {"7_episode1": 0}


def test_the_age_is_that_of_the_year_of_the_stay(hospital: Hospital) -> None:
    hospital.admit(8, anchor_age=17, anchor_year=2179)
    hospital.prepare()
    assert labels_of(hospital.out).keys() == {"7_episode1", "8_episode1"}


def test_the_label_is_the_flag_of_the_admission_not_a_date_of_death(hospital: Hospital) -> None:
    hospital.admit(8, hospital_expire_flag=1)
    hospital.admit(9, dod=IN + timedelta(days=3))
    hospital.prepare()
    assert labels_of(hospital.out) == {"7_episode1": 0, "8_episode1": 1, "9_episode1": 0}


def test_all_stays_keeps_transfers_and_several_stays_of_an_admission(hospital: Hospital) -> None:
    hospital.admit(8, last_careunit="CCU")
    hospital.rows["icu/icustays"].append(
        hospital.rows["icu/icustays"][0] | {"stay_id": 7999, "intime": IN + timedelta(days=5)}
    )
    hospital.chart(7, HEART_RATE, 90, 121, stay_id=7999)
    hospital.prepare(all_stays=True)
    assert labels_of(hospital.out).keys() == {"7_episode1", "7_episode2", "8_episode1"}
    assert series_of(hospital.out, "7_episode2") == [{"Hours": "1.0", "Heart Rate": "90"}]


def test_what_is_charted_at_admission_counts_for_the_start_of_its_stay(hospital: Hospital) -> None:
    hospital.chart(7, HEIGHT, 172, -30)
    hospital.chart(7, WEIGHT_LB, 100, -1)
    hospital.chart(7, HEART_RATE, 99, -0.5)
    hospital.chart(7, HEIGHT, 160, -2, stay_id=7999)
    hospital.chart(7, HEIGHT, 171, 3)
    hospital.prepare()
    assert series_of(hospital.out, "7_episode1") == [
        {"Hours": "0.0", "Height": "172", "Weight": "45.3592"},
        {"Hours": "1.0", "Heart Rate": "80"},
        {"Hours": "3.0", "Height": "171"},
    ]


def test_values_are_converted_from_the_unit_of_their_item(hospital: Hospital) -> None:
    for hour, (item, value) in enumerate(
        [(223761, 100.4), (223762, 37.5), (FIO2, 40), (FIO2, 0.5), (50816, 30)], 2
    ):
        hospital.chart(7, item, value, hour)
    for hour, text in enumerate(["Normal <3 Seconds", "Abnormal >3 Seconds", "Normal <3 secs"], 10):
        hospital.chart(7, REFILL, text, hour)
    hospital.chart(7, FIO2, 4, 8)
    hospital.chart(7, EYE, "To Speech", 20, valuenum=3)
    summary = hospital.prepare()
    rows = {float(row["Hours"]): row for row in series_of(hospital.out, "7_episode1")}
    temperature, oxygen = "Temperature", "Fraction inspired oxygen"
    assert [float(rows[hour][temperature]) for hour in (2, 3)] == pytest.approx([38.0, 37.5])
    assert [float(rows[hour][oxygen]) for hour in (4, 5, 6)] == pytest.approx([0.4, 0.5, 0.3])
    assert [rows[hour]["Capillary refill rate"] for hour in (10, 11)] == ["0.0", "1.0"]
    assert rows[20]["Glascow coma scale eye opening"] == "To Speech"
    assert summary.dropped_values == {
        "Fraction inspired oxygen is no value of the channel": 1,
        "Capillary refill rate is no value of the channel": 1,
    }


def test_the_number_of_a_laboratory_counts_where_its_text_is_hidden(hospital: Hospital) -> None:
    hospital.chart(7, GLUCOSE, "___", 2, valuenum=130, hadm_id="", valueuom="")
    hospital.chart(7, GLUCOSE, "___", 3)
    summary = hospital.prepare()
    assert series_of(hospital.out, "7_episode1")[1:] == [{"Hours": "2.0", "Glucose": "130"}]
    assert summary.dropped_values == {"Glucose is no value of the channel": 1}


def test_order_and_repeats_of_events_do_not_matter(hospital: Hospital, tmp_path: Path) -> None:
    for hour in range(2, 9):
        hospital.chart(7, HEART_RATE, 60 + hour, hour)
    hospital.prepare()
    events = hospital.rows["icu/chartevents"]
    again = Hospital(tmp_path / "again/raw", hospital.rows | {"icu/chartevents": events[::-1] + events[:3]})
    summary = again.prepare()
    assert series_of(again.out, "7_episode1") == series_of(hospital.out, "7_episode1")
    assert summary.dropped_values == {"another value of the channel at the same instant": 3}


def test_an_event_without_a_time_is_counted(hospital: Hospital) -> None:
    hospital.chart(7, HEART_RATE, 70, charttime="")
    assert hospital.prepare().dropped_values == {"without a time": 1}


def test_of_overlapping_admissions_each_keeps_its_own_events(hospital: Hospital) -> None:
    hospital.admit(7, 1, start=IN + timedelta(hours=10))
    hospital.chart(7, HEART_RATE, 91, 15)
    hospital.chart(7, HEART_RATE, 92, 5, 1, IN + timedelta(hours=10))
    hospital.prepare()
    rates = [[row["Heart Rate"] for row in series_of(hospital.out, f"7_episode{k}")] for k in (1, 2)]
    assert rates == [["80", "91"], ["80", "92"]]


@pytest.mark.parametrize(
    ("table", "spoil", "message"),
    [
        (
            "icu/chartevents",
            Path.unlink,
            r"icu: holds neither chartevents\.csv nor chartevents\.csv\.gz.*MIMIC-IV",
        ),
        (
            "hosp/patients",
            replaced("anchor_age", "age"),
            r"patients\.csv, line 1: .*misses the column anchor_age",
        ),
        (
            "icu/icustays",
            replaced("7000", "seven"),
            r"icustays\.csv, line 2: stay_id is 'seven', not a whole number",
        ),
        (
            "icu/chartevents",
            replaced("2180-05-01 13:00:00", "noon"),
            r"chartevents\.csv, line 2: charttime is 'noon', not a date and time",
        ),
        ("icu/chartevents", cut_gzip, r"chartevents\.csv\.gz: is cut short or damaged"),
        ("hosp/labevents", lambda path: path.write_bytes(b""), r"labevents\.csv, line 1: the header misses"),
        (
            "hosp/patients",
            lambda path: path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n"),
            r"patients\.csv: subject_id 7 is on several lines",
        ),
        (
            "icu/icustays",
            lambda path: path.write_text(path.read_text().splitlines()[0] + "\n"),
            r"no stay of 48 hours .*name no stay",
        ),
    ],
)
def test_a_faulty_table_is_named_in_one_line(
    hospital: Hospital, tmp_path: Path, table: str, spoil: Callable[[Path], object], message: str
) -> None:
    directory = hospital.write()
    spoil(directory / f"{table}.csv")
    with pytest.raises(DataError, match=message) as caught:
        prepare_mimic4(directory, hospital.out)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_times_of_a_zone_are_refused(hospital: Hospital) -> None:
    directory = hospital.write()
    replaced("2180-05-01 13:00:00", "2180-05-01 13:00:00+02:00")(directory / "icu/chartevents.csv")
    with pytest.raises(DataError, match=r"chartevents\.csv, line 2: charttime has a time zone"):
        prepare_mimic4(directory, hospital.out)


def test_tables_outside_of_their_folders_are_found(hospital: Hospital) -> None:
    directory = hospital.write()
    for table in COLUMNS:
        (directory / f"{table}.csv").rename(directory / f"{Path(table).name}.csv")
    for folder in ("hosp", "icu"):
        (directory / folder).rmdir()
    prepare_mimic4(directory, hospital.out)
    assert labels_of(hospital.out) == {"7_episode1": 0}


# --- Whole stays -----------------------------------------------------------------------------------------


def diagnose(hospital: Hospital, subject: int, version: int, *codes: str, stay: int = 0) -> None:
    hospital.rows["hosp/diagnoses_icd"] += [
        {
            **{"subject_id": subject, "hadm_id": 10 * subject + stay},
            **{"icd_code": code, "icd_version": version},
        }
        for code in codes
    ]


def phenotypes_of(out: Path, task: str = "phenotyping") -> dict[str, list[str]]:
    """Phenotypes of each stay."""
    found = {}
    for split in SPLITS:
        file = out / f"{split}_listfile.csv"
        if len(file.read_text().splitlines()) > 1:
            rows = read_rows(file, task_of(task))
            for stay, labels in zip(rows.stays, rows.labels[:, -25:], strict=True):
                named = [PHENOTYPES[label] for label in np.flatnonzero(labels == 1)]
                found[stay.removesuffix("_timeseries.csv")] = named
    return found


def test_phenotypes_are_found_in_both_versions_of_icd(
    hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    diagnose(hospital, 7, 9, "78552", " 5849 ", "0010")
    hospital.admit(8)
    diagnose(hospital, 8, 10, "R6521", "N179", "A000")
    hospital.admit(9)
    diagnose(hospital, 9, 10, "Z000")
    hospital.prepare(task=task_of("phenotyping"))
    failing = ["Acute and unspecified renal failure", "Shock"]
    assert phenotypes_of(hospital.out) == {"7_episode1": failing, "8_episode1": failing, "9_episode1": []}
    assert "1 stays in ICD-9-CM, 2 stays in ICD-10-CM" in capsys.readouterr().err
    made = json.loads((hospital.out / "prepared.json").read_text())
    assert made["options"]["coded"] == {"ICD-9-CM": 1, "ICD-10-CM": 2}


def test_a_code_newer_than_the_table_belongs_to_the_group_of_its_beginning(hospital: Hospital) -> None:
    diagnose(hospital, 7, 10, "I4811")
    hospital.admit(8)
    diagnose(hospital, 8, 9, "42731", "427319")
    hospital.admit(9)
    diagnose(hospital, 9, 9, "427319")
    hospital.prepare(task=task_of("phenotyping"))
    rhythm = ["Cardiac dysrhythmias"]
    assert phenotypes_of(hospital.out) == {"7_episode1": rhythm, "8_episode1": rhythm, "9_episode1": []}


@pytest.mark.parametrize("task", ["phenotyping", "multitask"])
def test_a_stay_without_diagnoses_has_no_phenotypes_and_is_left_out(hospital: Hospital, task: str) -> None:
    diagnose(hospital, 7, 9, "78552")
    hospital.admit(8)
    diagnose(hospital, 8, 9, "78552", stay=1)
    summary = hospital.prepare(task=task_of(task))
    assert summary.dropped_stays == {"no diagnosis of the admission": 1}
    assert phenotypes_of(hospital.out, task).keys() == {"7_episode1"}


def test_the_other_tasks_need_no_diagnoses(hospital: Hospital) -> None:
    directory = hospital.write()
    (directory / "hosp/diagnoses_icd.csv").unlink()
    prepare_mimic4(directory, hospital.out, task=task_of("decompensation"))
    with pytest.raises(DataError, match=r"holds neither diagnoses_icd\.csv"):
        prepare_mimic4(directory, hospital.directory.parent / "labels", task=task_of("phenotyping"))


def test_an_alarm_is_due_less_than_a_day_before_the_time_of_death(hospital: Hospital) -> None:
    hospital.admit(8, hours=10, deathtime=IN + timedelta(hours=32), hospital_expire_flag=1, gender="M")
    hospital.prepare(task=task_of("decompensation"))
    labels: dict[float, str] = {}
    for split in SPLITS:
        rows = [line.split(",") for line in (hospital.out / f"{split}_listfile.csv").read_text().split()[1:]]
        labels |= {float(hour): label for stay, hour, label in rows if stay.startswith("8_")}
    assert labels == {5: "0", 6: "0", 7: "0", 8: "0", 9: "1", 10: "1"}
    assert (hospital.out / "stays.csv").read_text().splitlines()[-1].endswith(",60,M")


# --- The open demo ---------------------------------------------------------------------------------------

TAKEN: dict[str, dict[int, Callable[[float], float]]] = {
    "Diastolic blood pressure": dict.fromkeys((220180, 220051, 225310, 224643), lambda v: v),
    "Fraction inspired oxygen": dict.fromkeys(
        (223835, 50816), lambda v: v if 0.2 < v <= 1 else v / 100 if 20 <= v <= 100 else math.nan
    ),
    "Glucose": dict.fromkeys((225664, 220621, 226537, 50931, 50809), lambda v: v),
    "Heart Rate": {220045: lambda v: v},
    "Height": {226730: lambda v: v, 226707: lambda v: v * 2.54},
    "Mean blood pressure": dict.fromkeys((220181, 220052, 225312), lambda v: v),
    "Oxygen saturation": dict.fromkeys((220277, 220227, 50817), lambda v: v),
    "Respiratory rate": dict.fromkeys((220210, 224690), lambda v: v),
    "Systolic blood pressure": dict.fromkeys((220179, 220050, 225309, 224167, 227243), lambda v: v),
    "Temperature": {223761: lambda v: (v - 32) * 5 / 9, 223762: lambda v: v},
    "Weight": {226512: lambda v: v, 226531: lambda v: v * 0.453592, 224639: lambda v: v},
    "pH": dict.fromkeys((50820, 223830, 220274), lambda v: v),
}
TEXTS = {
    223951: "Capillary refill rate",
    224308: "Capillary refill rate",
    220739: "Glascow coma scale eye opening",
    223901: "Glascow coma scale motor response",
    223900: "Glascow coma scale verbal response",
}
AT_ADMISSION = (226730, 226707, 226512, 226531)
SPELLED = {"Normal <3 Seconds": "0.0", "Abnormal >3 Seconds": "1.0"}


def read(table: str) -> Iterator[dict[str, str]]:
    with gzip.open(DEMO / f"{table}.csv.gz", "rt", encoding="utf-8") as file:
        yield from csv.DictReader(file)


Cells = dict[tuple[str, float, str], float | str]


def slow_demo(*, all_stays: bool) -> tuple[dict[str, int], Cells]:
    """Read the demo event by event: label of each stay, and each cell by stay, hour and channel."""
    age = {
        row["subject_id"]: int(row["anchor_age"]) - int(row["anchor_year"]) for row in read("hosp/patients")
    }
    died = {row["hadm_id"]: int(row["hospital_expire_flag"]) for row in read("hosp/admissions")}
    stays = [
        row for row in read("icu/icustays") if all_stays or row["first_careunit"] == row["last_careunit"]
    ]
    if not all_stays:
        admissions = [row["hadm_id"] for row in stays]
        stays = [row for row in stays if admissions.count(row["hadm_id"]) == 1]
    stays = [row for row in stays if age[row["subject_id"]] + int(row["intime"][:4]) >= 18]
    stays.sort(key=lambda row: row["intime"])
    labels, of_subject = {}, defaultdict(list)
    counted: Counter[str] = Counter()
    for row in stays:
        counted[row["subject_id"]] += 1
        name = f"{row['subject_id']}_episode{counted[row['subject_id']]}"
        if float(row["los"]) >= 2:
            labels[name] = died[row["hadm_id"]]
            of_subject[row["subject_id"]].append(
                (name, row["stay_id"], datetime.fromisoformat(row["intime"]))
            )
    cells: Cells = {}
    for table in ("icu/chartevents", "hosp/labevents"):
        for event in read(table):
            item = int(event["itemid"])
            for channel, value in values(item, event):
                for name, stay, start in of_subject[event["subject_id"]]:
                    hour = (datetime.fromisoformat(event["charttime"]) - start).total_seconds() / 3600
                    early = item in AT_ADMISSION and hour < 0
                    if event.get("stay_id", stay) == stay and (early or 0 <= hour <= 48):
                        key = (name, round(max(hour, 0.0), 6), channel)
                        cells[key] = max(cells.get(key, value), value)
    return labels, cells


def values(item: int, event: dict[str, str]) -> Iterator[tuple[str, float | str]]:
    if item in TEXTS:
        text = SPELLED.get(event["value"], event["value"])
        if text in MIMIC3[MIMIC3.position(TEXTS[item])].possible_values:
            yield TEXTS[item], text
    for channel, items in TAKEN.items():
        if item in items:
            try:
                value = items[item](float(event["valuenum"] or event["value"]))
            except ValueError:
                continue
            if not math.isnan(value):
                yield channel, value


@pytest.mark.skipif(not DEMO.is_dir(), reason="needs the MIMIC-IV demo in ../shared/data")
@pytest.mark.parametrize(
    ("all_stays", "stays", "deaths"), [pytest.param(False, 54, 9, marks=pytest.mark.slow), (True, 74, 12)]
)
def test_every_cell_of_the_demo_is_that_of_a_slow_reading(
    tmp_path: Path, all_stays: bool, stays: int, deaths: int
) -> None:
    prepare_mimic4(DEMO, tmp_path / "out", all_stays=all_stays)
    labels, cells = slow_demo(all_stays=all_stays)
    assert labels_of(tmp_path / "out") == labels
    assert (len(labels), sum(labels.values())) == (stays, deaths)
    found: Cells = {
        (episode, round(float(row["Hours"]), 6), channel): cell
        for episode in labels
        for row in series_of(tmp_path / "out", episode)
        for channel, cell in row.items()
        if channel != "Hours"
    }
    assert found.keys() == cells.keys()
    for key, value in cells.items():
        if isinstance(value, str):
            assert found[key] == value
        else:
            assert float(found[key]) == pytest.approx(value, rel=1e-12)
