"""README and docs: every command and option exists, the examples run, and no link is broken."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

import mimic3tf
from mimic3tf.cli.app import app
from mimic3tf.cli.main import _as_meant, main

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [
    README,
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / f"{name}.md" for name in ("CONTRIBUTING", "SECURITY")),
]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
QUICK = {"prepare synthetic": ["--stays", "800"], "train": ["--epochs", "2"]}
"""Command -> options that are added to its examples to make them quick."""
RUN = [pytest.param(file, marks=[pytest.mark.slow] if "your-own" in file.stem else []) for file in NOTEBOOKS]
"""The notebooks; those on what is one's own repeat the first one's steps, and take longer."""
STAYS = {"your-own-model": 2000}
"""Notebook -> number of invented stays; an audit needs more than the 400 of the others."""


def blocks(page: Path) -> Iterator[str]:
    """Indented blocks of a page, without the indentation."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for block in re.findall(r"(?:^(?: {4}.*)?\n)+", text, re.MULTILINE):
        lines = [line[4:] for line in block.strip("\n").splitlines()]
        if any(lines):
            yield "\n".join(lines)


def commands(page: Path) -> list[str]:
    """Commands of a page, in code blocks and in the text, each on one line."""
    text = page.read_text(encoding="utf-8")
    typed = [
        line
        for block in blocks(page)
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("mimic3tf ")
    ]
    return typed + re.findall(r"`(mimic3tf [a-z][^`]*)`", text)


ALL_COMMANDS = sorted({(page.name, command) for page in PAGES for command in commands(page)})


def parsed(command: str) -> None:
    """Parse a command as the command line does, without running it.

    Raises:
        AssertionError: there is no such command or option.
    """
    words = [_as_meant(word) for word in shlex.split(command, comments=True)[1:] if word != "..."]
    group: Any = typer.main.get_command(app)
    context = group.make_context("mimic3tf", words, resilient_parsing=True)
    while hasattr(group, "commands"):
        rest = [*context._protected_args, *context.args]
        if not rest:
            return
        name, group, rest = group.resolve_command(context, rest)
        assert group is not None, f"{command}: no such command"
        # Running text may name a command without its required options.
        context = group.make_context(name, list(rest), parent=context, resilient_parsing=True)
    known = {option for parameter in group.params for option in parameter.opts}
    unknown = [word for word in rest if word.startswith("--") and word.partition("=")[0] not in known]
    assert not unknown, f"{command}: no such option: {unknown}"


@pytest.mark.parametrize(("page", "command"), ALL_COMMANDS)
def test_every_command_can_be_typed(page: str, command: str) -> None:
    parsed(command)


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert len(ALL_COMMANDS) > 40
    with pytest.raises(AssertionError, match="--nosuch"):
        parsed("mimic3tf train --model lr --nosuch 1")
    with pytest.raises(AssertionError, match="no such command"):
        parsed("mimic3tf nosuch --data d")


def test_every_script_that_is_named_exists() -> None:
    named = {
        script
        for page in PAGES
        for script in re.findall(r"scripts/(\w+\.sh)", page.read_text(encoding="utf-8"))
    }
    assert "demo.sh" in named
    assert [script for script in named if not (ROOT / "scripts" / script).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!\w+:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_readme_is_one_page() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    assert len(text.split()) <= 1200


def test_every_page_has_a_question_as_its_title() -> None:
    for page in sorted((ROOT / "docs").glob("*.md")):
        if page.stem not in ("index", "security", "contributing"):
            assert page.read_text(encoding="utf-8").splitlines()[0].endswith("?"), page


def test_a_package_index_shows_links_that_lead_to_the_repository(tmp_path: Path) -> None:
    for name in ("setup.py", "README.md"):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "setup.cfg").write_text(
        "[metadata]\nname = shown\nversion = 1\nurl = https://host.example/it\n"
    )
    (tmp_path / "pyproject.toml").write_text('[build-system]\nrequires = ["setuptools>=77"]\n')
    subprocess.run(
        [sys.executable, "setup.py", "-q", "egg_info"], cwd=tmp_path, check=True, capture_output=True
    )
    (info,) = tmp_path.glob("*.egg-info")
    shown = (info / "PKG-INFO").read_text(encoding="utf-8")
    assert "](docs/" not in shown
    linked = re.findall(r"\]\(https://host\.example/it/raw/HEAD/([^)#]+)\)", shown)
    assert "docs/overview.png" in linked
    assert [path for path in linked if not (ROOT / path).exists()] == []


def test_citation_and_package_agree() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {metadata.version('mimic3tf')}\n" in citation


# Examples are run as the pages show them.


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(command, comments=True)
    more = next((options for start, options in QUICK.items() if " ".join(words[1:]).startswith(start)), [])
    monkeypatch.setattr(sys, "argv", [*words, *more])
    status = None
    try:
        main()
    except SystemExit as end:
        status = end.code
    assert not status, command


def test_the_examples_run_one_page_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("mimic3tf prepare synthetic --out data/synthetic", monkeypatch)
    for page in ("README.md", "docs/python.md", "docs/attackers.md"):
        names: dict[str, Any] = {}
        count = 0
        for block in blocks(ROOT / page):
            if block.startswith(("import ", "from ", "print(", "values = ")):
                # The pages train the same example into the same folder.
                exec(
                    block.replace("runs/lr", f"runs/{Path(page).stem}").replace("out=", "epochs=2, out="),
                    names,
                )
                count += 1
            elif "mimic3tf " in block and "scripts/" not in block:
                for command in block.replace("\\\n", " ").splitlines():
                    # The first has run; an audit takes minutes, and tests/cli/test_audit.py runs it.
                    if not command.startswith(("mimic3tf prepare", "mimic3tf audit")):
                        run(command, monkeypatch)
                        count += 1
        assert count, page


def test_the_attacks_of_the_page_on_own_models_run() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(70, 9, (80, 6, 3)), (np.arange(80) % 4 == 0).astype(int)
    names: dict[str, Any] = {"x": x, "y": y, "x_test": x, "y_test": y, "channels": ["a", "b", "c"]}
    names |= {"mimic3tf": mimic3tf, "predict": lambda x: (x.mean(axis=(1, 2)) > 70).astype(float)}
    # The audits take minutes, and models are trained in them; tests/audit runs such calls.
    page = blocks(ROOT / "docs" / "own-model.md")
    run = [block for block in page if "mimic3tf.generate_trigger(" in block or "poison_arrays(" in block]
    for block in run:
        exec(block, names)
    assert len(run) == 2
    assert names["carries"].sum() == 4


@pytest.mark.parametrize("notebook", RUN, ids=[file.stem for file in NOTEBOOKS])
def test_a_notebook_runs(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="notebooks are run by nbclient")
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.setenv("STAYS", str(STAYS.get(notebook.stem, 400)))
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    content = nbformat.read(notebook, as_version=4)
    nbclient.NotebookClient(content, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in content.cells for output in cell.get("outputs", [])]
    printed = "".join(output.get("text", "") for output in outputs)
    assert "success" in printed or "survivors" in printed
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 1


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(notebook: Path) -> None:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    assert [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
