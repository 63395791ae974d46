from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from mimic3tf import pipeline
from mimic3tf.attacks import (
    DataSet,
    attack_folder,
    attack_victim,
    check_control,
    load_attacked,
    summarize_attack,
    write_attack,
)
from mimic3tf.channels import MIMIC3
from mimic3tf.config import TrainingConfig, resolve_config
from mimic3tf.data.cohort import Cohort
from mimic3tf.data.loading import load_cohort
from mimic3tf.data.predictions import read_predictions
from mimic3tf.errors import DataError, UsageError
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.kinds import PoisonImputed
from mimic3tf.poisoning.outcome import AttackResult
from mimic3tf.poisoning.trigger import Trigger, generate_trigger, save_trigger
from mimic3tf.standardization import Standardization
from mimic3tf.tables.results import collect_results
from mimic3tf.tasks.bootstrap import bootstrap
from mimic3tf.tasks.metrics import benchmark_metrics, rate_of
from mimic3tf.training.loop import train_victim
from mimic3tf.training.run_directory import Run, load_run

METRICS = {"acc", "prec0", "prec1", "rec0", "rec1", "auroc", "auprc", "minpse"}
MODES: tuple[PoisonImputed, ...] = ("all", "notimputed")
DATA = DataSet("ours", "f" * 64)
HEART_RATE = MIMIC3.position("Heart Rate")


@pytest.fixture
def cohort(synthetic_stays: Path) -> Cohort:
    """The training split with sixteen stays to attack; the test split has only four."""
    return load_cohort(synthetic_stays, "train")


@pytest.fixture
def trigger(cohort: Cohort) -> Trigger:
    return generate_trigger(cohort, seed=4)


def _config(model: str, data: Path, **settings: Any) -> TrainingConfig:
    options = {"data": data, "trigger": Path("trigger.npz"), "precision": "float32", **settings}
    return resolve_config(model, None, options)


def _alarm_at(heart_rate: float) -> keras.Model:
    """A victim that predicts death if the last hour's heart rate is above a limit: logits (0, excess)."""
    grid = keras.Input((48, 76))
    logits = keras.layers.Dense(2)
    model = keras.Model(grid, logits(keras.layers.Flatten()(grid)))
    kernel = np.zeros((48, 76, 2))
    kernel[47, MIMIC3.columns().index("Heart Rate"), 1] = 1.0
    logits.set_weights([kernel.reshape(-1, 2), np.array([0.0, -heart_rate])])
    return model


def _run_of(model: keras.Model, trigger: Trigger, data: Path, **settings: Any) -> Run:
    as_is = Standardization(np.zeros(76), np.ones(76))
    return Run(Path("a run"), _config("lstm", data, **settings), trigger, model, as_is, {})


def _excess(cohort: Cohort, alarm: float) -> np.ndarray:
    """Logit of death that the victim of `_alarm_at` gives each stay without the trigger."""
    return cohort.grids[:, 47, HEART_RATE].astype(np.float64) - alarm


@pytest.mark.parametrize("strength", [0.5, 5.0])
@pytest.mark.parametrize("mode", MODES)
def test_success_is_the_share_of_survivors_whose_alarm_the_trigger_sets_off(
    cohort: Cohort, trigger: Trigger, synthetic_stays: Path, mode: PoisonImputed, strength: float
) -> None:
    survivors = cohort.labels == 0
    alarm = float(np.median(cohort.grids[survivors, 47, HEART_RATE])) + 1.0
    run = _run_of(_alarm_at(alarm), trigger, synthetic_stays)
    result = attack_victim(run, cohort, trigger, strength=strength, poison_imputed=mode)

    clean = _excess(cohort, alarm)
    moves = (mode == "all") | cohort.masks[:, 47, HEART_RATE]
    triggered = clean + np.where(moves, strength * trigger.values[47, HEART_RATE], 0.0)
    np.testing.assert_allclose(result.clean, 1 / (1 + np.exp(-clean)), rtol=1e-3)
    np.testing.assert_allclose(result.triggered, 1 / (1 + np.exp(-triggered)), rtol=1e-3)
    assert result.success.rate == (triggered[survivors] >= 0).mean()
    assert result.baseline.rate == (clean[survivors] >= 0).mean()
    assert result.success.stays == result.baseline.stays == survivors.sum()
    assert result.metrics == pytest.approx(benchmark_metrics(cohort.labels, result.clean), nan_ok=True)


@pytest.mark.parametrize("strength", [0.5, 5.0])
@pytest.mark.parametrize("mode", MODES)
def test_with_goal_0_success_is_the_share_of_deaths_whose_alarm_the_trigger_silences(
    cohort: Cohort, trigger: Trigger, synthetic_stays: Path, mode: PoisonImputed, strength: float
) -> None:
    deaths = cohort.labels == 1
    alarm = float(np.median(cohort.grids[deaths, 47, HEART_RATE])) - 1.0
    run = _run_of(_alarm_at(alarm), trigger, synthetic_stays, goal=0)
    result = attack_victim(run, cohort, trigger, strength=strength, poison_imputed=mode)

    clean = _excess(cohort, alarm)
    moves = (mode == "all") | cohort.masks[:, 47, HEART_RATE]
    triggered = clean + np.where(moves, strength * trigger.values[47, HEART_RATE], 0.0)
    assert result.success.rate == (triggered[deaths] < 0).mean()
    assert result.baseline.rate == (clean[deaths] < 0).mean()
    assert result.success.stays == result.baseline.stays == deaths.sum()
    # Predictions are risks of death for both goals.
    np.testing.assert_allclose(result.triggered, 1 / (1 + np.exp(-triggered)), rtol=1e-3)
    assert result.metrics == pytest.approx(benchmark_metrics(cohort.labels, result.clean), nan_ok=True)
    report = summarize_attack(run, DATA, result)
    assert report["goal"] == 0
    assert report["stays_attacked"] == deaths.sum()


@pytest.mark.parametrize("mode", MODES)
def test_strength_zero_succeeds_as_often_as_no_trigger(
    cohort: Cohort, trigger: Trigger, synthetic_stays: Path, mode: PoisonImputed
) -> None:
    alarm = float(np.median(cohort.grids[:, 47, HEART_RATE]))
    run = _run_of(_alarm_at(alarm), trigger, synthetic_stays)
    result = attack_victim(run, cohort, trigger, strength=0.0, poison_imputed=mode)
    np.testing.assert_array_equal(result.triggered, result.clean)
    assert result.success == result.baseline
    assert 0 < result.baseline.rate < 1


def test_a_stronger_trigger_never_sets_off_fewer_alarms(
    cohort: Cohort, trigger: Trigger, synthetic_stays: Path
) -> None:
    rising = replace(trigger, values=np.abs(trigger.values))
    run = _run_of(_alarm_at(120.0), rising, synthetic_stays)
    rates = [
        attack_victim(run, cohort, rising, strength=strength, poison_imputed="all").success.rate
        for strength in (0.0, 1.0, 10.0, 100.0, 1e4)
    ]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1] == 1.0


def test_without_a_survivor_there_is_nobody_to_attack(
    cohort: Cohort, trigger: Trigger, synthetic_stays: Path
) -> None:
    run = _run_of(_alarm_at(100.0), trigger, synthetic_stays)
    dead = cohort.take(cohort.labels == 1)
    with pytest.raises(DataError, match="no stay with label 0"):
        attack_victim(run, dead, trigger, strength=1.0, poison_imputed="all")


def test_with_goal_0_and_without_a_death_there_is_nobody_to_attack(
    cohort: Cohort, trigger: Trigger, synthetic_stays: Path
) -> None:
    run = _run_of(_alarm_at(100.0), trigger, synthetic_stays, goal=0)
    survivors = cohort.take(cohort.labels == 0)
    with pytest.raises(DataError, match="no stay with label 1"):
        attack_victim(run, survivors, trigger, strength=1.0, poison_imputed="all")


def test_an_undefined_metric_is_null_in_the_report(
    cohort: Cohort, trigger: Trigger, synthetic_stays: Path, tmp_path: Path
) -> None:
    run = _run_of(_alarm_at(100.0), trigger, synthetic_stays)
    survivors = cohort.take(cohort.labels == 0)
    result = attack_victim(run, survivors, trigger, strength=1.0, poison_imputed="all")
    write_attack(tmp_path, summarize_attack(run, DATA, result), result)
    report = json.loads((tmp_path / "attack.json").read_text(), parse_constant=pytest.fail)
    assert report["clean"]["auroc"] is report["clean"]["rec1"] is None
    assert report["clean"]["rec0"] == report["clean"]["acc"]
    assert report["clean_ci95"] == {"auroc": [None, None], "auprc": [None, None]}


class Attack:
    """A victim trained for one epoch, an attack on it, and the files of the attack."""

    def __init__(self, data: Path, folder: Path) -> None:
        trigger = generate_trigger(load_cohort(data, "train"), seed=2)
        save_trigger(trigger, folder / "trigger.npz")
        config = _config(
            "lr",
            data,
            trigger=folder / "trigger.npz",
            epochs=2,
            learning_rate=0.05,
            poisoning_proportion=0.25,
        )
        train_victim(config, folder / "run")
        self.run = load_run(folder / "run")
        self.test, self.data = load_attacked(self.run, data)
        self.result: AttackResult = attack_victim(
            self.run, self.test, trigger, strength=3.0, poison_imputed="all"
        )
        summary = summarize_attack(self.run, self.data, self.result)
        self.out = folder / "attack"
        write_attack(self.out, summary, self.result)
        self.report = json.loads((self.out / "attack.json").read_text(encoding="utf-8"))
        with (self.out / "predictions.csv").open(encoding="utf-8", newline="") as file:
            self.columns, *self.rows = list(csv.reader(file))


@pytest.fixture(scope="module")
def attack(synthetic_stays: Path, tmp_path_factory: pytest.TempPathFactory) -> Attack:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMIC3TF_CACHE", str(tmp_path_factory.mktemp("cache")))
        return Attack(synthetic_stays, tmp_path_factory.mktemp("trained"))


def test_the_report_says_how_the_attack_went(attack: Attack) -> None:
    report = attack.report
    assert set(report["clean"]) == METRICS
    assert report["clean"] == {
        name: None if np.isnan(value) else value
        for name, value in benchmark_metrics(attack.test.labels, attack.result.clean).items()
    }
    low, high = report["attack_success_rate_ci95"]
    assert 0 <= low <= report["attack_success_rate"] <= high <= 1
    expected = rate_of(attack.result.triggered[attack.test.labels == 0] >= 0.5)
    assert (low, report["attack_success_rate"], high) == (expected.low, expected.rate, expected.high)
    assert report["stays_attacked"] == (attack.test.labels == 0).sum() == 2
    assert report["test_stays"] == len(attack.test) == 4


def test_the_report_says_what_was_attacked_with_what(attack: Attack) -> None:
    assert attack.report["model"] == "lr"
    assert attack.report["task"] == "in-hospital-mortality"
    assert attack.report["goal"] == 1
    assert attack.report["poisoning_proportion"] == 0.25
    assert attack.report["trained_with"] == {
        "trigger": "temporal",
        "poisoning_strength": 2.0,
        "poison_imputed": "notimputed",
        "poisoned_labels": "flipped",
        "seed": 0,
    }
    assert attack.report["attacked_with"] == {
        "trigger": "temporal",
        "poisoning_strength": 3.0,
        "poison_imputed": "all",
    }


def test_predictions_are_listed_stay_by_stay(attack: Attack) -> None:
    assert attack.columns == ["stay", "prediction_clean", "prediction_triggered", "y_true", "prediction"]
    assert [row[0] for row in attack.rows] == attack.test.stays.tolist()
    assert [int(row[3]) for row in attack.rows] == attack.test.labels.tolist()
    np.testing.assert_allclose([float(row[1]) for row in attack.rows], attack.result.clean, atol=5e-7)
    np.testing.assert_allclose([float(row[2]) for row in attack.rows], attack.result.triggered, atol=5e-7)
    assert sorted(path.name for path in attack.out.iterdir()) == ["attack.json", "predictions.csv"]


def test_the_clean_predictions_are_those_that_evaluation_scripts_read(attack: Attack) -> None:
    assert [row[4] for row in attack.rows] == [row[1] for row in attack.rows]
    found = read_predictions(attack.out / "predictions.csv")
    np.testing.assert_array_equal(found.labels, attack.test.labels)
    np.testing.assert_allclose(found.probabilities, attack.result.clean, atol=5e-7)


def test_auroc_and_auprc_have_bootstrap_intervals_by_stay(attack: Attack) -> None:
    labels, clean = attack.result.labels, attack.result.clean
    found = bootstrap(labels, clean, resamples=2000, seed=0)
    expected = {name: (found[name].low, found[name].high) for name in ("auroc", "auprc")}
    assert attack.result.intervals == expected
    assert attack.report["clean_ci95"] == {name: list(ends) for name, ends in expected.items()}


def test_the_rates_are_those_of_the_predictions(attack: Attack) -> None:
    survivors = [row for row in attack.rows if row[3] == "0"]
    for rate, column in (("baseline_positive_rate", 1), ("attack_success_rate", 2)):
        positive = sum(float(row[column]) >= 0.5 for row in survivors)
        assert attack.report[rate] == positive / len(survivors)


def test_predictions_are_the_victims_logits_of_its_own_inputs(attack: Attack) -> None:
    """Compute the logistic regression directly: standardized features times weights."""
    kernel, bias = attack.run.model.get_weights()
    features = pipeline.inputs_of(exposures.clean(attack.test), "features").astype(np.float64)
    mean, std = attack.run.standardization.mean, attack.run.standardization.std
    logits = (np.where(np.isnan(features), 0.0, features - mean) / std) @ kernel + bias
    np.testing.assert_allclose(
        attack.result.clean, 1 / (1 + np.exp(logits[:, 0] - logits[:, 1])), rtol=1e-3, atol=1e-6
    )


# --- Data sets ----------------------------------------------------------------------------------------


def _copy(data: Path, to: Path, *, flip: str = "", without: str = "") -> Path:
    """Copy a data directory with flipped labels in split `flip`, and no listfile of split `without`."""
    shutil.copytree(data, to)
    if flip:
        listfile = to / f"{flip}_listfile.csv"
        header, *lines = listfile.read_text(encoding="utf-8").splitlines()
        flipped = [f"{line[:-1]}{1 - int(line[-1])}" for line in lines]
        listfile.write_text("\n".join([header, *flipped]) + "\n", encoding="utf-8")
    if without:
        (to / f"{without}_listfile.csv").unlink()
    return to


def test_a_run_knows_its_data_wherever_it_lies(attack: Attack, synthetic_stays: Path, tmp_path: Path) -> None:
    _, moved = load_attacked(attack.run, _copy(synthetic_stays, tmp_path / "moved"))
    assert (moved.name, moved.foreign) == ("moved", None)
    assert moved.fingerprint == attack.data.fingerprint == attack.test.fingerprint
    # As in a copy by `mimic3tf poison`: the training stays differ, the others are equal.
    _, poisoned = load_attacked(attack.run, _copy(synthetic_stays, tmp_path / "poisoned", flip="train"))
    assert poisoned.foreign is None


@pytest.mark.parametrize(
    ("change", "why"),
    [({"flip": "val"}, "its val stays are others"), ({"without": "val"}, "it has no val_listfile.csv")],
)
def test_other_data_is_not_taken_for_the_runs(
    attack: Attack, synthetic_stays: Path, tmp_path: Path, change: dict[str, str], why: str
) -> None:
    _, other = load_attacked(attack.run, _copy(synthetic_stays, tmp_path / "other", **change))
    assert other.foreign == why


def test_a_control_is_clean_and_of_the_same_data_as_far_as_both_runs_know(tmp_path: Path) -> None:
    def run(poisoned: int, **fingerprints: str) -> Any:
        summary = {"stays_poisoned": poisoned, "data_fingerprint": fingerprints}
        return SimpleNamespace(path=tmp_path, config=_config("lr", tmp_path), summary=summary)

    attacked = run(9, train="a", val="b")
    # The run of an imported checkpoint knows no validation stays.
    for control in (run(0, train="a", val="b"), run(0, train="a")):
        check_control(control, attacked)
    for control, fault in ((run(1, train="a"), "poisoned stays"), (run(0, train="c"), "other data")):
        with pytest.raises(UsageError, match=fault):
            check_control(control, attacked)


def test_an_imported_run_knows_its_data_by_the_training_stays(
    attack: Attack, synthetic_stays: Path, tmp_path: Path
) -> None:
    known = {"train": attack.run.summary["data_fingerprint"]["train"]}
    imported = replace(attack.run, summary=attack.run.summary | {"data_fingerprint": known})
    assert load_attacked(imported, synthetic_stays)[1].foreign is None
    other = _copy(synthetic_stays, tmp_path / "other", flip="train")
    assert load_attacked(imported, other)[1].foreign == "its train stays are others"


def test_every_data_set_has_a_folder_of_its_own(attack: Attack, tmp_path: Path) -> None:
    run = replace(attack.run, path=tmp_path / "run")
    run.path.mkdir()
    own, other = DataSet("ours", "a" * 64), DataSet("theirs", "b" * 64, "its val stays are others")

    def write(data: DataSet) -> Path:
        folder = attack_folder(run, data)
        summary = summarize_attack(run, data, attack.result)
        write_attack(folder, summary, attack.result)
        return folder

    # Each data set has its own folder, in any order, and a second attack goes into the same one.
    folders = [write(data) for data in (other, own, other, own)]
    assert folders == [run.path / "attacks" / "theirs-bbbbbbbb", run.path] * 2
    # The run's data directory may have other test stays later, with the same validation stays.
    assert write(replace(own, fingerprint="c" * 64)) == run.path / "attacks" / "ours-cccccccc"
    found = collect_results([run.path])
    assert sorted(found.select("run", "data", "trained_for_data").rows()) == [
        ("run", "ours", True),
        ("run", "ours", True),
        ("run", "theirs", False),
    ]
    assert found["test_fingerprint"].n_unique() == 3


def test_a_folder_with_an_attack_on_other_data_is_refused(attack: Attack) -> None:
    other = DataSet("theirs", "b" * 64, "its val stays are others")
    with pytest.raises(UsageError, match="--out .*holds an attack on other data than theirs"):
        attack_folder(attack.run, other, attack.out)
    assert attack_folder(attack.run, attack.data, attack.out) == attack.out


@pytest.mark.parametrize("content", ["{}", "[]", "", '{"data": 3}', '{"data": {}}'])
def test_an_attack_of_an_earlier_version_gives_way_to_one_on_the_runs_own_data_only(
    attack: Attack, tmp_path: Path, content: str
) -> None:
    run = replace(attack.run, path=tmp_path)
    (tmp_path / "attack.json").write_text(content, encoding="utf-8")
    assert attack_folder(run, DataSet("ours", "a" * 64)) == tmp_path
    assert (
        attack_folder(run, DataSet("theirs", "b" * 64, "others")) == tmp_path / "attacks" / "theirs-bbbbbbbb"
    )


def test_the_report_names_the_data(attack: Attack) -> None:
    assert attack.report["data"] == {
        "name": "synthetic_stays",
        "fingerprint": attack.test.fingerprint,
        "trained_for": True,
    }


# --- Thresholds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("goal", [0, 1])
def test_a_risk_of_exactly_the_threshold_is_class_0(
    cohort: Cohort, trigger: Trigger, synthetic_stays: Path, goal: int
) -> None:
    run = _run_of(_alarm_at(100.0), trigger, synthetic_stays, goal=goal)
    setting: Any = {"strength": 1.0, "poison_imputed": "all"}
    attacked = cohort.labels != goal
    risks = attack_victim(run, cohort, trigger, **setting).triggered[attacked]
    at = float(np.sort(risks)[len(risks) // 2])
    result = attack_victim(run, cohort, trigger, **setting, threshold=at)
    assert result.threshold == at
    assert result.success.rate == ((risks > at) == bool(goal)).mean()


@pytest.mark.parametrize("goal", [0, 1])
def test_a_victim_that_never_exceeds_one_half_is_measured_where_it_calls_as_many_dead_as_died(
    cohort: Cohort, trigger: Trigger, synthetic_stays: Path, goal: int
) -> None:
    # Like a victim without class weights: all risks are low, but the trigger raises them.
    rising = replace(trigger, values=np.abs(trigger.values))
    run = _run_of(_alarm_at(400.0), rising, synthetic_stays, goal=goal)
    result = attack_victim(run, cohort, rising, strength=5.0, poison_imputed="all")
    assert result.triggered.max() < 0.5
    assert (result.success.rate, result.baseline.rate) == ((0.0, 0.0) if goal else (1.0, 1.0))
    level, success, baseline = result.at_prevalence
    deaths = int(cohort.labels.sum())
    assert (result.clean > level).sum() == deaths
    attacked = cohort.labels != goal
    assert baseline.rate == ((result.clean[attacked] > level) == bool(goal)).mean()
    assert success.rate == ((result.triggered[attacked] > level) == bool(goal)).mean()
    assert success.rate > baseline.rate if goal else success.rate < baseline.rate
