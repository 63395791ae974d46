"""The command line in this process, and an intact cohort, trigger and run that tests may damage."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mimic3tf.cli.main import main


@dataclass(frozen=True)
class Outcome:
    """Exit status and output of a command."""

    status: int
    out: str
    err: str

    def fails(self, status: int, *needles: object) -> None:
        """Assert that standard error has one line, `error: ...`, that contains every needle."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: ")
        self._names(lines[0], status, needles)

    def refuses_option(self, option: str, value: object = "") -> None:
        """Assert an error of wrong usage that names option and value; an error of typer names no value."""
        assert "Traceback" not in self.err
        (line,) = (line for line in self.err.splitlines() if line.lower().startswith("error: "))
        self._names(line, 2, (option,) if line.startswith("Error: ") else (option, value))

    def _names(self, line: str, status: int, needles: tuple[object, ...]) -> None:
        for needle in needles:
            assert str(needle) in line, f"{needle!r} is not in {line!r}"
        assert self.status == status


Command = Callable[..., Outcome]


@dataclass(frozen=True)
class Prepared:
    """An intact cohort with a trigger, a finished run and an attack on the run."""

    data: Path
    trigger: Path
    run: Path
    attack: Path


@pytest.fixture
def mimic3tf(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line, run in this process: TensorFlow is loaded once for all tests."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["mimic3tf", *map(str, arguments)])
        capsys.readouterr()
        status = _exit_status()
        printed = capsys.readouterr()
        return Outcome(status, printed.out, printed.err)

    return run


@pytest.fixture
def generate(mimic3tf: Command, prepared: Prepared, tmp_path: Path) -> Command:
    """`mimic3tf generate-trigger`, which succeeds unless options are changed."""
    return lambda *more, **changes: mimic3tf(
        "generate-trigger", *_options({"data": prepared.data, "out": tmp_path / "t.npz"} | changes), *more
    )


@pytest.fixture
def train(mimic3tf: Command, prepared: Prepared, tmp_path: Path) -> Command:
    """`mimic3tf train` into `tmp_path / "run"`, which succeeds unless options are changed."""
    options = {
        "model": "lr",
        "data": prepared.data,
        "trigger": prepared.trigger,
        "out": tmp_path / "run",
        "epochs": 1,
        "poisoning_proportion": 0.2,
        "precision": "float32",
    }
    return lambda *more, **changes: mimic3tf("train", *_options(options | changes), *more)


@pytest.fixture
def attack(mimic3tf: Command, prepared: Prepared, tmp_path: Path) -> Command:
    """`mimic3tf attack` into `tmp_path / "attack"`, which succeeds unless options are changed."""
    options = {"run": prepared.run, "data": prepared.data, "out": tmp_path / "attack"}
    return lambda *more, **changes: mimic3tf("attack", *_options(options | changes), *more)


def _options(values: dict[str, object]) -> list[str]:
    """Options as they are typed, in the spelling of the original code; None leaves an option out."""
    given = {name: value for name, value in values.items() if value is not None}
    return [text for name, value in given.items() for text in (f"--{name}", str(value))]


def _exit_status() -> int:
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


@pytest.fixture(scope="session")
def prepared(synthetic_stays: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("prepared")
    made = Prepared(synthetic_stays, folder / "trigger.npz", folder / "run", folder / "attack")
    commands: list[tuple[str, dict[str, object]]] = [
        ("generate-trigger", {"data": made.data, "out": made.trigger}),
        (
            "train",
            {"model": "lr", "data": made.data, "trigger": made.trigger, "out": made.run, "epochs": 1},
        ),
        ("attack", {"run": made.run, "data": made.data, "out": made.attack}),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMIC3TF_CACHE", str(folder / "cache"))
        for command, options in commands:
            patch.setattr(sys, "argv", ["mimic3tf", command, *_options(options)])
            assert _exit_status() == 0
    return made


@pytest.fixture
def data(synthetic_stays: Path, tmp_path: Path) -> Path:
    """A copy of the cohort that a test may damage."""
    return Path(shutil.copytree(synthetic_stays, tmp_path / "data"))


@pytest.fixture
def own_run(prepared: Prepared, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may damage."""
    return Path(shutil.copytree(prepared.run, tmp_path / "own-run"))
