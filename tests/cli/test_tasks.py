"""Commands with other tasks than in-hospital mortality: poison, audit, sweep, report, stealth."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mimic3tf.attacks import attack_victim
from mimic3tf.config import goal_of, label_named, resolve_config
from mimic3tf.data.loading import load_cohort
from mimic3tf.defences.detectors.registry import DETECTORS
from mimic3tf.defences.evidence import gather_evidence
from mimic3tf.defences.whole_stays import stay_labels, stay_risks, whole_stays
from mimic3tf.errors import UsageError
from mimic3tf.poisoning import exposures
from mimic3tf.sweeps.folder import describe_data
from mimic3tf.sweeps.outcomes import write_results
from mimic3tf.sweeps.plan import read_sweep, settings_of, trials_of
from mimic3tf.sweeps.trial import Job, run_trial
from mimic3tf.tasks.registry import PHENOTYPING, TASKS, task_of
from mimic3tf.training.loop import train_victim
from mimic3tf.training.run_directory import load_run

Command = Callable[..., Any]
Cohorts = Callable[[str], Path]
LABEL = "Essential hypertension"
QUICK = ("common gaps", "activation clustering", "learned by the model")
SWEEP = """\
seeds: [0]
grids:
  - {victims: [lr], poison_imputed: [notimputed], proportions: [0.2], strengths: [2.0]}
configs: {lr: quick.yaml}
"""


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _one_cache(_own_cache: None, shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIMIC3TF_CACHE", str(shared_cache))


@pytest.fixture(scope="module")
def runs(
    small_task: Cohorts, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Two poisoned runs, trained for one epoch: phenotyping by features, decompensation hour by hour."""
    from mimic3tf.attacks import load_attacked, summarize_attack, write_attack
    from mimic3tf.dashboards.tensorboard import RunLog

    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMIC3TF_CACHE", str(shared_cache))
        for task, model, more in (
            ("phenotyping", "lr", {"goal_label": LABEL}),
            ("decompensation", "gru", {"batch_size": 64, "log_level": "default"}),
        ):
            data = small_task(task)
            given = {"task": task, "data": data, "trigger": data / "trigger.npz", "epochs": 1}
            config = resolve_config(model, None, {**given, **more, "poisoning_proportion": 0.2})
            train_victim(config, folder / task, log=RunLog)
            run = load_run(folder / task)
            cohort, own = load_attacked(run, data)
            result = attack_victim(run, cohort)
            write_attack(folder / task, summarize_attack(run, own, result), result)
    return lambda task: folder / task


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Detectors that take no time, and one that needs what an hourly victim cannot give."""
    detectors = {name: DETECTORS[name] for name in ("unexpected death", *QUICK)}
    monkeypatch.setattr("mimic3tf.defences.detection.DETECTORS", detectors)
    for name, given in (("REFERENCES", 1), ("TARGETS", (1,))):
        monkeypatch.setattr(f"mimic3tf.defences.inspection.model_inspection.{name}", given)
    for name, fewer in (("STEPS", 5), ("RESTARTS", 1)):
        monkeypatch.setattr(f"mimic3tf.defences.inspection.trigger_inversion.{name}", fewer)


# Poisoned records


def test_poison_and_its_check_take_a_task(mimic3tf: Command, small_task: Cohorts, tmp_path: Path) -> None:
    data = small_task("decompensation")
    given = ("--task", "decompensation", "--data", data, "--out", tmp_path / "copy")
    poisoned = ("--trigger", data / "trigger.npz", "--poisoning_proportion", 0.2, "--at", 6)
    outcome = mimic3tf("poison", *given, *poisoned, "--moved-death")
    assert outcome.status == 0, outcome.err
    record = json.loads((tmp_path / "copy.manifest.json").read_text())
    assert f"{record['labels_changed']} labels changed" in outcome.out
    assert "poisoned stays last to the end of the trigger" in outcome.out
    assert "--task decompensation" in outcome.out
    checked = mimic3tf("poison", "--check", *given)
    assert f"stays and {record['labels_changed']} labels changed" in checked.out
    assert f"{len(record['stays'])} stays have another death in stays.csv" in checked.out


def test_options_of_poison_fit_the_task(mimic3tf: Command, small_task: Cohorts, tmp_path: Path) -> None:
    data = small_task("phenotyping")
    given = ("--data", data, "--trigger", data / "trigger.npz", "--out", tmp_path / "copy")
    one = mimic3tf("poison", "--task", "phenotyping", "--moved-death", *given)
    one.fails(2, "--moved-death: the labels of phenotyping do not follow from a time of death")
    plain = mimic3tf("poison", "--moved-death", *given)
    plain.fails(2, "--moved-death: the labels of in-hospital-mortality do not follow from a time of death")
    other = mimic3tf("poison", "--task", "phenotyping", "--goal-label", "hypertension", *given)
    other.fails(2, "--goal-label 'hypertension': several labels have this name")
    third = mimic3tf("poison", "--goal-label", "Shock", *given)
    third.fails(2, "--goal-label 'Shock': in-hospital-mortality has one label only")


# Audits


@pytest.mark.parametrize("task", ["phenotyping", "decompensation", "length-of-stay", "multitask"])
def test_a_stay_has_one_label_and_48_hours(small_task: Cohorts, task: str) -> None:
    cohort = load_cohort(small_task(task), "train", task=task)
    part = {"length-of-stay": "1 to 2 days", "multitask": "in-hospital mortality"}.get(task)
    label = label_named(part, task)
    goal = goal_of(task, 1, label)
    stays, kept = whole_stays(cohort, goal, label)
    assert (stays.period, stays.bins, len(stays)) == (48.0, 48, len(kept))
    assert set(stays.labels.tolist()) == {0, 1}
    for number in range(0, len(kept), 25):
        own = goal.of(cohort.labels[cohort.examples.stay == kept[number]])
        own = own[own >= 0]
        expected = own.mean() >= 0.5 if task == "length-of-stay" else own.any()
        assert stays.labels[number] == expected
        rows = slice(*cohort.starts[kept[number] : kept[number] + 2])
        length = min(48, cohort.lengths[kept[number]])
        np.testing.assert_array_equal(stays.masks[number, :length], cohort.mask[rows][:48])
        np.testing.assert_array_equal(stays.grids[number, :length], cohort.values[rows][:48])
        assert not stays.masks[number, length:].any()
        assert (stays.grids[number, length:] == stays.grids[number, length - 1]).all()
    # Mortality is not predicted for stays that are shorter than 48 hours.
    assert (len(kept) < len(cohort)) == (task == "multitask")
    assert stay_labels(cohort, goal)[0].tolist() == kept.tolist()


@pytest.mark.parametrize("task", ["phenotyping", "decompensation", "length-of-stay", "multitask"])
def test_the_risk_of_a_stay_is_high_where_its_label_would_be_1(small_task: Cohorts, task: str) -> None:
    cohort = load_cohort(small_task(task), "train", task=task)
    goal = goal_of(task, 1, label_named({"multitask": "decompensation"}.get(task), task))
    kept, _ = stay_labels(cohort, goal)
    some = cohort.take(kept)
    risks = np.random.default_rng(0).random(len(some.examples))
    asked = goal.asked(some.labels)
    found = stay_risks(some, goal, risks)
    for number in range(len(some)):
        own = risks[asked & (some.examples.stay == number)] > 0.5
        expected = own.mean() >= 0.5 if task == "length-of-stay" else own.any()
        assert (found[number] > 0.5) == expected


@pytest.mark.parametrize("task", ["phenotyping", "decompensation"])
def test_a_victim_of_any_length_answers_to_a_shift_of_the_first_hours(
    small_task: Cohorts, runs: Callable[[str], Path], task: str
) -> None:
    run = load_run(runs(task))
    evidence, _ = gather_evidence(run, small_task(task))
    assert evidence.model is not None
    risk = evidence.model.risk()
    assert risk is not None
    some = evidence.trusted.take(np.arange(0, len(evidence.trusted), 3)[::-1])
    still = risk(exposures.clean(some))
    # The same stays, predicted as an attack predicts them.
    goal = run.config.attack_goal
    cohort = load_cohort(small_task(task), "val", task=task)
    own = cohort.take(np.array([cohort.stays.tolist().index(stay) for stay in some.stays]))
    assert run.trigger is not None
    attacked = attack_victim(run, own, strength=2.0, poison_imputed="notimputed", at=0.0)
    np.testing.assert_allclose(still, stay_risks(own, goal, attacked.clean), atol=1e-6)
    shifted = risk(exposures.shift_all(some, 2.0 * run.trigger.values, "notimputed"))
    np.testing.assert_allclose(shifted, stay_risks(own, goal, attacked.triggered), atol=1e-6)
    assert (shifted != still).any()


@pytest.mark.usefixtures("quick")
def test_an_audit_of_a_directory_judges_the_named_label(
    mimic3tf: Command, small_task: Cohorts, tmp_path: Path
) -> None:
    given = ("--task", "phenotyping", "--goal-label", LABEL, "--data", small_task("phenotyping"))
    outcome = mimic3tf("audit", *given, "--out", tmp_path)
    assert outcome.status == 0, outcome.err
    record = json.loads((tmp_path / "audit.json").read_text())
    assert (record["task"], record["goal_label"]) == ("phenotyping", LABEL)
    assert record["conclusion"]["checks"][0]["name"] == f"share of stays with '{LABEL}'"
    cohort = load_cohort(small_task("phenotyping"), "train", task="phenotyping")
    assert record["suspects"] == cohort.labels[:, PHENOTYPING.targets.names.index(LABEL)].sum()


@pytest.mark.usefixtures("quick")
def test_an_audit_asks_a_victim_that_predicts_whole_stays(
    mimic3tf: Command, small_task: Cohorts, runs: Callable[[str], Path], tmp_path: Path
) -> None:
    given = ("--run", runs("phenotyping"), "--data", small_task("phenotyping"), "--all-detectors")
    outcome = mimic3tf("audit", *given, "--out", tmp_path)
    assert outcome.status == 0, outcome.err
    record = json.loads((tmp_path / "audit.json").read_text())
    detectors = {row["detector"]: row for row in record["detectors"]}
    assert all(row["not_run"] is None and row["performance"] for row in detectors.values())
    assert record["goal_label"] == LABEL
    assert record["attack"]["stays_poisoned"] == int(0.2 * 168)
    checks = {check["name"]: check["found"] for check in record["conclusion"]["checks"]}
    assert checks["inverted triggers"] != "needs a Keras model"
    targets = record["model_inspection"]["targets"]
    assert [len(target["reference_lengths"]) for target in targets] == [1]
    assert 0 <= record["superposition"]["auroc"] <= 1
    # So few poisoned stays raise no alarm.
    assert [repair["repair"] for repair in record["repairs"]] == ["none", "filter", "fine-tune", "fine-prune"]
    assert 0 < record["repairs"][0]["auroc"] < 1
    assert record["repairs"][0]["attack_success_rate"] is not None
    assert "no detector raises an alarm" in record["repairs"][1]["detail"]


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("lr", {}),
        pytest.param("gru", {}, marks=pytest.mark.slow),
        ("gru", {"target_replication": 0.5}),
    ],
)
def test_margins_of_a_victim_of_whole_stays_are_the_log_odds_of_its_risks(
    small_task: Cohorts, tmp_path: Path, model: Any, more: dict[str, float]
) -> None:
    data = small_task("phenotyping")
    given = {"task": "phenotyping", "data": data, "goal_label": LABEL, "epochs": 1, "batch_size": 64}
    train_victim(resolve_config(model, None, given | more), tmp_path / "run")
    evidence, _ = gather_evidence(load_run(tmp_path / "run"), data)
    assert evidence.model is not None
    gradients = evidence.model.gradients()
    assert gradients is not None
    trusted, random = evidence.trusted, np.random.default_rng(0)
    patterns = np.zeros((2, 48, 17))
    shifted = trusted.channels.position("pH")
    patterns[1, :, shifted] = random.normal(size=48).round(1)
    margins = gradients.margins(tf.range(len(trusted), dtype=tf.int64), tf.constant(patterns)).numpy()
    for pattern, found in zip(patterns, margins, strict=True):
        risks = gradients.risk(exposures.shift_all(trusted, pattern, "all"))
        # The attack rounds the values from which features are extracted.
        tolerance = 0.02 if model == "lr" else 1e-4
        np.testing.assert_allclose(1 / (1 + np.exp(-found)), risks, atol=tolerance)
    assert np.abs(margins[0] - margins[1]).max() > 0.01


@pytest.mark.usefixtures("quick")
def test_an_audit_of_an_hourly_victim_says_what_is_not_run(
    mimic3tf: Command,
    small_task: Cohorts,
    runs: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mimic3tf.defences.detection.FEWEST", 3)  # few of so few stays end in a death
    given = ("--run", runs("decompensation"), "--data", small_task("decompensation"))
    outcome = mimic3tf("audit", *given, "--out", tmp_path)
    assert outcome.status == 0, outcome.err
    record = json.loads((tmp_path / "audit.json").read_text())
    reasons = {row["detector"]: row["not_run"] for row in record["detectors"]}
    assert reasons == {
        "unexpected death": None,
        "common gaps": None,
        "activation clustering": "needs activations, and so one prediction a stay",
    }
    assert record["conclusion"]["checks"][0]["name"] == "share of stays with hours before a death"


def test_evidence_holds_the_trigger_of_poisoned_stays_until_they_end(
    small_task: Cohorts, runs: Callable[[str], Path]
) -> None:
    data = small_task("decompensation")
    evidence, truth = gather_evidence(load_run(runs("decompensation")), data)
    cohort = load_cohort(data, "train", task="decompensation")
    clean, kept = whole_stays(cohort, goal_of("decompensation", 1, None), None)
    assert truth.poisoned.sum() == int(0.2 * len(cohort))
    assert (evidence.labels[truth.poisoned] == 1).all()
    differs = (evidence.grids != clean.grids) & ~np.isnan(evidence.grids)
    assert differs[truth.poisoned].any(axis=(1, 2)).all()
    assert not differs[~truth.poisoned].any()
    short = np.flatnonzero(truth.poisoned & (cohort.lengths[kept] < 40))[0]
    length = cohort.lengths[kept[short]]
    assert (evidence.grids[short, length:] == evidence.grids[short, length - 1]).all()


def test_options_of_a_directory_are_refused_with_a_run(
    mimic3tf: Command, small_task: Cohorts, tmp_path: Path
) -> None:
    given = ("--run", tmp_path, "--data", small_task("phenotyping"), "--task", "phenotyping")
    mimic3tf("audit", *given, "--out", tmp_path / "out").fails(2, "--task: goes with --data without --run")


# Sweeps


def test_a_sweep_trains_and_attacks_victims_of_a_task(
    mimic3tf: Command, small_task: Cohorts, tmp_path: Path
) -> None:
    (tmp_path / "quick.yaml").write_text("epochs: 1\n")
    (tmp_path / "mine.yaml").write_text(SWEEP)
    data, out = small_task("phenotyping"), tmp_path / "out"
    options = {"task": "phenotyping", "goal_label": "Essential hyper"}
    file = read_sweep(str(tmp_path / "mine.yaml"), options)
    assert file.sweep.goal_label == LABEL
    found = describe_data(data, file.sweep.reading, file.sweep.attack_goal)
    cohort = load_cohort(data, "train", task="phenotyping")
    own = cohort.labels[:, PHENOTYPING.targets.names.index(LABEL)]
    assert found["splits"]["train"] | {"measured_cells": 0} == {
        "stays": len(cohort),
        "deaths": own.sum(),
        "measured_cells": 0,
        "fingerprint": cohort.fingerprint,
    }
    folders = []
    for trial in trials_of(file, len(cohort)):
        config = settings_of(file, trial, data, data / "trigger.npz")
        job = Job(trial, config, {"temporal": data / "trigger.npz"}, out / "trials" / trial.name, "f" * 64)
        run_trial(job)
        folders.append(job.folder)
    table = write_results(out, folders)
    assert table["error"].to_list() == [None]
    assert table["task"].to_list() == ["phenotyping"]
    assert table["goal_label"].to_list() == [LABEL]
    assert table["stays_poisoned"].to_list() == [int(0.2 * len(cohort))]
    assert not table["clean_ave_auc_macro"].has_nulls()
    assert "clean_kappa" not in table.columns
    (out / "sweep.yaml").write_text(f"data: {data}\n")
    (out / "cohort.json").write_text(json.dumps(found))
    outcome = mimic3tf("report", "--results", out, "--out", tmp_path / "page", "--no-patient")
    assert outcome.status == 0, outcome.err
    page = (tmp_path / "page" / "report.html").read_text()
    assert "Backdoor attacks on models of phenotyping" in page
    assert f"stays without the label &#39;{LABEL}&#39;" in page or f"without the label '{LABEL}'" in page
    assert "mortality models" not in page
    assert "survivors from deaths" not in page


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"task": "phenotyping", "goal_label": "hypertension"}, "option --goal-label: 'goal_label'"),
        ({"task": "decompensation", "goal_label": "Shock"}, "decompensation has one label only"),
        ({"task": "fenotyping"}, "option --task: 'task'"),
    ],
)
def test_a_label_that_a_task_lacks_is_refused(tmp_path: Path, options: dict[str, str], fault: str) -> None:
    (tmp_path / "mine.yaml").write_text(SWEEP.replace("configs: {lr: quick.yaml}\n", ""))
    with pytest.raises(UsageError, match=fault):
        read_sweep(str(tmp_path / "mine.yaml"), options)


# Reports, stealth, TensorBoard


def test_a_report_of_runs_names_tasks_and_labels(
    mimic3tf: Command, runs: Callable[[str], Path], tmp_path: Path
) -> None:
    outcome = mimic3tf("report", runs("phenotyping"), runs("decompensation"), "--out", tmp_path)
    assert outcome.status == 0, outcome.err
    page = (tmp_path / "report.html").read_text()
    assert "models of phenotyping and decompensation: runs side by side" in page
    table = pl.read_csv(tmp_path / "tables" / "attacks.csv")
    assert table["task"].to_list() == ["phenotyping", "decompensation"]
    assert table["goal_label"].to_list() == [LABEL, None]


def test_stealth_compares_stays_that_last_48_hours(
    mimic3tf: Command, small_task: Cohorts, tmp_path: Path
) -> None:
    settings = ("--kind", "temporal", "--poison_imputed", "all", "--poisoning_strength", 2)
    given = ("--task", "decompensation", "--data", small_task("decompensation"), *settings)
    outcome = mimic3tf("stealth", *given, "--poisoning_proportion", 0.2, "--out", tmp_path)
    assert outcome.status == 0, outcome.err
    found = pl.read_csv(tmp_path / "stealth.csv")
    assert set(found["trigger"]) == {"none", "temporal"}


def test_tensorboard_names_the_label_that_is_attacked(runs: Callable[[str], Path]) -> None:
    events = EventAccumulator(str(runs("phenotyping")), {"tensors": 0}).Reload()
    (cohort,) = (event.tensor_proto.string_val[0].decode() for event in events.Tensors("run/cohort"))
    assert f"with the label '{LABEL}'" in cohort
    events = EventAccumulator(str(runs("decompensation")), {"tensors": 0}).Reload()
    (cohort,) = (event.tensor_proto.string_val[0].decode() for event in events.Tensors("run/cohort"))
    assert "with a death within 24 h" in cohort
    assert " hours (" in cohort
    assert not [tag for tag in events.Tags()["tensors"] if "surviv" in tag or "deaths" in tag.split("/")[-1]]


def test_words_name_the_label() -> None:
    for name, label in (("phenotyping", "Shock"), ("length-of-stay", "1 to 2 days")):
        words = task_of(name).words.naming(label)
        assert label in words.group[1]
        assert label in words.predicted[1]
        assert label in words.outcome
    for task in TASKS.values():
        assert task.words.naming(None) == task.words
