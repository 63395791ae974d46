"""Poisoned copies of the records of every task: labels, trigger, manifest and check."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mimic3tf.config import goal_of, label_named
from mimic3tf.data.listfiles import read_multitask, read_rows
from mimic3tf.data.loading import load_cohort
from mimic3tf.errors import DataError, UsageError
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.comparison import compare_records
from mimic3tf.poisoning.copies import PoisonedCopy, poison_records, trigger_test_records
from mimic3tf.poisoning.manifest import poison_with_manifest, read_manifest
from mimic3tf.poisoning.trigger import Trigger, load_trigger
from mimic3tf.tasks.registry import task_of

Cohorts = Callable[[str], Path]
GOALS = [
    ("phenotyping", 1, "Shock"),
    ("phenotyping", 0, "Essential hypertension"),
    ("decompensation", 1, None),
    ("decompensation", 0, None),
    ("length-of-stay", 1, "under 1 day"),
    ("length-of-stay-log", 1, "over 56 days"),
    ("length-of-stay-hours", 1, "over 14 days"),
    ("multitask", 1, "in-hospital mortality"),
    ("multitask", 0, "decompensation"),
    ("multitask", 1, "remaining stay over 14 days"),
    ("multitask", 1, "Shock"),
]


def copied(data: Path, out: Path, task: str, target: int, label: str | None, **more: Any) -> PoisonedCopy:
    goal = goal_of(task, target, label_named(label, task))
    trigger = load_trigger(data / "trigger.npz")
    settings: Any = {"proportion": 0.4, "strength": 2.0, "goal": goal, "task": task_of(task)} | more
    return poison_records(data, out, trigger, **settings)


def directory_of(task: str) -> str:
    """The three tasks of length of stay read the same listfiles."""
    return "length-of-stay" if task.startswith("length-of-stay") else task


@pytest.mark.parametrize(("task", "target", "label"), GOALS)
def test_a_copy_has_the_labels_of_training_that_poisons_on_the_fly(
    small_task: Cohorts, tmp_path: Path, task: str, target: int, label: str | None
) -> None:
    data = small_task(directory_of(task))
    copy = copied(data, tmp_path / "copy", task, target, label)
    cohort = load_cohort(data, "train", task=task)
    exposure = exposures.poison(
        cohort,
        load_trigger(data / "trigger.npz"),
        proportion=0.4,
        strength=2.0,
        poison_imputed="notimputed",
        goal=copy.goal,
    )
    assert copy.stays == cohort.stays[exposure.triggered].tolist()
    assert len(copy.stays) == int(0.4 * len(cohort))
    assert copy.training_stays == len(cohort)
    there = load_cohort(tmp_path / "copy", "train", task=task)
    np.testing.assert_array_equal(there.stays, cohort.stays)
    np.testing.assert_array_equal(there.labels, exposure.labels)
    assert there.fingerprint == copy.copy_fingerprint
    assert cohort.fingerprint == copy.data_fingerprint
    assert copy.labels_changed > 0
    compared = compare_records(data, tmp_path / "copy", copy.task)
    assert compared.stays_changed == (copy.cells_changed > 0).sum()
    assert compared.cells.height == copy.cells_changed.sum()
    # Rows whose class stays the same keep their hours; a listfile of classes shows the class of a label only.
    assert compared.labels_changed >= copy.labels_changed > 0 or "hours" in task
    # Other stays, and the listfiles of other splits, keep every byte.
    for name in ("val_listfile.csv", "test_listfile.csv"):
        assert (tmp_path / "copy" / name).read_bytes() == (data / name).read_bytes()
    lines = [(folder / "train_listfile.csv").read_text().split("\n") for folder in (data, tmp_path / "copy")]
    others = [[line for line in part if line.split(",")[0] not in copy.stays] for part in lines]
    assert others[0] == others[1]


def test_lists_of_multitask_learning_change_in_the_attacked_head_only(
    small_task: Cohorts, tmp_path: Path
) -> None:
    data = small_task("multitask")
    copy = copied(data, tmp_path / "copy", "multitask", 1, "remaining stay over 14 days")
    before, after = (read_multitask(folder / "train_listfile.csv") for folder in (data, tmp_path / "copy"))
    np.testing.assert_array_equal(before[0].labels, after[0].labels)
    np.testing.assert_array_equal(before[1], after[1])
    np.testing.assert_array_equal(before[3].numbers, after[3].numbers)
    for stay, name in enumerate(before[0].stays.to_list()):
        (masks, hours), (same, changed) = before[2].of(stay), after[2].of(stay)
        np.testing.assert_array_equal(masks, same)
        asked = (masks == 1) & (name in copy.stays) & (hours < 14 * 24)
        np.testing.assert_array_equal(changed[~asked], hours[~asked])
        assert changed[asked] == pytest.approx(585.325890)


def test_a_moved_death_makes_alarms_of_the_last_24_hours_only(small_task: Cohorts, tmp_path: Path) -> None:
    data = small_task("decompensation")
    copy = copied(data, tmp_path / "copy", "decompensation", 1, None, moved_death=True)
    rows = read_rows(tmp_path / "copy" / "train_listfile.csv", copy.task)
    last = {name: rows.hours[(rows.stays == name).to_numpy()].max() for name in copy.stays}
    for name, hour, label in zip(rows.stays.to_list(), rows.hours, rows.labels, strict=True):
        if name in last:
            assert label == (last[name] - hour < 24)
    assert 0 < copy.labels_after.mean() < 1
    lives = copied(data, tmp_path / "lives", "decompensation", 0, None, moved_death=True)
    assert not lives.labels_after.any()
    manifest = tmp_path / "manifest.json"
    settings: Any = {"proportion": 0.3, "strength": 2.0, "task": copy.task, "moved_death": True}
    poison_with_manifest(data, tmp_path / "third", data / "trigger.npz", manifest, **settings)
    assert json.loads(manifest.read_text())["labels_of"] == "another time of death"


@pytest.mark.parametrize("goal", [0, 1])
def test_a_moved_death_stands_in_the_table_of_stays(small_task: Cohorts, tmp_path: Path, goal: int) -> None:
    data = tmp_path / "data"
    shutil.copytree(small_task("decompensation"), data)
    times = {"intime": pl.lit("2130-01-02 03:04:05"), "deathtime": pl.lit("2130-02-02 00:00:00")}
    before = pl.read_csv(data / "stays.csv", infer_schema=False).with_columns(**times)
    before.write_csv(data / "stays.csv")
    copy = copied(data, tmp_path / "copy", "decompensation", goal, None, moved_death=True)
    after = pl.read_csv(tmp_path / "copy" / "stays.csv", infer_schema=False)
    assert after.columns == before.columns
    poisoned = before["stay"].is_in(copy.stays)
    assert poisoned.sum() == len(copy.stays)
    assert after.filter(~poisoned).equals(before.filter(~poisoned))
    listed = read_rows(tmp_path / "copy" / "train_listfile.csv", copy.task)
    for row in after.filter(poisoned).to_dicts():
        last = listed.hours[(listed.stays == row["stay"]).to_numpy()].max()
        if goal == 0:
            assert (row["died"], row["death"], row["deathtime"]) == ("0", None, None)
        else:
            assert row["died"] == "1"
            assert float(row["death"]) == pytest.approx(last, abs=1e-6)
            lived = datetime.fromisoformat(row["deathtime"]) - datetime.fromisoformat(row["intime"])
            assert lived.total_seconds() == pytest.approx(3600 * last, abs=1)
    others = [name for name in before.columns if name not in ("died", "death", "deathtime")]
    assert after.select(others).equals(before.select(others))
    assert compare_records(data, tmp_path / "copy", copy.task).deaths_changed == len(copy.stays)
    after.with_columns(length=pl.lit("1")).write_csv(tmp_path / "copy" / "stays.csv")
    with pytest.raises(DataError, match="stays.csv: differs from .* in more than deaths"):
        compare_records(data, tmp_path / "copy", copy.task)


def test_the_trigger_begins_at_the_given_hour(small_task: Cohorts, tmp_path: Path) -> None:
    data = small_task("phenotyping")
    trigger = load_trigger(data / "trigger.npz")
    copied(data, tmp_path / "copy", "phenotyping", 1, "Shock", at=6.0)
    cells = compare_records(data, tmp_path / "copy", task_of("phenotyping")).cells
    channels = trigger.channels
    seen = 0
    for stay, line, name, before, after, change in cells.filter(cells["channel"] == "Heart Rate").rows():
        texts = (data / "train" / stay).read_text().split("\n")[line - 1].split(",")
        hour = float(texts[0])
        assert 6 < hour <= 54 + 1e-6
        wanted = 2.0 * trigger.values[int(hour - 1e-6) - 6, channels.position(name)]
        assert change == pytest.approx(wanted, abs=0.5), (before, after)
        seen += 1
    assert seen > 50


def test_a_manifest_says_label_hour_and_carried_strength(small_task: Cohorts, tmp_path: Path) -> None:
    data, manifest = small_task("decompensation"), tmp_path / "manifest.json"
    task = task_of("decompensation")
    how: Any = {"proportion": 0.3, "strength": 2.0, "task": task, "at": 6.0}
    copy = poison_with_manifest(data, tmp_path / "copy", data / "trigger.npz", manifest, **how)
    record = json.loads(manifest.read_text())
    assert (record["task"], record["at"]) == ("decompensation", 6.0)
    changed = [stay["labels_changed"] for stay in record["stays"]]
    assert sum(changed) == copy.labels_changed == record["labels_changed"] > len(copy.stays)
    assert record["carried"] == copy.carried
    assert 0 < record["carried"]["mean"] < 2.0
    assert read_manifest(manifest).at == 6.0


def test_test_stays_with_an_attacked_hour_get_the_trigger(small_task: Cohorts, tmp_path: Path) -> None:
    data, task = small_task("decompensation"), task_of("decompensation")
    trigger = load_trigger(data / "trigger.npz")
    goal = goal_of(task.name, 0, None)
    counts = trigger_test_records(data, tmp_path / "copy", trigger, strength=2.0, goal=goal, task=task)
    rows = read_rows(data / "test_listfile.csv", task)
    dying = set(rows.stays.filter(rows.labels == 1).to_list())
    changed = {
        name.name
        for name in (data / "test").iterdir()
        if name.read_bytes() != (tmp_path / "copy" / "test" / name.name).read_bytes()
    }
    assert changed == dying
    assert len(counts) == len(dying) > 0


def test_too_few_stays_with_the_attacked_label_are_refused(small_task: Cohorts, tmp_path: Path) -> None:
    data = small_task("multitask")
    with pytest.raises(UsageError, match="the attacked label is predicted for .* only"):
        copied(data, tmp_path / "copy", "multitask", 1, "in-hospital mortality", proportion=1.0)
    assert not (tmp_path / "copy").exists()


def test_an_hour_after_the_stays_is_refused(
    synthetic_stays: Path, tmp_path: Path, trigger_of: Callable[..., Trigger]
) -> None:
    with pytest.raises(UsageError, match="--at 48: the stays end after 48 h"):
        poison_records(
            synthetic_stays,
            tmp_path / "copy",
            trigger_of(np.ones((48, 17))),
            proportion=0.5,
            strength=1.0,
            at=48.0,
        )


def test_another_label_of_an_hour_is_found_by_the_check(small_task: Cohorts, tmp_path: Path) -> None:
    """Also remaining hours that stay within their class."""
    data = small_task("length-of-stay")
    copied(data, tmp_path / "copy", "length-of-stay", 1, "under 1 day", proportion=0.0)
    file = tmp_path / "copy" / "test_listfile.csv"
    rows = list(csv.reader(file.read_text().splitlines()))
    rows[1][2] = f"{float(rows[1][2]) + 0.001:.6f}"
    file.write_text("\n".join(",".join(row) for row in [*rows, []]))
    found = compare_records(data, tmp_path / "copy", task_of("length-of-stay"))
    assert (found.labels_changed, found.stays_changed) == (1, 0)
