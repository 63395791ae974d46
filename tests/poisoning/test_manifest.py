"""What is told of a poisoned copy, by this version and by earlier ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic3tf.channels import MIMIC3, ChannelSet
from mimic3tf.data.channels_file import channels_text
from mimic3tf.data.listfiles import read_listfile
from mimic3tf.errors import DataError, UsageError
from mimic3tf.poisoning.goal import Goal
from mimic3tf.poisoning.manifest import poison_with_manifest, read_manifest
from mimic3tf.poisoning.trigger import Trigger, save_trigger
from mimic3tf.tasks.registry import MORTALITY


@pytest.fixture
def trigger_file(trigger_of: Callable[..., Trigger], tmp_path: Path) -> Path:
    path = tmp_path / "trigger.npz"
    save_trigger(trigger_of(np.ones((48, len(MIMIC3)))), path)
    return path


@pytest.fixture
def written(synthetic_stays: Path, trigger_file: Path, tmp_path: Path) -> Callable[..., Path]:
    """Poison half of the training stays; gives the manifest."""

    def poison(**options: Any) -> Path:
        manifest = tmp_path / "copy.manifest.json"
        setting: Any = {"proportion": 0.5, "strength": 2.0, **options}
        poison_with_manifest(synthetic_stays, tmp_path / "copy", trigger_file, manifest, **setting)
        return manifest

    return poison


@pytest.mark.parametrize("target", [0, 1])
def test_the_manifest_tells_the_goal_and_every_label_that_it_changed(
    written: Callable[..., Path], synthetic_stays: Path, tmp_path: Path, target: int
) -> None:
    manifest = written(goal=Goal(target))
    before, after = (
        dict(read_listfile(folder / "train_listfile.csv", MORTALITY))
        for folder in (synthetic_stays, tmp_path / "copy")
    )
    contents = json.loads(manifest.read_text())
    assert contents["goal"] == target
    assert len(contents["stays"]) == contents["stays_poisoned"] == len(before) // 2
    for told in contents["stays"]:
        assert told["label_before"] == before[told["stay"]]
        assert told["label_after"] == after[told["stay"]] == target
    assert contents["labels_changed"] == sum(before[name] != after[name] for name in before) > 0
    read = read_manifest(manifest)
    assert read.goal == Goal(target)
    assert read.stays == [told["stay"] for told in contents["stays"]]


def test_a_manifest_that_tells_no_goal_is_one_of_goal_1(written: Callable[..., Path]) -> None:
    manifest = written(goal=Goal(0))
    contents = json.loads(manifest.read_text())
    del contents["goal"]
    manifest.write_text(json.dumps(contents))
    assert read_manifest(manifest).goal == Goal(1)


@pytest.mark.parametrize("goal", [2, -1, 0.5, "1", None, [], {}])
def test_a_goal_that_is_no_label_is_refused(written: Callable[..., Path], goal: Any) -> None:
    manifest = written()
    contents = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(contents | {"goal": goal}))
    with pytest.raises(DataError, match="not a manifest, or damaged"):
        read_manifest(manifest)


def test_data_with_other_channels_than_the_triggers_are_not_copied(
    own_channels: ChannelSet, trigger_file: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    (data / "train").mkdir(parents=True)
    (data / "channels.yaml").write_text(channels_text(own_channels))
    (data / "train_listfile.csv").write_text("stay,y_true\na.csv,0\n")
    (data / "train" / "a.csv").write_text("Hours,Lactate,Heart Rate,Consciousness\n1,1.5,80,alert\n")
    with pytest.raises(UsageError, match="made for other channels than the data has"):
        poison_with_manifest(
            data, tmp_path / "copy", trigger_file, tmp_path / "m.json", proportion=1.0, strength=1.0
        )
    assert not (tmp_path / "copy").exists()
    assert not (tmp_path / "m.json").exists()
