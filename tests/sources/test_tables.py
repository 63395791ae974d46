"""Two tables of one's own -> the task; a slow loop in plain Python agrees on every cell."""

from __future__ import annotations

import csv
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mimic3tf.channels import MIMIC3
from mimic3tf.data.channels_file import read_channels
from mimic3tf.data.directory import SPLITS
from mimic3tf.errors import DataError, UsageError
from mimic3tf.sources.layout import Summary
from mimic3tf.sources.tables import prepare_tables

Rows = list[dict[str, Any]]
STAYS: Rows = [{"subject": 7, "episode": 1, "died": 0}, {"subject": 8, "episode": 1, "died": 1}]
VALUES: Rows = [
    {"subject": 7, "episode": 1, "minute": 60, "channel": "Heart Rate", "value": "80"},
    {"subject": 8, "episode": 1, "minute": 30, "channel": "Glascow coma scale total", "value": "15"},
]


class Tables:
    """Two tables in a folder, and what `prepare_tables` makes of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "out"
        self.outcomes, self.measurements = folder / "outcomes.csv", folder / "measurements.csv"
        self.write(STAYS, VALUES)

    def write(self, stays: Rows, values: Rows) -> Tables:
        for path, rows in ((self.outcomes, stays), (self.measurements, values)):
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
        return self

    def add(self, **changed: Any) -> Tables:
        return self.write(STAYS, [*VALUES, VALUES[0] | changed])

    def prepare(self, **options: Any) -> Summary:
        return prepare_tables(self.outcomes, self.measurements, self.out, **options)

    def series(self, name: str) -> Rows:
        (file,) = self.out.glob(f"t*/{name}_timeseries.csv")
        with file.open() as lines:
            return [{key: cell for key, cell in row.items() if cell} for row in csv.DictReader(lines)]

    def labels(self) -> dict[str, dict[str, str]]:
        """Split -> stay -> label."""
        return {
            split: dict(
                line.split(",") for line in (self.out / f"{split}_listfile.csv").read_text().split()[1:]
            )
            for split in SPLITS
        }

    def fault(self, **options: Any) -> str:
        with pytest.raises((DataError, UsageError)) as caught:
            self.prepare(**options)
        assert not self.out.exists()
        assert [path.name for path in self.folder.glob(".*")] == []
        assert "\n" not in str(caught.value)
        return str(caught.value)


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return Tables(tmp_path)


# --- What is read ----------------------------------------------------------------------------------------


def test_stays_values_and_labels_are_those_of_the_tables(tables: Tables) -> None:
    summary = tables.prepare()
    assert tables.series("7_episode1") == [{"Hours": "1.0", "Heart Rate": "80"}]
    assert tables.series("8_episode1") == [{"Hours": "0.5", "Glascow coma scale total": "15"}]
    listed = {name: label for stays in tables.labels().values() for name, label in stays.items()}
    assert listed == {"7_episode1_timeseries.csv": "0", "8_episode1_timeseries.csv": "1"}
    assert (summary.dropped_stays, summary.dropped_values) == ({}, {})


def as_parquet(tables: Tables) -> None:
    for name in ("outcomes", "measurements"):
        path = getattr(tables, name)
        pl.read_csv(path, schema_overrides={"value": pl.String}).write_parquet(path.with_suffix(".parquet"))
        setattr(tables, name, path.with_suffix(".parquet"))


def as_gzip(tables: Tables) -> None:
    for name in ("outcomes", "measurements"):
        path = getattr(tables, name)
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        setattr(tables, name, path.with_name(path.name + ".gz"))


def rewritten(change: Callable[[bytes], bytes]) -> Callable[[Tables], None]:
    def rewrite(tables: Tables) -> None:
        for path in (tables.outcomes, tables.measurements):
            path.write_bytes(change(path.read_bytes()))

    return rewrite


@pytest.mark.parametrize(
    "form",
    [
        as_parquet,
        as_gzip,
        rewritten(lambda text: b"\xef\xbb\xbf" + text),
        rewritten(lambda text: text.replace(b"\n", b"\r\n")),
        rewritten(lambda text: text.replace(b"subject,", b"Subject_ID, ", 1)),
        rewritten(lambda text: text.replace(b"minute", b"MINUTE").replace(b",15", b", 15.0 ")),
        rewritten(lambda text: text.replace(b"7,", b"7.0,").replace(b"Heart Rate", b'"Heart Rate"')),
        rewritten(lambda text: text.replace(b",1,", b",1.0,")),
    ],
    ids=["parquet", "gzip", "BOM", "CRLF", "other name", "upper case", "ids with decimals", "episodes too"],
)
def test_other_forms_of_the_tables_give_the_same_directory(
    tables: Tables, tmp_path: Path, form: Callable[[Tables], None]
) -> None:
    tables.prepare()
    plain = {path.relative_to(tables.out): path.read_bytes() for path in tables.out.rglob("*.*")}
    tables.out.rename(tmp_path / "plain")
    form(tables)
    tables.prepare()
    assert {path.relative_to(tables.out): path.read_bytes() for path in tables.out.rglob("*.*")} == plain


def test_hours_and_times_count_like_minutes(tables: Tables, tmp_path: Path) -> None:
    hours = [{"hour" if key == "minute" else key: value for key, value in row.items()} for row in VALUES]
    tables.write(STAYS, [row | {"hour": 1.5} for row in hours]).prepare()
    assert tables.series("7_episode1")[0]["Hours"] == "1.5"
    tables.out.rename(tmp_path / "hours")
    start = datetime(2150, 3, 1, 23, 0)
    stays = [row | {"intime": start} for row in STAYS]
    values = [{**row, "time": start + timedelta(hours=1.5)} for row in VALUES]
    for row in values:
        del row["minute"]
    tables.write(stays, values).prepare()
    assert tables.series("8_episode1")[0]["Hours"] == "1.5"


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_times_of_different_zones_are_compared_as_instants(tables: Tables, kind: str) -> None:
    east, west = (timezone(timedelta(hours=hours)) for hours in (2, -5))
    start = datetime(2150, 3, 1, 12, 0, tzinfo=east)
    stays = [row | {"intime": start} for row in STAYS]
    values = [
        {
            "subject": row["subject"],
            "time": (start + timedelta(hours=3)).astimezone(west),
            "channel": row["channel"],
            "value": row["value"],
        }
        for row in VALUES
    ]
    tables.write(stays, values)
    if kind == "parquet":
        for name, rows in (("outcomes", stays), ("measurements", values)):
            path = tables.folder / f"{name}.parquet"
            pl.DataFrame(rows).write_parquet(path)
            setattr(tables, name, path)
    tables.prepare()
    assert tables.series("7_episode1")[0]["Hours"] == "3.0"


def test_times_with_and_without_a_zone_are_not_mixed(tables: Tables) -> None:
    stays = [row | {"intime": "2150-03-01 12:00:00"} for row in STAYS]
    values = [row | {"time": "2150-03-01T13:00:00Z"} for row in VALUES]
    for row in values:
        del row["minute"]
    assert "some times have a time zone, others have none" in tables.write(stays, values).fault()


@pytest.mark.parametrize("zone", [" UTC", " EST", " Europe/Berlin"])
def test_a_zone_may_be_a_name(tables: Tables, zone: str) -> None:
    stays = [row | {"intime": "2150-03-01 12:00:00"} for row in STAYS]
    values = [{**row, "time": f"2150-03-01 13:00:00{zone}"} for row in VALUES]
    for row in values:
        del row["minute"]
    assert "some times have a time zone, others have none" in tables.write(stays, values).fault()
    stays = [row | {"intime": f"2150-03-01 12:00:00{zone}"} for row in STAYS]
    tables.write(stays, values).prepare()
    assert tables.series("7_episode1")[0]["Hours"] == "1.0"


def test_the_splits_are_those_of_the_column_or_keep_a_subject_together(
    tables: Tables, tmp_path: Path
) -> None:
    keys = [{"subject": subject, "episode": episode} for subject in range(60) for episode in (1, 2)]
    values = [key | {"minute": 5, "channel": "pH", "value": 7.4} for key in keys]
    tables.write([key | {"died": 0} for key in keys], values).prepare()
    found = [{name.split("_")[0] for name in stays} for stays in tables.labels().values()]
    assert sum(map(len, found)) == len(set.union(*found)) == 60
    assert json.loads((tables.out / "prepared.json").read_text())["options"]["split"] == "hash"
    tables.out.rename(tmp_path / "hashed")
    split = {key: SPLITS[key % 3] for key in range(60)}
    tables.write([key | {"died": 0, "split": split[key["subject"]]} for key in keys], values).prepare()
    for name, stays in tables.labels().items():
        assert {split[int(stay.split("_")[0])] for stay in stays} == {name}
        assert len(stays) == 40


def test_channels_of_ones_own_are_read_and_kept(tables: Tables, tmp_path: Path) -> None:
    many = "".join(f"  - {{name: Number {n}, normal: 1}}\n" for n in range(150))
    (tmp_path / "channels.yaml").write_text(
        "channels:\n  - {name: Lactate, unit: mmol/L, normal: 1.2, plausible: [0.1, 30]}\n"
        f"  - {{name: Alertness, normal: alert, categories: {{alert: 4, pain: 2}}}}\n{many}"
    )
    rows = [("Lactate", 2.5), ("Alertness", "pain"), ("Number 149", 7)]
    tables.write(STAYS, [VALUES[0] | {"channel": name, "value": value} for name, value in rows])
    tables.prepare(channels=tmp_path / "channels.yaml")
    read = {"Hours": "1.0", "Lactate": "2.5", "Alertness": "pain", "Number 149": "7"}
    assert tables.series("7_episode1") == [read]
    assert read_channels(tables.out).names[:2] == ("Lactate", "Alertness")


def test_what_is_left_out_is_counted(tables: Tables) -> None:
    row = VALUES[0]
    more = [
        *(row | {"minute": minute} for minute in (-1, 2881, "", "nan")),
        *(row | {"value": value} for value in ("", "NA", "nan")),
        *(row | {"subject": subject} for subject in (99, "")),
        row,
        row | {"value": 79},
    ]
    stays = [*STAYS, {"subject": 9, "episode": 1, "died": 1}, {"subject": 10, "episode": 1, "died": ""}]
    summary = tables.write(stays, [*VALUES, *more]).prepare()
    assert summary.dropped_values == {
        "outside of the first 48 hours": 2,
        "without a time": 2,
        "without a value": 3,
        "of a stay without an outcome": 2,
        "another value of the channel at the same instant": 2,
    }
    assert summary.dropped_stays == {"without a known outcome": 1, "no measurement in the first 48 hours": 1}
    assert tables.series("7_episode1") == [{"Hours": "1.0", "Heart Rate": "80"}]


def test_unknown_things_are_left_out_and_counted_on_demand(tables: Tables) -> None:
    rows = [
        VALUES[0] | {"channel": "Urine"},
        VALUES[0] | {"channel": ""},
        VALUES[0] | {"channel": "Glucose", "value": ">600"},
        VALUES[0] | {"channel": "Glascow coma scale total", "value": 16},
        VALUES[0] | {"channel": "pH", "value": "inf"},
    ]
    summary = tables.write(STAYS, [*VALUES, *rows]).prepare(ignore_unknown=True)
    assert summary.dropped_values == {
        "of an unknown channel": 2,
        "Glucose is no value of the channel": 1,
        "Glascow coma scale total is no value of the channel": 1,
        "pH is no value of the channel": 1,
    }


# --- Units -----------------------------------------------------------------------------------------------

MISTAKES = {
    ("Temperature", 98.6): ("degF", "degC", 37.0),
    ("Fraction inspired oxygen", 40): ("%", "fraction", 0.4),
    ("Oxygen saturation", 0.96): ("fraction", "%", 96.0),
    ("Height", 67): ("in", "cm", 170.18),
    ("Weight", 180): ("lb", "kg", 81.64656),
    ("Glucose", 7.5): ("mmol/L", "mg/dL", 135.12),
    ("Systolic blood pressure", 16): ("kPa", "mmHg", 120.00992),
}


@pytest.mark.parametrize(("mistake", "meant"), MISTAKES.items(), ids=[unit for unit, *_ in MISTAKES.values()])
def test_another_unit_is_named_and_read_or_confirmed_as_typed(
    tables: Tables, tmp_path: Path, mistake: tuple[str, float], meant: tuple[str, str, float]
) -> None:
    (channel, value), (looks, stated, converted) = mistake, meant
    tables.add(channel=channel, value=value)
    fault = tables.fault()
    assert f"'{channel}' has the median {value:g}, which looks like {looks}" in fault
    assert f'type --units "{channel}={looks}" if it is, --units "{channel}={stated}" if it is not' in fault
    tables.prepare(units=[f"{channel}={looks}"])
    assert float(tables.series("7_episode1")[0][channel]) == pytest.approx(converted)
    tables.out.rename(tmp_path / "converted")
    summary = tables.prepare(units=[f"{channel}={stated}"])
    assert float(tables.series("7_episode1")[0][channel]) == value
    assert sum(found.outside for found in summary.channels) == (channel not in ("Weight",))


@pytest.mark.parametrize(
    ("channel", "value"),
    [
        *((channel.name, channel.normal_number) for channel in MIMIC3 if not channel.is_categorical),
        ("Fraction inspired oxygen", 1.0),
        ("Weight", 105),
        ("Glucose", 320),
        ("Temperature", 33),
        ("Respiratory rate", 99),
    ],
)
def test_usual_values_are_read_without_a_question(tables: Tables, channel: str, value: float) -> None:
    tables.add(channel=channel, value=value, minute=1).prepare()
    assert float(tables.series("7_episode1")[0][channel]) == value


def test_units_that_the_table_states_are_converted_row_by_row(tables: Tables) -> None:
    rows = [
        VALUES[0] | {"minute": minute, "channel": channel, "value": value, "unit": unit}
        for minute, channel, value, unit in (
            (0, "Temperature", 98.6, "°F"),
            (1, "Temperature", 37.5, "degC"),
            (2, "Temperature", 38, ""),
            (3, "Fraction inspired oxygen", 50, "percent"),
            (4, "Heart Rate", 70, "bpm"),
            (5, "Glascow coma scale total", 14, "points"),
        )
    ]
    tables.write(STAYS, rows).prepare()
    cells = [next(cell for key, cell in row.items() if key != "Hours") for row in tables.series("7_episode1")]
    assert [float(cell) for cell in cells] == pytest.approx([37, 37.5, 38, 0.5, 70, 14])


def test_a_stated_unit_that_cannot_be_right_is_named(tables: Tables, tmp_path: Path) -> None:
    rows = [VALUES[0] | {"channel": "Temperature", "value": 37, "unit": "degF"}]
    tables.write(STAYS, rows)
    fault = tables.fault()
    assert "looks like degC, not like degF" in fault
    assert '--units "Temperature=degC"' in fault
    tables.prepare(units=["Temperature=degC"])
    assert tables.series("7_episode1")[0]["Temperature"] == "37"
    tables.out.rename(tmp_path / "overruled")
    tables.write(STAYS, [*rows, rows[0] | {"value": 98, "unit": "degC"}])
    assert "states different units of this channel (degC, degF)" in tables.fault(units=["Temperature=degC"])


def test_an_unknown_unit_is_named_with_its_row(tables: Tables) -> None:
    rows = [VALUES[0] | {"unit": "bpm"}, VALUES[0] | {"channel": "Temperature", "value": 310, "unit": "K"}]
    fault = tables.write(STAYS, rows).fault()
    assert f"{tables.measurements}, line 3: channel 'Temperature': unit 'K' cannot be converted" in fault


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        ("Temperature", "neither"),
        ("Temprature=degF", "did you mean Temperature?"),
        ("Temperature=Rankine", "known are degC, degF"),
        ("Glascow coma scale total=points", "has categories and no unit"),
    ],
)
def test_an_option_that_states_no_unit_is_refused(tables: Tables, text: str, needle: str) -> None:
    assert needle in tables.fault(units=[text])
    file = tables.folder / "units.txt"
    file.write_text(f"Height=cm\n\n{text}\n")
    fault = tables.fault(units=[str(file)])
    assert f"{file}, line 3: " in fault
    assert needle in fault


def test_units_are_read_from_a_file(tables: Tables) -> None:
    (tables.folder / "units.txt").write_text("Height=cm\r\nTemperature = degF\r\n")
    tables.add(channel="Temperature", value=98.6).prepare(units=[str(tables.folder / "units.txt")])
    assert float(tables.series("7_episode1")[0]["Temperature"]) == pytest.approx(37)


# --- Faulty tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "needle"),
    [
        ({"channel": "Hart Rate"}, "channel 'Hart Rate' is not known; did you mean Heart Rate?"),
        ({"channel": "heart rate"}, "did you mean Heart Rate?"),
        ({"channel": ""}, "channel '' is not known"),
        ({"value": "fast"}, "Heart Rate is 'fast', not a number"),
        ({"value": "36,5"}, "Heart Rate is '36,5', not a number"),
        ({"value": "1e30"}, "Heart Rate is '1e30', not a number"),
        ({"channel": "Glascow coma scale total", "value": "16"}, "is '16', which is no category"),
        (
            {"channel": "Glascow coma scale eye opening", "value": "Spontaneous"},
            "no category; did you mean Spontaneously?",
        ),
        ({"minute": "noon"}, "minute is 'noon', not a number"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_faulty_measurement_is_named_with_its_row(
    tables: Tables, kind: str, changed: dict[str, Any], needle: str
) -> None:
    tables.add(**changed)
    place = f"{tables.measurements}, line 4: "
    if kind == "parquet":
        path = tables.folder / "measurements.parquet"
        pl.read_csv(tables.measurements, infer_schema=False).write_parquet(path)
        tables.measurements, place = path, f"{path}, row 3: "
    fault = tables.fault()
    assert fault.startswith(place)
    assert needle in fault


@pytest.mark.parametrize(
    ("changed", "needle"),
    [
        ({"died": 2}, "died is '2'; expected 1 (died) or 0"),
        ({"died": "yes"}, "died is 'yes'"),
        ({"subject": ""}, "subject is empty"),
        ({"subject": "../x"}, "subject is '../x'; an id has up to 100 letters"),
        ({"subject": ".x"}, "subject is '.x'"),
        ({"subject": "a b"}, "subject is 'a b'"),
        ({"episode": "second"}, "episode is 'second'"),
        ({"episode": 1.5}, "episode is '1.5'"),
        ({"episode": ""}, "episode is empty"),
        ({"split": "tuning"}, "split is 'tuning'; expected train, val, test"),
        ({"split": ""}, "split is empty"),
    ],
)
def test_a_faulty_stay_is_named_with_its_row(tables: Tables, changed: dict[str, Any], needle: str) -> None:
    stays = [row | {"split": "train"} for row in STAYS]
    tables.write([*stays, stays[0] | {"subject": 9} | changed], VALUES)
    fault = tables.fault()
    assert fault.startswith(f"{tables.outcomes}, line 4: ")
    assert needle in fault


def test_a_patient_in_two_splits_is_named(tables: Tables) -> None:
    stays = [
        {**STAYS[0], "episode": episode, "split": split} for episode, split in ((1, "train"), (2, "test"))
    ]
    fault = tables.write([STAYS[1] | {"split": "val"}, *stays], VALUES).fault()
    assert fault.startswith(f"{tables.outcomes}, line 3: ")
    assert "this patient has stays in several splits" in fault


def test_measurements_of_several_stays_of_a_patient_say_of_which(tables: Tables) -> None:
    values = [{key: cell for key, cell in row.items() if key != "episode"} for row in VALUES]
    tables.write(STAYS, values).prepare()
    tables.out.rename(tables.folder / "first stays")
    fault = tables.write([*STAYS, STAYS[0] | {"episode": 2}], values).fault()
    assert fault.startswith(f"{tables.outcomes}, line 4: episode is '2'; {tables.measurements} lacks")


def test_a_stay_that_is_listed_twice_is_named_with_both_rows(tables: Tables) -> None:
    fault = tables.write([*STAYS, STAYS[0] | {"died": 1}], VALUES).fault()
    assert f"{tables.outcomes}, line 2 and line 4: both are of subject 7, episode 1" in fault
    stays = [{"subject": 7, "died": 0}, {"subject": 7, "died": 0}]
    fault = tables.write(stays, [{k: v for k, v in row.items() if k != "episode"} for row in VALUES]).fault()
    assert "number a patient's stays in a column 'episode'" in fault


@pytest.mark.parametrize("name", ["outcomes", "measurements"])
@pytest.mark.parametrize(
    ("suffix", "content", "needle"),
    [
        ("csv", b"", "is empty"),
        ("csv", b"\n", "is empty"),
        ("csv", b"a;b;c\n1;2;3\n", "line 1: the cells are separated by semicolons"),
        ("csv", b"a\tb\n1\t2\n", "separated by tabs"),
        ("csv", b"\xff\xfe\x00", "is not text in UTF-8; save it as UTF-8"),
        ("CSV.GZ", gzip.compress(b"patient,value\n1,2\n"), "lacks the column 'subject'; it has patient"),
        ("csv", b"patient,value\n1,2\n", "lacks the column 'subject'; it has patient, value"),
        ("csv.gz", gzip.compress(os.urandom(9999).hex().encode())[:3000], "is cut short or damaged"),
        ("csv.gz", b"", "is empty"),
        ("parquet", b"", "is empty; copy it again"),
        ("parquet", b"PAR1 and no more", "is cut short or damaged; copy it again"),
    ],
)
def test_a_file_that_is_no_table_is_named(
    tables: Tables, name: str, suffix: str, content: bytes, needle: str
) -> None:
    path = tables.folder / f"broken.{suffix}"
    path.write_bytes(content)
    setattr(tables, name, path)
    fault = tables.fault()
    assert fault.startswith(str(path))
    assert needle in fault


def test_a_gzip_file_that_ends_early_is_named(tables: Tables) -> None:
    lines = "".join(f"7,1,{minute},Heart Rate,{minute % 97}\n" for minute in range(2880))
    packed = gzip.compress(f"subject,episode,minute,channel,value\n{lines * 9}".encode())
    tables.measurements = tables.folder / "m.csv.gz"
    tables.measurements.write_bytes(packed[: len(packed) // 2])
    assert tables.fault().startswith(f"{tables.measurements}: is cut short or damaged")


@pytest.mark.parametrize("name", ["outcomes", "measurements"])
def test_a_missing_file_is_named(tables: Tables, name: str) -> None:
    setattr(tables, name, tables.folder / "nowhere.csv")
    assert str(tables.folder / "nowhere.csv") in tables.fault()


@pytest.mark.parametrize(
    ("header", "needle"),
    [
        ("subject,episode,minute,channel,vale", "lacks the column 'value'; it has"),
        ("subject,episode,day,channel,value", "a column minute, hour or time is needed"),
        ("subject,hour,minute,channel,value", "from the columns minute, hour; keep one of them"),
        ("subject,episode,time,channel,value", "lacks the column 'intime'"),
        ("subject,episode,minute,channel,Value,value", "line 1: the header repeats the column"),
    ],
)
def test_a_missing_column_is_named(tables: Tables, header: str, needle: str) -> None:
    tables.measurements.write_text(f"{header}\n")
    assert needle in tables.fault()


def test_a_table_without_rows_is_named(tables: Tables) -> None:
    tables.measurements.write_text("subject,episode,minute,channel,value\n")
    assert "holds no measurement" in tables.fault()
    tables.outcomes.write_text("subject,episode,died\n")
    assert tables.fault() == f"{tables.outcomes}: holds no stay, only the names of the columns"


def test_tables_that_share_no_stay_are_told(tables: Tables) -> None:
    tables.write(STAYS, [VALUES[0] | {"subject": 999}])
    assert "of the values: 1 of a stay without an outcome" in tables.fault()


def test_a_wrong_type_of_a_parquet_column_is_named(tables: Tables) -> None:
    tables.measurements = tables.folder / "m.parquet"
    pl.DataFrame({"subject": [7], "minute": [1], "channel": ["pH"], "value": [[7.4]]}).write_parquet(
        tables.measurements
    )
    assert "column 'value' is of type List(Float64), not text or numbers" in tables.fault()


@pytest.mark.parametrize("name", ["minute", "hour"])
def test_a_duration_in_a_parquet_file_is_no_number(tables: Tables, name: str) -> None:
    tables.measurements = tables.folder / "m.parquet"
    rows = {"subject": [7], name: [timedelta(hours=2)], "channel": ["pH"], "value": [7.4]}
    pl.DataFrame(rows).write_parquet(tables.measurements)
    assert f"column '{name}' is of type Duration(time_unit='us'); write the {name}s" in tables.fault()


def test_columns_of_a_parquet_file_that_differ_in_case_only_are_named(tables: Tables) -> None:
    tables.measurements = tables.folder / "m.parquet"
    rows = {"subject": [7], "hour": [1], "channel": ["pH"], "value": [7.4], "Value": [7.3]}
    pl.DataFrame(rows).write_parquet(tables.measurements)
    assert tables.fault().endswith("names columns that differ in case only: value, Value")


@pytest.mark.parametrize("value", [float("nan"), None, "", "NA", " nan "])
def test_a_cell_of_a_parquet_file_may_hold_nothing(tables: Tables, value: Any) -> None:
    tables.measurements = tables.folder / "m.parquet"
    kind = pl.String if isinstance(value, str) else pl.Float64
    names = ["Heart Rate", "Glascow coma scale total", "Heart Rate"]
    rows = {"subject": [7, 7, 8], "hour": [1.0, 2, 3], "channel": names}
    values = pl.Series("value", [value, value, "80" if kind == pl.String else 80.0], dtype=kind)
    pl.DataFrame(rows).with_columns(values).write_parquet(tables.measurements)
    assert tables.prepare().dropped_values == {"without a value": 2}
    assert tables.series("8_episode1") == [{"Hours": "3.0", "Heart Rate": "80"}]


def test_a_line_with_too_many_cells_is_named(tables: Tables) -> None:
    with tables.measurements.open("a") as file:
        file.write("7,1,3,pH,7.4,7.5\n")
    assert f"{tables.measurements}, line 4: 6 cells where the header names 5" in tables.fault()


def test_a_full_disk_is_told_in_one_line(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert tables.fault() == f"{tables.out}: cannot be made: No space left on device"


def test_a_channel_cannot_be_named_like_a_column_of_the_database(tables: Tables) -> None:
    file = tables.folder / "channels.yaml"
    file.write_text("channels:\n  - {name: Stay, normal: 1}\n")
    assert "channel 'Stay': 'stay' has this name already" in tables.fault(channels=file)


# --- The oracle ------------------------------------------------------------------------------------------

FAHRENHEIT = {"degF": lambda number: (number - 32) * 5 / 9, "": lambda number: number}


def oracle(stays: Rows, values: Rows) -> tuple[dict[str, dict[int, dict[str, Any]]], Counter[str]]:
    """What every stay's cells must be, found one row at a time; and how many values are left out."""
    cells: dict[str, dict[int, dict[str, Any]]] = {}
    dropped: Counter[str] = Counter()
    known = {(str(row["subject"]), row["episode"]) for row in stays if row["died"] != ""}
    for row in values:
        channel = MIMIC3[MIMIC3.position(row["channel"])]
        value: Any = row["value"]
        if row["value"] == "":
            dropped["without a value"] += 1
        elif (str(row["subject"]), row["episode"]) not in known:
            dropped["of a stay without an outcome"] += 1
        elif row["minute"] == "":
            dropped["without a time"] += 1
        elif not 0 <= row["minute"] <= 2880:
            dropped["outside of the first 48 hours"] += 1
        else:
            if channel.is_categorical:
                value = next(text for text in channel.possible_values if text in (value, str(value)))
            else:
                value = FAHRENHEIT[row["unit"]](float(value))
            name = f"{row['subject']}_episode{row['episode']}"
            instant = cells.setdefault(name, {}).setdefault(round(row["minute"] * 60), {})
            if channel.name in instant:
                dropped["another value of the channel at the same instant"] += 1
            instant[channel.name] = max(value, instant.get(channel.name, value))
    return cells, dropped


ROW = st.fixed_dictionaries(
    {
        "subject": st.sampled_from(["7", "b-2", "X_9", "99"]),
        "episode": st.integers(1, 2),
        "minute": st.one_of(
            st.integers(-5, 2885), st.floats(0, 40).map(lambda minute: round(minute, 3)), st.just("")
        ),
        "cell": st.one_of(
            st.tuples(st.just("Temperature"), st.floats(97, 99), st.just("degF")),
            st.tuples(st.just("Temperature"), st.floats(36, 38), st.just("")),
            st.tuples(st.just("Heart Rate"), st.integers(60, 90), st.just("")),
            st.tuples(st.just("Glascow coma scale total"), st.integers(3, 15), st.just("")),
            st.tuples(
                st.just("Glascow coma scale eye opening"),
                st.sampled_from(["None", "3 To speech"]),
                st.just(""),
            ),
            st.tuples(st.just("pH"), st.just(""), st.just("")),
        ),
    }
)


@given(rows=st.lists(ROW, min_size=1, max_size=60), parquet=st.booleans())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_slow_loop_agrees_on_every_cell(
    tmp_path_factory: pytest.TempPathFactory, rows: Rows, parquet: bool
) -> None:
    tables = Tables(tmp_path_factory.mktemp("oracle"))
    stays = [
        {"subject": subject, "episode": episode, "died": died}
        for subject, episode, died in (("7", 1, 0), ("7", 2, 1), ("b-2", 1, 0), ("X_9", 1, ""))
    ]
    values = [
        {**row, **dict(zip(("channel", "value", "unit"), row["cell"], strict=True))} | {"cell": ""}
        for row in [*rows, {"subject": "7", "episode": 1, "minute": 7, "cell": ("Heart Rate", 70, "")}]
    ]
    tables.write(stays, values)
    if parquet:
        as_parquet(tables)
    summary = tables.prepare()
    cells, dropped = oracle(stays, values)
    assert summary.dropped_values == dropped
    found: dict[str, dict[float, dict[str, str]]] = {
        path.name.removesuffix("_timeseries.csv"): {
            round(float(row.pop("Hours")) * 3600): row
            for row in tables.series(path.name.removesuffix("_timeseries.csv"))
        }
        for path in tables.out.glob("t*/*.csv")
    }
    assert found.keys() == cells.keys()
    for name, instants in cells.items():
        assert found[name].keys() == instants.keys()
        for second, expected in instants.items():
            assert found[name][second].keys() == expected.keys()
            for channel, value in expected.items():
                text = found[name][second][channel]
                assert text == value if isinstance(value, str) else float(text) == pytest.approx(value)


# --- Killed and started again ----------------------------------------------------------------------------

CHILD = """
import sys
from mimic3tf.sources.tables import prepare_tables
prepare_tables(*sys.argv[1:])
"""


def test_a_killed_run_leaves_nothing_finished_and_the_next_one_cleans_up(tables: Tables) -> None:
    lines = "".join(f"7,1,{minute},Heart Rate,{minute % 97}\n" for minute in range(2880))
    tables.measurements.write_text("subject,episode,minute,channel,value\n" + 300 * lines)
    arguments = map(str, (tables.outcomes, tables.measurements, tables.out))
    child = subprocess.Popen([sys.executable, "-c", CHILD, *arguments])
    while child.poll() is None and not [*tables.folder.glob(".out*")]:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not tables.out.exists()
    tables.write(STAYS, VALUES).prepare()
    assert len(tables.series("7_episode1")) == 1
    assert [*tables.folder.glob(".out*")] == []
