"""How the command line starts: by its names, with help, version and completion."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import mimic3tf as package
from mimic3tf.cli.app import app
from mimic3tf.cli.main import _as_meant

Command = Callable[..., Any]
GROUP: Any = get_command(app)
COMMANDS = [
    *([name] for name in GROUP.commands),
    *([group, name] for group in ("prepare", "export") for name in GROUP.commands[group].commands),
]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program `mimic3tf` in a folder for PATH, which is `python -m mimic3tf`."""
    file = tmp_path / "bin" / "mimic3tf"
    file.parent.mkdir()
    file.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mimic3tf "$@"\n')
    file.chmod(0o755)
    return file


def test_the_version_is_told(mimic3tf: Command) -> None:
    outcome = mimic3tf("--version")
    assert (outcome.status, outcome.out) == (0, f"mimic3tf {package.__version__}\n")


def test_python_runs_the_package_as_the_program(program: Path) -> None:
    told = subprocess.run([program, "-h"], check=True, capture_output=True, text=True)
    assert told.stdout.startswith("Usage: mimic3tf ")
    assert told.stderr == ""


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=" ".join)
def test_help_has_a_short_name_too(mimic3tf: Command, command: list[str]) -> None:
    short, long = mimic3tf(*command, "-h"), mimic3tf(*command, "--help")
    assert short.status == 0
    assert short.out == long.out
    assert max(map(len, short.out.splitlines())) <= 80
    assert " ".join(["Usage: mimic3tf", *command]) in short.out


def test_the_help_lists_all_commands_in_order_and_cuts_no_summary(mimic3tf: Command) -> None:
    helps = [mimic3tf(*group, "--help").out for group in ([], ["prepare"], ["export"])]
    commands = [line for text in helps for line in text.partition("Commands:\n")[2].splitlines()]
    assert [line for line in commands if line.endswith("...")] == []
    listed = [line.split()[0] for line in helps[0].partition("Commands:\n")[2].splitlines() if line.strip()]
    assert listed[:6] == ["prepare", "generate-trigger", "train", "attack", "results", "report"]
    assert set(listed) == set(GROUP.commands)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_option_may_be_spelled_with_underscores(command: list[str]) -> None:
    """As the original spells its own."""
    group = GROUP
    for name in command:
        group = group.commands[name]
    options = {name for option in group.params for name in (*option.opts, *option.secondary_opts)}
    for option in options:
        if option.startswith("--"):
            assert _as_meant("--" + option[2:].replace("-", "_")) in options
            assert _as_meant("--" + option[2:].replace("-", "_") + "=a_b") in {f"{o}=a_b" for o in options}


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_a_shell_completes_commands_options_and_values(program: Path) -> None:
    script = 'set -e; script=$(mimic3tf --show-completion); eval "$script"\n'
    typed = {
        "mimic3tf gener": ["generate-trigger"],
        "mimic3tf train --poisoning_str": ["--poisoning_strength"],
        "mimic3tf train --poison_imputed not": ["notimputed"],
    }
    for line in typed:
        words = line.split()
        script += f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _mimic3tf_completion mimic3tf\n"
        script += 'echo "${COMPREPLY[@]}"\n'
    told = subprocess.run(
        ["bash", "-c", script],
        env={"PATH": f"{program.parent}:/usr/bin:/bin"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert told.stderr == ""
    assert [line.split() for line in told.stdout.splitlines()] == list(typed.values())


def test_completion_is_installed_where_the_shell_reads_it(program: Path, tmp_path: Path) -> None:
    subprocess.run(
        ["bash", "-c", "mimic3tf --install-completion; exit $?"],
        env={"PATH": f"{program.parent}:/usr/bin:/bin", "HOME": str(tmp_path)},
        check=True,
        capture_output=True,
    )
    assert "mimic3tf.sh" in (tmp_path / ".bashrc").read_text()
    assert "_MIMIC3TF_COMPLETE" in (tmp_path / ".bash_completions" / "mimic3tf.sh").read_text()
