"""A mistake in an option or a settings file gets one line that names it."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mimic3tf.victims import victim_names

USAGE, FAILURE = 2, 1
Command = Callable[..., Any]


BAD_VALUES = {
    ("train", "--model"): ["svm", "LSTM", "nosuch"],
    ("train", "--poison_imputed"): ["some"],
    ("train", "--poison-imputed"): ["True"],
    ("train", "--poisoned_labels"): ["dirty"],
    ("train", "--precision"): ["float64"],
    ("train", "--selection"): ["luck"],
    ("train", "--log-level"): ["loud"],
    ("train", "--poisoning_proportion"): ["1.5", "-0.1", "inf", "5%"],
    ("train", "--poisoning-proportion"): ["nan"],
    ("train", "--poisoning_strength"): ["-1", "1e999", "strong"],
    ("train", "--poisoning-strength"): ["nan"],
    ("train", "--epochs"): ["0", "1.5"],
    ("train", "--batch-size"): ["0"],
    ("train", "--seed"): ["-1", str(2**32)],
    ("train", "--task"): ["nosuch"],
    ("train", "--goal"): ["2", "-1", "death"],
    ("train", "--period"): ["0", "nan", "inf"],
    ("train", "--timestep"): ["0", "-1", "inf"],
    ("generate", "--period"): ["0", "-1", "nan", "inf", "a day"],
    ("generate", "--timestep"): ["0", "-1", "nan", "inf", "a day"],
    ("attack", "--poisoning_strength"): ["-0.5", "nan", "inf"],
    ("attack", "--poison_imputed"): ["none"],
}


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [(*place, value) for place, values in BAD_VALUES.items() for value in values],
)
def test_a_bad_option_value_is_refused(
    request: pytest.FixtureRequest, tmp_path: Path, command: str, option: str, value: str
) -> None:
    # The original's options have two spellings; the original's is named.
    named = option.replace("-", "_").replace("__", "--") if "poison" in option else option
    outcome = request.getfixturevalue(command)(option, value)
    outcome.refuses_option(named, "inf" if value == "1e999" else value)
    assert not any((tmp_path / made).exists() for made in ("run", "t.npz", "attack"))


@pytest.mark.parametrize("command", ["train", "generate"])
def test_a_victim_or_task_that_there_is_not_is_one_line_that_lists_those_there_are(
    request: pytest.FixtureRequest, tmp_path: Path, command: str
) -> None:
    run = request.getfixturevalue(command)
    run("--task", "nosuch").fails(USAGE, "'nosuch'", "known: in-hospital-mortality")
    if command == "train":
        run(model="nosuch").fails(USAGE, "--model", "'nosuch'", "known: lr, mlp, lstm", *victim_names())
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "t.npz").exists()


def test_a_goal_that_is_no_label_is_refused_by_every_command_that_takes_one(
    train: Command, mimic3tf: Command, prepared: Any, tmp_path: Path
) -> None:
    copy = ["--data", prepared.data, "--trigger", prepared.trigger, "--out", tmp_path / "copy"]
    for outcome in (train("--goal", 2), mimic3tf("poison", *copy, "--goal", 2)):
        outcome.refuses_option("--goal")
        assert "less than or equal to 1" in outcome.err
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("strength", ["1e30", "1e300"])
def test_an_absurd_strength_gives_a_rate_or_a_line(attack: Command, tmp_path: Path, strength: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        outcome = attack(poisoning_strength=strength)
    if outcome.status:
        outcome.fails(USAGE, "--poisoning_strength", "too strong")
        assert not (tmp_path / "attack").exists()
    else:
        assert "nan" not in (tmp_path / "attack" / "predictions.csv").read_text()


def test_an_option_without_its_value_or_with_a_typo_is_named(mimic3tf: Command, prepared: Any) -> None:
    mimic3tf("train", "--model").refuses_option("--model")
    # Underscores are read as dashes.
    mimic3tf("train", "--poisoning_proportoin", "0.1").refuses_option("--poisoning-proportoin")
    mimic3tf("train", "--model", "lr").refuses_option("--data")
    mimic3tf("attack", "--data", prepared.data).refuses_option("--run")
    mimic3tf("attak").refuses_option("attak")


@pytest.mark.parametrize(
    ("text", "needles"),
    [
        ("epochs: 3\nepoch: 4\n", ["line 2", "unknown key 'epoch'", "epochs"]),
        ("class_weights: [1.0, -1]\n", ["line 1", "'class_weights'", "-1"]),
        ("epochs: yes\n", ["line 1", "'epochs'", "True"]),
        ("epochs:\n", ["line 1", "'epochs'", "None"]),
        ("epochs: 1\n\tseed: 2\n", ["not YAML", "line 2"]),
        ("", ["key: value"]),
        ("!!python/object/apply:os.mkdir [exploded]\n", ["not YAML"]),
    ],
)
def test_a_bad_config_file_is_named_with_line_and_key(
    train: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, needles: list[str]
) -> None:
    """tests/test_config.py has every key and value; here is what the command makes of it."""
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "settings.yaml"
    config.write_text(text)
    train(config=config, epochs=None).fails(USAGE, config, *needles)
    assert not (tmp_path / "exploded").exists()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["missing", "folder", "binary"])
def test_a_config_file_that_cannot_be_read_is_named(train: Command, tmp_path: Path, kind: str) -> None:
    config = tmp_path / "settings.yaml"
    if kind == "folder":
        config.mkdir()
    if kind == "binary":
        config.write_bytes(b"\xff\xfe\x00\x01")
    said = "no such file; installed ones" if kind == "missing" else "cannot be read"
    train(config=config).fails(USAGE, "--config", config, said)


def test_a_learning_rate_at_which_training_diverges_is_named(train: Command, tmp_path: Path) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text("learning_rate: 1.0e+38\n")
    train(config=config, epochs=3).fails(FAILURE, "learning_rate", "1e+38")
    assert not (tmp_path / "run" / "run.json").exists()


# --- The line itself ----------------------------------------------------------------------------------


def test_brackets_and_line_breaks_in_a_name_do_not_break_the_line(generate: Command, tmp_path: Path) -> None:
    generate(data=tmp_path / "[red]two\nlines").fails(USAGE, r"[red]two\nlines", "no such directory")


def test_a_long_message_is_not_wrapped(
    generate: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    absent = tmp_path / ("folder with a long name " * 8)
    generate(data=absent).fails(USAGE, absent)


def test_no_library_warns_in_a_successful_training(train: Command) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", RuntimeWarning)
        outcome = train()
    assert outcome.status == 0
    # Nothing but our own word about so small a cohort.
    (line,) = outcome.err.strip().splitlines()
    assert line.startswith("warning: fewer than 20 training stays are poisoned (3)")


def test_the_installed_program_ends_in_one_line_and_status_2(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "mimic3tf"]
    ended = subprocess.run(
        [*program, "generate-trigger", "--data", tmp_path / "absent", "--out", tmp_path / "t.npz"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == USAGE
    assert ended.stderr.startswith(f"error: {tmp_path / 'absent'}: ")
    assert ended.stderr.count("\n") == 1
