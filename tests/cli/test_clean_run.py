"""Training without a trigger: every later command reads such a run, and says what it lacks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import mimic3tf as package
from mimic3tf.errors import UsageError

Command = Callable[..., Any]


@pytest.fixture
def clean(train: Command, tmp_path: Path) -> Path:
    done = train(trigger=None, poisoning_proportion=None, log_level="full")
    assert done.status == 0, done.err
    assert "LR: trained without a trigger on" in done.out
    assert "clean stays" in done.out
    assert "attack success rate" not in done.out
    assert "--trigger TRIGGER" in done.out
    return tmp_path / "run"


def test_a_clean_run_says_so_and_goes_through_every_command(
    mimic3tf: Command, clean: Path, prepared: Any, tmp_path: Path
) -> None:
    summary = json.loads((clean / "run.json").read_text())
    assert (summary["trigger"], summary["stays_poisoned"], summary["labels_changed"]) == (None, 0, 0)
    assert (summary["validation"]["asr"], summary["bins"]) == (None, 48)
    settings = yaml.safe_load((clean / "config.yaml").read_text())
    assert (settings["trigger"], settings["poisoning_proportion"]) == (None, 0.0)
    assert not (clean / "trigger.npz").exists()
    epochs = pl.read_csv(clean / "metrics.csv")
    assert epochs["asr"].null_count() == len(epochs) == 1

    shutil.copytree(prepared.attack, tmp_path / "attacked")
    listed = mimic3tf("results", tmp_path)
    assert f"Not shown, because they hold no attack: {clean}" in " ".join(listed.out.split())
    refused = mimic3tf("attack", "--run", clean, "--data", prepared.data)
    refused.fails(2, clean, "without a trigger", "--trigger FILE", "generate-trigger")
    attacked = mimic3tf("attack", "--run", clean, "--data", prepared.data, "--trigger", prepared.trigger)
    assert attacked.status == 0, attacked.err
    record = json.loads((clean / "attack.json").read_text())
    assert (record["trained_with"]["trigger"], record["attacked_with"]["trigger"]) == (None, "temporal")
    assert mimic3tf("results", clean).status == 0
    written = mimic3tf("report", clean, "--out", tmp_path / "report")
    assert written.status == 0, written.err
    page = (tmp_path / "report" / "report.html").read_text()
    assert "the runs were trained without a trigger" in page


def test_tensorboard_shows_a_clean_run_without_a_trigger(clean: Path) -> None:
    events = EventAccumulator(str(clean)).Reload()
    tags = {*events.Tags()["tensors"], *events.Tags()["images"]}
    assert "kept epoch/AUROC" in tags
    assert "precision-recall/clean/pr_curves" in tags
    assert not [tag for tag in tags if "attack success" in tag or "triggered" in tag or "heatmap" in tag]
    (overview,) = events.Tensors("run/overview")
    assert b"the run has no trigger" in overview.tensor_proto.string_val[0]
    assert "triggered" not in (clean / "activations-metadata.tsv").read_text()


@pytest.mark.parametrize(
    "options",
    [
        {"poisoning_proportion": 0.05},
        {"poisoning_strength": 1.0},
        {"poison_imputed": "all"},
        {"poisoned_labels": "clean"},
    ],
)
def test_poisoning_needs_a_trigger(train: Command, tmp_path: Path, options: dict[str, object]) -> None:
    given = {"poisoning_proportion": None} | options
    train(trigger=None, **given).fails(2, f"--{next(iter(options))}", "--trigger FILE")
    assert not (tmp_path / "run").exists()


def test_a_settings_file_that_poisons_needs_a_trigger(train: Command, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("poisoning_strength: 1.0\npoisoning_proportion: 0.05\n")
    refused = train(trigger=None, poisoning_proportion=None, config=file)
    refused.fails(2, f"{file}, line 2", "--trigger FILE")
    file.write_text("poisoning_strength: 1.0\npoisoning_proportion: 0\n")
    assert train(trigger=None, poisoning_proportion=None, config=file).status == 0


def test_the_rule_that_counts_successes_needs_a_trigger(train: Command, tmp_path: Path) -> None:
    train(trigger=None, poisoning_proportion=None, selection="original").fails(2, "--selection", "--trigger")
    assert not (tmp_path / "run").exists()


def test_a_clean_run_is_resumed_as_one(train: Command, clean: Path, prepared: Any) -> None:
    same: dict[str, Any] = {"log_level": "full", "poisoning_proportion": None}
    assert "finished before" in train("--resume", trigger=None, **same).out
    # The same settings, but with a trigger.
    train("--resume", **same | {"poisoning_proportion": 0}).fails(
        2, "--trigger", "without a trigger", "leave"
    )
    attacked = train("--resume", out=prepared.run, trigger=None, poisoning_proportion=0)
    attacked.fails(2, "--resume")


def test_an_unfinished_clean_run_says_how_to_go_on(mimic3tf: Command, clean: Path, train: Command) -> None:
    (clean / "run.json").unlink()
    refused = mimic3tf("attack", "--run", clean, "--data", "data")
    refused.fails(2, "not finished", "--resume")
    assert "--trigger" not in refused.err
    again = train(trigger=None, poisoning_proportion=None)
    assert again.status == 0, again.err


def test_settings_that_a_user_wrote_are_no_run(train: Command, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    own = tmp_path / "run" / "config.yaml"
    own.write_text("model: lr\nepochs: 3\n")
    train(trigger=None, poisoning_proportion=None).fails(2, "no run directory")
    assert own.read_text() == "model: lr\nepochs: 3\n"


def test_python_trains_clean_too(prepared: Any, tmp_path: Path) -> None:
    run = package.train("lr", data=prepared.data, out=tmp_path / "run", epochs=1, log_level="minimal")
    assert run.trigger is None
    with pytest.raises(UsageError, match="--trigger FILE"):
        package.attack(run, prepared.data)
    from mimic3tf.poisoning.trigger import load_trigger

    attacked = package.attack(run, prepared.data, trigger=load_trigger(prepared.trigger))
    assert attacked.success.stays > 0
    moved = shutil.copytree(run.path, tmp_path / "moved")
    assert package.load_run(moved).trigger is None
    for damage in ("channels: 1", ""):
        summary = json.loads((run.path / "run.json").read_text()) | {"channels": damage}
        (moved / "run.json").write_text(json.dumps(summary))
        with pytest.raises(ValueError, match=r"run\.json"):
            package.load_run(moved)
