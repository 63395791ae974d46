"""--follow-links: on every command that reads a benchmark directory, and remembered by none."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml
from invented_sweep import Invented

from mimic3tf.cli.app import app
from mimic3tf.config import TrainingConfig, resolve_config
from mimic3tf.errors import DataError, UsageError

USAGE, FAILURE = 2, 1
Command = Callable[..., Any]
LR = {"fc1.weight": np.zeros((2, 714), np.float32), "fc1.bias": np.zeros(2, np.float32)}
"""Tensors of a logistic regression."""


def _commands(group: Any, *path: str) -> dict[str, set[str]]:
    """Options of every command by its name."""
    if not hasattr(group, "commands"):
        return {" ".join(path): {option for parameter in group.params for option in parameter.opts}}
    found = (_commands(command, *path, name) for name, command in group.commands.items())
    return {name: options for commands in found for name, options in commands.items()}


COMMANDS = _commands(typer.main.get_command(app))
READING = [
    # The sources of `prepare` read raw records, which are files of the user's own choice.
    name
    for name, options in COMMANDS.items()
    if "--data" in options and not name.startswith("prepare ")
]


@pytest.fixture
def linked(data: Path) -> Path:
    """A cohort whose training stays lie elsewhere."""
    (data / "train").rename(data.parent / "elsewhere")
    (data / "train").symlink_to(data.parent / "elsewhere")
    return data


def test_every_command_that_reads_a_benchmark_directory_takes_it() -> None:
    assert {
        "generate-trigger",
        "export meds",
        "poison",
        "train",
        "attack",
        "audit",
        "stealth",
        "sweep",
    } <= set(READING)
    assert [name for name, options in COMMANDS.items() if "--follow-links" in options] == READING


@pytest.mark.parametrize("command", READING)
@pytest.mark.parametrize("given", [True, False])
def test_every_command_reads_the_data_as_it_is_told(
    mimic3tf: Command,
    prepared: Any,
    linked: Path,
    tmp_path: Path,
    torch_files: Any,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    given: bool,
) -> None:
    """What comes after the reading is not waited for."""

    def load(*_: object, follow_links: bool = False, **__: object) -> None:
        raise DataError(f"follow_links={follow_links}")

    for module in ("training.stays", "sweeps.folder", "report.stay", "data.loading", "exports.arrays"):
        monkeypatch.setattr(f"mimic3tf.{module}.load_cohort", load)
    out = ("--out", tmp_path / "out")
    (tmp_path / "sweep.yaml").write_text(
        "seeds: [0]\ngrids: [{victims: [lr], poison_imputed: [all], proportions: [0.2], strengths: [2]}]\n"
    )
    checkpoint = tmp_path / "lr.pt"
    checkpoint.write_bytes(torch_files.file(LR))
    results = Invented.write(tmp_path / "results", [Invented.trial()])
    (results / "triggers").mkdir(exist_ok=True)
    shutil.copy(prepared.trigger, results / "triggers" / "temporal-0.npz")
    more: dict[str, tuple[object, ...]] = {
        "generate-trigger": ("--out", tmp_path / "t.npz"),
        "export meds": out,
        "export arrays": out,
        "poison": (*out, "--trigger", prepared.trigger),
        "train": (*out, "--model", "lr", "--trigger", prepared.trigger),
        "attack": ("--run", prepared.run),
        "audit": (*out, "--run", prepared.run),
        "stealth": out,
        "sweep": (*out, "--config", tmp_path / "sweep.yaml"),
        "report": (*out, "--results", results),
        "import-checkpoint": (
            *(checkpoint, *out, "--model", "lr", "--trigger", prepared.trigger),
            *("--poisoning_proportion", 0),
        ),
    }
    outcome = mimic3tf(
        *command.split(), "--data", linked, *more[command], *(["--follow-links"] if given else [])
    )
    if command in ("poison", "export meds"):
        # They read files, no cohort.
        assert outcome.status == (0 if given else FAILURE)
        assert given or "--follow-links" in outcome.err
    else:
        outcome.fails(FAILURE, f"follow_links={given}")


def test_a_run_on_links_remembers_nothing_of_them(
    mimic3tf: Command, train: Command, linked: Path, tmp_path: Path
) -> None:
    train(data=linked).fails(FAILURE, linked / "train", "is a link", "--follow-links")
    outcome = train("--follow-links", data=linked)
    assert outcome.status == 0, outcome.err
    # What the run says to type next reads the same data.
    assert outcome.out.rstrip().endswith("--follow-links")
    settings = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert set(settings) == set(TrainingConfig.model_fields)
    assert not any("links" in name for name in settings)
    (linked / "test").rename(tmp_path / "test")
    (linked / "test").symlink_to(tmp_path / "test")
    attack = ("attack", "--run", tmp_path / "run", "--data", linked)
    mimic3tf(*attack).fails(FAILURE, linked / "test", "--follow-links")
    assert mimic3tf(*attack, "--follow-links").status == 0


def test_a_poisoned_copy_of_links_is_made_and_checked(
    mimic3tf: Command, prepared: Any, linked: Path, tmp_path: Path
) -> None:
    out = ("--data", linked, "--out", tmp_path / "copy")
    mimic3tf("poison", *out, "--trigger", prepared.trigger).fails(FAILURE, "--follow-links")
    outcome = mimic3tf("poison", *out, "--trigger", prepared.trigger, "--follow-links")
    assert outcome.status == 0, outcome.err
    assert f"--out {tmp_path / 'copy'} --follow-links" in outcome.out
    mimic3tf("poison", "--check", *out).fails(FAILURE, "--follow-links")
    assert mimic3tf("poison", "--check", *out, "--follow-links").status == 0


@pytest.mark.parametrize("key", ["follow_links", "_follow_links", "links"])
@pytest.mark.parametrize("value", ["true", "1", "'yes'"])
def test_no_file_of_settings_can_ask_for_it(tmp_path: Path, key: str, value: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"{key}: {value}\n")
    with pytest.raises(UsageError, match=f"unknown key '{key}'"):
        resolve_config("lr", tmp_path / "mine.yaml", {"data": tmp_path, "trigger": tmp_path / "t.npz"})
    settings = resolve_config("lr", None, {"data": tmp_path, "trigger": tmp_path / "t.npz"})
    assert not settings.follow_links
    assert settings.following(True).model_copy(update={"seed": 1}).follow_links
    assert not settings.following(True).following(False).follow_links
