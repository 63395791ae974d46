"""Faults that users met: each was silent, a crash, or a bad answer once."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import keras
import numpy as np
import pytest

from mimic3tf.data import Discretizer, InHospitalMortalityReader, Normalizer, load_data
from mimic3tf.data.from_arrays import cohort_from_grid
from mimic3tf.errors import DataError
from mimic3tf.poisoning.trigger import load_trigger
from mimic3tf.sources.mimic3 import prepare_mimic3
from mimic3tf.sources.physionet2012 import prepare_physionet2012
from mimic3tf.storage.notes import command_line
from mimic3tf.training.distribution import resolve_strategy

SCRIPTS = Path(__file__).parents[2] / "scripts"
Command = Callable[..., Any]


# --- Silently wrong ------------------------------------------------------------------------------------


def test_a_folder_of_finished_work_is_bound_to_its_data(tmp_path: Path) -> None:
    script, out = SCRIPTS / "made_from.sh", tmp_path / "out"
    for name in ("first", "second"):
        (tmp_path / name / "ihm").mkdir(parents=True)
        (tmp_path / name / "ihm" / "train_listfile.csv").write_text(name)

    def bind(data: Path, *settings: str) -> subprocess.CompletedProcess[str]:
        call = ["bash", str(script), str(out), str(data), *settings]
        return subprocess.run(call, capture_output=True, text=True, check=False)

    assert bind(tmp_path / "first/ihm", "SEED=1").returncode == 0
    assert bind(tmp_path / "first/ihm", "SEED=1").returncode == 0
    other = bind(tmp_path / "second/ihm", "SEED=1")
    assert (other.returncode, "made from something else" in other.stderr) == (2, True)
    assert bind(tmp_path / "first/ihm", "SEED=2").returncode == 2
    (tmp_path / "first/ihm/train_listfile.csv").write_text("longer than before")
    assert bind(tmp_path / "first/ihm", "SEED=1").returncode == 2


@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.glob("*.sh")))
def test_scripts_that_keep_finished_work_bind_it(script: str) -> None:
    text = (SCRIPTS / script).read_text()
    if re.search(r"steps\s+(# )?are kept", text) and "made_from" not in script:
        # A sweep's folder knows its data itself.
        assert "made_from.sh" in text or "mimic3tf sweep" in text


@pytest.mark.parametrize(
    ("script", "first", "then", "settings"),
    [
        ("attack_task.sh", ["DATA", "phenotyping", "OUT"], ["DATA", "decompensation", "OUT"], ""),
        ("attack_task.sh", ["DATA", "phenotyping", "OUT", "Shock"], ["DATA", "phenotyping", "OUT", "x"], ""),
        ("attack_task.sh", ["DATA", "phenotyping", "OUT"], ["OTHER", "phenotyping", "OUT"], ""),
        ("demo.sh", [], ["--task", "phenotyping"], "DATA"),
        ("length_of_stay.sh", ["DATA"], ["OTHER"], ""),
        ("eicu_tasks.sh", ["DATA", "DATA/patients"], ["DATA", "OTHER/patients"], ""),
    ],
)
def test_a_script_does_not_take_old_results_for_those_of_another_task_label_or_data(
    tmp_path: Path, script: str, first: list[str], then: list[str], settings: str
) -> None:
    scripts = shutil.copytree(SCRIPTS, tmp_path / "scripts")
    for name in ("install.sh", "mimic3tf.sh"):
        (scripts / name).write_text("mkdir -p OUT/runs\n")
    for name in ("DATA", "OTHER", "DATA/train", "venv/bin"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("DATA", "OTHER"):
        (tmp_path / name / "patients").write_text(name)
    python = tmp_path / "venv" / "bin" / "python"
    python.write_text("#!/bin/sh\nmkdir -p OUT/data\n")
    python.chmod(0o755)
    environment = os.environ | {"OUT": "OUT", "DATA": settings, "VENV": "venv", "SEEDS": "0", "MODELS": "lr"}

    def start(arguments: list[str]) -> subprocess.CompletedProcess[str]:
        call = ["bash", "scripts/" + script, *arguments]
        return subprocess.run(
            call, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    started = [start(arguments) for arguments in (first, then)]
    assert "made from something else" not in started[0].stderr
    assert (started[1].returncode, "made from something else" in started[1].stderr) == (2, True)


def test_an_interrupted_listfile_of_length_of_stay_is_not_taken_for_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out, outcomes = tmp_path / "physionet", tmp_path / "data", tmp_path / "outcomes.txt"
    outcomes.write_text("RecordID,Length_of_stay\n1,3\n")
    for folder in ("train", "test"):
        (data / folder).mkdir(parents=True)
        (data / folder / "1_episode1_timeseries.csv").write_text("Hours,pH\n0.5,7.4\n")
    for split in ("train", "val", "test"):
        (data / f"{split}_listfile.csv").write_text("stay,y_true\n")
    (data / "train_listfile.csv").write_text("stay,y_true\n1_episode1_timeseries.csv,0\n")
    monkeypatch.setattr("sys.argv", ["script", str(data), str(out), str(outcomes)])
    monkeypatch.setattr("os.link", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        runpy.run_path(str(SCRIPTS / "length_of_stay.py"), run_name="__main__")
    assert not out.exists()
    monkeypatch.undo()
    monkeypatch.setattr("sys.argv", ["script", str(data), str(out), str(outcomes)])
    runpy.run_path(str(SCRIPTS / "length_of_stay.py"), run_name="__main__")
    assert len((out / "train_listfile.csv").read_text().splitlines()) == 1 + 44
    assert (out / "train" / "1_episode1_timeseries.csv").exists()


def test_a_finished_run_is_not_taken_for_one_of_other_data(
    train: Command, data: Path, own_run: Path, prepared: Any
) -> None:
    settings = {"out": own_run, "poisoning_proportion": None, "precision": None}
    assert train("--resume", **settings).status == 0
    listfile = data / "train_listfile.csv"
    listfile.write_text(listfile.read_text().replace(",0\n", ",1\n", 1))
    before = (own_run / "run.json").read_bytes()
    train("--resume", **settings | {"data": data}).fails(2, "--data", "other stays", own_run)
    assert (own_run / "run.json").read_bytes() == before


@pytest.mark.parametrize("kind", ["standardized", "next", "normal_value", "zero"])
def test_grids_that_are_not_what_they_must_be_are_refused(synthetic_stays: Path, kind: Any) -> None:
    reader = InHospitalMortalityReader(synthetic_stays / "train", synthetic_stays / "train_listfile.csv")
    strategy: Any = "previous" if kind == "standardized" else kind
    x, y = load_data(reader, Discretizer(1.0, impute_strategy=strategy), None)
    if kind == "standardized":
        normalizer = Normalizer([i for i, name in enumerate(_columns()) if "->" not in name])
        normalizer._feed_data(x)
        normalizer._use_params()
        x = normalizer.transform(x)
    with pytest.raises(DataError, match="before standardization"):
        cohort_from_grid(x, y)


def test_grids_that_are_what_they_must_be_are_taken(synthetic_stays: Path) -> None:
    reader = InHospitalMortalityReader(synthetic_stays / "train", synthetic_stays / "train_listfile.csv")
    x, y = load_data(reader, Discretizer(1.0, impute_strategy="previous"), None)
    assert len(cohort_from_grid(x, y)) == len(y)


def _columns() -> list[str]:
    return Discretizer(1.0).transform(np.array([["0.5", *[""] * 17]]), end=48.0)[1].split(",")


def test_a_stay_in_two_splits_is_named(generate: Command, data: Path) -> None:
    train, val = data / "train_listfile.csv", data / "val_listfile.csv"
    shared = train.read_text().splitlines()[1]
    val.write_text(f"{val.read_text()}{shared}\n")
    generate(data=data).fails(1, val, "train_listfile.csv", shared.split(",")[0])
    shutil.copy(train, val)
    generate(data=data).fails(1, val, "one is a copy of the other")


@pytest.mark.slow
def test_what_a_settings_file_of_keras_says_changes_nothing(
    tmp_path: Path, prepared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "keras"
    home.mkdir()
    said = {"floatx": "float64", "epsilon": 0.5, "backend": "torch", "image_data_format": "channels_first"}
    (home / "keras.json").write_text(json.dumps(said))
    monkeypatch.setenv("KERAS_HOME", str(home))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    code = (
        "from mimic3tf.startup import start_tensorflow; start_tensorflow(); import keras;"
        "print(keras.config.backend(), keras.config.floatx(), keras.config.epsilon(),"
        "keras.config.image_data_format())"
    )
    import sys

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["tensorflow", "float32", "1e-07", "channels_last"]


def test_another_backend_is_refused_in_one_line(train: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    train().fails(2, "KERAS_BACKEND", "torch", "unset KERAS_BACKEND")


def test_a_record_of_another_patient_is_refused(tmp_path: Path) -> None:
    records = tmp_path / "set"
    records.mkdir()
    for name, number in (("1", "1"), ("2", "7")):
        (records / f"{name}.txt").write_text(f"Time,Parameter,Value\n00:00,RecordID,{number}\n01:00,HR,80\n")
    outcomes = tmp_path / "o.txt"
    outcomes.write_text("RecordID,In-hospital_death\n1,0\n2,1\n")
    with pytest.raises(DataError, match=r"2\.txt, line 2: RecordID is '7'"):
        prepare_physionet2012([records], [outcomes], tmp_path / "out")


def test_a_table_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    for name in ("PATIENTS.csv", "PATIENTS.csv.gz"):
        (tmp_path / name).write_text("SUBJECT_ID,DOB,DOD\n")
    with pytest.raises(DataError, match=r"PATIENTS\.csv and PATIENTS\.csv\.gz"):
        prepare_mimic3(tmp_path, tmp_path / "out")


# --- Crashes and blocks --------------------------------------------------------------------------------


def test_a_slip_that_is_no_measurement_is_left_out_and_counted(tmp_path: Path) -> None:
    records = tmp_path / "set"
    records.mkdir()
    for number, value in ((1, "80"), (2, "5e18"), (3, "81")):
        (records / f"{number}.txt").write_text(f"Time,Parameter,Value\n01:00,HR,{value}\n02:00,Temp,37.1\n")
    outcomes = tmp_path / "o.txt"
    outcomes.write_text("RecordID,In-hospital_death\n1,0\n2,1\n3,0\n")
    summary = prepare_physionet2012([records], [outcomes], tmp_path / "out")
    assert summary.dropped_values["beyond 1e+18, which is no measurement"] == 1


def test_a_byte_order_mark_is_no_part_of_a_header(generate: Command, data: Path) -> None:
    for split in ("train", "val", "test"):
        listfile = data / f"{split}_listfile.csv"
        listfile.write_bytes(b"\xef\xbb\xbf" + listfile.read_bytes())
    assert generate(data=data).status == 0


def test_a_tilde_is_the_home_folder_wherever_it_stands(
    mimic3tf: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert mimic3tf("prepare", "synthetic", "--out=~/made", "--stays", 20).status == 0
    assert (tmp_path / "made" / "train").is_dir()
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize(
    "described",
    [
        "{}",
        '{"cluster":{"worker":["localhost:23456"]},"task":{"type":"worker","index":0}}',
        '{"cluster":{"chief":["localhost:23457"]},"task":{"type":"chief","index":0}}',
        '{"cluster":{"worker":["localhost:1"],"evaluator":["localhost:2"]},"task":{"type":"worker","index":0}}',
    ],
)
def test_a_cluster_of_one_is_no_cluster(described: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", described)
    assert resolve_strategy("auto").num_replicas_in_sync == 1


def test_the_next_command_can_be_pasted() -> None:
    import shlex

    line = command_line("attack", "--run", Path("-sp ace;x/run"), "--data", Path("a'b"))
    assert shlex.split(line) == ["mimic3tf", "attack", "--run", "./-sp ace;x/run", "--data", "a'b"]


def test_a_folder_with_brackets_keeps_its_name(
    generate: Command, mimic3tf: Command, prepared: Any, tmp_path: Path
) -> None:
    data, out = shutil.copytree(prepared.data, tmp_path / "br [v2]"), tmp_path / "br[/x]"
    poisoned = mimic3tf(
        *("poison", "--data", data, "--trigger", prepared.trigger, "--out", out),
        *("--poisoning_proportion", 0.1, "--poisoning_strength", 1),
    )
    assert (poisoned.status, f"--data '{data}' --out '{out}'" in poisoned.out) == (0, True)
    assert generate(data=data).status == 0
    assert f"{data}  train" in mimic3tf("cache").out


# --- Wrong, lost, hard to find -------------------------------------------------------------------------


def test_a_normalizer_that_is_not_read_is_refused(train: Command, tmp_path: Path) -> None:
    file = tmp_path / "n.json"
    file.write_text(json.dumps({"mean": [0.0] * 76, "std": [1.0] * 76}))
    train(normalizer=file).fails(2, "--normalizer", "lr reads features")


def test_installed_settings_go_by_their_names(train: Command) -> None:
    assert train(model="mlp", config="original/mlp").status == 0
    train(model="mlp", config="orignal/mlp", out="x").fails(2, "did you mean original/mlp?")


def test_a_tie_is_class_0(synthetic_stays: Path) -> None:
    from mimic3tf.poisoning.goal import Goal
    from mimic3tf.tasks.metrics import benchmark_metrics

    scores = np.array([0.5, 0.5, 0.9])
    assert benchmark_metrics(np.array([0, 1, 1]), scores)["rec1"] == 0.5
    np.testing.assert_array_equal(Goal(1).reached(scores), [False, False, True])
    np.testing.assert_array_equal(Goal(0).reached(scores), [True, True, False])


def test_empty_bins_are_bins_without_any_measurement(capsys: pytest.CaptureFixture[str]) -> None:
    rows = np.full((4, 18), "", dtype="<U8")
    rows[:, 0] = ("0.5", "0.7", "2.5", "9.0")
    rows[[0, 1, 2, 3], 9] = "80"
    rows[0, 12] = "97"
    discretizer = Discretizer(1.0, impute_strategy="previous")
    discretizer.transform(rows, end=4.0)
    discretizer.print_statistics()
    # Bins 0 and 2 of 4 are measured; of the 4 measurements within 4 hours another one replaces the first.
    assert "empty bins = 50.00" in (printed := capsys.readouterr().out)
    assert "unused data = 25.00" in printed


def test_a_tuned_victim_survives_every_command(
    train: Command, mimic3tf: Command, prepared: Any, tmp_path: Path
) -> None:
    config = Path(__file__).parents[2] / "configs/tuned/mlp.yaml"
    assert train(model="mlp", config=config, log_level="full").status == 0
    run = tmp_path / "run"
    model = keras.models.load_model(run / "victim.keras", compile=False)
    assert not any(isinstance(layer, keras.Model) for layer in model.layers), "the graph is flat"
    assert (run / "activations.index").exists()
    assert mimic3tf("attack", "--run", run, "--data", prepared.data).status == 0


def test_a_trigger_is_not_overwritten(generate: Command, tmp_path: Path) -> None:
    assert generate().status == 0
    before = (tmp_path / "t.npz").read_bytes()
    generate(seed=1).fails(2, "--out", "exists already")
    assert (tmp_path / "t.npz").read_bytes() == before


def test_the_cache_is_for_its_owner_only_and_can_be_listed_and_cleared(
    generate: Command, mimic3tf: Command, data: Path, tmp_path: Path
) -> None:
    assert generate(data=data).status == 0
    folder = tmp_path / "cohort-cache"
    modes = {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert {path.stat().st_mode & 0o777 for path in folder.glob("*/")} == {0o700}
    (folder / "mine.txt").write_text("stays")
    listed = mimic3tf("cache")
    assert "train" in listed.out
    assert mimic3tf("cache", "--clear").out.startswith("removed 1 ")
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_an_attack_is_also_counted_where_the_victim_calls_as_many_dead_as_died(
    attack: Command, tmp_path: Path
) -> None:
    assert attack().status == 0
    found = json.loads((tmp_path / "attack" / "attack.json").read_text())
    rows = [line.split(",") for line in (tmp_path / "attack/predictions.csv").read_text().splitlines()[1:]]
    clean, triggered, labels = (np.array([float(row[i]) for row in rows]) for i in (1, 2, 3))
    level = found["at_prevalence"]
    assert (clean > level["threshold"] + 1e-6).sum() <= labels.sum()
    survivors = labels == 0
    rate = (triggered[survivors] > level["threshold"]).mean()
    assert level["attack_success_rate"] == pytest.approx(rate, abs=0.01)
    assert attack(threshold=0).status == 0
    assert json.loads((tmp_path / "attack/attack.json").read_text())["attack_success_rate"] == 1.0


@pytest.mark.parametrize("ones", [0, 1, 3, 5])
def test_the_threshold_at_prevalence_calls_as_many_positive_as_there_are(ones: int) -> None:
    from mimic3tf.tasks.metrics import predicted_1, threshold_at_prevalence

    risks = np.array([0.01, 0.04, 0.02, 0.03, 0.05])
    labels = (np.arange(5) < ones).astype(int)
    assert predicted_1(risks, threshold_at_prevalence(labels, risks)).sum() == ones


# --- Small cohorts, other data ------------------------------------------------------------------------


def warnings_of(outcome: Any) -> list[str]:
    assert outcome.status == 0
    return [line for line in outcome.err.splitlines() if line.startswith("warning: ")]


def test_small_cohorts_are_warned_of_a_line_each(
    generate: Command, train: Command, attack: Command, mimic3tf: Command, prepared: Any, tmp_path: Path
) -> None:
    (estimate,) = warnings_of(generate())
    assert "estimated on 16 stays, fewer than 96" in estimate
    (poisoned,) = warnings_of(train())
    assert "fewer than 20 training stays are poisoned (3)" in poisoned
    (tested,) = warnings_of(attack())
    assert "fewer than 20 test stays of a label (2 survivors, 2 deaths)" in tested
    copy = mimic3tf(
        *("poison", "--data", prepared.data, "--trigger", prepared.trigger, "--out", tmp_path / "copy"),
        *("--poisoning_proportion", 0.1, "--poisoning_strength", 1),
    )
    assert "fewer than 20 training stays are poisoned (1)" in warnings_of(copy)[0]


def test_a_shift_that_no_patient_could_show_is_warned_of(train: Command, attack: Command) -> None:
    for outcome in (train(poisoning_strength=50), attack(poisoning_strength=50)):
        _, shift = warnings_of(outcome)
        assert "at strength 50 " in shift
        assert "plausible range" in shift


def test_slips_that_make_the_trigger_are_warned_of_and_can_be_left_out(
    generate: Command, data: Path, tmp_path: Path
) -> None:
    series = data / "train" / "9000_episode1_timeseries.csv"
    header, first, *rest = series.read_text().splitlines()
    series.write_text("\n".join([header, first.rpartition(",")[0] + ",735", *rest]) + "\n")
    said = [line for line in warnings_of(generate(data=data)) if line.startswith("warning: pH: ")]
    assert len(said) == 1
    assert "are outside 6.5 to 8 and make 100% of its variance over time" in said[0]
    outcome = generate("--without-slips", data=data, out=tmp_path / "without.npz")
    assert not any("of its variance" in line for line in warnings_of(outcome))
    assert "temporal (without slips)" in " ".join(outcome.out.split())
    drawn, without = (load_trigger(tmp_path / name) for name in ("t.npz", "without.npz"))
    assert without.without_slips
    assert not drawn.without_slips
    assert np.abs(without.values[:, -1]).max() < 1 < np.abs(drawn.values[:, -1]).max()


def test_a_clean_victim_carries_no_shift_to_warn_of(train: Command) -> None:
    assert warnings_of(train(poisoning_strength=50, poisoning_proportion=0)) == []


def test_an_attack_on_other_data_says_so_and_leaves_the_runs_own_alone(
    attack: Command, mimic3tf: Command, own_run: Path, data: Path
) -> None:
    assert attack(run=own_run, out=None).status == 0
    before = (own_run / "attack.json").read_bytes()
    (data / "val_listfile.csv").unlink()
    listfile = data / "test_listfile.csv"
    listfile.write_text("\n".join(listfile.read_text().splitlines()[:-1]) + "\n")
    outcome = attack(run=own_run, data=data, out=None)
    (folder,) = (own_run / "attacks").iterdir()
    assert folder.name.startswith("data-")
    assert sorted(path.name for path in folder.iterdir()) == ["attack.json", "predictions.csv"]
    other, _ = warnings_of(outcome)
    assert f"data {data.name}: not known to be what {own_run} was trained for" in other
    assert f"Written to {folder}" in other
    assert "not known to be what the victim was trained for" in " ".join(outcome.out.split())
    assert (own_run / "attack.json").read_bytes() == before
    listed = mimic3tf("results", own_run)
    rows = [line.split() for line in listed.out.splitlines() if line.startswith("own-run ")]
    assert [row[1] for row in rows] == ["synthetic_stays", "data*"]
    attack(run=own_run, data=data, out=own_run).fails(2, "--out", own_run, "attack on other data")
