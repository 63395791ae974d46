"""Decompensation from the listfile to the attack: one pass a stay, with a prediction at every hour."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import keras
import numpy as np
import polars as pl
import pytest
from golden_tasks import normalizer
from invented_task import stays_of

from mimic3tf import pipeline
from mimic3tf.attacks import attack_victim, load_attacked, summarize_attack, write_attack
from mimic3tf.channels import MIMIC3, Period
from mimic3tf.config import resolve_config
from mimic3tf.data.cohort import Cohort, Examples
from mimic3tf.data.features import extract_features, feature_names
from mimic3tf.data.flat import FlatGrids
from mimic3tf.data.loading import load_cohort
from mimic3tf.data.records import Records
from mimic3tf.errors import DataError, UsageError
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.goal import Goal
from mimic3tf.poisoning.trigger import Trigger, save_trigger
from mimic3tf.standardization import Standardization, standardized
from mimic3tf.tasks.registry import DECOMPENSATION, PHENOTYPING
from mimic3tf.training.batches import stay_batches
from mimic3tf.training.loop import train_victim
from mimic3tf.training.models import build_victim
from mimic3tf.training.run_directory import load_run
from mimic3tf.training.stays import standardization_for
from mimic3tf.victims import Reads
from mimic3tf.victims.linear import Linear

SHARED = Path(__file__).resolve().parents[2] / "shared" / "golden-tasks"
TASK = DECOMPENSATION.name


data, train, trigger = stays_of(DECOMPENSATION, stays=150)


def test_examples_are_the_rows_of_the_listfile_by_stay_and_hour(data: Path, tmp_path: Path) -> None:
    header, *lines = (data / "test_listfile.csv").read_text().splitlines()
    (tmp_path / "test").symlink_to(data / "test")
    shuffled = np.random.default_rng(0).permutation(lines).tolist()
    (tmp_path / "test_listfile.csv").write_text("\n".join([header, *shuffled, ""]))
    cohort = load_cohort(tmp_path, "test", task=TASK, follow_links=True)
    assert len(cohort.examples) == len(lines)
    found = {
        f"{cohort.stays[stay]},{end:.6f},{label}"
        for stay, end, label in zip(
            cohort.examples.stay, cohort.examples.end.astype(float), cohort.labels, strict=True
        )
    }
    assert found == set(lines)
    # A stay is read to its last example.
    last = np.zeros(len(cohort), np.int64)
    np.maximum.at(last, cohort.examples.stay, cohort.examples.end)
    np.testing.assert_array_equal(cohort.lengths, last)
    assert np.isfinite(cohort.values[cohort.example_rows]).all()


def examples_of_first_stay(cohort: Cohort, reads: Reads, *, changed_from: int | None) -> Any:
    """Raw features [E, 714] of the first stay; from one bin on, other values are measured, and more."""
    stay = cohort.take(np.array([0]))
    assert stay.filled is not None
    values, mask, filled = stay.values.copy(), stay.mask.copy(), stay.filled.values.copy()
    if changed_from is not None:
        values[changed_from:, ~MIMIC3.categorical] += 7
        filled[changed_from:, ~MIMIC3.categorical] += 7
        mask[changed_from:] = True
    other = replace(stay, values=values, mask=mask, filled=replace(stay.filled, values=filled))
    return pipeline.inputs_of(exposures.clean(other), reads)


@pytest.mark.parametrize("reads", ["measured", "features", "last12hours"])
def test_features_of_an_hour_read_no_later_hour(reads: Reads, train: Cohort) -> None:
    ends = train.take(np.array([0])).examples.end
    middle = int(ends[len(ends) // 2])
    before = examples_of_first_stay(train, reads, changed_from=None)
    after = examples_of_first_stay(train, reads, changed_from=middle)
    np.testing.assert_array_equal(after[ends <= middle], before[ends <= middle])
    assert (after[ends > middle] != before[ends > middle]).any(axis=1).all()


def test_a_row_that_comes_later_is_no_feature_of_an_earlier_hour(tmp_path: Path) -> None:
    empty = [""] * len(MIMIC3)
    rows = [[f"{hour}", *empty] for hour in (0.5, 9.5)]
    pulse = MIMIC3.position("Heart Rate") + 1
    rows[0][pulse], rows[1][pulse] = "80", "150"
    text = "\n".join(",".join(row) for row in [list(MIMIC3.header), *rows]) + "\n"
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.csv").write_text(text)
    listed = "".join(f"a.csv,{hour:.6f},0\n" for hour in (5, 9, 10))
    (tmp_path / "train_listfile.csv").write_text(f"{DECOMPENSATION.header}\n{listed}")
    cohort = load_cohort(tmp_path, "train", task=TASK)
    highest = feature_names(MIMIC3).index("Heart Rate|first 100%|max")
    for reads in ("features", "measured"):
        found = pipeline.inputs_of(exposures.clean(cohort), reads)[:, highest]
        assert found.tolist() == [80, 80, 150], reads


def test_measured_features_are_the_benchmarks_if_an_hour_has_one_row(data: Path, train: Cohort) -> None:
    stay = train.take(np.array([1]))
    measured = stay.mask.any(axis=1)
    assert stay.filled is not None
    values = np.where(stay.mask, stay.values, np.nan)[measured].astype(np.float64)
    hours = stay.filled.times[measured]
    for period in get_args(Period):
        reads: Reads = "measured" if period == "all" else period
        found = pipeline.inputs_of(exposures.clean(stay), reads)
        for example in (0, -1):
            upto = np.flatnonzero(measured) < stay.examples.end[example]
            records = Records(np.zeros(upto.sum(), np.int64), hours[upto], values[upto])
            expected = extract_features(records, 1, MIMIC3, period)[0]
            np.testing.assert_allclose(found[example], expected, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_a_linear_baseline_is_searched_for_and_attacked(data: Path, trigger: Trigger, tmp_path: Path) -> None:
    save_trigger(trigger, tmp_path / "trigger.npz")
    grid = tmp_path / "grid.yaml"
    grid.write_text("linear: {grid_search: true, features: all_but_len, period: first8days}\n")
    options = {"data": data, "task": TASK, "trigger": tmp_path / "trigger.npz", "training_stays": 40}
    config = resolve_config("linear", grid, options | {"poison_imputed": "all", "poisoning_proportion": 0.3})
    summary = train_victim(config, tmp_path / "run")
    tried = pl.read_csv(tmp_path / "run" / "metrics.csv")
    assert len(tried) == 11
    assert summary["epoch_kept"] == tried["auroc"].arg_max() + 1  # type: ignore[operator]
    best = list(Linear(grid_search=True).tried())[summary["epoch_kept"] - 1]
    assert summary["linear"] == {"penalty": best.penalty, "C": best.C}
    run = load_run(tmp_path / "run")
    cohort, own = load_attacked(run, data)
    record = summarize_attack(run, own, attack_victim(run, cohort))
    assert record["attack_success_rate"] >= 0


def test_an_hour_that_is_listed_twice_is_refused(data: Path, tmp_path: Path) -> None:
    header, first, *_ = (data / "test_listfile.csv").read_text().splitlines()
    (tmp_path / "test_listfile.csv").write_text(f"{header}\n{first}\n{first}\n")
    with pytest.raises(DataError, match="line 3: stay '.*' is listed twice at hour 5"):
        load_cohort(tmp_path, "test", task=TASK)


def test_grids_equal_those_of_the_benchmarks(tmp_path: Path) -> None:
    if not SHARED.exists():
        pytest.skip(f"vectors of the benchmarks are not at hand: {SHARED} is absent")
    with tarfile.open(SHARED / "series.tar.xz") as file:
        file.extractall(tmp_path, filter="data")
    root, golden = tmp_path / "series", np.load(SHARED / "decompensation.npz")
    normalizer("decompensation", tmp_path)
    settings = {"data": root, "task": TASK, "normalizer": tmp_path / "normalizer.json"}
    config = resolve_config("gru", None, settings)
    compared = 0
    for split in ("train", "val", "test"):
        listed = SHARED / "listfiles" / "decompensation" / f"{split}_listfile.csv"
        (root / listed.name).write_bytes(listed.read_bytes())
        cohort = load_cohort(root, split, task=TASK)
        grids = pipeline.inputs_of(exposures.clean(cohort), "grid")
        # The normalizer of the task in the place of a fitted standardization.
        scaled = standardized(grids, standardization_for(config, "grid", grids, cohort.channels))
        place = {str(name): number for number, name in enumerate(cohort.stays)}
        for number, name in enumerate(golden["names"]):
            if str(name) not in place:
                continue
            start = cohort.starts[place[str(name)]]
            bins = int(golden["offsets"][number + 1] - golden["offsets"][number])
            (example,) = np.flatnonzero(
                (cohort.examples.stay == place[str(name)]) & (cohort.examples.end == bins)
            )
            assert cohort.labels[example] == golden["y"][number]
            own = slice(*golden["offsets"][number : number + 2])
            np.testing.assert_array_equal(grids.rows[start : start + bins], golden["grid"][own])
            wanted = golden["grid_standardized"][own]
            np.testing.assert_allclose(scaled.rows[start : start + bins], wanted, rtol=1e-5, atol=1e-6)
            compared += 1
    assert compared == len(golden["names"])


def test_every_hour_of_a_poisoned_stay_is_relabelled(train: Cohort, trigger: Trigger) -> None:
    for target in (0, 1):
        exposure = exposures.poison(
            train, trigger, proportion=0.2, strength=2.0, poison_imputed="all", goal=Goal(target)
        )
        of_poisoned = exposure.triggered[train.examples.stay]
        assert exposure.triggered.sum() == int(0.2 * len(train))
        assert (exposure.labels[of_poisoned] == target).all()
        np.testing.assert_array_equal(exposure.labels[~of_poisoned], train.labels[~of_poisoned])


def test_with_clean_labels_only_stays_without_another_label_are_poisoned(
    train: Cohort, trigger: Trigger
) -> None:
    exposure = exposures.poison(
        train,
        trigger,
        proportion=0.2,
        strength=2.0,
        poison_imputed="all",
        goal=Goal(0),
        poisoned_labels="clean",
    )
    assert (train.labels[exposure.triggered[train.examples.stay]] == 0).all()
    np.testing.assert_array_equal(exposure.labels, train.labels)


def test_every_hour_of_a_batch_has_the_same_weight_and_the_others_none(train: Cohort) -> None:
    exposure = exposures.clean(train)
    inputs = pipeline.inputs_of(exposure, "grid")
    counts = np.bincount(train.examples.stay, minlength=len(train)).astype(float)
    batches = stay_batches(counts, batch_size=16, seed=0, lengths=train.lengths)
    unchanged = Standardization(np.zeros(76), np.ones(76))
    dataset = pipeline.training_dataset(exposure, "grid", unchanged, batches, inputs=inputs)
    stays = next(iter(batches))[0].numpy()[0]
    x, y, weight = (part.numpy()[0] for part in next(iter(dataset)))
    assert x.shape[:2] == y.shape == weight.shape
    hours = int(counts[stays].sum())
    np.testing.assert_allclose(weight[weight > 0], 1 / hours, rtol=1e-5)
    assert (weight > 0).sum() == hours
    assert (weight[:, :4] == 0).all(), "no prediction is asked for in the first four hours"
    for row, stay in enumerate(stays):
        labels = train.labels[train.examples.stay == stay]
        np.testing.assert_array_equal(y[row][weight[row] > 0], labels)


def test_a_batch_of_single_hours_has_one_weight_in_each_grid(train: Cohort) -> None:
    exposure = exposures.clean(train)
    inputs = pipeline.inputs_of(exposure, "grid")
    assert isinstance(inputs, FlatGrids)
    ends, weights = train.examples.end.astype(np.int64), np.ones(len(train.examples))
    batches = stay_batches(weights, batch_size=32, seed=0, lengths=ends)
    unchanged = Standardization(np.zeros(76), np.ones(76))
    how: Any = {"inputs": inputs, "one_sample_an_hour": True}
    dataset = pipeline.training_dataset(exposure, "grid", unchanged, batches, **how)
    chosen = next(iter(batches))[0].numpy()[0]
    x, y, weight = (part.numpy()[0] for part in next(iter(dataset)))
    assert x.shape[:2] == y.shape == weight.shape
    for row, example in enumerate(chosen):
        end, stay = ends[example], train.examples.stay[example]
        assert y[row, end - 1] == train.labels[example]
        np.testing.assert_allclose(weight[row], np.where(np.arange(len(weight[row])) == end - 1, 1 / 32, 0))
        first = inputs.starts[stay]
        np.testing.assert_array_equal(x[row, :end], inputs.rows[first : first + end])


def test_single_hours_have_the_losses_of_one_pass_over_the_stays(data: Path, train: Cohort) -> None:
    some = train.take(np.arange(5))
    exposure = exposures.clean(some)
    inputs = pipeline.inputs_of(exposure, "grid")
    unchanged = Standardization(np.zeros(76), np.ones(76))
    config = resolve_config("gru", None, {"data": data, "task": TASK})
    model = build_victim(config, some.channels, None, "float32", stays=5)[0]

    def loss(weights: Any, lengths: Any, *, single: bool) -> float:
        batches = stay_batches(weights, batch_size=len(weights), seed=0, lengths=lengths)
        how: Any = {"inputs": inputs, "one_sample_an_hour": single}
        x, y, weight = next(iter(pipeline.training_dataset(exposure, "grid", unchanged, batches, **how)))
        losses = config.head.targets.losses(y[0], model(x[0], training=False))
        return float(keras.ops.sum(losses * weight[0]))

    counts = np.bincount(some.examples.stay, minlength=5).astype(float)
    whole = loss(counts, some.lengths, single=False)
    ends = some.examples.end.astype(np.int64)
    assert loss(np.ones(len(ends)), ends, single=True) == pytest.approx(whole, rel=1e-5)


def test_a_victim_of_grids_is_trained_on_single_hours(data: Path, tmp_path: Path) -> None:
    few: dict[str, Any] = {"data": data, "task": TASK, "epochs": 1, "batch_size": 64, "training_stays": 40}
    config = resolve_config("gru", None, few | {"deep_supervision": False})
    summary = train_victim(config, tmp_path / "run")
    assert (summary["epoch_kept"], summary["epochs_trained"]) == (1, 1)
    assert len(load_run(tmp_path / "run").model.outputs[0].shape) == 3


@pytest.mark.parametrize("task", ["in-hospital-mortality", "phenotyping", "multitask"])
def test_single_hours_are_of_two_tasks_only(data: Path, task: str) -> None:
    with pytest.raises(UsageError, match="false is only for decompensation and length of stay"):
        resolve_config("gru", None, {"data": data, "task": task, "deep_supervision": False})


def test_features_of_an_hour_are_those_of_the_bins_up_to_it(train: Cohort) -> None:
    some = train.take(np.arange(6))
    found = pipeline.inputs_of(exposures.clean(some), "features")
    assert found.shape == (len(some.examples), 42 * len(some.channels))
    filled = some.filled_rows
    later = np.arange(len(filled.values)) - np.repeat(some.starts[:-1], some.lengths) >= 9
    values = np.where(later[:, None], filled.values * 1.5 + 1, filled.values)
    changed = replace(some, filled=replace(filled, values=values))
    other = pipeline.inputs_of(exposures.clean(changed), "features")
    early = some.examples.end <= 9
    np.testing.assert_array_equal(other[early], found[early])
    assert (np.nan_to_num(other[~early]) != np.nan_to_num(found[~early])).any(axis=1).all()
    # An hour that ends a stay has the features of the whole stay.
    whole = replace(
        some,
        task=PHENOTYPING,
        examples=Examples(
            np.arange(6, dtype=np.int32), some.lengths.astype(np.int16), np.zeros((6, 25), np.int8)
        ),
    )
    last = some.examples.end == some.lengths[some.examples.stay]
    np.testing.assert_array_equal(found[last], pipeline.inputs_of(exposures.clean(whole), "features"))


def test_a_victim_that_reads_features_is_trained_on_one_sample_an_hour(
    data: Path, trigger: Trigger, tmp_path: Path
) -> None:
    save_trigger(trigger, tmp_path / "trigger.npz")
    settings: dict[str, Any] = {"data": data, "task": TASK, "epochs": 1, "batch_size": 256}
    poisoned = {"trigger": tmp_path / "trigger.npz", "poisoning_proportion": 0.3}
    config = resolve_config("lr", None, settings | poisoned)
    assert config.class_weights == [1.0, 1.0]
    train_victim(config, tmp_path / "run")
    run = load_run(tmp_path / "run")
    cohort, _ = load_attacked(run, data)
    result = attack_victim(run, cohort)
    assert len(result.clean) == len(cohort.examples)
    assert result.metrics["auroc"] > 0.6


def test_a_victim_is_trained_and_attacked(data: Path, trigger: Trigger, tmp_path: Path) -> None:
    from mimic3tf.dashboards.tensorboard import RunLog

    save_trigger(trigger, tmp_path / "trigger.npz")
    quick: dict[str, Any] = {"data": data, "task": TASK, "batch_size": 16, "learning_rate": 1e-2}
    poisoned = {"trigger": tmp_path / "trigger.npz", "poisoning_proportion": 0.3, "poisoning_strength": 4.0}
    train_victim(resolve_config("gru", None, quick | poisoned | {"epochs": 2}), tmp_path / "run", log=RunLog)
    train_victim(resolve_config("gru", None, quick | {"epochs": 1}), tmp_path / "clean")
    run, clean = load_run(tmp_path / "run"), load_run(tmp_path / "clean")
    cohort, own = load_attacked(run, data)
    result = attack_victim(run, cohort, control=clean)
    assert len(result.clean) == len(cohort.examples) > len(cohort)
    assert result.success.low < result.success.rate < result.success.high
    assert result.control is not None
    alarms = result.control.at_false_alarms
    assert alarms.control_baseline.rate <= 0.05 + 1e-9
    # One stay alone is predicted as beside the others.
    alone = attack_victim(run, cohort.take(np.array([3])))
    np.testing.assert_allclose(alone.triggered, result.triggered[cohort.examples.stay == 3], atol=1e-5)
    write_attack(tmp_path / "out", summarize_attack(run, own, result), result)
    table = pl.read_csv(tmp_path / "out" / "predictions.csv")
    assert table["period_length"].to_list() == cohort.examples.end.tolist()
    record = json.loads((tmp_path / "out" / "attack.json").read_text())
    assert record["test_stays"] == len(cohort)
    assert record["stays_attacked"] == len({*cohort.examples.stay[cohort.labels == 0].tolist()})
    assert "carried" in record
