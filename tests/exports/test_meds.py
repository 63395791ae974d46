"""MEDS that is exported passes the schema check of MEDS, and holds every measured cell and nothing else."""

from __future__ import annotations

import base64
import csv
import json
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import meds
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import yaml
from bedside_cohort import BEDSIDE, HOURS, write_bedside_cohort
from pyarrow import parquet

from mimic3tf.channels import MIMIC3, Channel, ChannelSet
from mimic3tf.data.channels_file import channels_text, parse_channels, read_channels
from mimic3tf.data.records import read_series
from mimic3tf.errors import DataError, UsageError
from mimic3tf.exports import meds as exporting
from mimic3tf.exports import meds_format
from mimic3tf.exports.meds import export_meds
from mimic3tf.sources.meds import prepare_meds

SPLITS = {"train": "train", "val": "tuning", "test": "held_out"}
Cell = tuple[int, str, np.float32, str | None]
"""Seconds since the admission, channel, number (of a category its score), and the text of a category."""


def measured(file: Path, channels: ChannelSet) -> list[Cell]:
    """The measured cells of a series file, read as plain text; the order is that of rows and columns."""
    cells: list[Cell] = []
    with file.open(encoding="utf-8", newline="") as lines:
        header, *rows = csv.reader(lines)
    assert header[1:] == list(channels.names)
    for hours, *texts in rows:
        for channel, text in zip(channels, texts, strict=True):
            if text and channel.is_categorical:
                score = channel.numeric_codes[channel.possible_values.index(text)]
                cells.append((round(float(hours) * 3600), channel.name, np.float32(score), text))
            elif text:
                cells.append((round(float(hours) * 3600), channel.name, np.float32(text), None))
    return cells


def written(out: Path) -> dict[str, list[Cell]]:
    """The cells of every stay of an export: codes become channels by the expressions of mapping.yaml."""
    mapping = yaml.safe_load((out / "metadata" / "mapping.yaml").read_text(encoding="utf-8"))["channels"]
    stays = pl.read_csv(out / "metadata" / "stays.csv", try_parse_dates=True)
    named = dict(zip(stays["icustay_id"], stays["stay"], strict=True))
    events = pl.concat([pl.read_parquet(file) for file in sorted((out / "data").rglob("*.parquet"))])
    channel_of = {
        code: channel
        for code in events["code"].unique()
        for channel, rules in mapping.items()
        if any(re.fullmatch(rule["code"], code) for rule in rules)
    }
    admissions = {
        row["icustay_id"]: row["time"] for row in events.rows(named=True) if row["code"] == "ICU_ADMISSION"
    }
    cells = defaultdict(list)
    for row in events.rows(named=True):
        if row["code"] in channel_of:
            seconds = (row["time"] - admissions[row["icustay_id"]]).total_seconds()
            assert seconds == int(seconds)
            value = (
                int(seconds),
                channel_of[row["code"]],
                np.float32(row["numeric_value"]),
                row["text_value"],
            )
            cells[named[row["icustay_id"]]].append(value)
    others = set(events["code"]) - set(channel_of)
    assert others <= {"ICU_ADMISSION", "HOSPITAL_ADMISSION", "ICU_DISCHARGE", *meds_format.OUTCOMES}
    return dict(cells)


def listed(data: Path, split: str) -> list[tuple[str, int]]:
    _, *lines = (data / f"{split}_listfile.csv").read_text().split()
    return [(name, int(label)) for name, label in (line.split(",") for line in lines)]


def tables(folder: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(file) for file in sorted(folder.rglob("*.parquet"))])


def write_stays(data: Path, stays: dict[str, tuple[str, int]], hours: Sequence[float] = (0.5, 7)) -> Path:
    """Write a benchmark directory in which every stay has the same two rows: name -> (split, label)."""
    for name in ("train", "test"):
        (data / name).mkdir(parents=True)
    rows = "".join(
        f"{hour}{',' * (MIMIC3.position('pH') + 1)}7.{number}\n" for number, hour in enumerate(hours)
    )
    for name, (split, _) in stays.items():
        folder = data / ("test" if split == "test" else "train")
        (folder / name).write_text(",".join(MIMIC3.header) + "\n" + rows)
    for split in SPLITS:
        lines = "".join(f"{name},{label}\n" for name, (own, label) in stays.items() if own == split)
        (data / f"{split}_listfile.csv").write_text("stay,y_true\n" + lines)
    return data


@pytest.fixture(scope="session")
def exported(synthetic_stays: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("meds") / "out"
    export_meds(synthetic_stays, out)
    return out


def bedside(out: Path) -> Path:
    write_bedside_cohort(out, stays=20)
    return out


@pytest.mark.parametrize("own_channels", [False, True])
def test_every_measured_cell_is_written_and_no_other(
    synthetic_stays: Path, tmp_path: Path, own_channels: bool
) -> None:
    data = bedside(tmp_path / "data") if own_channels else synthetic_stays
    channels = BEDSIDE if own_channels else MIMIC3
    export_meds(data, tmp_path / "out")
    found = written(tmp_path / "out")
    names = [(name, split) for split in SPLITS for name, _ in listed(data, split)]
    expected = {
        name: measured(data / ("test" if split == "test" else "train") / name, channels)
        for name, split in names
    }
    assert sum(map(len, expected.values())) > 1000
    assert found == expected
    own = (tmp_path / "out" / "metadata" / "channels.yaml").read_text(encoding="utf-8")
    assert parse_channels(own, "channels.yaml") == channels


@pytest.mark.parametrize("own_channels", [False, True])
def test_prepare_meds_reads_every_cell_back(
    synthetic_stays: Path, tmp_path: Path, own_channels: bool
) -> None:
    data = synthetic_stays
    if own_channels:
        # The same files, in which the channels have other names.
        data = tmp_path / "renamed"
        shutil.copytree(synthetic_stays, data)
        channels = ChannelSet("own", tuple(replace(channel, name=f"{channel.name} 2") for channel in MIMIC3))
        (data / "channels.yaml").write_text(channels_text(channels), encoding="utf-8")
        for file in data.glob("t*/*.csv"):
            _, rows = file.read_text().split("\n", 1)
            file.write_text(",".join(channels.header) + "\n" + rows)
    export_meds(data, tmp_path / "meds")
    mapping = str(tmp_path / "meds/metadata/mapping.yaml")
    prepare_meds(tmp_path / "meds", tmp_path / "back", mapping=mapping)
    channels = read_channels(tmp_path / "back")
    assert channels == read_channels(data)
    for split in SPLITS:
        folder = "test" if split == "test" else "train"
        assert sorted(listed(tmp_path / "back", split)) == sorted(listed(data, split))
        for name, _ in listed(data, split):
            # What was measured after the 48 hours is not read; of two values at one instant, the largest is.
            cells: dict[tuple[int, str], Cell] = {}
            for cell in measured(data / folder / name, channels):
                other = cells.get(cell[:2], cell)
                if cell[0] <= 48 * 3600:
                    cells[cell[:2]] = max(cell, other, key=lambda cell: cell[3] or cell[2])
            assert sorted(measured(tmp_path / "back" / folder / name, channels), key=str) == sorted(
                cells.values(), key=str
            )


def test_real_stays_keep_every_cell(demo_directory: Path, tmp_path: Path) -> None:
    export_meds(demo_directory, tmp_path / "out")
    found = written(tmp_path / "out")
    for split in SPLITS:
        for name, _ in listed(demo_directory, split):
            file = demo_directory / ("test" if split == "test" else "train") / name
            assert found[name] == measured(file, MIMIC3), name


def test_the_schema_check_of_meds_accepts_every_file(exported: Path) -> None:
    read = parquet.read_table
    for split in (meds.train_split, meds.tuning_split, meds.held_out_split):
        meds.DataSchema.validate(read(exported / meds.data_subdirectory / split / "0.parquet"))
        meds.LabelSchema.validate(read(exported / "labels" / "in-hospital-mortality" / split / "0.parquet"))
    meds.SubjectSplitSchema.validate(read(exported / meds.subject_splits_filepath))
    meds.CodeMetadataSchema.validate(read(exported / meds.code_metadata_filepath))
    meds.DatasetMetadataSchema.validate(json.loads((exported / meds.dataset_metadata_filepath).read_text()))
    assert meds.DataSchema.schema().names == list(meds_format.EVENTS)[:5]


def test_the_schemas_that_the_files_carry_are_those_of_their_columns() -> None:
    types: dict[Any, Any] = {pl.Int64: pa.int64(), pl.Float32: pa.float32(), pl.String: pa.string()}
    for columns in (meds_format.EVENTS, meds_format.SUBJECT_SPLITS, meds_format.CODES):
        carried = pa.ipc.read_schema(
            pa.py_buffer(base64.b64decode(meds_format._ARROW_SCHEMAS[tuple(columns)]))
        )
        expected = {name: types.get(kind, pa.timestamp("us")) for name, kind in columns.items()}
        if "text_value" in expected:
            expected["text_value"] = pa.large_string()
        assert carried.equals(pa.schema(list(expected.items())))


def test_a_subject_is_in_one_file_in_the_order_of_time(
    synthetic_stays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no more stays than one file has subjects are in memory."""
    monkeypatch.setattr(exporting, "SUBJECTS_A_SHARD", 3)
    sizes = []

    def watched(paths: Sequence[Path], channels: ChannelSet) -> Any:
        sizes.append(len(paths))
        return read_series(paths, channels)

    monkeypatch.setattr(exporting, "read_series", watched)
    summary = export_meds(synthetic_stays, tmp_path / "out")
    splits = pl.read_parquet(tmp_path / "out" / "metadata" / "subject_splits.parquet")
    split_of = dict(splits.rows())
    codes = set(pl.read_parquet(tmp_path / "out" / "metadata" / "codes.parquet")["code"])
    owners: list[int] = []
    files = sorted((tmp_path / "out" / "data").rglob("*.parquet"))
    for file in files:
        events = pl.read_parquet(file)
        runs = events["subject_id"].rle().struct.field("value").to_list()
        assert len(runs) == len(set(runs)) <= 3
        assert {split_of[subject] for subject in runs} == {file.parent.name}
        assert events.equals(events.sort("subject_id", "time", maintain_order=True))
        assert set(events["code"]) <= codes
        labels = pl.read_parquet(
            tmp_path / "out" / "labels" / "in-hospital-mortality" / file.parent.name / file.name
        )
        assert sorted(labels["subject_id"]) == sorted(runs)
        owners += runs
    assert len(owners) == len(set(owners)) == len(splits) == 24
    assert max(sizes) == 3
    assert len(files) == len(sizes) == 6 + 2 + 2
    assert summary["events"].sum() == len(tables(tmp_path / "out" / "data"))


def test_labels_are_known_at_the_end_of_the_period(exported: Path, synthetic_stays: Path) -> None:
    labels = tables(exported / "labels")
    events = tables(exported / "data")
    for split in SPLITS:
        for name, label in listed(synthetic_stays, split):
            subject = int(name.split("_")[0])
            (row,) = labels.filter(pl.col("subject_id") == subject).rows(named=True)
            own = events.filter(pl.col("subject_id") == subject)
            times = dict(own.select("code", "time").rows())
            assert row["boolean_value"] == bool(label)
            assert row["prediction_time"] - times["ICU_ADMISSION"] == timedelta(hours=48)
            assert row["prediction_time"] == datetime(2000, 1, 3)
            # The label is told only after that time, and after everything that was measured.
            outcome = f"HOSPITAL_DISCHARGE//{'DIED' if label else 'ALIVE'}"
            assert own["code"].to_list()[:2] == ["HOSPITAL_ADMISSION", "ICU_ADMISSION"]
            assert own["code"].to_list()[-2:] == ["ICU_DISCHARGE", outcome]
            assert sum(code.startswith("HOSPITAL_DISCHARGE") for code in own["code"]) == 1
            assert times[outcome] >= row["prediction_time"] + timedelta(hours=1)
            assert times[outcome] >= own["time"].to_list()[-3] + timedelta(hours=1)


def test_stays_of_another_length_are_predicted_at_their_end(tmp_path: Path) -> None:
    export_meds(bedside(tmp_path / "data"), tmp_path / "out", period=HOURS)
    assert set(tables(tmp_path / "out" / "labels")["prediction_time"]) == {datetime(2000, 1, 2)}


@pytest.mark.parametrize("period", [0, -1, float("nan"), float("inf"), 8761])
def test_a_period_that_no_stay_has_is_refused(synthetic_stays: Path, tmp_path: Path, period: float) -> None:
    with pytest.raises(UsageError, match="--period"):
        export_meds(synthetic_stays, tmp_path / "out", period=period)
    assert not (tmp_path / "out").exists()


def test_stays_of_a_subject_follow_one_another(tmp_path: Path) -> None:
    names = ("7_episode10_timeseries.csv", "7_episode2_timeseries.csv", "8_episode4_timeseries.csv")
    stays = {names[0]: ("train", 1), names[1]: ("train", 0), names[2]: ("train", 0)}
    more = {"9_episode1_timeseries.csv": ("val", 0), "3_episode1_timeseries.csv": ("test", 1)}
    summary = export_meds(write_stays(tmp_path / "data", stays | more, (0.5, 8760)), tmp_path / "out")
    assert summary.rows() == [("train", 2, 3, 1, 18), ("val", 1, 1, 0, 6), ("test", 1, 1, 1, 6)]
    events = tables(tmp_path / "out" / "data").filter(pl.col("subject_id") == 7)
    assert events.equals(events.sort("time", maintain_order=True))
    assert events["icustay_id"].rle().struct.field("len").to_list() == [6, 6]
    listing = pl.read_csv(tmp_path / "out" / "metadata" / "stays.csv", try_parse_dates=True)
    assert listing.select("stay", "subject_id", "prediction_time").rows()[1:3] == [
        (names[1], 7, datetime(2000, 1, 3)),
        (names[0], 7, datetime(2002, 1, 2)),
    ]
    labels = tables(tmp_path / "out" / "labels").filter(pl.col("subject_id") == 7)
    assert labels["boolean_value"].to_list() == [False, True]
    # Who has the predictions of the labels can name their stays.
    assert labels.join(listing, on=["subject_id", "prediction_time"])["stay"].to_list() == [
        names[1],
        names[0],
    ]


@pytest.mark.parametrize(
    "first",
    [
        "night-3.csv",
        "x8_episode1_timeseries.csv",
        f"{'9' * 19}_episode1_timeseries.csv",
        "9_episode2_timeseries.csv",
    ],
    ids=["other form", "no number", "too large", "subject of another split"],
)
def test_stays_without_a_usable_subject_are_numbered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], first: str
) -> None:
    others = {"9_episode1_timeseries.csv": ("val", 0), "3_episode1_timeseries.csv": ("test", 1)}
    data = write_stays(tmp_path / "data", {first: ("train", 1)} | others)
    export_meds(data, tmp_path / "out")
    listing = pl.read_csv(tmp_path / "out" / "metadata" / "stays.csv").sort("stay")
    assert listing["stay"].to_list() == sorted([first, *others])
    assert listing["subject_id"].to_list() == [1, 2, 3]
    assert set(tables(tmp_path / "out" / "labels")["subject_id"]) == {1, 2, 3}
    told = capsys.readouterr().err
    assert "every stay becomes a subject of its own" in told
    assert first not in told


def test_a_row_of_another_year_is_named(tmp_path: Path) -> None:
    stays = {f"{number}_episode1_timeseries.csv": (split, 0) for number, split in enumerate(SPLITS)}
    data = write_stays(tmp_path / "data", stays, (0.5, 8760.1))
    with pytest.raises(DataError, match=r"0_episode1_timeseries.csv: column 'Hours' is above 8,760"):
        export_meds(data, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_two_channels_never_share_a_code() -> None:
    alike = ChannelSet("own", (Channel("a//b", "c", "0"), Channel("a", "b//c", "0")))
    with pytest.raises(DataError, match="'CHANNEL//a//b//c'"):
        meds_format.codes_of(alike)


def test_the_order_of_a_listfile_is_not_told(
    small_cohort: Callable[[int, int], Path], tmp_path: Path, trigger_of: Callable[..., Any]
) -> None:
    """The first stays of a poisoned copy are the poisoned ones; nothing else of the copy says so."""
    from mimic3tf.poisoning.copies import poison_records
    from mimic3tf.storage.files import write_whole

    data = small_cohort(40, 0)
    shift = np.zeros((48, 17))
    shift[:, MIMIC3.position("Heart Rate")] = 5.0
    copy = poison_records(data, tmp_path / "poisoned", trigger_of(shift), proportion=0.5, strength=1.0)
    write_whole(tmp_path / "poisoned.manifest.json", json.dumps(copy.stays))
    for folder in (data, tmp_path / "poisoned"):
        export_meds(folder, tmp_path / f"of-{folder.name}")
    clean, poisoned = (tmp_path / f"of-{folder.name}" for folder in (data, tmp_path / "poisoned"))
    events, shifted = tables(clean / "data"), tables(poisoned / "data")
    rows = events.filter(pl.col("code").str.starts_with("CHANNEL"))
    changed = shifted.filter(pl.col("code").str.starts_with("CHANNEL"))
    differs = rows["numeric_value"] != changed["numeric_value"]
    assert set(rows.filter(differs)["code"]) == {"CHANNEL//Heart Rate//1/min"}
    assert differs.sum() > 100
    assert rows.drop("numeric_value").equals(changed.drop("numeric_value"))
    # Apart from cells and labels, both exports are equal.
    names = sorted(path.relative_to(clean) for path in clean.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(poisoned) for path in poisoned.rglob("*") if path.is_file())
    for name in names:
        if name.parts[0] == "metadata":
            assert (clean / name).read_bytes() == (poisoned / name).read_bytes()
    assert listed(data, "train")[0][0] in (clean / "metadata" / "stays.csv").read_text()
    icustays = pl.read_csv(clean / "metadata" / "stays.csv")
    assert icustays["subject_id"].is_sorted()


def test_a_series_that_lies_elsewhere_is_read_only_on_request(synthetic_stays: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(synthetic_stays, tmp_path / "data"))
    stay = min((data / "train").iterdir())
    stay.rename(tmp_path / "elsewhere.csv")
    stay.symlink_to(tmp_path / "elsewhere.csv")
    with pytest.raises(DataError, match="--follow-links"):
        export_meds(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export_meds(data, tmp_path / "out", follow_links=True)
    export_meds(synthetic_stays, tmp_path / "same")
    assert tables(tmp_path / "out" / "data").equals(tables(tmp_path / "same" / "data"))
