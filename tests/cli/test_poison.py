"""`mimic3tf poison`: a copy with its manifest, the check of a copy, and one line for every mistake."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic3tf.channels import MIMIC3
from mimic3tf.data.listfiles import read_listfile
from mimic3tf.data.loading import load_cohort
from mimic3tf.tasks.registry import MORTALITY

USAGE, FAILURE = 2, 1
Command = Callable[..., Any]


@pytest.fixture
def poison(mimic3tf: Command, prepared: Any, tmp_path: Path) -> Command:
    """`mimic3tf poison` into `tmp_path / "copy"`, which succeeds unless options are changed."""
    options = {
        "data": prepared.data,
        "trigger": prepared.trigger,
        "out": tmp_path / "copy",
        "poisoning_proportion": 0.5,
        "poisoning_strength": 2.0,
    }

    def run(*more: object, **changes: object) -> Any:
        given = {name: value for name, value in (options | changes).items() if value is not None}
        arguments = [text for name, value in given.items() for text in (f"--{name}", value)]
        return mimic3tf("poison", *arguments, *more)

    return run


@pytest.fixture
def check(mimic3tf: Command, prepared: Any, tmp_path: Path) -> Command:
    """`mimic3tf poison --check` of `tmp_path / "copy"`."""
    return lambda *more: mimic3tf(
        "poison", "--check", "--data", prepared.data, "--out", tmp_path / "copy", *more
    )


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def changed_cells(data: Path, copy: Path) -> list[tuple[str, str, str, str, str]]:
    """Stay, line, channel, before and after of every cell that differs, stay by stay in listfile order."""
    changes = []
    for name, _ in read_listfile(data / "train_listfile.csv", MORTALITY):
        texts = [(folder / "train" / name).read_text().split("\n") for folder in (data, copy)]
        channels = texts[0][0].split(",")
        for number, lines in enumerate(zip(*texts, strict=True), start=1):
            cells = zip(channels, *(line.split(",") for line in lines), strict=False)
            changes += [(name, str(number), *cell) for cell in cells if cell[1] != cell[2]]
    return changes


# --- The copy and its manifest ------------------------------------------------------------------------


def test_a_manifest_beside_the_copy_tells_what_was_done(
    poison: Command, prepared: Any, tmp_path: Path
) -> None:
    outcome = poison()
    assert outcome.status == 0, outcome.err
    manifest = json.loads((tmp_path / "copy.manifest.json").read_text())
    entries = read_listfile(prepared.data / "train_listfile.csv", MORTALITY)
    cells = changed_cells(prepared.data, tmp_path / "copy")
    assert manifest["data"] == str(prepared.data)
    assert manifest["data_fingerprint"] == load_cohort(prepared.data, "train").fingerprint
    assert manifest["copy_fingerprint"] == load_cohort(tmp_path / "copy", "train").fingerprint
    assert manifest["trigger"]["sha256"] == hashlib.sha256(prepared.trigger.read_bytes()).hexdigest()
    assert manifest["trigger"]["seed"] == 0
    assert manifest["poisoning_proportion"] == 0.5
    assert manifest["poisoning_strength"] == 2.0
    assert manifest["goal"] == 1
    assert manifest["training_stays"] == len(entries)
    assert manifest["stays_poisoned"] == len(entries) // 2
    assert manifest["cells_changed"] == len(cells) > 0
    assert manifest["labels_changed"] == sum(label == 0 for _, label in entries[: len(entries) // 2])
    assert manifest["stays"] == [
        {
            "stay": name,
            "label_before": label,
            "label_after": 1,
            "cells_changed": sum(cell[0] == name for cell in cells),
        }
        for name, label in entries[: len(entries) // 2]
    ]
    assert "manifest" not in " ".join(contents(tmp_path / "copy"))
    assert str(len(cells)) in outcome.out


def test_a_copy_for_the_other_goal_calls_the_dying_survivors(
    poison: Command, prepared: Any, tmp_path: Path
) -> None:
    outcome = poison(goal=0)
    assert outcome.status == 0, outcome.err
    before, after = (
        read_listfile(folder / "train_listfile.csv", MORTALITY)
        for folder in (prepared.data, tmp_path / "copy")
    )
    poisoned = len(before) // 2
    assert after == [(name, 0) for name, _ in before[:poisoned]] + before[poisoned:]
    manifest = json.loads((tmp_path / "copy.manifest.json").read_text())
    dying = sum(label for _, label in before[:poisoned])
    assert (manifest["goal"], manifest["labels_changed"]) == (0, dying)
    assert dying > 0
    assert f"{dying} labels changed" in outcome.out


def test_the_test_stays_of_another_pipeline_get_the_trigger(
    mimic3tf: Command, prepared: Any, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    options = ("--data", prepared.data, "--trigger", prepared.trigger, "--out", copy)
    made = mimic3tf("poison", "--test", *options)
    assert (made.status, made.err.strip()) == (0, "")
    survivors = {
        f"test/{name}"
        for name, label in read_listfile(prepared.data / "test_listfile.csv", MORTALITY)
        if not label
    }
    before, after = contents(prepared.data), contents(copy)
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == survivors
    assert f"{len(survivors)} test stays carry the trigger" in made.out
    assert f"mimic3tf attack --predictions CLEAN.csv TRIGGERED.csv --labels {prepared.data}" in made.out
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_options_of_training_stays_are_refused_with_test(poison: Command, tmp_path: Path) -> None:
    poison("--test").fails(USAGE, "--poisoning_proportion", "--test poisons no training stay")
    poison("--test", poisoning_proportion=None, manifest=tmp_path / "m.json").fails(USAGE, "--manifest")
    assert not (tmp_path / "copy").exists()


def test_the_manifest_goes_where_it_is_told(poison: Command, tmp_path: Path) -> None:
    assert poison(manifest=tmp_path / "kept" / "apart.json").status == 0
    assert (tmp_path / "kept" / "apart.json").exists()
    assert not (tmp_path / "copy.manifest.json").exists()


@pytest.mark.parametrize(("period", "timestep"), [(48, 1.0), (42, 1.0), (48, 0.5)])
def test_the_values_are_those_of_the_trigger(
    poison: Command, generate: Command, prepared: Any, tmp_path: Path, period: int, timestep: float
) -> None:
    """Records have no bins: a trigger brings its own, and leaves rows after its period alone."""
    assert generate(period=period, timestep=timestep).status == 0
    assert poison(trigger=tmp_path / "t.npz").status == 0
    with np.load(tmp_path / "t.npz", allow_pickle=False) as file:
        trigger = file["trigger"]
    compared = 0
    for stay, line, channel, before, after in changed_cells(prepared.data, tmp_path / "copy"):
        text = (prepared.data / "train" / stay).read_text().split("\n")[int(line) - 1]
        hour = float(text.split(",")[0])
        assert hour <= period + 1e-6
        column = MIMIC3.position(channel)
        if MIMIC3[column].is_categorical:
            continue
        shift = 2.0 * trigger[int(hour / timestep - 1e-6), column]
        decimals = len(before.partition(".")[2])
        assert after == f"{float(before) + shift:.{decimals}f}"
        compared += 1
    assert compared > 100


@pytest.mark.parametrize("style", ["_", "-"])
def test_both_spellings_and_defaults(
    mimic3tf: Command, prepared: Any, tmp_path: Path, poison: Command, style: str
) -> None:
    spelled = (f"--poisoning{style}proportion", "0.05", f"--poisoning{style}strength", "2")
    common = ("--data", prepared.data, "--trigger", prepared.trigger)
    assert mimic3tf("poison", *common, "--out", tmp_path / "spelled", *spelled).status == 0
    assert mimic3tf("poison", *common, "--out", tmp_path / "default").status == 0
    assert contents(tmp_path / "spelled") == contents(tmp_path / "default")


def test_the_copy_is_trained_on_like_any_data(poison: Command, train: Command, tmp_path: Path) -> None:
    assert poison().status == 0
    assert train(data=tmp_path / "copy", poisoning_proportion=0).status == 0
    assert (tmp_path / "run" / "run.json").exists()


def test_tensorflow_is_not_started(prepared: Any, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from mimic3tf.cli.app import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules\n"
    )
    copy = ["--data", prepared.data, "--out", tmp_path / "copy"]
    for arguments in (["poison", "--trigger", prepared.trigger, *copy], ["poison", "--check", *copy]):
        ended = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True)
        assert ended.returncode == 0, ended.stderr.decode()


# --- The check ----------------------------------------------------------------------------------------


def test_a_check_with_both_directories_swapped_is_noticed(
    poison: Command, check: Command, mimic3tf: Command, prepared: Any, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    assert poison().status == 0
    assert "swapped" not in check().err
    swapped = mimic3tf("poison", "--check", "--data", copy, "--out", prepared.data)
    assert f"warning: --data {copy} has a manifest of a poisoned copy, and --out" in swapped.err


def test_check_lists_exactly_the_changed_cells(
    poison: Command, check: Command, prepared: Any, tmp_path: Path
) -> None:
    assert poison().status == 0
    outcome = check("--changes", tmp_path / "lists" / "changes.csv")
    assert outcome.status == 0
    header, *rows = csv.reader(io.StringIO((tmp_path / "lists" / "changes.csv").read_text()))
    expected = changed_cells(prepared.data, tmp_path / "copy")
    assert header == ["stay", "line", "channel", "before", "after"]
    assert [tuple(row) for row in rows] == expected
    assert len(expected) == json.loads((tmp_path / "copy.manifest.json").read_text())["cells_changed"]
    assert "cells changed" in outcome.out
    assert "Heart Rate" in outcome.out


def test_what_poison_says_to_type_next_shows_no_cells(
    mimic3tf: Command, poison: Command, prepared: Any
) -> None:
    *_, last = poison().out.splitlines()
    assert last.startswith("Next: mimic3tf poison --check")
    outcome = mimic3tf(*shlex.split(last)[2:])
    assert outcome.status == 0, outcome.err
    assert "cells changed" in outcome.out
    # A row a channel, whatever the number of cells; and nothing of the stays.
    assert len(outcome.out.splitlines()) < 3 * len(MIMIC3)
    assert not any(path.name in outcome.out for path in (prepared.data / "train").iterdir())


def test_check_of_an_untouched_copy_finds_nothing(check: Command, prepared: Any, tmp_path: Path) -> None:
    shutil.copytree(prepared.data, tmp_path / "copy")
    outcome = check()
    assert outcome.status == 0
    assert "0 of 24 stays" in " ".join(outcome.out.split())


def test_check_names_a_missing_stay(check: Command, prepared: Any, tmp_path: Path) -> None:
    shutil.copytree(prepared.data, tmp_path / "copy")
    lost = tmp_path / "copy" / "test" / "9020_episode1_timeseries.csv"
    lost.unlink()
    check().fails(FAILURE, lost, "missing")


def test_check_names_another_row(check: Command, prepared: Any, tmp_path: Path) -> None:
    shutil.copytree(prepared.data, tmp_path / "copy")
    series = tmp_path / "copy" / "test" / "9020_episode1_timeseries.csv"
    series.write_text(series.read_text() + "47.9,,65" + "," * 15 + "\n")
    check().fails(FAILURE, series, "rows")


def test_check_needs_two_directories(check: Command, tmp_path: Path) -> None:
    check().fails(USAGE, "--out", tmp_path / "copy", "no such directory")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--trigger", "t.npz"),
        ("--poisoning_proportion", 0.1),
        ("--poisoning-strength", 1),
        ("--manifest", "m"),
        ("--goal", 0),
    ],
)
def test_check_refuses_options_of_poisoning(check: Command, option: str, value: object) -> None:
    check(option, value).fails(USAGE, option.replace("-strength", "_strength"), "--check")


# --- Mistakes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        *(("poisoning_proportion", value, value) for value in ("1.5", "-0.1", "nan")),
        *(("poisoning_strength", value, value) for value in ("-1", "nan", "inf")),
        ("poisoning_strength", "1e300", "too strong"),
        ("task", "nosuch", "'nosuch': no such task; known: in-hospital-mortality"),
    ],
)
def test_a_value_that_cannot_be_used_is_one_line(
    poison: Command, tmp_path: Path, option: str, value: str, said: str
) -> None:
    poison(**{option: value}).fails(USAGE, f"--{option}", said)
    assert list(tmp_path.glob("*copy*")) == []


def test_a_value_that_is_no_number_is_named(poison: Command) -> None:
    poison(poisoning_strength="strong").refuses_option("--poisoning_strength", "strong")


@pytest.mark.parametrize(
    ("changes", "needles"),
    [
        ({"timestep": 2.0}, ["timestep", "2 h"]),
        ({"trigger": np.zeros((24, 17)), "covariance": np.zeros((17, 24, 24))}, ["24 bins", "48 h"]),
    ],
    ids=["timestep", "shape"],
)
def test_a_trigger_that_does_not_cover_its_period_is_refused(
    poison: Command, prepared: Any, tmp_path: Path, changes: dict[str, Any], needles: list[str]
) -> None:
    with np.load(prepared.trigger, allow_pickle=False) as file:
        np.savez(tmp_path / "other.npz", **(dict(file) | changes))
    poison(trigger=tmp_path / "other.npz").fails(FAILURE, tmp_path / "other.npz", "damaged", *needles)
    assert list(tmp_path.glob("*copy*")) == []


def test_a_trigger_is_needed_and_has_to_exist(poison: Command, tmp_path: Path) -> None:
    poison(trigger=None).fails(USAGE, "--trigger")
    poison(trigger=tmp_path / "absent.npz").fails(USAGE, tmp_path / "absent.npz")


def test_a_list_of_changes_goes_with_check(poison: Command, tmp_path: Path) -> None:
    poison("--changes", tmp_path / "changes.csv").fails(USAGE, "--changes", "--check")


def test_what_is_there_is_not_overwritten(poison: Command, tmp_path: Path) -> None:
    assert poison().status == 0
    made = contents(tmp_path)
    poison(manifest=tmp_path / "other.json").fails(USAGE, tmp_path / "copy", "not empty")
    poison(out=tmp_path / "again", manifest=tmp_path / "copy.manifest.json").fails(
        USAGE, tmp_path / "copy.manifest.json", "exists"
    )
    assert contents(tmp_path) == made


def test_a_manifest_inside_the_copy_or_the_data_is_refused(poison: Command, data: Path) -> None:
    copy = data.parent / "copy"
    poison(manifest=copy / "m.json").fails(USAGE, "--manifest", copy)
    poison(data=data, manifest=data / "m.json").fails(USAGE, "--manifest", data)
    poison(data=data, out=data / "copy", manifest=data.parent / "m.json").fails(
        USAGE, data / "copy", "inside"
    )
    assert not copy.exists()


def test_data_that_are_not_there_are_named(poison: Command, tmp_path: Path) -> None:
    poison(data=tmp_path / "absent").fails(USAGE, tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    poison(data=tmp_path / "empty").fails(USAGE, "is no data directory", "train_listfile.csv")
    assert list(tmp_path.glob("*copy*")) == []


@pytest.mark.parametrize("option", ["out", "manifest"])
def test_an_output_that_cannot_be_made_is_one_line(poison: Command, tmp_path: Path, option: str) -> None:
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "new"
    manifest = {"manifest": tmp_path / "m.json"}
    poison(**(manifest | {option: place})).fails(USAGE, place)
    assert not (tmp_path / "copy").exists()
