"""What an audit looks at: the stays as the victim saw them, and the label that the attacker wanted."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from mimic3tf.config import resolve_config
from mimic3tf.data.loading import load_cohort
from mimic3tf.defences.evidence import gather_evidence
from mimic3tf.errors import UsageError
from mimic3tf.poisoning.goal import Goal
from mimic3tf.poisoning.manifest import Manifest, poison_with_manifest, read_manifest
from mimic3tf.poisoning.trigger import generate_trigger, save_trigger
from mimic3tf.standardization import Standardization
from mimic3tf.training.run_directory import Run
from mimic3tf.training.stays import load_split


@pytest.fixture
def data(synthetic_stays: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(synthetic_stays, tmp_path / "data"))


def run_on(data: Path, **settings: Any) -> Run:
    """A run whose model nobody asks."""
    config = resolve_config("lr", None, {"data": data, "trigger": data / "t.npz", **settings})
    cohort = load_split(config, "train")
    trigger, nothing = generate_trigger(cohort, seed=1), cast(Any, None)
    summary = {"data_fingerprint": {"train": cohort.fingerprint}}
    as_is = Standardization(np.zeros(714), np.ones(714))
    return Run(Path("a run"), config, trigger, nothing, as_is, summary)


def poisoned_copy(data: Path, goal: Goal) -> tuple[Path, Manifest]:
    folder = data.parent
    save_trigger(generate_trigger(load_cohort(data, "train"), seed=1), folder / "trigger.npz")
    manifest = folder / "copy.manifest.json"
    setting: Any = {"proportion": 0.25, "strength": 2.0, "goal": goal}
    poison_with_manifest(data, folder / "copy", folder / "trigger.npz", manifest, **setting)
    return folder / "copy", read_manifest(manifest)


@pytest.mark.parametrize("goal", [0, 1])
def test_the_goal_of_a_run_is_the_suspected_label(data: Path, goal: int) -> None:
    evidence, truth = gather_evidence(run_on(data, goal=goal, poisoning_proportion=0.25), data)
    assert evidence.suspected == evidence.victim.config.goal == goal
    assert (evidence.labels[truth.poisoned] == goal).all()
    assert truth.poisoned.sum() == 4


@pytest.mark.parametrize("goal", [0, 1])
def test_of_a_poisoned_copy_the_goal_is_that_of_its_manifest(data: Path, goal: int) -> None:
    copy, manifest = poisoned_copy(data, Goal(goal))
    # The victim's owner knows of no attack, and sets no goal.
    evidence, truth = gather_evidence(run_on(copy, poisoning_proportion=0.0), copy, manifest=manifest)
    assert evidence.suspected == evidence.victim.config.goal == goal
    assert evidence.stays[truth.poisoned].tolist() == manifest.stays
    assert (evidence.labels[truth.poisoned] == goal).all()


def test_stays_that_the_victim_was_not_trained_on_are_refused(data: Path) -> None:
    copy, manifest = poisoned_copy(data, Goal(1))
    with pytest.raises(UsageError, match="was trained on other stays"):
        gather_evidence(run_on(data, poisoning_proportion=0.0), copy, manifest=manifest)
    with pytest.raises(UsageError, match="is not of the stays in"):
        gather_evidence(run_on(data, poisoning_proportion=0.0), data, manifest=manifest)


def test_stays_are_gathered_at_the_runs_own_period_and_timestep(data: Path) -> None:
    evidence, _ = gather_evidence(run_on(data, poisoning_proportion=0.25, timestep=2.0, period=47.0), data)
    assert evidence.grids.shape == (16, 24, 17)
    assert evidence.trusted.grids.shape == (4, 24, 17)
    assert (evidence.trusted.period, evidence.trusted.timestep) == (47.0, 2.0)
