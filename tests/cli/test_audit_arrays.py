"""`mimic3tf audit` of files: arrays, tables, a model's file or predictions, and a directory without a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from invented_arrays import NAMES, Own

from mimic3tf.errors import UsageError

Command = Callable[..., Any]
USAGE, FAILURE, ALARM = 2, 1, 3


@pytest.fixture
def audit(mimic3tf: Command, own_files: Path, tmp_path: Path) -> Command:
    """`mimic3tf audit` of the .npz files into `tmp_path / "audit"`, unless options change."""
    options: dict[str, Any] = {
        "arrays": own_files / "train.npz",
        "trusted": own_files / "trusted.npz",
        "out": tmp_path / "audit",
    }

    def run(*flags: str, **changes: object) -> Any:
        given = {name: value for name, value in (options | changes).items() if value is not None}
        texts = [text for name, value in given.items() for text in (f"--{name.replace('_', '-')}", value)]
        return mimic3tf("audit", *texts, *flags)

    return run


def record(folder: Path) -> Any:
    return json.loads((folder / "audit.json").read_text())


def test_arrays_give_the_findings_of_python(
    audit: Command, own_report: Any, own_files: Path, tmp_path: Path
) -> None:
    done = audit(fail_on="alarm")
    assert done.status == ALARM
    assert "Suspicious" in done.out
    assert "needs activations" in done.out
    written = record(tmp_path / "audit")
    assert written["data"] == str(own_files / "train.npz")
    assert written["conclusion"]["sentence"] == own_report.verdict.sentence
    assert written["data_fingerprint"] == own_report.record["data_fingerprint"]
    suspects = pl.read_csv(tmp_path / "audit" / "suspects.csv")
    assert suspects["stay"].to_list() == own_report.suspects["stay"].to_list()
    assert str(tmp_path / "audit" / "audit.html") in done.out
    before = (tmp_path / "audit" / "audit.json").read_bytes()
    audit(seed=1).fails(USAGE, f"--out {tmp_path / 'audit'}: holds an audit already; name another")
    assert (tmp_path / "audit" / "audit.json").read_bytes() == before


def test_tables_of_both_kinds_give_the_same_findings(audit: Command, own_files: Path, tmp_path: Path) -> None:
    sentences = set()
    for kind in ("parquet", "csv"):
        given = {"arrays": own_files / f"train.{kind}", "trusted": own_files / f"trusted.{kind}"}
        done = audit(**given, label="died", id="stay", out=tmp_path / kind)
        assert done.status == 0
        sentences.add(record(tmp_path / kind)["conclusion"]["sentence"])
        channels = record(tmp_path / kind)["patterns"][0]["channels"]
        assert channels[0]["channel"].split()[0] in ("pressure", "glucose")
    assert len(sentences) == 1


@pytest.mark.slow
def test_predictions_are_matched_by_name(audit: Command, own_files: Path, own: Own, tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    lines = [f"stay {number},{0.9 if own.y[number] else 0.1}" for number in reversed(range(len(own.y)))]
    file.write_text("stay,prediction\n" + "\n".join(lines) + "\n")
    assert audit(predictions=file).status == 0
    rows = {row["detector"]: row["not_run"] for row in record(tmp_path / "audit")["detectors"]}
    assert rows["learned by the model"] is None
    assert record(tmp_path / "audit")["model"] == str(file)
    file.write_text("stay,prediction\nstay 0,0.5\n")
    audit(predictions=file, out=tmp_path / "b").fails(FAILURE, file, "has no prediction of stay 'stay 1'")
    file.write_text("stay,prediction\nstay 0,1.5\n")
    audit(predictions=file, out=tmp_path / "c").fails(FAILURE, file, "line 2", "from 0 to 1")


@pytest.mark.slow
def test_a_directory_is_audited_without_a_run(
    mimic3tf: Command,
    small_cohort: Callable[[int, int], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MIMIC3TF_CACHE", str(tmp_path / "cache"))
    data = small_cohort(1200, 3)
    done = mimic3tf("audit", "--data", data, "--out", tmp_path / "audit", "--fail-on", "alarm")
    assert done.status in (0, ALARM)
    written = record(tmp_path / "audit")
    assert (done.status == ALARM) == (written["conclusion"]["level"] == "suspicious")
    assert written["run"] is None
    assert written["model"] == "no model"
    outcomes = {check["name"]: check["outcome"] for check in written["conclusion"]["checks"]}
    assert outcomes["inverted triggers"] == "not run"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arrays": None, "trusted": None}, "nothing to audit: give --run and --data, --data, or --arrays"),
        ({"trusted": None}, "--arrays: needs --trusted"),
        ({"data": "somewhere"}, "--arrays: cannot be given together with --data or --run"),
        ({"arrays": None, "data": "somewhere"}, "--trusted: goes with --arrays only"),
        ({"manifest": "m.json"}, "--manifest: goes with --run only"),
        ({"arrays": "lost.npz"}, "--arrays lost.npz: no such file"),
        ({"model": "lost.keras"}, "--model lost.keras: no such file"),
        ({"target": 7}, "target: y has labels 0 and 1; name the one to audit, 0 to 1, not 7"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    audit: Command, changes: dict[str, Any], said: str
) -> None:
    audit(**changes).fails(USAGE, said)


@pytest.mark.parametrize(
    ("flag", "changes", "goes_with"),
    [
        ("--label=died", {}, "a .parquet or .csv table of --arrays"),
        ("--id=stay", {}, "a .parquet or .csv table of --arrays"),
        ("--id=stay", {"arrays": None, "trusted": None, "data": "somewhere"}, "a .parquet or .csv table"),
        ("--no-repairs", {}, "--run"),
        ("--all-repairs", {}, "--run"),
        ("--trust-model", {}, "--run or --model"),
        ("--follow-links", {}, "--data"),
    ],
)
def test_options_without_an_effect_are_refused(
    audit: Command, flag: str, changes: dict[str, Any], goes_with: str
) -> None:
    audit(flag, **changes).fails(USAGE, f"{flag.split('=')[0]}: goes with {goes_with}")


def test_a_seed_that_numpy_cannot_take_is_refused(audit: Command) -> None:
    done = audit(seed=2**32)
    assert done.status == USAGE
    assert "'--seed': Input should be less than or equal to 4294967295" in done.err


@pytest.mark.parametrize(
    ("columns", "options", "said"),
    [
        ({"a": [1.0], "y": [1]}, {"label": "died"}, ["--label died", "no such column", "it has: a, y"]),
        ({"a": ["x"], "y": [1]}, {}, ["column 'a' holds String, not numbers"]),
        ({"a": [1.0], "y": [None]}, {}, ["row 1", "column 'y' is empty"]),
        ({"a": [1.0], "y": [1]}, {"id": "stay"}, ["--id stay", "no such column"]),
    ],
)
def test_tables_that_cannot_be_read_name_the_column(
    audit: Command, tmp_path: Path, columns: dict[str, Any], options: dict[str, Any], said: list[str]
) -> None:
    pl.DataFrame(columns, schema_overrides={"y": pl.Int64} if "y" in columns else None).write_parquet(
        tmp_path / "t.parquet"
    )
    done = audit(arrays=tmp_path / "t.parquet", **options)
    assert done.status in (USAGE, FAILURE)
    for words in said:
        assert words in done.err
    assert "Traceback" not in done.err


def test_files_that_hold_objects_or_lack_arrays_are_refused(audit: Command, tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", x=np.array([{}], object), y=[1])
    audit(arrays=tmp_path / "objects.npz").fails(FAILURE, "objects.npz", "without objects")
    np.savez(tmp_path / "less.npz", x=np.zeros((3, 2)))
    audit(arrays=tmp_path / "less.npz").fails(FAILURE, "less.npz", "lacks the array 'y'", "it holds: x")
    np.savez_compressed(tmp_path / "small.npz", x=np.zeros((3, 2)), y=[1, 0, 1])
    audit(arrays=tmp_path / "small.npz").fails(FAILURE, "small.npz", "not savez_compressed")
    (tmp_path / "x.pkl").touch()
    audit(arrays=tmp_path / "x.pkl").fails(USAGE, "x.pkl", ".npz, .parquet or .csv")


@pytest.mark.parametrize("unnamed", ["train", "trusted"])
def test_channels_may_be_named_in_one_of_the_files(
    audit: Command,
    own_files: Path,
    own: Own,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unnamed: str,
) -> None:
    x, y = (own.x, own.y) if unnamed == "train" else own.trusted
    np.savez(tmp_path / "unnamed.npz", x=x, y=y)

    def take(**given: Any) -> None:
        assert given["channels"] == NAMES
        raise UsageError("the audit itself is not part of this test")

    monkeypatch.setattr("mimic3tf.audit.training_set", take)
    audit(**{"arrays" if unnamed == "train" else "trusted": tmp_path / "unnamed.npz"}).fails(USAGE, "itself")


def test_columns_of_both_files_must_be_the_same(audit: Command, own_files: Path, tmp_path: Path) -> None:
    rows = pl.read_parquet(own_files / "trusted.parquet")
    rows.select(reversed(rows.columns)).write_parquet(tmp_path / "other.parquet")
    done = audit(
        arrays=own_files / "train.parquet", trusted=tmp_path / "other.parquet", label="died", id="stay"
    )
    done.fails(FAILURE, "--trusted", "has other columns")
    assert len(NAMES) == 5
