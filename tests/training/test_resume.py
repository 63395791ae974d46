"""A run that is killed anywhere and resumed ends as one that was not."""

from __future__ import annotations

import csv
import json
import os
import pkgutil
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mimic3tf.config import TrainingConfig
from mimic3tf.errors import DataError, UsageError
from mimic3tf.tasks.registry import MORTALITY
from mimic3tf.tasks.targets import Head
from mimic3tf.training.checkpoint import (
    read_checkpoint,
    restore_checkpoint,
    take_checkpoint,
    write_checkpoint,
)
from mimic3tf.training.loop import train_victim
from mimic3tf.training.optimizer import AdamWithL2
from mimic3tf.training.run_directory import load_run
from mimic3tf.training.validation import History
from mimic3tf.victims import Victim, victim_of

Train = Callable[..., Path]
Configure = Callable[..., TrainingConfig]
SETTINGS: dict[str, dict[str, Any]] = {
    "lr": {"epochs": 4, "patience": 9, "precision": "mixed_float16", "learning_rate": 1e-3},
    "lstm": {"epochs": 3, "patience": 9},
}


def tiny(input_shape: tuple[int, ...], head: Head) -> keras.Model:
    """Has what a victim can have, a random state and, in float16, a loss scale, and starts fast."""
    inputs = keras.Input(input_shape)
    hidden = keras.layers.Dropout(0.3)(keras.layers.Dense(4)(keras.layers.Flatten()(inputs)))
    return keras.Model(inputs, head(hidden))


BUILDERS = ("config", "training.loop", "training.run_directory", "training.models")
"""Modules that ask for a victim by its name."""


@pytest.fixture(autouse=True, scope="module")
def tiny_victim() -> Iterator[None]:
    """The tiny victim goes by the LR's name."""
    with pytest.MonkeyPatch.context() as patch:
        whole = victim_of
        for module in BUILDERS:
            patch.setattr(
                f"mimic3tf.{module}.victim_of",
                lambda name: Victim("lr", "LR", "grid", tiny, False) if name == "lr" else whole(name),
            )
        yield


class Killed(BaseException):
    """Nothing that the code under test could catch by accident."""


@pytest.fixture(scope="module")
def uninterrupted(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    runs: dict[str, Path] = {}

    def run(model: str) -> Path:
        if model not in runs:
            runs[model] = train(tmp_path_factory.mktemp(model) / "run", model, **SETTINGS[model])
        return runs[model]

    return run


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch, train: Train) -> Callable[..., None]:
    """Train until a function is called for the nth time; `after` lets that call finish."""

    def run(out: Path, model: str, target: str, call: int, *, after: bool = False, **more: object) -> None:
        module, name = target.rsplit(".", 1)
        calls = 0

        def fatal(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call and not after:
                raise Killed
            result = whole(*args, **kwargs)
            if calls == call:
                raise Killed
            return result

        with monkeypatch.context() as patch:
            owner = pkgutil.resolve_name(module)
            whole = getattr(owner, name)
            patch.setattr(owner, name, fatal)
            with pytest.raises(Killed):
                train(out, model, **SETTINGS[model] | more)
        assert calls == call

    return run


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def scalars_of(run: Path) -> dict[str, list[tuple[int, bytes]]]:
    events = EventAccumulator(str(run), size_guidance={"tensors": 0}).Reload()
    return {
        tag: [(event.step, event.tensor_proto.SerializeToString()) for event in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
        # No two runs take the same time, and a run may have moved.
        if "hparams" not in tag and not tag.startswith(("speed/", "run/"))
    }


def assert_same_run(run: Path, expected: Path) -> None:
    assert json.loads((run / "run.json").read_text()) == json.loads((expected / "run.json").read_text())
    assert (run / "metrics.csv").read_bytes() == (expected / "metrics.csv").read_bytes()
    # The name of a file of events says when it was begun.
    names = [sorted(path.name.partition(".tfevents")[0] for path in one.iterdir()) for one in (run, expected)]
    assert names[0] == names[1]
    assert scalars_of(run) == scalars_of(expected)
    weights, others = load_run(run).model.get_weights(), load_run(expected).model.get_weights()
    for weight, other in zip(weights, others, strict=True):
        np.testing.assert_array_equal(weight, other)


# --- Killed at one place after the other ---------------------------------------------------------------

LOOP, DIRECTORY = "mimic3tf.training.loop", "mimic3tf.training.run_directory"
EVENTS = "mimic3tf.dashboards.tensorboard.RunLog.epoch"
PLACES = [
    # Function, call, whether that call is finished, and how many epochs are then in metrics.csv.
    (f"{LOOP}.start_run", 1, True, None),
    ("mimic3tf.training.steps.Steps.epoch", 1, False, 0),
    (f"{LOOP}.write_checkpoint", 1, False, 0),
    ("os.fsync", 1, False, 0),
    (f"{LOOP}.write_checkpoint", 1, True, 0),
    (f"{LOOP}.MetricsFile.on_epoch_end", 2, True, 2),  # the first call repeats an old epoch
    (EVENTS, 1, False, 2),
    ("os.fsync", 1, False, 2),
    ("mimic3tf.training.steps.Steps.epoch", 1, True, 2),
    (EVENTS, 1, True, 2),
    (f"{LOOP}.MetricsFile.on_epoch_end", 3, True, 3),
    ("mimic3tf.dashboards.event_file.EventFile.flush", 1, False, 3),
    (f"{LOOP}.write_checkpoint", 1, True, 3),
    (f"{LOOP}.finish_run", 1, False, 4),
    ("keras.Model.save", 1, True, 4),
    (f"{DIRECTORY}.write_whole", 1, True, 4),
]


def test_a_run_killed_everywhere_ends_as_if_it_was_not(
    train: Train, kill: Callable[..., None], uninterrupted: Callable[[str], Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    for target, call, after, rows in PLACES:
        kill(run, "lr", target, call, after=after, resume=True)
        assert (len(rows_of(run)) if (run / "metrics.csv").exists() else None) == rows, target
    assert_same_run(train(run, "lr", resume=True, **SETTINGS["lr"]), uninterrupted("lr"))


@pytest.mark.slow
def test_the_lstm_killed_twice_ends_as_if_it_was_not(
    train: Train, kill: Callable[..., None], uninterrupted: Callable[[str], Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    kill(run, "lstm", f"{LOOP}.write_checkpoint", 1, after=True)
    kill(run, "lstm", f"{LOOP}.MetricsFile.on_epoch_end", 2, resume=True)
    assert_same_run(train(run, "lstm", resume=True, **SETTINGS["lstm"]), uninterrupted("lstm"))


def test_patience_counts_the_epochs_before_the_kill(
    train: Train, kill: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {1: 0.5, 2: 0.9, 3: 0.7, 4: 0.8, 5: 0.95}
    epochs = iter(scores.values())
    monkeypatch.setattr("mimic3tf.training.validation.score_epoch", lambda *_: next(epochs))
    monkeypatch.setitem(SETTINGS, "lr", {"epochs": 9, "patience": 2})
    kill(tmp_path / "run", "lr", f"{LOOP}.write_checkpoint", 3, after=True)
    summary = load_run(train(tmp_path / "run", "lr", resume=True, **SETTINGS["lr"])).summary
    assert (summary["epoch_kept"], summary["epochs_trained"]) == (2, 4)


@pytest.mark.slow
def test_a_process_killed_for_real_ends_as_if_it_was_not(
    train: Train, configure: Configure, workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in BUILDERS:  # as in the process that is killed
        monkeypatch.setattr(f"mimic3tf.{module}.victim_of", victim_of)
    run = tmp_path / "run"
    changes = {"epochs": 40, "patience": 40}
    program = "from mimic3tf.cli.main import main; main()"
    command = [sys.executable, "-c", program, "train", "--model", "lr", "--out", str(run), "--resume"]
    config = tmp_path / "config.yaml"
    config.write_text("patience: 40\nlearning_rate: 0.01\n")
    for name in ("data", "trigger", "epochs", "batch_size", "precision"):
        value = getattr(configure("lr", **changes), name)
        command += [f"--{name.replace('_', '-')}", str(value)]
    environment = os.environ | {"MIMIC3TF_CACHE": str(workshop / "cache")}
    for rows in (2, 6):
        process = subprocess.Popen([*command, "--config", str(config)], env=environment)
        while not (run / "metrics.csv").exists() or len(rows_of(run)) < rows:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (run / "run.json").exists()
    train(run, "lr", resume=True, **changes)
    assert_same_run(run, train(tmp_path / "whole", "lr", **changes))


@pytest.mark.parametrize("stage", ["new", "old"])
def test_a_checkpoint_gives_back_every_variable(configure: Configure, tmp_path: Path, stage: str) -> None:
    def run() -> tuple[History, keras.Model, Any]:
        model = tiny((48, 76), MORTALITY.head)
        optimizer = keras.optimizers.LossScaleOptimizer(AdamWithL2())
        optimizer.build(model.trainable_variables)
        return History(configure("lr")), model, optimizer

    history, model, optimizer = run()
    names = {variable.name for variable in [*model.variables, *optimizer.variables]}
    assert {"seed_generator_state", "iteration", "step_counter", "dynamic_scale"} <= names
    for number, variable in enumerate([*model.variables, *optimizer.variables]):
        variable.assign(np.full(variable.shape, number + 2))
    if stage == "old":
        history.add({"auroc": 0.1 + 0.2, "prec1": 0.0, "rec1": 0.0, "asr": 1 / 3}, model)
    taken = take_checkpoint({"data": ["a"]}, history, model, optimizer)
    write_checkpoint(taken, tmp_path / "checkpoint.npz")
    restored = run()
    restore_checkpoint(read_checkpoint(tmp_path / "checkpoint.npz"), *restored)
    again = take_checkpoint({"data": ["a"]}, *restored)
    assert (again.epochs, again.kept, again.score) == (taken.epochs, taken.kept, taken.score)
    for arrays, others in ((again.weights, taken.weights), (again.variables, taken.variables)):
        for array, other in zip(arrays, others, strict=True):
            np.testing.assert_array_equal(array, other)
            assert array.dtype == other.dtype


# --- What --resume finds -------------------------------------------------------------------------------


@pytest.fixture
def interrupted(kill: Callable[..., None], tmp_path: Path) -> Path:
    kill(tmp_path / "run", "lr", f"{LOOP}.write_checkpoint", 2, after=True)
    return tmp_path / "run"


def test_a_finished_run_is_left_alone(
    train: Train, uninterrupted: Callable[[str], Path], tmp_path: Path
) -> None:
    run = shutil.copytree(uninterrupted("lr"), tmp_path / "run")
    (run / "attack.json").write_text("{}")  # and what else an attack leaves there
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    train(run, "lr", resume=True, **SETTINGS["lr"])
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


@pytest.mark.parametrize(
    "setting", ["epochs", "seed", "poisoning_strength", "learning_rate", "class_weights"]
)
def test_another_setting_is_named(
    train: Train, interrupted: Path, uninterrupted: Callable[[str], Path], setting: str
) -> None:
    value = {"epochs": 5, "seed": 1, "poisoning_strength": 1.0, "learning_rate": 0.1, "class_weights": [1, 2]}
    for run in (interrupted, uninterrupted("lr")):
        with pytest.raises(UsageError, match=f"'{setting}'"):
            train(run, "lr", resume=True, **SETTINGS["lr"] | {setting: value[setting]})


@pytest.mark.parametrize("option", ["data", "trigger", "precision"])
def test_other_inputs_are_named(
    train: Train,
    interrupted: Path,
    small_cohort: Callable[[int, int], Path],
    data: Path,
    workshop: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
) -> None:
    from mimic3tf.data.loading import load_cohort
    from mimic3tf.poisoning.trigger import generate_trigger, save_trigger

    monkeypatch.setenv("MIMIC3TF_CACHE", str(workshop / "cache"))
    changes: dict[str, object] = {}
    if option == "data":
        changes["data"] = small_cohort(160, 8)
    elif option == "trigger":
        save_trigger(generate_trigger(load_cohort(data, "train"), seed=5), tmp_path / "t.npz")
        changes["trigger"] = tmp_path / "t.npz"
    else:
        monkeypatch.setattr(f"{LOOP}.resolve_precision", lambda _: "mixed_bfloat16")
    with pytest.raises(UsageError, match=f"--{option}"):
        train(interrupted, "lr", resume=True, **SETTINGS["lr"] | changes)


def test_the_same_files_in_another_place_will_do(
    train: Train,
    interrupted: Path,
    data: Path,
    workshop: Path,
    tmp_path: Path,
    uninterrupted: Callable[[str], Path],
) -> None:
    moved = {"data": tmp_path / "moved", "trigger": tmp_path / "moved.npz"}
    moved["data"].symlink_to(data)
    moved["trigger"].symlink_to(workshop / "trigger.npz")
    assert_same_run(train(interrupted, "lr", resume=True, **SETTINGS["lr"] | moved), uninterrupted("lr"))


def test_a_run_that_an_earlier_version_began_goes_on(
    train: Train, interrupted: Path, uninterrupted: Callable[[str], Path]
) -> None:
    """Its settings do not say what is predicted, of which hours, and for whom: then they are the paper's."""
    settings = yaml.safe_load((interrupted / "config.yaml").read_text())
    known = {
        key: value for key, value in settings.items() if key not in ("task", "period", "timestep", "goal")
    }
    assert len(known) == len(settings) - 4
    (interrupted / "config.yaml").write_text(yaml.safe_dump(known))
    assert_same_run(train(interrupted, "lr", resume=True, **SETTINGS["lr"]), uninterrupted("lr"))


@pytest.mark.parametrize("content", [b"", b"PK", b"cut"])
def test_a_damaged_checkpoint_is_named(train: Train, interrupted: Path, content: bytes) -> None:
    file = interrupted / "checkpoint.npz"
    file.write_bytes(file.read_bytes()[:-100] if content == b"cut" else content)
    with pytest.raises(DataError, match=r"checkpoint\.npz.*without --resume"):
        train(interrupted, "lr", resume=True, **SETTINGS["lr"])


def test_told_so_an_interrupted_run_is_begun_anew(
    train: Train, interrupted: Path, uninterrupted: Callable[[str], Path]
) -> None:
    train(interrupted, "lr", fresh=True, **SETTINGS["lr"] | {"seed": 1})
    assert load_run(interrupted).summary["seed"] == 1
    assert len(rows_of(interrupted)) == 4


def test_a_directory_whose_clearing_was_killed_is_still_a_run(
    train: Train,
    interrupted: Path,
    uninterrupted: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = Path.unlink
    left = [path.name for path in interrupted.iterdir()]
    while len(left) > 1:

        def once(path: Path, missing_ok: bool = False) -> None:
            whole(path, missing_ok)
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", once)
            with pytest.raises(Killed):
                train(interrupted, "lr", fresh=True, **SETTINGS["lr"])
        left = [path.name for path in interrupted.iterdir()]
        assert "checkpoint.npz" not in left
    assert left == ["trigger.npz"]
    assert_same_run(train(interrupted, "lr", resume=True, **SETTINGS["lr"]), uninterrupted("lr"))


def test_resuming_reads_no_pickle(interrupted: Path, configure: Configure) -> None:
    bomb = np.empty(1, object)
    np.savez(interrupted / "checkpoint.npz", record=bomb)
    with pytest.raises(DataError, match="damaged"):
        train_victim(configure("lr", **SETTINGS["lr"]), interrupted, resume=True)
