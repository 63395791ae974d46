"""Cohorts of one's own making in YAIB's format -> the task; the open eICU demo, against a slow reading."""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mimic3tf.data.directory import SPLITS
from mimic3tf.errors import DataError
from mimic3tf.sources.yaib import prepare_yaib

SHARED = Path(__file__).resolve().parents[3] / "shared/data"
DEMO, PATIENTS = SHARED / "yaib-demo/los/eicu_demo", SHARED / "eicu-demo-2.0.1/patient.csv.gz"
CHANNEL = {
    "dbp": "Diastolic blood pressure",
    "fio2": "Fraction inspired oxygen",
    "glu": "Glucose",
    "hr": "Heart Rate",
    "height": "Height",
    "map": "Mean blood pressure",
    "o2sat": "Oxygen saturation",
    "resp": "Respiratory rate",
    "sbp": "Systolic blood pressure",
    "temp": "Temperature",
    "weight": "Weight",
    "ph": "pH",
}
Cells = dict[tuple[str, float, str], float]


class Folder:
    """A cohort under construction: three adults with a heart rate at every hour from 0 to `last`."""

    def __init__(self, path: Path, last: int = 50) -> None:
        self.path = path
        stays = [11, 12, 13]
        self.dyn = pl.DataFrame(
            [{"stay_id": stay, "time": hour, "hr": 60.0 + hour} for stay in stays for hour in range(last + 1)]
        )
        self.sta = pl.DataFrame({"stay_id": stays, "age": [70.0, 60.0, 50.0], "height": [170.0, None, 180.0]})
        self.outc = pl.DataFrame({"stay_id": stays, "label": [0, 1, 0]})

    def write(self) -> Path:
        self.path.mkdir(exist_ok=True)
        for name in ("dyn", "sta", "outc"):
            getattr(self, name).write_parquet(self.path / f"{name}.parquet")
        return self.path

    def prepare(self, **options: Any) -> Any:
        return prepare_yaib(self.write(), self.path.parent / "out", **options)

    def labels(self) -> dict[str, int]:
        listed: dict[str, int] = {}
        for split in SPLITS:
            with (self.path.parent / "out" / f"{split}_listfile.csv").open() as file:
                listed |= {row["stay"].split("_ti")[0]: int(row["y_true"]) for row in csv.DictReader(file)}
        return listed


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "cohort")


def cells_of(out: Path) -> Cells:
    cells: Cells = {}
    for path in out.glob("t*/*_timeseries.csv"):
        with path.open() as file:
            for row in csv.DictReader(file):
                hour = float(row.pop("Hours"))
                name = path.name.removesuffix("_timeseries.csv")
                cells |= {(name, hour, channel): float(cell) for channel, cell in row.items() if cell}
    return cells


def test_hours_heights_and_labels_are_those_of_the_cohort(folder: Folder, tmp_path: Path) -> None:
    folder.prepare()
    assert folder.labels() == {"11_episode1": 0, "12_episode1": 1, "13_episode1": 0}
    expected: Cells = {
        (f"{stay}_episode1", hour, "Heart Rate"): 60 + hour for stay in (11, 12, 13) for hour in range(49)
    }
    expected |= {("11_episode1", 0.0, "Height"): 170, ("13_episode1", 0.0, "Height"): 180}
    assert cells_of(tmp_path / "out") == expected


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_time_is_a_duration_of_any_unit_or_hours(folder: Folder, tmp_path: Path, unit: str) -> None:
    folder.prepare()
    again = Folder(tmp_path / "again" / "cohort")
    again.path.parent.mkdir()
    factor = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    seconds = pl.col("time").cast(pl.Int64) * 3600 * factor
    polars_unit: Any = "ms" if unit == "s" else unit
    scale = 1000 if unit == "s" else 1
    again.dyn = again.dyn.with_columns(time=(seconds * scale).cast(pl.Duration(polars_unit)))
    again.prepare()
    assert cells_of(tmp_path / "again/out") == cells_of(tmp_path / "out")


def test_oxygen_in_percent_becomes_a_fraction_and_nan_is_not_measured(folder: Folder, tmp_path: Path) -> None:
    hours = pl.col("time")
    folder.dyn = folder.dyn.with_columns(
        fio2=pl.when(hours == 3).then(40.0), ph=pl.when(hours == 4).then(math.nan), extra=pl.lit("text")
    )
    folder.prepare()
    cells = {
        (hour, name): v for (_, hour, name), v in cells_of(tmp_path / "out").items() if name != "Heart Rate"
    }
    assert cells == {(3.0, "Fraction inspired oxygen"): 0.4, (0.0, "Height"): pytest.approx(180)}


def test_stays_that_are_short_young_or_without_outcome_are_left_out(folder: Folder) -> None:
    folder.dyn = folder.dyn.filter((pl.col("stay_id") != 11) | (pl.col("time") < 48))
    folder.sta = folder.sta.with_columns(age=pl.when(pl.col("stay_id") == 12).then(17.0).otherwise("age"))
    more = (
        Folder(folder.path)
        .dyn.filter(pl.col("stay_id") == 11)
        .with_columns(pl.lit(14, pl.Int64).alias("stay_id"))
    )
    folder.dyn = pl.concat([folder.dyn, more])
    summary = folder.prepare()
    assert folder.labels() == {"13_episode1": 0}
    assert summary.dropped_stays == {
        "shorter than 48 hours": 1,
        "younger than 18": 1,
        "without an outcome": 1,
    }


def test_where_all_hours_end_at_47_they_are_48_hours(folder: Folder, tmp_path: Path) -> None:
    folder.dyn = folder.dyn.filter(pl.col("time") <= 47)
    folder.prepare()
    assert len(folder.labels()) == 3
    shorter = Folder(tmp_path / "shorter", last=24)
    with pytest.raises(DataError, match="end before hour 25; this task reads 48 hours"):
        prepare_yaib(shorter.write(), tmp_path / "none")


def test_a_cohort_without_sta_has_no_ages(folder: Folder, tmp_path: Path) -> None:
    (folder.write() / "sta.parquet").unlink()
    prepare_yaib(folder.path, tmp_path / "out")
    assert len(folder.labels()) == 3


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_own_outcomes_replace_the_label_and_name_subjects(
    folder: Folder, tmp_path: Path, ending: str
) -> None:
    table = pl.DataFrame({"died": [1, 0, 1], "stay_id": [13, 12, 11], "subject": ["B-2", "B-2", "A.1"]})
    file = tmp_path / f"died.{ending}"
    table.write_csv(file) if ending == "csv" else table.write_parquet(file)
    folder.prepare(outcomes=file)
    assert folder.labels() == {"A.1_episode1": 1, "B-2_episode1": 0, "B-2_episode2": 1}


def test_order_and_kind_of_ids_do_not_matter(folder: Folder, tmp_path: Path) -> None:
    folder.prepare()
    again = Folder(tmp_path / "again" / "cohort")
    again.path.parent.mkdir()
    again.dyn = again.dyn.reverse().cast({"stay_id": pl.String})
    again.sta = again.sta.cast({"stay_id": pl.Float64})
    again.prepare()
    assert cells_of(tmp_path / "again/out") == cells_of(tmp_path / "out")
    assert again.labels() == folder.labels()


def written(name: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[Path], object]:
    def spoil(path: Path) -> None:
        change(pl.read_parquet(path / f"{name}.parquet")).write_parquet(path / f"{name}.parquet")

    return spoil


def cut(path: Path) -> None:
    whole = (path / "dyn.parquet").read_bytes()
    (path / "dyn.parquet").write_bytes(whole[: len(whole) // 2])


HOUR = pl.col("time")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: (path / "dyn.parquet").unlink(), "holds no dyn.parquet"),
        (
            lambda path: (path / "outc.parquet").unlink(),
            r"outc\.parquet: no such file; give .* as --outcomes",
        ),
        (
            lambda path: (path / "dyn.parquet").write_bytes(b""),
            r"dyn\.parquet: is empty, cut short or damaged",
        ),
        (
            lambda path: (path / "sta.parquet").write_bytes(b"x"),
            r"sta\.parquet: is empty, cut short or damaged",
        ),
        (cut, r"dyn\.parquet: is empty, cut short or damaged"),
        (written("dyn", lambda t: t.rename({"time": "hour"})), r"dyn\.parquet: misses the column time"),
        (
            written("dyn", lambda t: t.rename({"hr": "pulse"})),
            r"dyn\.parquet: has none of the columns dbp, fio2",
        ),
        (
            written("dyn", lambda t: t.cast({"hr": pl.String})),
            r"dyn\.parquet: column hr holds String, not numbers",
        ),
        (
            written("dyn", lambda t: t.cast({"time": pl.String})),
            r"column time holds String; expected a duration",
        ),
        (
            written("dyn", lambda t: t.with_columns(time=pl.when(HOUR != 7).then(HOUR))),
            r"dyn\.parquet, row 8: time is empty",
        ),
        (written("dyn", lambda t: t.head(0)), r"dyn\.parquet: holds no row"),
        (written("outc", lambda t: t.rename({"label": "y"})), r"outc\.parquet: misses the column died"),
        (written("outc", lambda t: t.with_columns(label=pl.lit(2))), r"row 1: died is '2'; expected 0 or 1"),
        (written("outc", lambda t: t.with_columns(time=pl.lit(1))), "labels of hours, not of stays"),
        (written("outc", lambda t: pl.concat([t, t])), r"outc\.parquet: stay_id 11 is on several rows"),
        (written("sta", lambda t: pl.concat([t, t])), r"sta\.parquet: stay_id 11 is on several rows"),
        (
            written("outc", lambda t: t.with_columns(stay_id=pl.lit("../x"))),
            r"outc\.parquet, row 1: stay_id is '\.\./x'; expected letters",
        ),
        (written("outc", lambda t: t.with_columns(stay_id=pl.lit(99)).head(1)), "names no stay_id of dyn"),
    ],
)
def test_a_faulty_file_is_named_in_one_line(
    folder: Folder, tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(folder.write())
    with pytest.raises(DataError, match=message) as caught:
        prepare_yaib(folder.path, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]


@pytest.mark.skipif(not DEMO.is_dir() or not PATIENTS.is_file(), reason="needs YAIB's demo in ../shared/data")
def test_every_cell_of_the_eicu_demo_is_that_of_a_slow_reading(tmp_path: Path) -> None:
    with gzip.open(PATIENTS, "rt", encoding="utf-8") as file:
        died = {
            row["patientunitstayid"]: int(row["hospitaldischargestatus"] == "Expired")
            for row in csv.DictReader(file)
            if row["hospitaldischargestatus"]
        }
    table = tmp_path / "died.csv"
    table.write_text("stay_id,died\n" + "".join(f"{stay},{label}\n" for stay, label in died.items()))
    summary = prepare_yaib(DEMO, tmp_path / "out", outcomes=table)
    assert (sum(summary.stays.values()), sum(summary.deaths.values())) == (903, 105)

    rows = pl.read_parquet(DEMO / "dyn.parquet").with_columns(pl.col("time").dt.total_hours()).to_dicts()
    ends: dict[int, int] = {}
    for row in rows:
        ends[row["stay_id"]] = max(ends.get(row["stay_id"], 0), row["time"])
    static = {row["stay_id"]: row for row in pl.read_parquet(DEMO / "sta.parquet").to_dicts()}
    stays = {
        stay
        for stay, end in ends.items()
        if end >= 48 and str(stay) in died and (static[stay]["age"] or 0) >= 18
    }
    expected: Cells = {}
    for row in [{**static[stay], "time": 0} for stay in stays] + [r for r in rows if r["stay_id"] in stays]:
        for column in CHANNEL.keys() & row.keys():
            value = row[column]
            if value is not None and not math.isnan(value) and row["time"] <= 48:
                key = (f"{row['stay_id']}_episode1", float(row["time"]), CHANNEL[column])
                expected[key] = value / 100 if column == "fio2" else value
    found = cells_of(tmp_path / "out")
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-12)
