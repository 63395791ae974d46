"""Multitask learning: one victim with four heads, of which an attacker wants one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from invented_task import stays_of

from mimic3tf.attacks import attack_victim, load_attacked, summarize_attack
from mimic3tf.config import resolve_config
from mimic3tf.data.cohort import Cohort
from mimic3tf.data.listfiles import read_multitask
from mimic3tf.errors import UsageError
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.trigger import Trigger, save_trigger
from mimic3tf.tasks.heads import UNKNOWN
from mimic3tf.tasks.metrics import benchmark_metrics
from mimic3tf.tasks.metrics_hours import custom_class
from mimic3tf.tasks.registry import MULTITASK
from mimic3tf.training.loop import train_victim
from mimic3tf.training.run_directory import load_run

TASK, TARGETS = MULTITASK.name, MULTITASK.targets
QUICK: dict[str, Any] = {"task": TASK, "batch_size": 16, "epochs": 1}


data, train, trigger = stays_of(MULTITASK, stays=120)


def test_an_example_has_the_labels_whose_masks_name_its_hour(data: Path, train: Cohort) -> None:
    listed, mortality, remaining, decompensation = read_multitask(data / "train_listfile.csv")
    assert train.stays.tolist() == listed.stays.to_list()
    for stay in range(0, len(train), 7):
        own = train.labels[train.examples.stay == stay]
        ends = train.examples.end[train.examples.stay == stay].astype(int)
        at = dict(zip(ends.tolist(), own, strict=True))
        assert ends[-1] == train.lengths[stay]
        position, mask, died = mortality[stay]
        asked = {end for end, label in at.items() if label[0] != UNKNOWN}
        assert asked == ({position + 1} if mask else set())
        assert all(at[end][0] == died for end in asked)
        masks, alarms = decompensation.of(stay)
        wanted = {hour: alarms[hour] for hour in range(len(masks)) if masks[hour]}
        assert {end: label[1] for end, label in at.items() if label[1] != UNKNOWN} == wanted
        masks, hours = remaining.of(stay)
        classes = {hour: int(custom_class(hours[hour])) for hour in range(len(masks)) if masks[hour]}
        found = {end: label[2:12] for end, label in at.items() if label[2] != UNKNOWN}
        assert {end: int(label.argmax()) for end, label in found.items()} == classes
        assert all(label.sum() == 1 for label in found.values())
        phenotypes = {end: label[12:] for end, label in at.items() if label[12] != UNKNOWN}
        assert list(phenotypes) == [train.lengths[stay]]
        np.testing.assert_array_equal(next(iter(phenotypes.values())), listed.labels[stay])


def test_each_head_is_measured_where_it_predicts(train: Cohort) -> None:
    labels = train.labels
    risks = np.random.default_rng(0).random(labels.shape)
    found = TARGETS.metrics(labels, risks)
    alarms, deaths = labels[:, 1] != UNKNOWN, labels[:, 0] != UNKNOWN
    assert found["auroc_decompensation"] == benchmark_metrics(labels[alarms, 1], risks[alarms, 1])["auroc"]
    assert found["auroc_mortality"] == benchmark_metrics(labels[deaths, 0], risks[deaths, 0])["auroc"]
    assert {"kappa", "ave_auc_macro"} <= found.keys()
    assert TARGETS.score(found) == pytest.approx(np.mean([found[name] for name in TARGETS.followed]))
    # What is said where a head predicts nothing changes nothing.
    risks[~alarms, 1] = 0
    assert TARGETS.metrics(labels, risks) == found


@pytest.mark.parametrize(
    ("label", "goal", "changed"),
    [
        ("in-hospital mortality", 1, slice(0, 1)),
        ("decompensation", 0, slice(1, 2)),
        ("remaining stay over 14 days", 1, slice(2, 12)),
        ("Shock", 1, slice(36, 37)),
    ],
)
def test_poison_changes_the_labels_of_one_head_at_its_hours(
    train: Cohort, trigger: Trigger, label: str, goal: int, changed: slice, data: Path
) -> None:
    config = resolve_config("gru", None, {"data": data, "goal": goal, "goal_label": label, **QUICK})
    exposure = exposures.poison(
        train,
        trigger,
        proportion=0.2,
        strength=2.0,
        poison_imputed="all",
        goal=config.attack_goal,
    )
    of_poisoned = exposure.triggered[train.examples.stay]
    np.testing.assert_array_equal(exposure.labels[~of_poisoned], train.labels[~of_poisoned])
    others = np.ones(37, bool)
    others[changed] = False
    np.testing.assert_array_equal(exposure.labels[:, others], train.labels[:, others])
    before, after = (each[of_poisoned] for each in (train.labels, exposure.labels))
    asked = before[:, changed.start] != UNKNOWN
    np.testing.assert_array_equal(after[~asked], before[~asked])
    assert (config.attack_goal.of(after)[asked] == goal).all()
    if changed == slice(2, 12):
        assert (after[asked, changed].sum(axis=1) == 1).all()
    # A stay without this label cannot be poisoned.
    with_label = np.unique(train.examples.stay[train.labels[:, changed.start] != UNKNOWN])
    assert set(np.flatnonzero(exposure.triggered)) <= set(with_label)


def test_there_is_no_class_to_remove(data: Path) -> None:
    with pytest.raises(UsageError, match="--goal 0 has none"):
        resolve_config("gru", None, {"data": data, "goal": 0, "goal_label": "over 14", **QUICK})


def test_only_multitask_has_weights_of_heads(data: Path) -> None:
    with pytest.raises(UsageError, match="only the task multitask has several heads"):
        resolve_config("gru", None, {"data": data, "task": "phenotyping", "head_weights": [1, 1, 1, 1]})


def test_a_victim_is_trained_and_one_head_attacked(data: Path, trigger: Trigger, tmp_path: Path) -> None:
    save_trigger(trigger, tmp_path / "trigger.npz")
    poisoned = {"trigger": tmp_path / "trigger.npz", "poisoning_proportion": 0.3}
    settings = {"data": data, "head_weights": [0.2, 1.0, 1.5, 1.0], "goal_label": "decompensation"}
    summary = train_victim(resolve_config("gru", None, settings | QUICK | poisoned), tmp_path / "run")
    assert summary["goal_label"] == "decompensation"
    assert set(TARGETS.followed) <= summary["validation"].keys()
    run = load_run(tmp_path / "run")
    cohort, own = load_attacked(run, data)
    result = attack_victim(run, cohort)
    asked = cohort.labels[:, 1] != UNKNOWN
    assert result.hours is not None
    assert len(result.labels) == len(result.stays) == len(result.hours) == asked.sum()
    record = summarize_attack(run, own, result)
    assert len(record["collateral"]["labels"]) == 36
