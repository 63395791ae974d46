"""Hourly files of YAIB -> the task; a slow loop in plain Python agrees on every cell."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mimic3tf.channels import MIMIC3
from mimic3tf.data.directory import SPLITS
from mimic3tf.errors import DataError, UsageError
from mimic3tf.sources.layout import Summary
from mimic3tf.sources.yaib import prepare_yaib
from mimic3tf.tasks.registry import DECOMPENSATION, LENGTH_OF_STAY, PHENOTYPING

SHARED = Path(__file__).resolve().parents[3] / "shared"
DEMO = SHARED / "data" / "yaib-demo" / "los" / "eicu_demo"
PATIENTS = SHARED / "data" / "eicu-demo-2.0.1" / "patient.csv.gz"
NAMES = {
    "hr": "Heart Rate",
    "sbp": "Systolic blood pressure",
    "dbp": "Diastolic blood pressure",
    "map": "Mean blood pressure",
    "o2sat": "Oxygen saturation",
    "resp": "Respiratory rate",
    "temp": "Temperature",
    "glu": "Glucose",
    "ph": "pH",
    "fio2": "Fraction inspired oxygen",
    "height": "Height",
    "weight": "Weight",
}


class Cohort:
    """The files of a cohort under construction: stay 1 (died) of 50 hours, stay 2 of 49, stay 3 of 48."""

    def __init__(self, folder: Path) -> None:
        self.data, self.out = folder / "yaib", folder / "out"
        self.data.mkdir()
        lengths = {1: 50, 2: 49, 3: 48}
        hours = [(stay, hour) for stay, length in lengths.items() for hour in range(length)]
        self.dyn = pl.DataFrame(
            {
                "stay_id": pl.Series([stay for stay, _ in hours], dtype=pl.Int32),
                "time": pl.Series([timedelta(hours=hour) for _, hour in hours], dtype=pl.Duration("ms")),
                "hr": [None if hour % 2 else 80.0 + hour for _, hour in hours],
                "fio2": [float("nan") if hour else 40.0 for _, hour in hours],
                "wbc": [5.0 for _ in hours],
            }
        )
        self.sta: pl.DataFrame | None = pl.DataFrame(
            {
                "stay_id": [1, 2, 3],
                "age": [50.0, 60, 70],
                "height": [170.0, None, 180],
                "weight": [80.5, 70, 60],
            }
        )
        self.outc: pl.DataFrame | None = pl.DataFrame({"stay_id": [1, 2, 3], "label": [1, 0, 0]})

    def prepare(self, **options: Any) -> Summary:
        for name in ("dyn", "sta", "outc"):
            frame = getattr(self, name)
            if frame is not None:
                frame.write_parquet(self.data / f"{name}.parquet")
        return prepare_yaib(self.data, self.out, **options)

    def fault(self, **options: Any) -> str:
        with pytest.raises((DataError, UsageError)) as caught:
            self.prepare(**options)
        assert not self.out.exists()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def series(self) -> dict[str, list[dict[str, str]]]:
        return series_of(self.out)


def series_of(out: Path) -> dict[str, list[dict[str, str]]]:
    found = {}
    for path in out.glob("t*/*.csv"):
        with path.open() as file:
            rows = [{key: cell for key, cell in row.items() if cell} for row in csv.DictReader(file)]
        found[path.name.removesuffix("_timeseries.csv")] = rows
    return found


def labels_of(out: Path) -> dict[str, str]:
    lines = [line for split in SPLITS for line in (out / f"{split}_listfile.csv").read_text().split()[1:]]
    return dict(line.replace("_timeseries.csv", "").split(",") for line in lines)


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return Cohort(tmp_path)


def test_stays_of_48_hours_are_read_with_height_and_weight_at_their_start(cohort: Cohort) -> None:
    summary = cohort.prepare()
    assert labels_of(cohort.out) == {"1_episode1": "1", "2_episode1": "0"}
    first, second = (cohort.series()[name] for name in ("1_episode1", "2_episode1"))
    start = {"Hours": "0.0", "Heart Rate": "80", "Fraction inspired oxygen": "0.4"}
    assert first[0] == start | {"Height": "170", "Weight": "80.5"}
    assert second[0] == start | {"Weight": "70.0"}
    assert first[1:] == [{"Hours": f"{hour}.0", "Heart Rate": str(80 + hour)} for hour in range(2, 48, 2)]
    assert summary.dropped_stays == {"shorter than 48 hours": 1}
    assert summary.dropped_values == {"outside of the first 48 hours": 2}


def test_a_file_that_is_cut_at_48_hours_keeps_its_longest_stays(cohort: Cohort) -> None:
    cohort.dyn = cohort.dyn.filter(pl.col("time") < timedelta(hours=48))
    assert cohort.prepare().dropped_stays == {}
    assert len(cohort.series()) == 3


@pytest.mark.parametrize(
    "form",
    [
        {"time": pl.col("time").cast(pl.Duration("ns"))},
        {"time": pl.col("time").cast(pl.Duration("us"))},
        {"time": pl.col("time").dt.total_hours()},
        {"time": pl.col("time").dt.total_hours().cast(pl.Int16)},
        {"time": pl.col("time").dt.total_hours().cast(pl.Float32)},
        {"stay_id": pl.col("stay_id").cast(pl.Int64)},
        {"stay_id": pl.col("stay_id").cast(pl.Float64)},
        {"stay_id": pl.col("stay_id").cast(pl.String)},
        {"hr": pl.col("hr").cast(pl.Float32), "fio2": pl.col("fio2").cast(pl.Float32)},
        {"hr": pl.col("hr").fill_null(float("nan")), "fio2": pl.col("fio2").fill_nan(None)},
        {"crp": pl.lit("text"), "extra": pl.lit([1])},
    ],
)
def test_other_types_of_columns_give_the_same_directory(
    cohort: Cohort, tmp_path: Path, form: dict[str, pl.Expr]
) -> None:
    cohort.prepare()
    expected = series_of(cohort.out), labels_of(cohort.out)
    cohort.out.rename(tmp_path / "first")
    cohort.dyn = cohort.dyn.with_columns(**form).sample(fraction=1, shuffle=True, seed=1)
    cohort.prepare()
    assert (series_of(cohort.out), labels_of(cohort.out)) == expected


def test_without_the_static_file_the_rest_is_read(cohort: Cohort) -> None:
    cohort.sta = None
    cohort.prepare()
    assert "Weight" not in cohort.series()["1_episode1"][0]


def test_other_channels_than_the_demos_are_read(cohort: Cohort) -> None:
    cohort.dyn = cohort.dyn.select("stay_id", "time", Temp=pl.lit(37.0), PH=pl.lit(7.4), weight=pl.lit(70.0))
    cohort.prepare()
    rows = cohort.series()["2_episode1"]
    assert len(rows) == 48
    assert rows[5] == {"Hours": "5.0", "Temperature": "37", "pH": "7.4", "Weight": "70.0"}


def test_children_and_people_of_unknown_age_are_left_out(cohort: Cohort) -> None:
    assert cohort.sta is not None
    cohort.sta = cohort.sta.with_columns(age=pl.Series([17.0, None, 70]))
    cohort.dyn = cohort.dyn.filter(pl.col("time") < timedelta(hours=48))
    assert cohort.prepare().dropped_stays == {"of unknown age": 1, "younger than 18": 1}


def test_labels_of_ones_own_count_and_their_subjects_share_a_split(cohort: Cohort, tmp_path: Path) -> None:
    stays = list(range(1, 61))
    frame = pl.DataFrame({"stay_id": stays}).join(pl.DataFrame({"time": list(range(48))}), how="cross")
    cohort.dyn, cohort.sta, cohort.outc = frame.with_columns(hr=80.0), None, None
    rows = [f"{stay},{'01'[stay == 3] if stay < 59 else ''},p{stay // 2}" for stay in stays[:-1]]
    (tmp_path / "died.csv").write_text("\n".join(["icustay_id,Died,patient_id", *rows, "900,0,p0"]))
    summary = cohort.prepare(outcomes=tmp_path / "died.csv")
    assert summary.dropped_stays == {"without a known outcome": 1, "without an outcome": 1}
    labels = labels_of(cohort.out)
    assert len(labels) == 58
    assert [name for name, label in labels.items() if label == "1"] == ["p1_episode2"]
    folders = {path.name.split("_")[0]: path.parent.name for path in cohort.out.glob("t*/*.csv")}
    for path in cohort.out.glob("t*/*.csv"):
        assert folders[path.name.split("_")[0]] == path.parent.name


def test_labels_by_the_hour_are_told_from_labels_of_stays(cohort: Cohort, tmp_path: Path) -> None:
    cohort.outc = cohort.dyn.select("stay_id", "time", label=pl.lit(0.0))
    fault = cohort.fault()
    assert fault.startswith(f"{cohort.data / 'outc.parquet'}: labels hours, not stays")
    assert "--outcomes FILE (columns stay_id and died)" in fault
    cohort.outc = pl.DataFrame({"stay_id": [1, 2, 3], "label": [1.0, 0, 0.5]})
    assert "outc.parquet, row 3: label is '0.5'; expected 1 (died) or 0" in cohort.fault()
    cohort.outc = pl.DataFrame({"stay_id": [1, 2, 2], "label": [1, 0, 0]})
    assert "row 2 and row 3: both are of stay_id 2" in cohort.fault()


def test_another_unit_is_named(cohort: Cohort, tmp_path: Path) -> None:
    cohort.dyn = cohort.dyn.with_columns(fio2=pl.lit(0.4), temp=pl.lit(98.6))
    fault = cohort.fault()
    assert "'Temperature' has the median 98.6, which looks like degF" in fault
    fault = cohort.fault(units=["Temperature=degF"])
    assert "'Fraction inspired oxygen' has the median 0.4, which looks like fraction" in fault
    cohort.prepare(units=["Temperature=degF", "Fraction inspired oxygen=fraction"])
    row = cohort.series()["1_episode1"][1]
    assert float(row["Temperature"]) == pytest.approx(37)
    assert row["Fraction inspired oxygen"] == "0.4"


def test_a_wrong_unit_of_the_static_file_is_named_with_this_file(cohort: Cohort, tmp_path: Path) -> None:
    assert cohort.sta is not None
    cohort.sta = cohort.sta.with_columns(weight=pl.lit(180.0))
    (tmp_path / "elsewhere").mkdir()
    fault = cohort.fault(outcomes=own_times(tmp_path / "elsewhere"))
    assert fault.startswith(f"{cohort.data / 'sta.parquet'}: channel 'Weight' has the median 180")


def test_rows_without_a_time_or_a_stay_are_left_out(cohort: Cohort) -> None:
    row = cohort.dyn.filter(pl.col("time") == timedelta(hours=4)).head(1)
    nameless = row.with_columns(stay_id=pl.lit(None, pl.Int32))
    timeless = row.with_columns(time=pl.lit(None, pl.Duration("ms")))
    cohort.dyn = pl.concat([cohort.dyn, nameless, timeless, row])
    assert cohort.prepare().dropped_values == {
        "another value of the channel at the same instant": 1,
        "outside of the first 48 hours": 2,
        "without a time": 1,
    }


@pytest.mark.parametrize(
    ("change", "needle"),
    [
        (
            pl.col("time").dt.total_hours().cast(pl.String),
            "column 'time' is of type String; the hours since admission",
        ),
        (pl.col("time").dt.total_seconds(), "goes up to 176400, which are no hours"),
        (pl.col("hr").cast(pl.String), "column 'hr' is of type String, not numbers"),
    ],
)
def test_a_wrong_type_is_named(cohort: Cohort, change: pl.Expr, needle: str) -> None:
    cohort.dyn = cohort.dyn.with_columns(change)
    fault = cohort.fault()
    assert fault.startswith(str(cohort.data / "dyn.parquet"))
    assert needle in fault


@pytest.mark.parametrize("column", ["stay_id", "time"])
def test_a_missing_column_is_named(cohort: Cohort, column: str) -> None:
    cohort.dyn = cohort.dyn.drop(column)
    assert f"dyn.parquet: lacks the column '{column}'; it has" in cohort.fault()


def test_a_file_without_channels_is_named(cohort: Cohort) -> None:
    cohort.dyn = cohort.dyn.drop("hr", "fio2")
    assert "no column has a channel; known are hr, sbp" in cohort.fault()


def test_a_stay_whose_name_is_unsafe_is_refused(cohort: Cohort, tmp_path: Path) -> None:
    (tmp_path / "died.csv").write_text("stay_id,died\n../1,0\n")
    fault = cohort.fault(outcomes=tmp_path / "died.csv")
    assert f"{tmp_path / 'died.csv'}, line 2: stay_id is '../1'; an id has up to 100 letters" in fault


@pytest.mark.parametrize("name", ["dyn", "sta", "outc"])
@pytest.mark.parametrize("kept", [0, 9, 0.5])
def test_a_damaged_file_is_named(cohort: Cohort, name: str, kept: float) -> None:
    cohort.prepare()
    file = cohort.data / f"{name}.parquet"
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content) if kept == 0.5 else kept)])
    with pytest.raises(DataError, match=rf"^{file}: is (empty|cut short or damaged); copy it again"):
        prepare_yaib(cohort.data, cohort.out.with_name("again"))


def test_damaged_pages_are_named(cohort: Cohort) -> None:
    cohort.prepare()
    file = cohort.data / "dyn.parquet"
    content = bytearray(file.read_bytes())
    content[4:400] = bytes(396)
    file.write_bytes(content)
    with pytest.raises(DataError, match=f"^{file}: is cut short or damaged; copy it again"):
        prepare_yaib(cohort.data, cohort.out.with_name("again"))


def test_a_missing_file_is_named_and_a_folder_that_has_it(cohort: Cohort, tmp_path: Path) -> None:
    cohort.prepare()
    with pytest.raises(DataError, match=f"holds no dyn.parquet; did you mean {cohort.data}"):
        prepare_yaib(tmp_path, tmp_path / "again")
    (cohort.data / "outc.parquet").unlink()
    with pytest.raises(DataError, match=r"holds no outc\.parquet; give the labels with --outcomes FILE"):
        prepare_yaib(cohort.data, tmp_path / "again")


@pytest.mark.skipif(not (DEMO.exists() and PATIENTS.exists()), reason="../shared does not hold the eICU demo")
def test_the_eicu_demo_has_the_published_stays_and_a_slow_loop_agrees_on_every_cell(tmp_path: Path) -> None:
    patients = pl.read_csv(PATIENTS, infer_schema=False).filter(
        pl.col("hospitaldischargestatus").is_in(["Alive", "Expired"])
    )
    died = patients.select(
        "patientunitstayid", died=(pl.col("hospitaldischargestatus") == "Expired").cast(pl.Int64)
    )
    died.write_csv(tmp_path / "died.csv")
    summary = prepare_yaib(DEMO, tmp_path / "out", outcomes=tmp_path / "died.csv")
    assert (sum(summary.stays.values()), sum(summary.deaths.values())) == (903, 105)

    labels = {str(stay): str(label) for stay, label in died.iter_rows()}
    known = {
        stay
        for stay, age in pl.read_parquet(DEMO / "sta.parquet", columns=["stay_id", "age"]).iter_rows()
        if age
    }
    grids: dict[int, dict[int, dict[str, float]]] = {}
    for row in pl.read_parquet(DEMO / "dyn.parquet").iter_rows(named=True):
        hour = round(row["time"].total_seconds() / 3600)
        cells = {NAMES[name]: row[name] for name in NAMES if row.get(name) is not None}
        if "Fraction inspired oxygen" in cells:
            cells["Fraction inspired oxygen"] /= 100
        grids.setdefault(row["stay_id"], {})[hour] = cells
    for row in pl.read_parquet(DEMO / "sta.parquet").iter_rows(named=True):
        for name in ("height", "weight"):
            if row[name] is not None:
                grids[row["stay_id"]][0][NAMES[name]] = row[name]
    expected = {
        f"{stay}_episode1": [(hour, cells) for hour, cells in grid.items() if hour < 48 and cells]
        for stay, grid in grids.items()
        if str(stay) in labels and stay in known and 48 in grid
    }
    found = series_of(tmp_path / "out")
    assert found.keys() == expected.keys()
    for name, rows in expected.items():
        read = [
            (float(row["Hours"]), {key: float(cell) for key, cell in row.items() if key != "Hours"})
            for row in found[name]
        ]
        assert read == rows
    assert labels_of(tmp_path / "out") == {name: labels[name.split("_")[0]] for name in expected}
    assert {channel.channel.name for channel in summary.channels if channel.values} == set(NAMES.values())
    assert len(MIMIC3) == 17


# Tasks that read whole stays


def own_times(folder: Path, **columns: list[Any]) -> Path:
    """Outcomes of the three stays of `Cohort`, with changed columns; a column of no values is left out."""
    times: dict[str, list[Any]] = {"stay_id": [1, 2, 3], "died": [1, 0, 0], "hours": [49.5, 49.0, 30.25]}
    times |= {"death_hour": [49.25, None, None], **columns}
    file = folder / "times.csv"
    pl.DataFrame({name: values for name, values in times.items() if values}).write_csv(file)
    return file


def rows_of(out: Path) -> dict[str, list[tuple[float, float]]]:
    """Hour and label of every row of the three listfiles, by stay."""
    found: dict[str, list[tuple[float, float]]] = {}
    for split in SPLITS:
        for row in csv.DictReader((out / f"{split}_listfile.csv").read_text().splitlines()):
            hour, label = float(row["period_length"]), float(row["y_true"])
            found.setdefault(row["stay"].partition("_")[0], []).append((hour, label))
    return found


def test_hours_of_a_death_are_labelled_and_rows_after_the_stay_left_out(
    cohort: Cohort, tmp_path: Path
) -> None:
    made = cohort.prepare(outcomes=own_times(tmp_path), task=DECOMPENSATION)
    found = rows_of(cohort.out)
    # The first row of a stay is at hour 0; hours up to the fourth are no samples.
    assert found["1"] == [(hour, float(49.25 - hour < 24)) for hour in range(5, 50)]
    assert found["2"] == [(hour, 0.0) for hour in range(5, 50)]
    assert found["3"] == [(hour, 0.0) for hour in range(5, 31)]
    assert max(float(row["Hours"]) for row in cohort.series()["3_episode1"]) <= 30
    assert made.dropped_values["outside of the stay"] == sum(hour % 2 == 0 for hour in range(31, 48))
    stays = pl.read_csv(cohort.out / "stays.csv").sort("subject")
    assert stays["length_of_stay"].to_list() == [49.5, 49.0, 30.25]
    assert stays["death"].to_list() == [49.25, None, None]
    assert stays["age"].to_list() == [50, 60, 70]


def test_a_survivor_has_no_hour_of_death(cohort: Cohort, tmp_path: Path) -> None:
    cohort.prepare(outcomes=own_times(tmp_path, death_hour=[49.25, 9.0, None]), task=DECOMPENSATION)
    assert rows_of(cohort.out)["2"] == [(hour, 0.0) for hour in range(5, 50)]
    assert pl.read_csv(cohort.out / "stays.csv").sort("subject")["death"].to_list() == [49.25, None, None]


def test_remaining_hours_are_those_of_the_table(cohort: Cohort, tmp_path: Path) -> None:
    cohort.prepare(outcomes=own_times(tmp_path), task=LENGTH_OF_STAY)
    assert rows_of(cohort.out)["3"] == [(hour, 30.25 - hour) for hour in range(5, 31)]


def test_a_stay_that_lasts_longer_than_its_rows_is_left_out(cohort: Cohort, tmp_path: Path) -> None:
    times = own_times(tmp_path, hours=[50.0, 49.5, 48.0])
    made = cohort.prepare(outcomes=times, task=LENGTH_OF_STAY)
    assert made.dropped_stays["longer than their rows"] == 1
    assert set(rows_of(cohort.out)) == {"1", "3"}


@pytest.mark.parametrize(
    ("columns", "needles"),
    [
        ({"hours": []}, ["times.csv", "hours"]),
        ({"hours": [49.5, None, 48]}, ["times.csv, line 3", "hours is empty", "the stay in the ICU"]),
        ({"hours": [49.5, -1, 48]}, ["times.csv, line 3", "hours is '-1.0'"]),
        ({"hours": ["49.5", "two days", "48"]}, ["times.csv, line 3", "hours is 'two days'"]),
        ({"death_hour": []}, ["times.csv, line 2", "add the column death_hour"]),
        ({"death_hour": [None, 3.0, None]}, ["times.csv, line 2", "death_hour is empty"]),
    ],
)
def test_wrong_times_are_named(
    cohort: Cohort, tmp_path: Path, columns: dict[str, list[Any]], needles: list[str]
) -> None:
    fault = cohort.fault(outcomes=own_times(tmp_path, **columns), task=DECOMPENSATION)
    assert all(needle in fault for needle in needles), fault


def test_tasks_that_the_files_do_not_suffice_for_are_refused(cohort: Cohort) -> None:
    assert "holds no diagnoses" in cohort.fault(task=PHENOTYPING).replace("hold no", "holds no")
    assert "give --outcomes FILE" in cohort.fault(task=DECOMPENSATION)


@pytest.mark.skipif(not DEMO.exists() or not PATIENTS.exists(), reason="needs the demo in ../shared/data")
def test_remaining_hours_of_the_eicu_demo_are_yaibs_own(tmp_path: Path) -> None:
    outcomes, script = tmp_path / "outcomes.csv", Path(__file__).parents[2] / "scripts" / "eicu_outcomes.py"
    subprocess.run([sys.executable, script, PATIENTS, outcomes], check=True)
    made = prepare_yaib(DEMO, tmp_path / "out", outcomes=outcomes, task=LENGTH_OF_STAY)
    assert sum(made.stays.values()) == 2267 - sum(made.dropped_stays.values()) == 2099
    subject = dict(pl.read_csv(outcomes, infer_schema=False).select("stay_id", "subject").rows())
    once = {name for name, count in Counter(subject.values()).items() if count == 1}
    found, compared = rows_of(tmp_path / "out"), 0
    for stay, hours, label in (
        pl.read_parquet(DEMO / "outc.parquet")
        .select(pl.col("stay_id").cast(pl.String), pl.col("time").dt.total_hours(), "label")
        .iter_rows()
    ):
        own = dict(found.get(subject.get(stay, ""), [])) if subject.get(stay) in once else {}
        if hours in own:
            # YAIB cuts the length to whole hours.
            assert 0 <= own[hours] - label < 1
            compared += 1
    assert compared > 50_000
