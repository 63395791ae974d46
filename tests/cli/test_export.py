"""`mimic3tf export`: what is printed, what is refused, and that an interrupted export leaves nothing."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mimic3tf.channels import MIMIC3
from mimic3tf.errors import REDACT, DataError

USAGE, FAILURE = 2, 1
KINDS = ("meds", "arrays")
Command = Callable[..., Any]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "made" / "out"


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_meds_are_written_and_counted(
    mimic3tf: Command, synthetic_stays: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    outcome = mimic3tf("export", "meds", "--data", synthetic_stays, "--out", out)
    assert outcome.status == 0, outcome.err
    assert outcome.err.strip() == ""
    shards = {f"{split}/0.parquet" for split in ("train", "tuning", "held_out")}
    metadata = ("channels.yaml", "codes.parquet", "dataset.json", "mapping.yaml", "stays.csv")
    assert files(out) == {
        *(f"data/{shard}" for shard in shards),
        *(f"labels/in-hospital-mortality/{shard}" for shard in shards),
        *(f"metadata/{name}" for name in (*metadata, "subject_splits.parquet")),
    }
    events = {
        split: len(pl.read_parquet(out / "data" / split / "0.parquet")) for split in ("train", "tuning")
    }
    rows = [line.split() for line in outcome.out.splitlines()]
    assert ["split", "subjects", "stays", "deaths", "events"] in rows
    assert ["train", "16", "16", "3", str(events["train"])] in rows
    assert ["val", "4", "4", "2", str(events["tuning"])] in rows
    assert [row[0] for row in rows if row and row[0] in ("train", "val", "test")] == ["train", "val", "test"]
    assert "_episode" not in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= max(80, len(str(out)))


def test_arrays_are_written_and_handed_to_an_audit(
    mimic3tf: Command, synthetic_stays: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = mimic3tf("export", "arrays", "--data", synthetic_stays, "--out", out)
    assert outcome.status == 0, outcome.err
    assert files(out) == {"train.npz", "val.npz", "test.npz", "channels.yaml"}
    rows = [line.split() for line in outcome.out.splitlines()]
    assert ["split", "stays", "deaths", "bins", "channels", "measured"] in rows
    train, val = (dict(np.load(out / f"{split}.npz")) for split in ("train", "val"))
    measured = f"{1 - np.isnan(train['x']).mean():.1%}"
    assert ["train", "16", "3", "48", "17", measured] in rows
    assert "_episode" not in outcome.out
    given: dict[str, Any] = {}

    def take(**arguments: Any) -> None:
        given.update(arguments)
        raise DataError("as far as this test goes")

    monkeypatch.setattr("mimic3tf.audit.training_set", take)
    audit = (
        "audit",
        "--arrays",
        out / "train.npz",
        "--trusted",
        out / "val.npz",
        "--out",
        tmp_path / "audit",
    )
    mimic3tf(*audit).fails(FAILURE, "as far as this test goes")
    np.testing.assert_array_equal(given["x"], train["x"])
    np.testing.assert_array_equal(given["y"], train["y"])
    np.testing.assert_array_equal(given["trusted"][0], val["x"])
    assert given["ids"] == train["ids"].tolist()
    assert given["channels"] == list(MIMIC3.names)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_overwritten(mimic3tf: Command, synthetic_stays: Path, out: Path, kind: str) -> None:
    out.mkdir(parents=True)
    command = ("export", kind, "--data", synthetic_stays, "--out", out)
    assert mimic3tf(*command).status == 0, "an empty directory may be there"
    before = {name: (out / name).read_bytes() for name in files(out)}
    mimic3tf(*command).fails(USAGE, out, "is not empty")
    assert {name: (out / name).read_bytes() for name in files(out)} == before
    file = next(path for path in out.rglob("*") if path.is_file())
    mimic3tf("export", kind, "--data", synthetic_stays, "--out", file).fails(USAGE, file, "is a file")


@pytest.mark.parametrize("kind", KINDS)
def test_mistakes_are_one_line(
    mimic3tf: Command, data: Path, out: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REDACT, "0")
    command = ("export", kind, "--data", data, "--out", out)
    mimic3tf("export", kind, "--data", f"{data}x", "--out", out).fails(
        USAGE, f"{data}x", f"did you mean {data}?"
    )
    for hours in ("0", "nan"):
        mimic3tf(*command, "--period", hours).refuses_option("--period", hours)
    stay = sorted((data / "test").iterdir())[0]
    lines = stay.read_text().split("\n")
    stay.write_text("\n".join([*lines[:2], "abc" + lines[2], *lines[3:]]))
    mimic3tf(*command).fails(FAILURE, stay, "line 3", "'Hours'")
    hidden = mimic3tf("--redact", *command)
    hidden.fails(FAILURE, "line 3")
    assert stay.name not in hidden.err
    (data / "val_listfile.csv").unlink()
    mimic3tf(*command).fails(FAILURE, data / "val_listfile.csv", "listfile not found")
    assert not out.parent.exists() or not list(out.parent.iterdir())


def test_a_timestep_that_is_none_is_refused(mimic3tf: Command, synthetic_stays: Path, out: Path) -> None:
    command = ("export", "arrays", "--data", synthetic_stays, "--out", out)
    mimic3tf(*command, "--timestep", "0").refuses_option("--timestep", "0")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [1, 3])
def test_a_full_disk_leaves_nothing_that_looks_finished(
    mimic3tf: Command,
    synthetic_stays: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    place: int,
) -> None:
    owner, name = (Path, "write_bytes") if kind == "meds" else (np, "savez")
    write, calls = getattr(owner, name), []

    def fail(*arguments: Any, **more: Any) -> Any:
        calls.append(arguments)
        if len(calls) == place:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(*arguments, **more)

    monkeypatch.setattr(owner, name, fail)
    command = ("export", kind, "--data", synthetic_stays, "--out", out)
    mimic3tf(*command).fails(FAILURE, out.parent, "No space left on device")
    assert list(out.parent.iterdir()) == []
    assert mimic3tf(*command).status == 0
