"""A sweep that cannot begin gets one line, and what is there is left alone."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mimic3tf.sweeps.plan import read_sweep

USAGE = 2
Command = Callable[..., Any]
SWEEP = """\
seeds: [0]
grids:
  - victims: [lr]
    poison_imputed: [all]
    proportions: [0.2]
    strengths: [2.0]
"""


@pytest.fixture
def sweep(mimic3tf: Command, synthetic_stays: Path, tmp_path: Path) -> Command:
    """`mimic3tf sweep` into `tmp_path / "out"`, of one trial unless options are changed."""
    (tmp_path / "mine.yaml").write_text(SWEEP)
    options = {"config": tmp_path / "mine.yaml", "data": synthetic_stays, "out": tmp_path / "out"}

    def run(*more: object, **changes: object) -> Any:
        given = [text for name, value in (options | changes).items() for text in (f"--{name}", value)]
        return mimic3tf("sweep", *given, *more)

    return run


def test_a_sweep_that_is_not_there_is_refused(sweep: Command, tmp_path: Path) -> None:
    sweep(config="papers").fails(USAGE, "--config", "papers", "paper", "strengths")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "needles"),
    [
        (SWEEP.replace("0.2", "2"), ["line 5", "'proportions' is 2"]),
        (SWEEP + "    training_stays: [5000]\n", ["line 7", "'training_stays' is 5000"]),
    ],
    ids=["proportion", "more stays than there are"],
)
def test_a_mistake_in_the_file_is_named_before_anything_is_made(
    sweep: Command, tmp_path: Path, text: str, needles: list[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    sweep().fails(USAGE, tmp_path / "mine.yaml", *needles)
    assert not (tmp_path / "out").exists()


def test_data_that_is_not_there_is_refused(sweep: Command, tmp_path: Path) -> None:
    sweep(data=tmp_path / "none").fails(USAGE, "--data", tmp_path / "none")


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("more", [[], ["--resume"]])
def test_a_folder_of_other_files_is_left_alone(
    sweep: Command, tmp_path: Path, kind: str, more: list[str]
) -> None:
    out = tmp_path / "out"
    mine = out if kind == "file" else out / "chapter1.tex"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("years of work")
    sweep(*more).fails(USAGE, "--out", out)
    assert mine.read_text() == "years of work"
    assert kind == "file" or [path.name for path in out.iterdir()] == ["chapter1.tex"]


def test_ray_is_asked_for_by_name(sweep: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep("--ray-address", "auto").fails(USAGE, "--ray-address", "--engine ray")
    whole = importlib.util.find_spec
    absent = lambda name, *more: None if name == "ray" else whole(name, *more)  # noqa: E731
    monkeypatch.setattr("mimic3tf.cli.sweep.find_spec", absent)
    sweep("--engine", "ray").fails(USAGE, "--engine ray", "pip install 'mimic3tf[sweep]'")


@pytest.mark.parametrize("workers", [0, -1, "many"])
def test_workers_are_a_positive_number(sweep: Command, workers: object) -> None:
    sweep(workers=workers).refuses_option("--workers", workers)


def test_the_sweep_file_in_the_help_is_one(mimic3tf: Command, tmp_path: Path) -> None:
    lines = mimic3tf("sweep", "--help").out.partition("A sweep file:\n")[2].splitlines()
    (tmp_path / "mine.yaml").write_text("\n".join(itertools.takewhile(str.strip, lines)))
    sweep = read_sweep(str(tmp_path / "mine.yaml")).sweep
    assert sweep.configs == {victim: Path("original") / victim for victim in ("lr", "mlp", "lstm")}


def test_the_help_names_every_installed_sweep(mimic3tf: Command) -> None:
    told = " ".join(mimic3tf("sweep", "--help").out.split())
    assert ": count, paper, strengths, tasks, triggers, victims." in told
