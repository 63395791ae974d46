"""Whatever goes wrong while a command writes, its results are the old or the new ones.

`tests/benchmarks/faults.py` does the same to whole processes, at random moments and for every command.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mimic3tf.errors import Stopped
from mimic3tf.storage.files import whole_file
from mimic3tf.storage.folders import claimed

Command = Callable[..., Any]

REPLACE_NOTHING = ("generate-trigger", "poison")


class Writes:
    """Counts the writes of this process under a folder, and lets one of them fail."""

    def __init__(self) -> None:
        self.folder, self.count, self.fatal = "", 0, 0
        self.fault: Callable[[str], BaseException] = NotImplementedError

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.folder or event not in ("open", "os.rename", "os.remove", "os.mkdir"):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if str(arguments[0]).startswith(self.folder):
            self.count += 1
            if self.count == self.fatal:
                raise self.fault(str(arguments[0]))


WRITES = Writes()


@pytest.fixture(scope="module", autouse=True)
def _watching() -> None:
    sys.addaudithook(WRITES)  # for good: there is no way to take it away


@contextmanager
def watched(folder: Path, fatal: int = 0, fault: Callable[[str], BaseException] = OSError) -> Iterator[None]:
    WRITES.folder, WRITES.count, WRITES.fatal, WRITES.fault = str(folder), 0, fatal, fault
    try:
        yield
    finally:
        WRITES.folder = ""


def no_space(path: str) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def terminated(_: str) -> Stopped:
    return Stopped(signal.SIGTERM)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        # A manifest names its copy's place; its own write comes after that of the copy.
        if path.is_file() and "manifest" not in path.name
    }


@pytest.fixture
def line(prepared: Any) -> Callable[[str, Path, bool], list[object]]:
    """Command line of a command that writes into a folder, with what makes older results or without."""

    def make(command: str, out: Path, older: bool) -> list[object]:
        data, trigger, run = prepared.data, prepared.trigger, prepared.run
        if command == "generate-trigger":
            return [command, "--data", data, "--out", out / "t.npz"]
        if command == "poison":
            return [command, "--data", data, "--trigger", trigger, "--out", out / "copy"]
        if command == "attack":
            return [command, "--run", run, "--data", data, "--out", out, "--poisoning-strength", int(older)]
        return [command, prepared.attack, "--out", out, *(["--over-seeds"] if older else [])]

    return make


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        *((command, no_space) for command in ("generate-trigger", "poison", "results")),
        *((command, terminated) for command in ("generate-trigger", "poison", "attack")),
    ],
)
def test_a_fault_at_any_write_leaves_the_old_or_the_new(
    mimic3tf: Command, line: Command, tmp_path: Path, command: str, fault: Any
) -> None:
    out, older, new = tmp_path / "out", tmp_path / "older", tmp_path / "new"
    older.mkdir()
    if command not in REPLACE_NOTHING:
        assert mimic3tf(*line(command, older, True)).status == 0
    with watched(new):
        assert mimic3tf(*line(command, new, False)).status == 0
    writes, before, after = WRITES.count, contents(older), contents(new)
    assert before != after
    marker = {"attack": "attack.json", "results": "results.csv"}.get(command)
    # Most writes of a copy are alike.
    places = [n for n in range(1, writes + 1) if command != "poison" or n % 11 == 1 or n > writes - 6]
    assert places, "no write was counted"
    for place in places:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(older, out)
        with watched(out, place, fault):
            outcome = mimic3tf(*line(command, out, False))
        lines = [part for part in outcome.err.splitlines(True) if part.strip()]
        printed = "".join(part for part in lines if not part.startswith("warning: "))
        if fault is terminated:
            assert outcome.status == 143, place
            assert printed.startswith("stopped: ")
        elif outcome.status:  # making a folder that is there already may fail
            assert outcome.status in (1, 2), place
            assert "No space left on device" in printed
        assert printed.count("\n") == bool(outcome.status), printed
        left = contents(out)
        assert outcome.status or left == after
        assert left in (before, after) or (marker and marker not in left), (place, sorted(left))
        assert not [path for path in out.rglob("*") if ".partial" in path.name], place
    if command not in REPLACE_NOTHING:
        assert mimic3tf(*line(command, out, False)).status == 0
        assert contents(out) == after


@pytest.mark.parametrize("size", [2_000, 150_000])
def test_a_disk_that_fills_up_during_training_is_told_in_one_line(
    mimic3tf: Command, train: Command, tmp_path: Path, size: int
) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        outcome = train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    outcome.fails(1, tmp_path)
    assert not (tmp_path / "run" / "run.json").exists()
    assert not list(tmp_path.rglob("*.partial*"))


def test_what_a_killed_copy_left_is_removed_and_told(
    mimic3tf: Command, line: Command, tmp_path: Path
) -> None:
    program = (
        "import os, sys; n = [0]\n"
        "def hook(event, arguments):\n"
        "    n[0] += event == 'open' and '.partial-' in str(arguments[0])\n"
        "    if n[0] == 9:\n"
        "        n[0] = 10\n"
        "        os.kill(os.getpid(), 9)\n"
        "from mimic3tf.cli.main import main; sys.addaudithook(hook); main()"
    )
    command = [str(part) for part in line("poison", tmp_path, False)]
    killed = subprocess.run([sys.executable, "-c", program, *command], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name[:14] for path in tmp_path.iterdir()] == [".copy.partial-"]
    again = mimic3tf(*command)
    assert again.status == 0
    assert "removed what an interrupted process left" in again.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "copy.manifest.json"]


def test_a_run_directory_is_written_by_one_process(train: Command, tmp_path: Path) -> None:
    with claimed(tmp_path / "run"):
        train().fails(2, tmp_path / "run", "another process")
    assert not (tmp_path / "run").exists()


def test_a_file_is_written_by_one_process(generate: Command, tmp_path: Path) -> None:
    with whole_file(tmp_path / "t.npz") as file:
        generate().fails(2, tmp_path / "t.npz.partial", "another process")
        file.write(b"ours")
    assert (tmp_path / "t.npz").read_bytes() == b"ours"
    assert generate(out=tmp_path / "second.npz").status == 0


@pytest.mark.parametrize("vanished", ["train/9012_episode1_timeseries.csv", "train_listfile.csv"])
def test_data_that_vanish_from_behind_the_cache_are_named(
    generate: Command, data: Path, tmp_path: Path, vanished: str
) -> None:
    assert generate(data=data).status == 0
    (data / vanished).unlink()
    generate("--seed", 1, data=data, out=tmp_path / "second.npz").fails(1, data / vanished)
    assert not (tmp_path / "second.npz").exists()


def test_training_does_not_mind_a_clock_that_goes_back(
    train: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(out=tmp_path / "usual").status == 0
    moments = iter(range(2_000_000_000, 0, -1000))
    monkeypatch.setattr("time.time", lambda: float(next(moments)))
    monkeypatch.setattr("time.time_ns", lambda: next(moments) * 10**9)
    assert train().status == 0
    for name in ("metrics.csv", "run.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "usual" / name).read_bytes()


def _hooked(module: str, action: str) -> str:
    """The command line as a program that does something when it first comes to import a module."""
    return (
        f"import os, sys; left = [{module!r}]\n"
        "def hook(event, arguments):\n"
        "    if event == 'import' and arguments[0] in left:\n"
        "        left.clear()\n"
        f"        {action}\n"
        "sys.addaudithook(hook)\n"
        "from mimic3tf.__main__ import main; main()"
    )


def _ending(program: str, *arguments: str) -> tuple[int, str]:
    """Exit status of a Python program, and the one line on its standard error."""
    command = [sys.executable, "-c", program, *arguments]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    (line,) = ended.stderr.splitlines()
    return ended.returncode, line


def test_a_signal_that_came_while_an_object_was_cleared_up_is_not_lost() -> None:
    program = (
        "import os, sys, time, types\n"
        "def generator():\n"
        "    try:\n"
        "        yield\n"
        "    finally:\n"
        "        os.kill(os.getpid(), 15)\n"
        "def app(**_):\n"
        "    begun = generator()\n"
        "    next(begun)\n"
        "    del begun\n"
        "    time.sleep(60)\n"
        "sys.modules['mimic3tf.cli.app'] = types.SimpleNamespace(app=app)\n"
        "from mimic3tf.__main__ import main; main()"
    )
    status, line = _ending(program)
    assert status == 143
    assert line.startswith("stopped: ")


def test_a_signal_while_tensorflow_starts_is_one_line(prepared: Any) -> None:
    notes = r"os.write(2, b'notes of its libraries\n')"
    program = _hooked("tensorflow.python", f"{notes}; os.kill(os.getpid(), 15)")
    status, line = _ending(program, "attack", "--run", str(prepared.run), "--data", str(prepared.data))
    assert status == 143
    assert line.startswith("stopped: ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", ["mimic3tf.errors", "typer"])
def test_a_signal_during_the_start_is_one_line(tmp_path: Path, module: str, number: int) -> None:
    """The first module is imported before the command line can clear anything up, the second after."""
    program = _hooked(module, f"os.kill(os.getpid(), {number})")
    status, line = _ending(program, "prepare", "synthetic", "--out", str(tmp_path / "out"))
    assert status == 128 + number
    assert line.startswith("stopped: ")


def test_next_to_nothing_is_imported_before_signals_are_handled() -> None:
    program = (
        "import sys; before = set(sys.modules); import mimic3tf.__main__; print(*set(sys.modules) - before)"
    )
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    library = set(sys.stdlib_module_names)
    found = {name for name in told.stdout.split() if name.partition(".")[0] not in library}
    assert found == {"mimic3tf", "mimic3tf.__main__"}


def test_a_signal_while_a_mistake_is_told_is_one_line() -> None:
    program = (
        "import sys, types\n"
        "def app(**_):\n"
        "    from mimic3tf.errors import UsageError\n"
        "    raise UsageError('a mistake')\n"
        "sys.modules['mimic3tf.cli.app'] = types.SimpleNamespace(app=app)\n"
        + _hooked("rich.console", "os.kill(os.getpid(), 2)")
    )
    status, line = _ending(program)
    assert status == 130
    assert line.startswith("stopped: ")
