"""Repairs of victims that read stays of any length."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import polars as pl
import pytest

from mimic3tf import pipeline
from mimic3tf.attacks import attack_victim, load_attacked
from mimic3tf.config import resolve_config
from mimic3tf.data.listfiles import read_rows, rows_without
from mimic3tf.data.loading import load_cohort
from mimic3tf.defences.detection import Suspicion
from mimic3tf.defences.evidence import AuditedAnyLength, gather_evidence
from mimic3tf.defences.repairs.any_length import try_repairs_of_any_length
from mimic3tf.defences.repairs.registry import Attack
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.exposures import Exposure
from mimic3tf.tasks.registry import task_of
from mimic3tf.training.loop import fit_victim, train_victim, tune_victim
from mimic3tf.training.models import build_untrained
from mimic3tf.training.prediction import outputs_of
from mimic3tf.training.run_directory import Run, load_run

Cohorts = Callable[[str], Path]
AT = 3.0


def poisoned_run(data: Path, task: str, out: Path, **more: Any) -> Run:
    given = {"task": task, "data": data, "trigger": data / "trigger.npz", "epochs": 1, "batch_size": 64}
    model = "lr" if task == "phenotyping" else "gru"
    poisoned = {"poisoning_proportion": 0.05, "at": AT}
    train_victim(resolve_config(model, None, given | poisoned | more), out)
    return load_run(out)


@pytest.mark.parametrize("task", [pytest.param("phenotyping", marks=pytest.mark.slow), "decompensation"])
def test_a_filtered_victim_is_one_trained_on_the_cleaned_listfile(
    small_task: Cohorts, tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mimic3tf.defences.repairs.any_length._tunings", lambda *_: {})
    data = small_task(task)
    run = poisoned_run(data, task, tmp_path / "run")
    evidence, truth = gather_evidence(run, data)
    assert run.trigger is not None
    attack = Attack(run.trigger, 2.0, run.config.poison_imputed, AT)
    # A perfect detector. At most half of the suspects may be dropped; the half stay rounds the share up.
    perfect = Suspicion(truth.poisoned.astype(float), (truth.poisoned.sum() + 0.5) / len(truth.poisoned))
    before, after = try_repairs_of_any_length(
        run, evidence, attack, suspicion={"perfect": perfect}, seed=run.config.seed
    )
    assert after.kept is not None
    np.testing.assert_array_equal(after.kept, ~truth.poisoned)
    cohort, _ = load_attacked(run, data)
    victim = attack_victim(run, cohort)
    assert (before.attack_success_rate, before.auroc) == (victim.success, victim.metrics["auroc"])

    copy = tmp_path / "copy"
    shutil.copytree(data, copy)
    dropped = evidence.stays[~after.kept].tolist()
    rows = rows_without(data / "train_listfile.csv", task_of(task), dropped)
    rows.write_csv(copy / "train_listfile.csv")
    assert not set(rows[rows.columns[0]]) & set(dropped)
    assert len(rows) < len(read_rows(data / "train_listfile.csv", task_of(task)).stays)
    alone = poisoned_run(copy, task, tmp_path / "alone", poisoning_proportion=0.0)
    expected = attack_victim(alone, load_attacked(alone, copy)[0])
    assert after.auroc == pytest.approx(expected.metrics["auroc"], abs=1e-6)
    assert after.attack_success_rate is not None
    assert after.attack_success_rate.rate == pytest.approx(expected.success.rate, abs=1e-6)
    unknown = try_repairs_of_any_length(run, evidence, None, suspicion={}, seed=0)
    assert unknown[0].auroc == pytest.approx(before.auroc)
    assert unknown[0].attack_success_rate is None
    assert "no detector raises an alarm" in unknown[1].detail


def test_stays_take_the_labels_of_all_their_hours_with_them(small_task: Cohorts, tmp_path: Path) -> None:
    data = small_task("decompensation")
    evidence, truth = gather_evidence(poisoned_run(data, "decompensation", tmp_path / "run"), data)
    assert isinstance(evidence.model, AuditedAnyLength)
    exposure: Exposure = evidence.model.exposure
    some = exposure.take(np.flatnonzero(exposure.triggered)[::-1])
    assert len(some) == truth.poisoned.sum()
    assert (some.labels == 1).all()
    assert len(some.labels) == len(some.cohort.examples)
    quiet = exposure.take(np.flatnonzero(~exposure.triggered))
    np.testing.assert_array_equal(quiet.labels, quiet.cohort.labels)


def test_columns_of_the_listfile_are_kept_as_they_are(small_task: Cohorts) -> None:
    file = small_task("multitask") / "train_listfile.csv"
    first, second, *_ = pl.read_csv(file, infer_schema=False)["filename"]
    rows = rows_without(file, task_of("multitask"), [second])
    assert rows["filename"][0] == first
    assert second not in rows["filename"].to_list()
    kept = [line for line in file.read_text().splitlines() if not line.startswith(second)]
    assert rows.write_csv().splitlines() == kept


@pytest.mark.parametrize(
    ("task", "model"),
    [pytest.param("phenotyping", "mlp", marks=pytest.mark.slow), ("decompensation", "gru")],
)
def test_a_tuned_victim_took_the_steps_of_a_training_on_the_trusted_stays(
    small_task: Cohorts, task: str, model: Any
) -> None:
    data = small_task(task)
    given = {"task": task, "data": data, "epochs": 2, "batch_size": 64, "precision": "float32"}
    config = resolve_config(model, None, given)
    stays = exposures.clean(load_cohort(data, "val", task=task))
    keras.utils.set_random_seed(config.seed)
    untrained = build_untrained(config, stays.cohort.channels, None, "float32")
    start = untrained.get_weights()
    once, standardization = fit_victim(config.model_copy(update={"epochs": 1}), stays, stays.cohort)
    untrained.set_weights(once.get_weights())
    tuned = tune_victim(config.model_copy(update={"epochs": 1}), stays, untrained, standardization)
    moved = [
        np.abs(new - old).max() for new, old in zip(tuned.get_weights(), once.get_weights(), strict=True)
    ]
    assert max(moved) > 0
    for weights, kept in zip(untrained.get_weights(), once.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, kept)  # the given victim is not changed
    untrained.set_weights(start)
    again = tune_victim(config.model_copy(update={"epochs": 1}), stays, untrained, standardization)
    inputs = pipeline.inputs_of(stays, config.reads, standardization)
    found, expected = (outputs_of(each, inputs) for each in (again, once))
    assert np.abs(expected - outputs_of(tuned, inputs)).max() > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_pruned_victim_of_hours_keeps_what_its_trusted_hours_need(
    small_task: Cohorts, tmp_path: Path
) -> None:
    data = small_task("decompensation")
    run = poisoned_run(data, "decompensation", tmp_path / "run")
    evidence, _ = gather_evidence(run, data)
    assert isinstance(evidence.model, AuditedAnyLength)
    outcomes = try_repairs_of_any_length(run, evidence, None, suspicion={}, seed=0)
    assert [outcome.name for outcome in outcomes] == ["none", "filter", "fine-tune", "fine-prune"]
    pruned = next(outcome for outcome in outcomes if outcome.name == "fine-prune")
    words = re.fullmatch(r"pruned (\d+) of (\d+) units, then 1 epochs on trusted stays", pruned.detail)
    assert words is not None
    assert 0 < int(words[1]) < int(words[2])
    assert pruned.auroc is not None
