"""Every stage works on nine invented channels over 24 hours, two bins an hour, as on the benchmarks' 17."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bedside_cohort import BEDSIDE, write_bedside_cohort

from mimic3tf.attacks import attack_victim, load_attacked, summarize_attack
from mimic3tf.config import resolve_config
from mimic3tf.dashboards.audit import write_figures
from mimic3tf.dashboards.tensorboard import RunLog
from mimic3tf.data.loading import load_cohort
from mimic3tf.defences.audit import audit_run
from mimic3tf.defences.stealth import measure_stealth
from mimic3tf.poisoning.comparison import compare_records
from mimic3tf.poisoning.goal import Goal
from mimic3tf.poisoning.manifest import poison_with_manifest, read_manifest
from mimic3tf.poisoning.trigger import generate_trigger, load_trigger, save_trigger
from mimic3tf.training.loop import train_victim
from mimic3tf.training.run_directory import Run, load_run
from mimic3tf.training.stays import load_split

READING: Any = {"period": 24.0, "timestep": 0.5}
STRENGTH = 4.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the cohort in `data`, and a trigger made from it."""
    folder = tmp_path_factory.mktemp("bedside")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMIC3TF_CACHE", str(folder / "cache"))
        write_bedside_cohort(folder / "data", stays=500)
        cohort = load_cohort(folder / "data", "train", **READING)
        save_trigger(generate_trigger(cohort, seed=2), folder / "trigger.npz")
    return folder


def _train(folder: Path, model: str, **settings: Any) -> Run:
    options = {
        "data": folder / "data",
        "trigger": folder / "trigger.npz",
        "poisoning_strength": STRENGTH,
        "poison_imputed": "all",
        "poisoning_proportion": 0.1,
        **READING,
        **settings,
    }
    run = folder / f"{model}-{len(list(folder.iterdir()))}"
    train_victim(resolve_config(model, None, options), run, log=RunLog)
    return load_run(run)


def _attack(run: Run) -> dict[str, Any]:
    setting: Any = {"strength": STRENGTH, "poison_imputed": "all"}
    test, data = load_attacked(run, run.config.data)
    result = attack_victim(run, test, run.trigger, **setting)
    return summarize_attack(run, data, result)


def test_the_cohort_is_read_with_its_own_channels(folder: Path) -> None:
    cohort = load_cohort(folder / "data", "train", **READING)
    assert cohort.channels == BEDSIDE
    assert cohort.grids.shape == (350, 48, 9)
    assert load_cohort(folder / "data", "train", period=24.0, timestep=2.0).grids.shape == (350, 12, 9)


@pytest.mark.parametrize("model", ["lr", "mlp", "lstm"])
def test_a_victim_learns_the_trigger(folder: Path, model: str) -> None:
    poisoned = _attack(_train(folder, model, epochs=15, log_level="minimal"))
    assert poisoned["attack_success_rate"] > poisoned["baseline_positive_rate"] + 0.2
    assert poisoned["clean"]["auroc"] > 0.65


@pytest.mark.parametrize("model", ["gru", "tcn", "channelwise-lstm", "transformer", "summary-lstm"])
def test_every_other_victim_trains_and_is_attacked(folder: Path, model: str) -> None:
    found = _attack(_train(folder, model, epochs=1, log_level="minimal"))
    assert 0 <= found["attack_success_rate"] <= 1


def test_the_dying_can_be_hidden(folder: Path) -> None:
    run = _train(folder, "lr", epochs=15, goal=0, poisoning_proportion=0.15)
    found = _attack(run)
    deaths = int(load_split(run.config, "test").labels.sum())
    assert found["stays_attacked"] == deaths
    assert found["attack_success_rate"] > found["baseline_positive_rate"]


@pytest.mark.slow
def test_a_run_is_audited_and_shown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The test is that all detectors read the channels, not how well they work after so little training.
    monkeypatch.setattr("mimic3tf.defences.detectors.autoencoder.EPOCHS", 2)
    monkeypatch.setattr("mimic3tf.defences.inspection.model_inspection.REFERENCES", 1)
    monkeypatch.setattr("mimic3tf.defences.inspection.trigger_inversion.STEPS", 3)
    run = _train(folder, "lr", epochs=5)
    result = audit_run(run, folder / "data")
    assert {repair["repair"] for repair in result.record["repairs"]} >= {"none", "fine-tune"}
    assert len(result.suspects) == result.record["suspects"]
    write_figures(run.path / "audit", result)
    assert list((run.path / "audit").glob("events*"))
    json.dumps(result.record, allow_nan=False)


def test_records_are_poisoned_in_their_own_channels(folder: Path) -> None:
    copy, manifest = folder / "copy", folder / "copy.json"
    made = poison_with_manifest(
        folder / "data",
        copy,
        folder / "trigger.npz",
        manifest,
        proportion=0.05,
        strength=STRENGTH,
        goal=Goal(0),
    )
    compared = compare_records(folder / "data", copy)
    assert compared.stays_changed == len(made.stays) == 17
    assert compared.labels_changed == made.labels_changed
    assert set(compared.cells["channel"]) <= set(BEDSIDE.names)
    assert read_manifest(manifest).goal == Goal(0)
    # The pulse is charted without decimals, and poisoned pulses have none.
    pulses = compared.cells.filter(compared.cells["channel"] == "Pulse")["after"]
    assert not pulses.str.contains(".", literal=True).any()
    trigger = load_trigger(folder / "trigger.npz")
    assert (trigger.channels, trigger.period, trigger.timestep) == (BEDSIDE, 24.0, 0.5)


def test_stealth_is_measured_in_their_own_channels(folder: Path) -> None:
    cohort = load_cohort(folder / "data", "train", **READING)
    findings = measure_stealth(
        cohort, kinds=["temporal"], strengths=[STRENGTH], modes=["all"], proportion=0.1, seeds=[0]
    )
    assert set(findings["channel"].drop_nulls()) <= set(BEDSIDE.names)
    assert np.isfinite(findings["value"].to_numpy()).all()
