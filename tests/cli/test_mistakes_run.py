"""A run, output or cache that cannot be used gets one line, and what is there is left alone."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

USAGE, FAILURE = 2, 1
Command = Callable[..., Any]


# --- Where a run is written ---------------------------------------------------------------------------


def test_a_finished_run_is_refused_before_data_are_read(train: Command, data: Path, own_run: Path) -> None:
    (data / "train_listfile.csv").write_text("")
    before = (own_run / "run.json").read_bytes()
    train(data=data, out=own_run).fails(USAGE, "--out", own_run, "finished run")
    assert (own_run / "run.json").read_bytes() == before


def test_an_unfinished_run_is_started_anew(train: Command, own_run: Path) -> None:
    (own_run / "run.json").unlink()
    assert train(out=own_run).status == 0
    assert (own_run / "run.json").exists()


def test_a_finished_run_needs_no_resuming(train: Command, own_run: Path, prepared: Any) -> None:
    before = (own_run / "run.json").read_bytes()
    outcome = train("--resume", out=own_run, poisoning_proportion=None, precision=None)
    assert outcome.status == 0
    assert "finished before" in outcome.out
    assert (own_run / "run.json").read_bytes() == before


def test_a_run_is_not_resumed_with_another_setting(train: Command, own_run: Path) -> None:
    outcome = train("--resume", out=own_run, poisoning_proportion=0.3, precision=None)
    outcome.fails(USAGE, "--resume", "'poisoning_proportion'", 0.3, 0.05, own_run)
    outcome = train("--resume", "--deterministic", out=own_run, poisoning_proportion=None, precision=None)
    outcome.fails(USAGE, "--resume", "'deterministic' is True", False, own_run)


@pytest.mark.parametrize(
    ("file", "text", "more"),
    [
        ("run", "mine", []),
        ("run/checkpoint.npz", "mine", ["--resume"]),
        # Many projects hold a config.yaml.
        ("run/config.yaml", "theme: dark\n", []),
    ],
    ids=["file", "folder to resume", "settings alone"],
)
def test_what_is_no_run_is_left_alone(
    train: Command, tmp_path: Path, file: str, text: str, more: list[str]
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    train(*more).fails(USAGE, "--out", tmp_path / "run")
    assert (tmp_path / file).read_text() == text


@pytest.mark.parametrize("beside", [[], ["config.yaml"], ["config.yaml", "trigger.npz"]])
def test_a_directory_with_foreign_files_is_left_alone(
    train: Command, own_run: Path, tmp_path: Path, beside: list[str]
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "chapter1.tex").write_text("years of work")
    for name in beside:
        shutil.copy(own_run / name, project)
    train(out=project).fails(USAGE, "--out", project)
    assert sorted(path.name for path in project.iterdir()) == sorted(["chapter1.tex", *beside])


@pytest.mark.parametrize("kind", ["link", "here"])
def test_an_empty_directory_reached_in_another_way_is_used(
    train: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    if kind == "here":
        monkeypatch.chdir(target)
        assert train(out=".").status == 0
    else:
        (tmp_path / "link").symlink_to(target)
        assert train(out=tmp_path / "link").status == 0
    assert (target / "run.json").exists()


# --- The run that is attacked -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["missing", "file", "empty", "unfinished"])
def test_an_attack_on_no_finished_run_says_so(
    attack: Command, own_run: Path, tmp_path: Path, kind: str
) -> None:
    run = own_run if kind == "unfinished" else tmp_path / "no-run"
    if kind == "unfinished":
        (run / "run.json").unlink()
    elif kind == "file":
        run.write_text("")
    elif kind == "empty":
        run.mkdir()
    attack(run=run).fails(USAGE, "--run", run, "mimic3tf train")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("run.json", b"{"),
        ("config.yaml", b"epochs: 1\n"),
        ("config.yaml", b"- 1\n"),
        ("config.yaml", b"\xff"),
        ("victim.keras", b"not a zip"),
        ("victim.keras", None),
        ("standardization.npz", b""),
        ("standardization.npz", None),
        ("trigger.npz", None),
        ("trigger.npz", b"PK"),
    ],
)
def test_a_damaged_run_is_named_with_its_file(
    attack: Command, own_run: Path, file: str, content: bytes | None
) -> None:
    (own_run / file).unlink()
    if content is not None:
        (own_run / file).write_bytes(content)
    attack(run=own_run).fails(FAILURE, own_run, file, "damaged")


def test_a_victim_file_that_would_run_code_is_refused(attack: Command, own_run: Path) -> None:
    import keras

    inputs = keras.Input((714,))
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: x[:, :2])(inputs))
    model.save(own_run / "victim.keras")
    outcome = attack(run=own_run)
    outcome.fails(FAILURE, own_run, "victim.keras")
    # Keras' own message advises to allow it.
    assert "enable_unsafe_deserialization" not in outcome.err


# --- Outputs ------------------------------------------------------------------------------------------


WRITERS = ["synthetic", "generate", "train", "attack", "results"]


@pytest.fixture
def write(request: pytest.FixtureRequest, mimic3tf: Command, prepared: Any) -> Command:
    """Run one of the commands that write, with its output at `out`."""

    def run(command: str, out: Path) -> Any:
        if command == "synthetic":
            return mimic3tf("prepare", "synthetic", "--stays", 20, "--out", out)
        if command == "results":
            return mimic3tf("results", prepared.attack, "--out", out)
        out = out.with_suffix(".npz") if command == "generate" else out
        return request.getfixturevalue(command)(out=out)

    return run


@pytest.mark.parametrize("command", WRITERS)
def test_a_missing_parent_of_an_output_is_made(write: Command, tmp_path: Path, command: str) -> None:
    out = tmp_path / "new" / "folders" / "out"
    assert write(command, out).status == 0
    assert list(out.parent.glob("out*"))


@pytest.mark.parametrize("command", WRITERS)
def test_an_output_below_a_file_is_refused(write: Command, tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("mine")
    status = FAILURE if command == "generate" else USAGE
    write(command, tmp_path / "file" / "out").fails(status, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("command", WRITERS)
def test_an_output_in_a_read_only_folder_is_refused(write: Command, tmp_path: Path, command: str) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if os.access(locked, os.W_OK):
        # The superuser may write anywhere, but not here.
        locked = Path("/proc/self")
        if not locked.is_dir():
            pytest.skip("this user may write everywhere")
    status = USAGE if command == "synthetic" else FAILURE
    write(command, locked / "out").fails(status, locked / "out")


# --- Cache --------------------------------------------------------------------------------------------


def test_a_cache_folder_that_cannot_be_written_is_named(
    generate: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MIMIC3TF_CACHE", str(tmp_path / "file"))
    generate().fails(FAILURE, tmp_path / "file", "MIMIC3TF_CACHE")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("values.npy", b""),
        ("values.npy", b"cut"),
        ("meta.json", b""),
        ("meta.json", b"[]"),
        ("mask.npy", None),
    ],
)
def test_a_damaged_cache_is_built_anew(
    generate: Command, tmp_path: Path, file: str, content: bytes | None
) -> None:
    assert generate().status == 0
    (damaged,) = (tmp_path / "cohort-cache").glob(f"*/{file}")
    sound = damaged.read_bytes()
    damaged.unlink()
    if content is not None:
        damaged.write_bytes(content)
    outcome = generate(out=tmp_path / "again.npz")
    # The cohort is small, which is warned of, too.
    said = [line for line in outcome.err.splitlines() if line.strip() and not line.startswith("warning: ")]
    assert said == [f"{damaged.parent}: this cache is damaged; it is made again"]
    assert outcome.status == 0
    assert damaged.read_bytes() == sound


# --- Results ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["missing", "empty", "file"])
def test_results_of_nothing_are_refused(mimic3tf: Command, tmp_path: Path, kind: str) -> None:
    runs = tmp_path / "runs"
    if kind == "empty":
        runs.mkdir()
    if kind == "file":
        runs.write_text("")
    mimic3tf("results", runs).fails(USAGE, runs, "mimic3tf attack")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"run": 1}'])
def test_a_report_that_is_none_is_named(mimic3tf: Command, tmp_path: Path, content: str) -> None:
    report = tmp_path / "attack.json"
    report.write_text(content)
    mimic3tf("results", tmp_path).fails(FAILURE, report, "attack the run again")


@pytest.mark.parametrize("key", ["clean", "attacked_with", "poisoning_proportion"])
def test_a_report_with_a_nonsense_value_is_named(
    mimic3tf: Command, prepared: Any, tmp_path: Path, key: str
) -> None:
    report = tmp_path / "attack.json"
    whole = json.loads((prepared.attack / "attack.json").read_text())
    report.write_text(json.dumps({**whole, key: "nonsense"}))
    mimic3tf("results", tmp_path).fails(FAILURE, report, "attack the run again")
