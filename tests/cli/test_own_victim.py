"""A victim that the user's own code builds, from training to report; its code is run only if trusted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import mimic3tf as package
from mimic3tf.errors import UsageError
from mimic3tf.sweeps.plan import read_sweep, settings_of, trials_of
from mimic3tf.sweeps.trial import Job, run_trial
from mimic3tf.tasks.targets import Head

Command = Callable[..., Any]
CODE = """
import keras
from pathlib import Path

if (log := Path(__file__).with_name("log")).exists():
    log.write_text(log.read_text() + "run ")

def build(input_shape, head):
    inputs = keras.Input(input_shape)
    hidden = keras.layers.Conv1D(2, 8, strides=8, activation="relu")(inputs)
    return keras.Model(inputs, head(keras.layers.Flatten()(hidden)))

def forest():
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(20)

def one_output(input_shape, head):
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, keras.layers.Dense(1)(inputs[:, 0]))
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    file = tmp_path / "ours.py"
    file.write_text(CODE)
    return file


@pytest.fixture
def run(train: Command, code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    done = train(model="ours.py:build", log_level="minimal")
    assert done.status == 0, done.err
    assert "ours.py:build: poisoned" in done.out
    assert "--trust-model" in done.out
    return tmp_path / "run"


def test_own_code_goes_from_training_to_report(
    mimic3tf: Command, run: Path, code: Path, prepared: Any, tmp_path: Path
) -> None:
    sha256 = hashlib.sha256(code.read_bytes()).hexdigest()
    for file, key in (("config.yaml", "model"), ("run.json", "victim")):
        recorded = yaml.safe_load((run / file).read_text())
        assert (recorded[key], recorded["model_sha256"]) == (f"{code}:build", sha256)
    assert "kept epoch/AUROC" in EventAccumulator(str(run)).Reload().Tags()["tensors"]
    attacked = mimic3tf("attack", "--run", run, "--data", prepared.data, "--trust-model")
    assert attacked.status == 0, attacked.err
    assert "ours.py:build, 20.0%" in attacked.out
    results = mimic3tf("results", run)
    assert "ours.py:build" in results.out
    assert "OURS" not in results.out
    assert mimic3tf("report", run, "--out", tmp_path / "report").status == 0


def test_the_code_of_a_run_is_not_run_unless_it_is_trusted(
    mimic3tf: Command, run: Path, code: Path, prepared: Any, tmp_path: Path
) -> None:
    # Another file than the one that was trained, so that no module in this process is the right one already.
    other = tmp_path / "other" / "theirs.py"
    other.parent.mkdir()
    other.write_text(CODE)
    (tmp_path / "other" / "log").write_text("")
    settings = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(settings | {"model": f"{other}:build"}))
    for command in ("attack", "audit"):
        options = ("--out", tmp_path / "out", "--data", prepared.data)
        mimic3tf(command, "--run", run, *options).fails(2, run, f"{other}:build", "--trust-model")
    with pytest.raises(UsageError, match="trust_model=True"):
        package.load_run(run)
    assert mimic3tf("report", run, "--out", tmp_path / "report").status == 0
    assert (tmp_path / "other" / "log").read_text() == ""
    assert package.load_run(run, trust_model=True).model.output_shape == (None, 2)
    assert (tmp_path / "other" / "log").read_text() == "run "
    other.unlink()
    with pytest.raises(UsageError, match=f"--run {run}: its victim is built by .*no such file"):
        package.load_run(run, trust_model=True)


def test_changed_code_is_not_resumed_and_is_told(
    mimic3tf: Command, train: Command, run: Path, code: Path, prepared: Any
) -> None:
    same: dict[str, Any] = {"model": "ours.py:build", "log_level": "minimal"}
    assert "finished before" in train("--resume", **same).out
    assert "finished before" in train("--resume", **same, config=run / "config.yaml").out
    code.write_text(CODE + "# changed\n")
    train("--resume", **same).fails(2, "--resume", f"{code}:build has changed")
    train("--resume", **same, config=run / "config.yaml").fails(2, "config.yaml, line 2", "has changed")
    attacked = mimic3tf("attack", "--run", run, "--data", prepared.data, "--trust-model")
    assert attacked.status == 0, attacked.err
    assert f"warning: run {run}: the code of {code}:build has changed" in attacked.err


def test_what_does_not_fit_leaves_no_directory(train: Command, code: Path, tmp_path: Path) -> None:
    train(model=f"{code}:one_output").fails(2, "(None, 1)", "(None, 2)", "head(hidden)")
    train(model=f"{code}:nothing").fails(2, "has no 'nothing'")
    train(model=f"{code.parent}/their.py:build").fails(2, "--model", "no such file")
    train(model="no.such.module:build").fails(2, "--model", "no module no.such.module")
    assert not (tmp_path / "run").exists()


def test_settings_come_from_a_file(train: Command, code: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"model: {code}:build\nepochs: 2\nlearning_rate: 0.01\n")
    assert train(model=f"{code}:build", config=settings, epochs=None, log_level="minimal").status == 0
    recorded = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (recorded["epochs"], recorded["learning_rate"], recorded["patience"]) == (2, 0.01, 10)
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 3
    train(model=f"{code}:one_output", config=settings).fails(2, f"{settings}, line 1", "'model'")


def test_a_sweep_trains_and_attacks_own_code(code: Path, prepared: Any, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep.yaml"
    grid = "{victims: [%s], poison_imputed: [all], proportions: [0.2], strengths: [2.0]}"
    sweep.write_text(f"seeds: [0]\ngrids:\n  - {grid % f'lr, {code}:biuld'}\n")
    missing = sweep.read_text().replace("ours.py", "nosuch.py")
    sweep.write_text(missing)
    with pytest.raises(UsageError, match=r"sweep\.yaml, line 3: 'victims' is .*nosuch\.py:biuld': no such"):
        read_sweep(str(sweep))
    (tmp_path / "quick.yaml").write_text("epochs: 1\n")
    sweep.write_text(
        f"seeds: [0]\ngrids:\n  - {grid % f'{code}:build'}\nconfigs: {{'{code}:build': quick.yaml}}\n"
    )
    file = read_sweep(str(sweep))
    (trial,) = trials_of(file, 16)
    assert trial.name.startswith("ours.py-build-")
    folder = tmp_path / "trials" / trial.name
    config = settings_of(file, trial, prepared.data, prepared.trigger)
    assert config.epochs == 1
    run_trial(Job(trial, config, {"temporal": prepared.trigger}, folder, "f" * 64))
    (row,) = json.loads((folder / "trial.json").read_text())
    assert (row["status"], row["victim"]) == ("finished", f"{code}:build")


@pytest.mark.slow
def test_an_estimator_is_trained_attacked_and_read_back(
    mimic3tf: Command, train: Command, code: Path, prepared: Any, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"model": f"{code}:forest", "log_level": "full", "seed": 3}
    done = train(**options)
    assert done.status == 0, done.err
    assert "fitted a RandomForestClassifier: validation AUROC" in done.out
    run = tmp_path / "run"
    summary = json.loads((run / "run.json").read_text())
    assert (summary["estimator"], summary["epochs_trained"]) == ("RandomForestClassifier", 1)
    assert len((run / "metrics.csv").read_text().splitlines()) == 2
    assert not (run / "victim.keras").exists()
    events = EventAccumulator(str(run)).Reload()
    assert [event.step for event in events.Tensors("kept epoch/AUROC")] == [1]
    assert "finished before" in train("--resume", **options).out

    mimic3tf("attack", "--run", run, "--data", prepared.data).fails(2, "--trust-model")
    for command in (
        ("attack", "--run", run),
        ("results", run),
        ("report", run, "--out", tmp_path / "report"),
    ):
        more = ("--data", prepared.data, "--trust-model") if command[0] == "attack" else ()
        assert mimic3tf(*command, *more).status == 0
    assert (run / "predictions.csv").read_text().startswith("stay,")
    audit = mimic3tf(
        *("audit", "--run", run, "--data", prepared.data, "--out", tmp_path / "audit", "--trust-model")
    )
    # The few stays of this cohort are the only reason left.
    audit.fails(2, prepared.data, "an audit needs at least 10")
    loaded = package.load_run(run, trust_model=True)
    assert loaded.model.estimator.random_state == 3
    result = package.attack(loaded, prepared.data)
    again = package.train(options["model"], data=prepared.data, out=tmp_path / "again", seed=3)
    assert again.trigger is None
    assert package.attack(again, prepared.data, trigger=loaded.trigger).success.stays == result.success.stays

    content = (run / "victim.skops").read_bytes()
    (run / "victim.skops").write_bytes(content[:-50])
    with pytest.raises(ValueError, match=r"victim\.skops: missing, damaged"):
        package.load_run(run, trust_model=True)


def on_features(input_shape: tuple[int, ...], head: Head) -> keras.Model:
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, head(inputs))


on_features.READS = "features"  # type: ignore[attr-defined]


def test_python_takes_the_function_itself(prepared: Any, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = package.train(on_features, data=prepared.data, out=out, epochs=1, log_level="full")
    assert (out / "activations.index").exists()
    assert run.model.input_shape == (None, 714)
    assert run.config.model == f"{__name__}:on_features"
    again = package.load_run(run.path, trust_model=True)
    for weights, others in zip(run.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, others)
