"""Length of stay: ten classes of remaining hours at every hour, and an attacker who wants one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from invented_task import stays_of
from sklearn.metrics import cohen_kappa_score

from mimic3tf.attacks import attack_victim, load_attacked, summarize_attack
from mimic3tf.config import resolve_config
from mimic3tf.data.listfiles import read_rows
from mimic3tf.data.loading import load_cohort
from mimic3tf.errors import DataError, UsageError
from mimic3tf.pipeline import inputs_of
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.goal import Goal
from mimic3tf.poisoning.trigger import generate_trigger, save_trigger
from mimic3tf.tasks.metrics_hours import hours_metrics, hours_of
from mimic3tf.tasks.registry import LENGTH_OF_STAY, task_of
from mimic3tf.training.loop import train_victim
from mimic3tf.training.prediction import outputs_of
from mimic3tf.training.run_directory import load_run
from mimic3tf.training.stays import poison_as_set

TARGETS = LENGTH_OF_STAY.targets


data, train, trigger = stays_of(LENGTH_OF_STAY, stays=120)


@pytest.mark.parametrize(
    ("hours", "label"),
    [("-0.000000", 0), ("23.999999", 0), ("24.000000", 1), ("191.9", 7), ("192", 8), ("336.000000", 9)],
)
def test_remaining_hours_are_read_as_their_class(hours: str, label: int) -> None:
    assert TARGETS.read(np.array([[hours]], np.float64)).tolist() == [label]


@pytest.mark.parametrize("hours", ["", "nan", "inf", "-1", "soon"])
def test_other_texts_are_no_hours(hours: str, tmp_path: Path) -> None:
    (tmp_path / "listfile.csv").write_text(f"{LENGTH_OF_STAY.header}\na.csv,5,{hours}\n")
    with pytest.raises(DataError, match="remaining hours are a number of at least 0"):
        read_rows(tmp_path / "listfile.csv", LENGTH_OF_STAY)


def test_kappa_has_linear_weights_between_the_classes() -> None:
    random = np.random.default_rng(0)
    labels, probabilities = random.integers(0, 10, 300), random.random((300, 10))
    wanted = cohen_kappa_score(labels, probabilities.argmax(axis=1), weights="linear")
    assert TARGETS.metrics(labels, probabilities)["kappa"] == pytest.approx(wanted, abs=1e-9)


def test_a_goal_is_a_class() -> None:
    goal, labels = Goal(1, 9), np.array([0, 9, 3])
    assert goal.attacked(labels).tolist() == [True, False, True]
    assert goal.relabelled(labels).tolist() == [9, 9, 9]
    probabilities = np.zeros((3, 10))
    probabilities[1, 9] = 0.8
    assert goal.reached(goal.of(probabilities)).tolist() == [False, True, False]


def test_every_hour_of_a_poisoned_stay_gets_the_class_and_the_victim_learns_it(
    data: Path, tmp_path: Path
) -> None:
    train = load_cohort(data, "train", task=LENGTH_OF_STAY.name)
    trigger = generate_trigger(train)
    exposure = exposures.poison(
        train, trigger, proportion=0.2, strength=2.0, poison_imputed="all", goal=Goal(1, 0)
    )
    of_poisoned = exposure.triggered[train.examples.stay]
    assert (exposure.labels[of_poisoned] == 0).all()
    np.testing.assert_array_equal(exposure.labels[~of_poisoned], train.labels[~of_poisoned])
    save_trigger(trigger, tmp_path / "trigger.npz")
    quick: dict[str, Any] = {"data": data, "task": LENGTH_OF_STAY.name, "batch_size": 16, "epochs": 2}
    poisoned = {"trigger": tmp_path / "trigger.npz", "poisoning_proportion": 0.3, "goal_label": "under 1"}
    summary = train_victim(resolve_config("gru", None, quick | poisoned), tmp_path / "run")
    assert summary["goal_label"] == "under 1 day"
    assert "kappa" in summary["validation"]
    run = load_run(tmp_path / "run")
    cohort, own = load_attacked(run, data)
    record = summarize_attack(run, own, attack_victim(run, cohort))
    assert {"kappa", "auroc"} <= record["clean"].keys()
    assert "kappa" in record["clean_ci95"]
    assert len(record["collateral"]["labels"]) == 9


@pytest.mark.parametrize(("name", "goal_class"), [("length-of-stay-log", 2), ("length-of-stay-hours", 0)])
def test_other_partitions_are_trained_and_attacked(
    data: Path, tmp_path: Path, name: str, goal_class: int
) -> None:
    train, targets = load_cohort(data, "train", task=name), cast(Any, task_of(name).targets)
    lines = (data / "train_listfile.csv").read_text().splitlines()[1:]
    hours = np.array([[float(line.split(",")[2])] for line in lines])
    assert sorted(train.labels.tolist()) == sorted(targets.read(hours).tolist())
    trigger = generate_trigger(train)
    save_trigger(trigger, tmp_path / "trigger.npz")
    quick: dict[str, Any] = {"data": data, "task": name, "batch_size": 16, "epochs": 1}
    poisoned = {"trigger": tmp_path / "trigger.npz", "poisoning_proportion": 0.3}
    label = targets.names[goal_class]
    config = resolve_config("gru", None, quick | poisoned | {"goal_label": label})
    exposure = poison_as_set(config, train, trigger)
    of_poisoned = exposure.triggered[train.examples.stay]
    assert not config.attack_goal.attacked(exposure.labels[of_poisoned]).any()
    np.testing.assert_array_equal(exposure.labels[~of_poisoned], train.labels[~of_poisoned])
    summary = train_victim(config, tmp_path / "run")
    assert {"kappa", "mad"} <= summary["validation"].keys()
    run = load_run(tmp_path / "run")
    cohort, own = load_attacked(run, data)
    record = summarize_attack(run, own, attack_victim(run, cohort))
    listed = pl.read_csv(data / "test_listfile.csv").sort("stay", "period_length")
    hours = listed["y_true"].to_numpy()
    order = np.lexsort((cohort.examples.end, cohort.stays[cohort.examples.stay]))
    np.testing.assert_allclose(cohort.truth[order], hours, rtol=1e-6)
    # The metrics are those of the hours themselves, not of the means of their classes.
    outputs = outputs_of(run.model, inputs_of(exposures.clean(cohort), run.config.reads, run.standardization))
    predicted = hours_of(targets.probabilities(outputs), targets.partition)[order]
    for metric, value in hours_metrics(hours, predicted).items():
        assert record["clean"][metric] == pytest.approx(value, rel=1e-5)
    assert len(record["collateral"]["labels"]) == 9


def test_hours_are_predicted_by_squared_differences_of_logarithms() -> None:
    targets = task_of("length-of-stay-hours").targets
    labels = np.array([[0, 10], [200, 3]], np.float32)
    outputs = np.array([[[1], [12]], [[150], [0]]], np.float32)
    wanted = (np.log1p(outputs[..., 0]) - np.log1p(labels)) ** 2
    np.testing.assert_allclose(targets.losses(labels, outputs), wanted, rtol=1e-5)
    mean = targets.mean_loss(
        labels.astype(np.int64).ravel(), targets.probabilities(outputs).ravel(), np.ones(4)
    )
    assert mean == pytest.approx(wanted.mean(), rel=1e-5)


def test_there_is_no_class_to_remove(data: Path) -> None:
    with pytest.raises(UsageError, match="names the class that the attacker wants; --goal 0 has none"):
        resolve_config("gru", None, {"data": data, "task": LENGTH_OF_STAY.name, "goal": 0})
