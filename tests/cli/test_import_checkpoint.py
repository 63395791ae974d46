"""`mimic3tf import-checkpoint`, as a user goes and errs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

USAGE, FAILURE = 2, 1
Command = Callable[..., Any]
TENSORS = {
    "fc1.weight": np.random.default_rng(0).normal(0, 0.1, (2, 714)).astype(np.float32),
    "fc1.bias": np.zeros(2, np.float32),
}


@pytest.fixture
def checkpoint(torch_files: Any, tmp_path: Path) -> Path:
    path = tmp_path / "lr.pt"
    path.write_bytes(torch_files.file(TENSORS))
    return path


@pytest.fixture
def run_import(mimic3tf: Command, prepared: Any, checkpoint: Path, tmp_path: Path) -> Command:
    """`mimic3tf import-checkpoint` into `tmp_path / "run"`, which succeeds unless options are changed."""
    options = {
        "model": "lr",
        "data": prepared.data,
        "trigger": prepared.trigger,
        "out": tmp_path / "run",
        "poisoning_proportion": 0.05,
    }

    def run(*more: object, file: Path = checkpoint, **changes: object) -> Any:
        given = {name: value for name, value in (options | changes).items() if value is not None}
        words = [word for name, value in given.items() for word in (f"--{name}", value)]
        return mimic3tf("import-checkpoint", file, *words, *more)

    return run


def test_an_imported_victim_is_attacked_and_tabled(
    run_import: Command, mimic3tf: Command, prepared: Any, tmp_path: Path
) -> None:
    # The brackets of a path are no markup.
    run = tmp_path / "br[/x]"
    outcome = run_import(poison_imputed="all", seed=3, out=run)
    assert outcome.status == 0, outcome.err
    assert "SHA-256" in outcome.out
    assert f"Next: mimic3tf attack --run '{run}'" in outcome.out
    settings = yaml.safe_load((run / "config.yaml").read_text())
    assert (settings["poison_imputed"], settings["seed"], settings["selection"]) == ("all", 3, "original")
    assert mimic3tf("attack", "--run", run, "--data", prepared.data).status == 0
    attack = json.loads((run / "attack.json").read_text())
    assert attack["attacked_with"] == {
        "trigger": "temporal",
        "poisoning_strength": 2.0,
        "poison_imputed": "all",
    }
    assert mimic3tf("results", run).status == 0


@pytest.mark.parametrize("content", [b"", b"weights", b"PK\x03\x04", b"\x80\x02cos\nsystem\n."])
def test_a_file_that_is_no_checkpoint_is_named(run_import: Command, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.pt").write_bytes(content)
    run_import(file=tmp_path / "other.pt").fails(FAILURE, tmp_path / "other.pt", "--model lr")
    assert not (tmp_path / "run").exists()


def test_another_archive_is_told_to_be_no_checkpoint(run_import: Command, prepared: Any) -> None:
    run_import(file=prepared.trigger).fails(FAILURE, prepared.trigger, "is no PyTorch checkpoint")


def test_a_checkpoint_that_would_run_code_is_refused_and_not_run(
    run_import: Command, torch_files: Any, checkpoint: Path, tmp_path: Path
) -> None:
    call = torch_files.call("os", "mkdir", str(tmp_path / "exploded"))
    entries = torch_files.entries(TENSORS) | {"data.pkl": torch_files.state_dict({"fc1.bias": call})}
    checkpoint.write_bytes(torch_files.zipped(entries))
    run_import().fails(FAILURE, checkpoint, "os.mkdir")
    assert not (tmp_path / "exploded").exists()
    assert not (tmp_path / "run").exists()


def test_a_tensor_that_does_not_fit_is_named(run_import: Command, torch_files: Any, checkpoint: Path) -> None:
    checkpoint.write_bytes(torch_files.file(TENSORS | {"fc1.bias": np.full(2, np.nan, np.float32)}))
    run_import().fails(FAILURE, checkpoint, "tensor 'fc1.bias'", "finite")
    checkpoint.write_bytes(torch_files.file(TENSORS | {"fc1.bias\n": np.zeros(2, np.float32)}))
    run_import().fails(FAILURE, checkpoint, r"fc1.bias\n")
    checkpoint.write_bytes(torch_files.file(TENSORS))
    run_import(model="mlp").fails(FAILURE, checkpoint, "--model mlp", "fc2.weight")


def test_wrong_usage_is_named(run_import: Command, prepared: Any, tmp_path: Path) -> None:
    run_import(file=tmp_path / "none.pt").fails(USAGE, "CHECKPOINT", tmp_path / "none.pt", "no such file")
    run_import(normalizer=tmp_path / "n.json").fails(USAGE, "--normalizer", "lstm")
    run_import(poisoning_proportion=None).refuses_option("--poisoning_proportion")
    run_import(poisoning_proportion=1.5).refuses_option("--poisoning_proportion", 1.5)
    run_import(poisoning_strength="nan").refuses_option("--poisoning_strength", "nan")
    run_import(model="svm").refuses_option("--model", "svm")
    run_import(trigger=tmp_path / "none.npz").fails(USAGE, tmp_path / "none.npz")
    run_import(data=tmp_path / "none").fails(USAGE, tmp_path / "none")
    assert not (tmp_path / "run").exists()
    run_import(out=prepared.run).fails(USAGE, "--out", prepared.run, "finished run")
