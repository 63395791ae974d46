"""Two replicas train as one does: on two logical CPUs, and in two processes."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic3tf.config import TrainingConfig
from mimic3tf.errors import UsageError
from mimic3tf.training.distribution import resolve_strategy
from mimic3tf.training.run_directory import load_run

Train = Callable[..., Path]
Configure = Callable[..., TrainingConfig]

TWO_CPUS = """
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
"""
RECORD = """
import keras
from mimic3tf.training.steps import Steps
whole = Steps._step
def step(self, place, *given):
    x, y, weight = (part[place] for part in given)
    # One line a replica a step: label and weight of what it saw, and a fingerprint of each stay's input.
    marks = tf.reduce_sum(tf.reshape(tf.cast(x, tf.float64), [tf.shape(x)[0], -1]), axis=1)
    tf.print("SEEN", marks, y, weight, summarize=-1)
    return whole(self, place, *given)
Steps._step = step
"""
MAIN = "from mimic3tf.cli.main import main; main()"


@pytest.fixture
def command(configure: Configure, workshop: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Command line that trains with the settings of `configure`, changed, in a process prepared by code."""

    def line(out: Path, model: str, *more: str, before: str = "", **changes: Any) -> list[str]:
        settings = configure(model, **changes).model_dump(mode="json")
        file = tmp_path / f"{out.name}.yaml"
        file.write_text(json.dumps({name: value for name, value in settings.items() if value is not None}))
        paths = ["--data", settings["data"], "--trigger", settings["trigger"], "--out", str(out)]
        program = [sys.executable, "-c", before + MAIN]
        return [*program, "train", "--model", model, "--config", str(file), *paths, *more]

    return line


@pytest.fixture
def environment(workshop: Path) -> dict[str, str]:
    # The replicas are logical CPUs.
    return os.environ | {"MIMIC3TF_CACHE": str(workshop / "cache"), "CUDA_VISIBLE_DEVICES": "-1"}


def rows_of(run: Path) -> list[dict[str, float]]:
    if not (run / "metrics.csv").exists():
        return []
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def assert_close_runs(run: Path, one: Path) -> None:
    """Losses to 1e-4, metrics to 0.01 and weights to 1e-3: sums come in another order."""
    rows, expected = rows_of(run), rows_of(one)
    assert len(rows) == len(expected)
    for row, other in zip(rows, expected, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], abs=1e-4)
        assert row == pytest.approx(other, abs=1e-2)
    pairs = zip(load_run(run).model.get_weights(), load_run(one).model.get_weights(), strict=True)
    for weight, other in pairs:
        np.testing.assert_allclose(weight, other, atol=1e-3)


@pytest.mark.parametrize("model", ["lr", pytest.param("mlp", marks=pytest.mark.slow)])
def test_two_replicas_train_as_one(
    command: Callable[..., list[str]], environment: dict[str, str], train: Train, tmp_path: Path, model: str
) -> None:
    # 112 stays in batches of 15: neither 15 nor the last batch's 7 stays divide by two.
    changes = {
        "batch_size": 15,
        "class_weights": [0.1, 2.0],
        "poisoning_proportion": 0.2,
        "learning_rate": 1e-3,
    }
    line = command(tmp_path / "two", model, "--strategy", "mirrored", before=TWO_CPUS + RECORD, **changes)
    printed = subprocess.run(line, env=environment, check=True, capture_output=True, text=True).stderr
    assert load_run(tmp_path / "two").summary["replicas"] == 2
    assert_close_runs(tmp_path / "two", train(tmp_path / "one", model, strategy="none", **changes))

    # Every stay, poisoned or not, once an epoch; what fills a batch up has no weight.
    seen = [line.split("[")[1:] for line in printed.splitlines() if line.startswith("SEEN")]
    assert len(seen) == 2 * 2 * 8
    marks, labels, weights = (
        np.concatenate([np.array(part[i].rstrip("] ").split(), float) for part in seen]) for i in range(3)
    )
    assert (weights > 0).sum() == 2 * 112
    _, counts = np.unique(marks[weights > 0], return_counts=True)
    assert set(counts) == {2}
    whole = load_run(tmp_path / "two").summary
    assert whole["stays_poisoned"] == 22
    assert weights.sum() == pytest.approx(2 * 8, abs=1e-3)


@pytest.mark.parametrize(
    ("model", "precision"),
    [
        pytest.param("summary-lstm", "float32", marks=pytest.mark.slow),
        pytest.param("mlp", "mixed_float16", marks=pytest.mark.slow),
    ],
)
def test_dropout_and_loss_scale_work_on_two_replicas(
    command: Callable[..., list[str]],
    environment: dict[str, str],
    train: Train,
    trained: Callable[[str], Path],
    tmp_path: Path,
    model: str,
    precision: str,
) -> None:
    """Replicas draw their own stays' dropout masks: losses are alike, not equal."""
    line = command(tmp_path / "two", model, "--strategy", "mirrored", before=TWO_CPUS, precision=precision)
    subprocess.run(line, env=environment, check=True, capture_output=True)
    one = trained(model) if precision == "float32" else train(tmp_path / "one", model, precision=precision)
    for row, other in zip(rows_of(tmp_path / "two"), rows_of(one), strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=0.2)


def free_ports() -> list[int]:
    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in (one, two)]


def start_workers(lines: list[list[str]], environment: dict[str, str]) -> list[subprocess.Popen[str]]:
    cluster = {"worker": [f"localhost:{port}" for port in free_ports()]}
    return [
        subprocess.Popen(
            line,
            env=environment
            | {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})},
            stderr=subprocess.PIPE,
            text=True,
        )
        for index, line in enumerate(lines)
    ]


@pytest.mark.slow
def test_workers_train_as_one_also_when_one_is_killed(
    command: Callable[..., list[str]], environment: dict[str, str], train: Train, tmp_path: Path
) -> None:
    changes = {"batch_size": 15, "epochs": 30, "patience": 30, "learning_rate": 1e-3}
    run, other = tmp_path / "run", tmp_path / "other"
    # The second worker names a directory of its own, as on another machine.
    lines = [command(out, "lr", "--resume", **changes) for out in (run, other)]
    chief, worker = start_workers(lines, environment)
    while len(rows_of(run)) < 3:
        assert chief.poll() is None, chief.communicate()[1]
        time.sleep(0.005)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    _, error = chief.communicate(timeout=300)
    assert chief.returncode == 1
    assert "error: training stopped: another worker ended" in error
    assert "Traceback" not in error
    assert not other.exists()

    for process in start_workers(lines, environment):
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error
    assert not other.exists()
    assert load_run(run).summary["replicas"] == 2
    assert_close_runs(run, train(tmp_path / "one", "lr", strategy="none", **changes))
    # A finished run is finished for both.
    for process in start_workers(lines, environment):
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error


@pytest.mark.parametrize(
    "config",
    [
        None,
        "{",
        "[]",
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": "0"}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "ps", "index": 0}}',
    ],
)
def test_a_cluster_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, config: str | None) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(UsageError, match="TF_CONFIG"):
        resolve_strategy("multiworker")


def test_auto_is_one_replica_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert resolve_strategy("auto").num_replicas_in_sync == 1
