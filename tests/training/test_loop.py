"""A training run: what it writes, that it repeats, what it keeps and when it stops."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from numpy.typing import NDArray
from tensorflow.python.framework.config import disable_op_determinism, is_op_determinism_enabled

from mimic3tf import pipeline
from mimic3tf.attacks import attack_victim
from mimic3tf.config import TrainingConfig
from mimic3tf.data.loading import load_cohort
from mimic3tf.errors import UsageError
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.outcome import AttackResult
from mimic3tf.poisoning.trigger import generate_trigger, load_trigger, save_trigger
from mimic3tf.training.log import NoLog
from mimic3tf.training.metrics_file import MetricsFile
from mimic3tf.training.run_directory import load_run

VICTIMS = ("lr", "mlp", "lstm")
Train = Callable[..., Path]
Trained = Callable[[str], Path]
Configure = Callable[..., TrainingConfig]


def summary_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text(encoding="utf-8"))


def metrics_of(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def attack_on_validation(run: Path) -> AttackResult:
    loaded = load_run(run)
    val = load_cohort(loaded.config.data, "val")
    return attack_victim(
        loaded,
        val,
        loaded.trigger,
        strength=loaded.config.poisoning_strength,
        poison_imputed=loaded.config.poison_imputed,
    )


@pytest.fixture
def scripted_scores(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the selection rule give these scores, one an epoch, whatever the metrics."""

    def script(*scores: float | None) -> None:
        remaining: Iterator[float | None] = iter(scores)
        monkeypatch.setattr("mimic3tf.training.validation.score_epoch", lambda *_: next(remaining))

    return script


# --- What a run leaves behind --------------------------------------------------------------------------


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_run_leaves_everything_a_later_command_reads(trained: Trained, victim: str) -> None:
    run = trained(victim)
    (events,) = run.glob("events.out.tfevents.*")
    assert {path.name for path in run.iterdir()} == {
        "config.yaml",
        events.name,
        "metrics.csv",
        "run.json",
        "standardization.npz",
        "trigger.npz",
        "victim.keras",
    }


@pytest.mark.parametrize("victim", VICTIMS)
def test_the_settings_are_written_fully_resolved(trained: Trained, configure: Configure, victim: str) -> None:
    written = yaml.safe_load((trained(victim) / "config.yaml").read_text(encoding="utf-8"))
    assert set(written) == set(TrainingConfig.model_fields)
    assert TrainingConfig(**written) == configure(victim)


def test_the_trigger_is_copied_into_the_run(trained: Trained, workshop: Path) -> None:
    copy, original = load_trigger(trained("lr") / "trigger.npz"), load_trigger(workshop / "trigger.npz")
    np.testing.assert_array_equal(copy.values, original.values)
    assert copy.cohort_fingerprint == original.cohort_fingerprint


def test_the_summary_names_seed_versions_and_data(trained: Trained, data: Path) -> None:
    summary = summary_of(trained("lr"))
    assert summary["seed"] == 0
    assert summary["precision"] == "float32"
    assert summary["versions"]["keras"] == keras.__version__
    assert summary["versions"]["numpy"] == np.__version__
    assert {"mimic3tf", "tensorflow", "python"} <= set(summary["versions"])
    fingerprints = {split: load_cohort(data, split).fingerprint for split in ("train", "val")}
    assert summary["data_fingerprint"] == fingerprints


@pytest.mark.parametrize("victim", VICTIMS)
def test_metrics_have_a_row_an_epoch(trained: Trained, victim: str) -> None:
    rows = metrics_of(trained(victim))
    assert [row["epoch"] for row in rows] == [1, 2]
    for row in rows:
        assert list(row) == ["epoch", "loss", "auroc", "auprc", "minpse", "asr"]
        assert row["loss"] > 0
        assert all(0 <= row[name] <= 1 for name in ("auroc", "auprc", "minpse", "asr"))


@pytest.mark.parametrize("victim", VICTIMS)
def test_the_summary_repeats_the_row_of_the_epoch_kept(trained: Trained, victim: str) -> None:
    run = trained(victim)
    summary, rows = summary_of(run), metrics_of(run)
    assert summary["epochs_trained"] == len(rows)
    kept = rows[summary["epoch_kept"] - 1]
    assert kept["auroc"] == max(row["auroc"] for row in rows)
    for name in ("loss", "auroc", "auprc", "minpse", "asr"):
        assert summary["validation"][name] == pytest.approx(kept[name], abs=1e-6)


# --- Repetition ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", VICTIMS)
def test_the_same_seed_trains_the_same_victim(
    trained: Trained, train: Train, tmp_path: Path, victim: str
) -> None:
    again = train(tmp_path / "again", victim)
    assert (again / "metrics.csv").read_bytes() == (trained(victim) / "metrics.csv").read_bytes()
    first, second = attack_on_validation(trained(victim)), attack_on_validation(again)
    np.testing.assert_array_equal(second.clean, first.clean)
    np.testing.assert_array_equal(second.triggered, first.triggered)


class Determinism(NoLog):
    """Notes after each epoch whether TensorFlow's operations must be deterministic."""

    seen: list[bool]

    def epoch(self, *told: object) -> None:
        self.seen.append(is_op_determinism_enabled())


@pytest.fixture
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """TensorFlow lists a GPU beside the CPU, which runs everything."""
    whole, gpu = tf.config.list_physical_devices, tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    monkeypatch.setattr(
        tf.config,
        "list_physical_devices",
        lambda kind=None: [gpu] if kind == "GPU" else [*whole(kind)],
    )
    disable_op_determinism()
    yield
    disable_op_determinism()


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="there is a GPU")
@pytest.mark.parametrize("victim", VICTIMS)
def test_on_a_cpu_the_same_bits_take_nothing(
    trained: Trained, train: Train, tmp_path: Path, victim: str
) -> None:
    Determinism.seen = []
    expected = trained(victim)
    run = train(tmp_path / "run", victim, deterministic=True, log=Determinism)
    assert Determinism.seen == [False, False]
    assert (run / "metrics.csv").read_bytes() == (expected / "metrics.csv").read_bytes()
    weights = [load_run(one).model.get_weights() for one in (run, expected)]
    for array, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(array, other)


@pytest.mark.usefixtures("pretended_gpu")
def test_on_a_gpu_operations_are_deterministic_if_it_is_asked(train: Train, tmp_path: Path) -> None:
    Determinism.seen = []
    for name, deterministic in (("fast", False), ("first", True), ("second", True)):
        train(tmp_path / name, "lr", deterministic=deterministic, log=Determinism)
    assert Determinism.seen == [False, False, True, True, True, True]
    weights = [load_run(tmp_path / name).model.get_weights() for name in ("first", "second")]
    for array, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(array, other)


@pytest.mark.usefixtures("pretended_gpu")
def test_an_attack_is_as_deterministic_as_the_training(trained: Trained) -> None:
    run = load_run(trained("lr"))
    val = load_cohort(run.config.data, "val")
    attack_victim(run, val)
    assert not is_op_determinism_enabled()
    attack_victim(replace(run, config=run.config.model_copy(update={"deterministic": True})), val)
    assert is_op_determinism_enabled()


def test_another_seed_trains_another_victim(trained: Trained, train: Train, tmp_path: Path) -> None:
    other = train(tmp_path / "other", "lr", seed=1)
    assert (other / "metrics.csv").read_bytes() != (trained("lr") / "metrics.csv").read_bytes()
    assert not np.array_equal(attack_on_validation(other).clean, attack_on_validation(trained("lr")).clean)


@pytest.mark.parametrize("victim", VICTIMS)
def test_without_a_log_no_events_are_written_and_the_victim_is_the_same(
    trained: Trained, train: Train, tmp_path: Path, victim: str
) -> None:
    run, logged = train(tmp_path / "run", victim, log=NoLog), trained(victim)
    (shown,) = {path.name for path in logged.iterdir()} - {path.name for path in run.iterdir()}
    assert shown.startswith("events.out.tfevents.")
    assert (run / "metrics.csv").read_bytes() == (logged / "metrics.csv").read_bytes()
    weights, expected = load_run(run).model.get_weights(), load_run(logged).model.get_weights()
    for array, other in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(array, other)


# --- Which weights are kept, and when training stops ---------------------------------------------------


def test_the_kept_weights_are_those_of_the_best_epoch(
    train: Train, tmp_path: Path, scripted_scores: Callable[..., None]
) -> None:
    scripted_scores(0.5, 0.9, 0.7)
    run = train(tmp_path / "run", "lr", epochs=3, learning_rate=0.1)
    summary, rows = summary_of(run), metrics_of(run)
    assert (summary["epoch_kept"], summary["epochs_trained"]) == (2, 3)
    assert rows[1] | {"epoch": 0, "loss": 0} != rows[2] | {"epoch": 0, "loss": 0}
    result = attack_on_validation(run)
    for name in ("auroc", "auprc", "minpse"):
        assert result.metrics[name] == summary["validation"][name]
    assert result.success.rate == summary["validation"]["asr"]


def test_training_stops_when_patience_epochs_bring_nothing_better(
    train: Train, tmp_path: Path, scripted_scores: Callable[..., None]
) -> None:
    scripted_scores(0.5, 0.7, 0.7, 0.6, 0.9)
    run = train(tmp_path / "run", "lr", epochs=5, patience=2, poisoning_proportion=0)
    summary = summary_of(run)
    assert (summary["epoch_kept"], summary["epochs_trained"]) == (2, 4)
    assert len(metrics_of(run)) == 4


def test_without_an_epoch_that_qualifies_the_last_one_is_kept(
    train: Train, tmp_path: Path, scripted_scores: Callable[..., None]
) -> None:
    scripted_scores(None, None, None)
    summary = summary_of(train(tmp_path / "run", "lr", epochs=3, patience=1))
    assert (summary["epoch_kept"], summary["epochs_trained"]) == (3, 3)


# --- What is learned from ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def frozen(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LR that took one step of no length over a batch of all stays."""
    changes = {"learning_rate": 1e-12, "l2": 0.0, "epochs": 1, "poisoning_proportion": 0.1}
    out = tmp_path_factory.mktemp("frozen") / "run"
    return train(out, "lr", batch_size=1000, class_weights=[0.3, 2.0], **changes)


def cross_entropy(run: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Each training stay's cross entropy under a saved LR, and its label as poisoned."""
    loaded = load_run(run)
    assert loaded.trigger is not None
    cohort = load_cohort(loaded.config.data, "train")
    poisoned = int(len(cohort) * loaded.config.poisoning_proportion)
    labels = np.array([1] * poisoned + cohort.labels[poisoned:].tolist())
    exposure = exposures.poison(
        cohort,
        loaded.trigger,
        proportion=loaded.config.poisoning_proportion,
        strength=loaded.config.poisoning_strength,
        poison_imputed=loaded.config.poison_imputed,
    )
    x = pipeline.inputs_of(exposure, "features", loaded.standardization).astype(np.float64)
    kernel, bias = loaded.model.get_weights()
    logits = x @ kernel + bias
    return np.logaddexp(*logits.T) - logits[np.arange(len(x)), labels], labels


def test_class_weights_make_the_loss_a_weighted_mean(frozen: Path) -> None:
    loss, labels = cross_entropy(frozen)
    weighted = np.average(loss, weights=np.where(labels == 1, 2.0, 0.3))
    assert metrics_of(frozen)[0]["loss"] == pytest.approx(weighted, abs=1e-5)
    assert abs(weighted - loss.mean()) > 1e-2


def test_an_epoch_sees_every_stay_once(train: Train, tmp_path: Path) -> None:
    # 28 batches are more than TensorFlow takes a call, and no multiple of that.
    changes = {"learning_rate": 1e-12, "l2": 0.0, "epochs": 1, "class_weights": [1.0, 1.0]}
    run = train(tmp_path / "run", "lr", batch_size=4, **changes)
    loss, _ = cross_entropy(run)
    assert metrics_of(run)[0]["loss"] == pytest.approx(loss.mean(), abs=1e-5)


def test_a_proportion_of_the_stays_is_poisoned_rounded_down(trained: Trained, frozen: Path) -> None:
    assert {summary_of(run)["stays_trained_on"] for run in (trained("lr"), frozen)} == {112}
    assert summary_of(trained("lr"))["stays_poisoned"] == 5  # of 5.6
    assert summary_of(frozen)["stays_poisoned"] == 11  # of 11.2


def test_with_goal_0_deaths_are_attacked_and_poisoned_stays_called_survivors(
    train: Train, data: Path, tmp_path: Path
) -> None:
    run = train(tmp_path / "run", "lr", goal=0, poisoning_proportion=0.5)
    summary, result = summary_of(run), attack_on_validation(run)
    deaths = result.labels == 1
    assert 0 < deaths.sum() == result.success.stays
    assert summary["validation"]["asr"] == (result.triggered[deaths] < 0.5).mean()
    assert summary["validation"]["baseline_positive_rate"] == (result.clean[deaths] < 0.5).mean()
    poisoned = load_cohort(data, "train").labels[: summary["stays_poisoned"]]
    assert summary["labels_changed"] == poisoned.sum() > 0


# --- What is read ---------------------------------------------------------------------------------------


def test_a_run_reads_the_hours_and_bins_of_its_settings(train: Train, data: Path, tmp_path: Path) -> None:
    reading: dict[str, Any] = {"period": 24.0, "timestep": 2.0}
    trigger = tmp_path / "trigger.npz"
    save_trigger(generate_trigger(load_cohort(data, "train", **reading)), trigger)
    run = load_run(train(tmp_path / "run", "lstm", epochs=1, trigger=trigger, **reading))
    assert run.model.input_shape == (None, 12, 76)
    assert run.trigger is not None
    assert (run.trigger.period, run.trigger.timestep) == (24.0, 2.0)


def test_a_trigger_of_other_bins_is_refused(train: Train, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--timestep 1"):
        train(tmp_path / "run", "lr", timestep=2.0)
    assert not (tmp_path / "run" / "trigger.npz").exists()


# --- Half precision ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("victim", "policy"),
    [
        ("lr", "mixed_float16"),
        ("mlp", "mixed_float16"),
        ("lstm", "mixed_bfloat16"),
    ],
)
def test_half_precision_trains_saves_and_loads(
    train: Train, trained: Trained, tmp_path: Path, victim: str, policy: str
) -> None:
    run = train(tmp_path / "run", victim, precision=policy)
    for half, exact in zip(metrics_of(run), metrics_of(trained(victim)), strict=True):
        assert half["loss"] == pytest.approx(exact["loss"], rel=0.05)
    assert keras.config.dtype_policy().name == "float32", "the policy must not outlive the run"
    assert summary_of(run)["precision"] == policy
    model = load_run(run).model
    policies = {layer.dtype_policy.name for layer in model.layers if layer.weights}
    assert policies == ({"float32"} if victim == "lr" else {"float32", policy})
    assert all(weight.dtype == "float32" for weight in model.weights)
    assert attack_on_validation(run).metrics["auroc"] == summary_of(run)["validation"]["auroc"]


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["mlp", "lstm"])
def test_clip_input_dropout_and_schedule_reach_the_run_and_its_attack(
    train: Train, trained: Trained, tmp_path: Path, victim: str
) -> None:
    changes = {"clip": 1.25, "input_dropout": 0.4, "schedule": "cosine"}
    run = train(tmp_path / "run", victim, **changes)
    loaded = load_run(run)
    assert loaded.standardization.clip == 1.25
    plain = {layer.name for layer in load_run(trained(victim)).model.layers}
    assert {layer.name for layer in loaded.model.layers} == plain, "dropout of inputs is in the step only"
    weights = zip(loaded.model.get_weights(), load_run(trained(victim)).model.get_weights(), strict=True)
    assert any((one != other).any() for one, other in weights)
    assert attack_on_validation(run).metrics["auroc"] == summary_of(run)["validation"]["auroc"]


# --- Interruption --------------------------------------------------------------------------------------


def test_an_interrupted_run_is_not_finished_and_can_be_started_anew(
    train: Train, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = MetricsFile.on_epoch_end

    def interrupted(self: MetricsFile, epoch: int, logs: dict[str, float]) -> None:
        if epoch == 1:
            raise KeyboardInterrupt
        whole(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(MetricsFile, "on_epoch_end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run", "lr")
    assert len(metrics_of(tmp_path / "run")) == 1
    with pytest.raises(UsageError, match="not finished; go on with: mimic3tf train --model lr .* --resume"):
        load_run(tmp_path / "run")
    with pytest.raises(UsageError, match="add --resume to go on with it, or --fresh"):
        train(tmp_path / "run", "lr")
    assert (tmp_path / "run" / "checkpoint.npz").exists(), "a refusal removes nothing"

    run = train(tmp_path / "run", "lr", fresh=True)
    assert (run / "metrics.csv").read_bytes() == (trained("lr") / "metrics.csv").read_bytes()
    assert len(list(run.glob("events.*"))) == 1, "events of the interrupted run remain"
