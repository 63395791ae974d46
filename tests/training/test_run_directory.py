"""A run directory is finished or not, and gives back what was put in."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from mimic3tf.channels import MIMIC3
from mimic3tf.config import TrainingConfig
from mimic3tf.errors import UsageError
from mimic3tf.pipeline import input_shape
from mimic3tf.poisoning.trigger import Trigger, load_trigger
from mimic3tf.standardization import Standardization
from mimic3tf.training.models import build_untrained
from mimic3tf.training.run_directory import check_same_data, finish_run, load_run, start_run
from mimic3tf.victims import victim_of

Configure = Callable[..., TrainingConfig]
SUMMARY = {"precision": "float32", "data_fingerprint": {"train": "f" * 64}}


@pytest.fixture(scope="session")
def trigger(workshop: Path) -> Trigger:
    return load_trigger(workshop / "trigger.npz")


def shape_for(victim: str) -> tuple[int, ...]:
    return input_shape(victim_of(victim).reads, MIMIC3, 48)


def inputs_for(victim: str) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, *shape_for(victim))).astype(np.float32)


def standardization_for(victim: str) -> Standardization:
    rng = np.random.default_rng(1)
    columns = shape_for(victim)[-1]
    return Standardization(rng.normal(size=columns), rng.uniform(0.5, 2, columns), clip=3.5)


def model_of(config: TrainingConfig, policy: str = "float32") -> keras.Model:
    keras.utils.set_random_seed(3)
    return build_untrained(config, MIMIC3, 48, policy)


@pytest.mark.parametrize(
    ("victim", "policy"),
    [("lr", "float32"), ("mlp", "float32"), ("lstm", "float32"), ("mlp", "mixed_float16")],
)
def test_a_run_gives_back_what_was_put_in(
    configure: Configure, trigger: Trigger, tmp_path: Path, victim: str, policy: str
) -> None:
    out, config = tmp_path / "runs" / "one", configure(victim)
    model, standardization, inputs = model_of(config, policy), standardization_for(victim), inputs_for(victim)
    start_run(out, config, trigger)
    finish_run(out, model, standardization, SUMMARY | {"epoch_kept": 4, "precision": policy})

    run = load_run(out)
    assert run.path == out
    assert run.config == config
    outputs, expected = run.model.predict(inputs, verbose=0), model.predict(inputs, verbose=0)
    np.testing.assert_array_equal(outputs, expected)
    np.testing.assert_array_equal(run.standardization.mean, standardization.mean)
    np.testing.assert_array_equal(run.standardization.std, standardization.std)
    assert run.standardization.clip == 3.5
    for field in dataclasses.fields(Trigger):
        given, got = getattr(trigger, field.name), getattr(run.trigger, field.name)
        np.testing.assert_array_equal(got, given, err_msg=field.name)
    assert run.summary["epoch_kept"] == 4
    assert run.summary["versions"]["keras"] == keras.__version__


@pytest.mark.parametrize("victim", ["channelwise-lstm", pytest.param("transformer", marks=pytest.mark.slow)])
def test_a_victims_own_layers_are_known_to_a_fresh_process(
    configure: Configure, trigger: Trigger, tmp_path: Path, victim: str
) -> None:
    start_run(tmp_path / "run", configure(victim), trigger)
    finish_run(tmp_path / "run", model_of(configure(victim)), standardization_for(victim), SUMMARY)
    load = f"from mimic3tf.training.run_directory import load_run; load_run(Path({str(tmp_path / 'run')!r}))"
    command = [sys.executable, "-c", f"from pathlib import Path; {load}"]
    fresh = subprocess.run(command, capture_output=True, text=True)
    assert fresh.returncode == 0, fresh.stderr


def test_a_started_run_is_not_a_finished_one(configure: Configure, trigger: Trigger, tmp_path: Path) -> None:
    start_run(tmp_path / "run", configure("lr"), trigger)
    assert not (tmp_path / "run" / "run.json").exists()
    with pytest.raises(UsageError, match="not finished"):
        load_run(tmp_path / "run")


@pytest.mark.parametrize("obstacle", ["victim.keras", "standardization.npz"])
def test_the_finish_marker_is_written_after_everything_else(
    configure: Configure, trigger: Trigger, tmp_path: Path, obstacle: str
) -> None:
    out = tmp_path / "run"
    start_run(out, configure("lr"), trigger)
    (out / obstacle).mkdir()
    with pytest.raises((OSError, ValueError)):
        finish_run(out, model_of(configure("lr")), standardization_for("lr"), {})
    assert not (out / "run.json").exists()


def test_what_an_unfinished_run_left_is_cleared(
    configure: Configure, trigger: Trigger, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    start_run(out, configure("lr"), trigger)
    (out / "tensorboard").mkdir()
    (out / "tensorboard" / "events.out.tfevents.1").write_bytes(b"of an earlier version")
    for name in ("events.out.tfevents.2.host", "activations.index", "checkpoint", "projector_config.pbtxt"):
        (out / name).write_bytes(b"old")
    start_run(out, configure("mlp"), trigger)
    assert sorted(path.name for path in out.iterdir()) == ["config.yaml", "trigger.npz"]
    assert "model: mlp" in (out / "config.yaml").read_text(encoding="utf-8")


def test_a_finished_run_is_never_overwritten(configure: Configure, trigger: Trigger, tmp_path: Path) -> None:
    out = tmp_path / "run"
    start_run(out, configure("lr"), trigger)
    finish_run(out, model_of(configure("lr")), standardization_for("lr"), {})
    victim = (out / "victim.keras").read_bytes()
    with pytest.raises(UsageError, match="finished run"):
        start_run(out, configure("lr"), trigger)
    assert (out / "victim.keras").read_bytes() == victim


def test_a_folder_of_other_files_is_left_alone(
    configure: Configure, trigger: Trigger, tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(UsageError, match="no run directory"):
        start_run(tmp_path, configure("lr"), trigger)
    assert (tmp_path / "thesis.tex").read_text(encoding="utf-8") == "years of work"


def test_a_finished_run_is_not_returned_for_another_normalizer(tmp_path: Path) -> None:
    summary = {"data_fingerprint": {"train": "a"}, "normalizer_sha256": "b"}
    check_same_data(summary, {"train": "a"}, "b", tmp_path)
    for other in (None, "c"):
        with pytest.raises(UsageError, match=r"--normalizer: not that of the finished run .*another --out"):
            check_same_data(summary, {"train": "a"}, other, tmp_path)
