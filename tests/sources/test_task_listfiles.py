"""Invented stays, one awkward case each -> the listfiles that the benchmarks' own code made of them."""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from golden_tasks import FIXTURES, SHARED, at_hand

from mimic3tf.data.directory import SPLITS
from mimic3tf.data.listfiles import read_rows
from mimic3tf.sources import task_listfiles
from mimic3tf.sources.diagnoses import read_phenotype_codes
from mimic3tf.sources.layout import Samples
from mimic3tf.sources.task_listfiles import WholeStays, samples_of
from mimic3tf.tasks.phenotypes import PHENOTYPES
from mimic3tf.tasks.registry import DECOMPENSATION, LENGTH_OF_STAY, MULTITASK, PHENOTYPING, TASKS, task_of

WHOLE = [DECOMPENSATION.name, LENGTH_OF_STAY.name, MULTITASK.name, PHENOTYPING.name]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directories that the benchmarks' code made of the stays."""
    folder = tmp_path_factory.mktemp("made")
    with tarfile.open(FIXTURES / "synthetic" / "data.tar.xz") as file:
        file.extractall(folder, filter="data")
    return folder / "data"


@pytest.fixture(scope="module")
def invented() -> tuple[WholeStays, list[str]]:
    """The stays, and the names of their files."""
    codes = {code: label for version, code, label in read_phenotype_codes().iter_rows() if version == 9}
    files: dict[tuple[str, str], list[dict[str, str]]] = {}
    with tarfile.open(FIXTURES / "synthetic" / "root.tar.xz") as file:
        for member in filter(tarfile.TarInfo.isfile, file):
            content = file.extractfile(member)
            assert content is not None
            path = Path(member.name)
            files[path.parent.name, path.name] = [*csv.DictReader(io.StringIO(content.read().decode()))]
    names, values = [], []
    for (subject, name), rows in sorted(files.items()):
        if not name.endswith("_timeseries.csv"):
            continue
        (label, *_), (stays, diagnoses) = (
            files[subject, name.replace("_timeseries", "")] or [{}],
            (files[subject, f"{table}.csv"] for table in ("stays", "diagnoses")),
        )
        # As the statements of `cohort_sql` leave stays out, and cut their rows.
        if not label.get("Length of Stay"):
            continue
        length = 24 * float(label["Length of Stay"])
        kept = [time for time in (float(row["Hours"]) for row in rows) if -1e-6 < time < length + 1e-6]
        if not kept:
            continue
        (stay,) = (row for row in stays if row["ICUSTAY_ID"] == label["Icustay"])
        start, death = (
            datetime.fromisoformat(stay[column]) if stay[column] else None
            for column in ("INTIME", "DEATHTIME")
        )
        assert start is not None
        until = np.inf if death is None else (death - start).total_seconds() / 3600
        groups = np.zeros(len(PHENOTYPES), np.int8)
        own = [row for row in diagnoses if row["ICUSTAY_ID"] == label["Icustay"]]
        groups[[codes[row["ICD9_CODE"]] for row in own if row["USE_IN_BENCHMARK"] == "1"]] = 1
        names.append(f"{subject}_{name}")
        values.append((length, kept[0], until, int(label["Mortality"]), groups))
    hours, first, lived, died, phenotypes = map(np.array, zip(*values, strict=True))
    return WholeStays(hours, first, lived, died, phenotypes), names


def lines_of(samples: list[Samples]) -> list[str]:
    texts = (part.rows.write_csv(include_header=False, float_precision=6) for part in samples)
    return "".join(texts).splitlines()


def dealt(names: list[str], made: Path, task: str) -> dict[str, np.ndarray]:
    """Indices of the stays of each split, as the benchmarks dealt the subjects."""
    split_of: Mapping[str, str] = {
        name.split("_")[0]: split
        for split in SPLITS
        for name in read_rows(made / "phenotyping" / f"{split}_listfile.csv", task_of("phenotyping")).stays
    }
    assert task in TASKS
    splits = np.array([split_of[name.split("_")[0]] for name in names])
    return {split: np.flatnonzero(splits == split) for split in SPLITS}


@pytest.mark.parametrize("batch", [200_000, 100])
@pytest.mark.parametrize("task", WHOLE)
def test_the_listfiles_are_the_benchmarks(
    invented: tuple[WholeStays, list[str]], made: Path, task: str, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_listfiles, "HOURS_A_BATCH", batch)
    stays, names = invented
    samples = samples_of(stays, names, dealt(names, made, task), task_of(task))
    for split in SPLITS:
        theirs = (made / task / f"{split}_listfile.csv").read_text().splitlines()
        assert theirs[0] == task_of(task).header
        # They write a remaining time that is less than nothing by a rounding error as -0.000000.
        listed = [line.replace("-0.000000", "0.000000") for line in theirs[1:]]
        assert sorted(lines_of([*samples[split]])) == sorted(listed)


def test_the_archive_holds_all_listfiles(made: Path) -> None:
    for listfile in sorted(at_hand(SHARED / "synthetic" / "listfiles").rglob("*.csv")):
        copy = made / listfile.relative_to(SHARED / "synthetic" / "listfiles")
        assert copy.read_text() == listfile.read_text()


def one(hours: float, first: float = 0.0, lived: float = np.inf, died: int = 0) -> WholeStays:
    none = np.zeros((1, len(PHENOTYPES)), np.int8)
    return WholeStays(np.array([hours]), np.array([first]), np.array([lived]), np.array([died]), none)


def rows(stays: WholeStays, task: str) -> list[tuple[Any, ...]]:
    splits = {"train": np.arange(len(stays.hours)), "val": np.arange(0), "test": np.arange(0)}
    parts = [*samples_of(stays, ["a.csv"], splits, task_of(task))["train"]]
    return pl.concat([part.rows for part in parts]).rows() if parts else []


@pytest.mark.parametrize(
    ("stay", "hours"),
    [
        (one(4.99), []),
        (one(5.0), [5]),
        (one(5.0 - 5e-7), [5]),
        (one(5.0 - 2e-6), []),
        (one(7.5, first=6.0), [7]),
        (one(7.5, first=5.99), [6, 7]),
        (one(9.0, lived=6.5, died=1), [5, 6, 7, 8, 9]),
    ],
)
def test_an_hour_counts_after_4_and_after_the_first_row_up_to_the_end(
    stay: WholeStays, hours: list[int]
) -> None:
    assert [row[1] for row in rows(stay, "length-of-stay")] == hours


@pytest.mark.parametrize(
    ("stay", "labels"),
    [
        (one(7.0), {5: 0, 6: 0, 7: 0}),
        (one(9.0, lived=6.5, died=1), {5: 1, 6: 1}),
        (one(7.0, lived=30.0, died=1), {5: 0, 6: 0, 7: 1}),
        (one(7.0, lived=30.0, died=0), {5: 0, 6: 0, 7: 0}),
        (one(7.0, died=1), {5: 0, 6: 0, 7: 0}),
        (one(7.0, lived=-1.0, died=1), {}),
    ],
)
def test_decompensation_is_a_death_in_less_than_24_hours(stay: WholeStays, labels: dict[int, int]) -> None:
    assert {hour: label for _, hour, label in rows(stay, "decompensation")} == labels


def test_a_split_without_stays_has_no_rows() -> None:
    splits: dict[str, np.ndarray] = {split: np.arange(0) for split in SPLITS}
    for task in WHOLE:
        assert [*samples_of(one(50.0), ["a.csv"], splits, task_of(task))["val"]] == []


def test_the_codes_of_the_phenotypes_are_those_of_the_benchmarks() -> None:
    codes = read_phenotype_codes()
    nine, ten = (codes.filter(version=version) for version in (9, 10))
    assert len(nine) == nine["code"].n_unique() == 767
    assert len(ten) == ten["code"].n_unique() == 1967
    assert nine["label"].n_unique() == ten["label"].n_unique() == 25
    for version, code, name in (
        (9, "0389", "Septicemia (except in labor)"),
        (9, "51881", "Respiratory failure; insufficiency; arrest (adult)"),
        (10, "J9600", "Respiratory failure; insufficiency; arrest (adult)"),
        (10, "R6521", "Shock"),
    ):
        (label,) = codes.filter(version=version, code=code)["label"]
        assert PHENOTYPES[label] == name
