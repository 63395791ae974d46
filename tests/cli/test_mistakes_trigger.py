"""A trigger or normalizer that cannot be used gets one line, and nothing in it is run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic3tf.channels import MIMIC3, ChannelSet
from mimic3tf.data.channels_file import channels_text
from mimic3tf.poisoning.trigger import load_trigger

USAGE, FAILURE = 2, 1
Command = Callable[..., Any]
NAMES = list(MIMIC3.names)
HALF = {"trigger": np.zeros((24, 17)), "covariance": np.zeros((17, 24, 24))}


class Bomb:
    """Makes a directory when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.fixture
def rewrite(prepared: Any, tmp_path: Path) -> Callable[..., Path]:
    """Write the sound trigger with some arrays replaced, or left out where None."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "other.npz"
        with np.load(prepared.trigger, allow_pickle=False) as file:
            arrays = dict(file) | changes
        np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
        return path

    return write


# --- Trigger files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["train", "attack"])
@pytest.mark.parametrize(
    ("changes", "status", "needles"),
    [
        ({"timestep": 2.0, "period": 96.0}, USAGE, ["timestep", "2 h", "1 h", "--timestep 2"]),
        ({"timestep": 2.0}, FAILURE, ["damaged", "48 bins", "timestep of 2 h", "48 h"]),
        ({"timestep": float("nan")}, FAILURE, ["damaged", "timestep"]),
        ({"period": -1.0}, FAILURE, ["damaged", "-1 h"]),
        (HALF | {"period": 24.0}, USAGE, ["covers 24 h", "the data 48 h", "--period 24"]),
        (HALF, FAILURE, ["damaged", "24 bins", "48 h"]),
        ({"trigger": np.zeros(48 * 17)}, FAILURE, ["(816,)"]),
        ({"covariance": np.zeros(3)}, FAILURE, ["covariance", "(3,)"]),
        ({"channels": [*NAMES[:-1], "Lactate"]}, FAILURE, ["channels"]),
        ({"channels": NAMES[::-1]}, FAILURE, ["channels"]),
        ({"trigger": np.full((48, 17), np.nan)}, FAILURE, ["not finite"]),
        ({"trigger": np.full((48, 17), "much")}, FAILURE, ["not a trigger file"]),
        ({"seed": None}, FAILURE, ["seed"]),
        ({"format": 99}, FAILURE, ["99"]),
        ({"channels_file": None}, FAILURE, ["channels_file"]),
        ({"channels_file": "name: none"}, FAILURE, ["not a trigger file", "'channels'"]),
    ],
    ids=[
        "timestep",
        "timestep-alone",
        "nan-timestep",
        "negative-period",
        "period",
        "shape",
        "flat",
        "covariance",
        "channels",
        "order",
        "nan",
        "text",
        "no-seed",
        "format",
        "no-description",
        "description",
    ],
)
def test_a_trigger_that_does_not_fit_is_refused(
    request: pytest.FixtureRequest,
    rewrite: Callable[..., Path],
    tmp_path: Path,
    command: str,
    changes: dict[str, Any],
    status: int,
    needles: list[str],
) -> None:
    path = rewrite(**changes)
    request.getfixturevalue(command)(trigger=path).fails(status, path, *needles)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "attack").exists()


@pytest.mark.parametrize("command", ["train", "attack", "poison"])
def test_a_trigger_of_other_channels_names_the_first_that_differs(
    request: pytest.FixtureRequest,
    mimic3tf: Command,
    prepared: Any,
    rewrite: Callable[..., Path],
    command: str,
) -> None:
    others = [replace(channel, unit="bpm") if channel.name == "Heart Rate" else channel for channel in MIMIC3]
    path = rewrite(channels_file=channels_text(ChannelSet("others", tuple(others))))
    if command == "poison":
        out = path.with_name("copy")
        outcome = mimic3tf("poison", "--data", prepared.data, "--trigger", path, "--out", out)
        assert not out.exists()
    else:
        outcome = request.getfixturevalue(command)(trigger=path)
    outcome.fails(USAGE, "--trigger", path, "other channels", "'Heart Rate'")


def test_a_trigger_of_another_timestep_or_period_names_the_option_to_give(
    generate: Command, train: Command, attack: Command, tmp_path: Path
) -> None:
    # Every stay has a row in its first 42 hours.
    for option, value, usual in (("--timestep", 0.5, 1), ("--period", 42, 48)):
        path = tmp_path / f"trigger{option}.npz"
        assert generate(option, value, out=path).status == 0
        for command in (train, attack):
            # An attack reads stays as the victim does: there it takes another trigger.
            outcome = command(trigger=path)
            outcome.fails(
                USAGE, path, f"give {option} {value} to 'train'", f"a trigger with {option} {usual}"
            )
        assert not (tmp_path / "run").exists()
        assert train(option, value, trigger=path).status == 0
        shutil.rmtree(tmp_path / "run")


def test_a_trigger_of_several_patterns_is_written_or_names_the_option_that_contradicts(
    generate: Command, tmp_path: Path
) -> None:
    generate("--patterns", 2, "--moved").fails(USAGE, "--moved", "--patterns")
    generate("--moved", "--hours", "0-24").fails(USAGE, "--moved", "--hours")
    generate("--moved", "--kind", "missing").fails(USAGE, "--moved", "missing")
    generate("--patterns", 257).refuses_option("--patterns")
    assert not (tmp_path / "t.npz").exists()
    for name, option, patterns in (("t.npz", ("--patterns", 3), 3), ("m.npz", ("--moved",), 48)):
        outcome = generate(*option, out=tmp_path / name)
        assert outcome.status == 0
        assert f"{patterns} patterns" in outcome.out
        assert len(load_trigger(tmp_path / name).patterns) == patterns


@pytest.mark.parametrize("command", ["train", "attack"])
def test_a_missing_trigger_is_named(request: pytest.FixtureRequest, tmp_path: Path, command: str) -> None:
    outcome = request.getfixturevalue(command)(trigger=tmp_path / "absent.npz")
    outcome.fails(USAGE, tmp_path / "absent.npz", "generate-trigger")


def test_a_missing_trigger_is_named_before_data_are_read(train: Command, data: Path, tmp_path: Path) -> None:
    (data / "train_listfile.csv").write_text("")
    train(data=data, trigger=tmp_path / "absent.npz").fails(USAGE, tmp_path / "absent.npz")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut off", b"\x93NUMPY"])
def test_a_file_that_is_no_trigger_is_refused(train: Command, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "no-trigger.npz"
    path.write_bytes(content)
    train(trigger=path).fails(FAILURE, path, "not a trigger file")


@pytest.mark.parametrize("field", ["trigger", "channels", "kind"])
def test_a_pickle_inside_a_trigger_is_refused_and_not_run(
    train: Command, rewrite: Callable[..., Path], tmp_path: Path, field: str
) -> None:
    bomb = np.empty(1, object)
    bomb[0] = Bomb(tmp_path / "exploded")
    path = rewrite(**{field: bomb})
    train(trigger=path).fails(FAILURE, path, "not a trigger file")
    assert not (tmp_path / "exploded").exists()


def test_a_bare_pickle_as_trigger_is_refused_and_not_run(train: Command, tmp_path: Path) -> None:
    path = tmp_path / "pattern.npy"
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    outcome = train(trigger=path)
    outcome.fails(FAILURE, path, "not a trigger file")
    assert not (tmp_path / "exploded").exists()
    # NumPy's own message advises to load the file unsafely.
    assert "unsafely" not in outcome.err


# --- Making one ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["trigger", "trigger.npy", "trigger.npz.gz"])
def test_a_trigger_file_has_to_end_in_npz(generate: Command, tmp_path: Path, name: str) -> None:
    generate(out=tmp_path / name).fails(USAGE, "--out", tmp_path / name, ".npz")
    assert not (tmp_path / name).exists()


def test_a_directory_in_place_of_a_trigger_file_is_refused(generate: Command, tmp_path: Path) -> None:
    (tmp_path / "t.npz").mkdir()
    generate(out=tmp_path / "t.npz").fails(USAGE, "--out", tmp_path / "t.npz")
    assert not any((tmp_path / "t.npz").iterdir())


def test_the_largest_seed_is_kept_and_a_larger_one_refused(generate: Command, tmp_path: Path) -> None:
    assert generate(seed=2**32 - 1).status == 0
    with np.load(tmp_path / "t.npz", allow_pickle=False) as file:
        assert int(file["seed"]) == 2**32 - 1
    generate(seed=2**32).refuses_option("--seed", 2**32)


def test_a_trigger_needs_two_stays(generate: Command, data: Path) -> None:
    (data / "train_listfile.csv").write_text("stay,y_true\n9000_episode1_timeseries.csv,1\n")
    generate(data=data).fails(USAGE, "2 stays", "training")
    generate("--estimate-on", 1).refuses_option("--estimate-on", 1)


@pytest.mark.parametrize(
    ("options", "needles"),
    [
        ({"channels": "Heart Rate,Lactate"}, ["--channels", "Lactate", "Heart Rate"]),
        ({"channels": ""}, ["--channels", "known"]),
        ({"hours": "24"}, ["--hours 24", "24-48"]),
        ({"hours": "24-12"}, ["--hours 24-12", "0 to 48"]),
        ({"hours": "0-49"}, ["--hours 0-49", "0 to 48"]),
        ({"hours": "1.2.3-4"}, ["--hours 1.2.3-4"]),
    ],
    ids=["channel", "no-channel", "one-hour", "backwards", "beyond", "no-number"],
)
def test_what_a_trigger_cannot_be_restricted_to_is_named(
    generate: Command, tmp_path: Path, options: dict[str, str], needles: list[str]
) -> None:
    generate(**options).fails(USAGE, *needles)
    assert not (tmp_path / "t.npz").exists()


@pytest.mark.parametrize("command", ["train", "attack"])
def test_a_missing_trigger_takes_a_share_for_its_strength(
    request: pytest.FixtureRequest, generate: Command, tmp_path: Path, command: str
) -> None:
    assert generate(kind="missing").status == 0
    outcome = request.getfixturevalue(command)(trigger=tmp_path / "t.npz", poisoning_strength=2.0)
    outcome.fails(USAGE, "--poisoning_strength", "from 0 to 1")
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "attack").exists()


def test_clean_labels_need_enough_stays_of_label_1(train: Command, tmp_path: Path) -> None:
    outcome = train(poisoned_labels="clean", poisoning_proportion=0.9)
    outcome.fails(USAGE, "--poisoning_proportion 0.9", "clean labels", "of label 1")
    assert not (tmp_path / "run").exists()


# --- Normalizers --------------------------------------------------------------------------------------


def normalizer(columns: int = 76, **changes: list[float]) -> bytes:
    return json.dumps({"mean": [0.0] * columns, "std": [1.0] * columns, **changes}).encode()


@pytest.mark.parametrize(
    ("content", "needles"),
    [
        (b"{", ["not a normalizer"]),
        (b"", ["not a normalizer"]),
        (b"[1, 2]", ["not a normalizer"]),
        (b'{"mean": [0]}', ["not a normalizer", "std"]),
        (normalizer(59), ["59", "76"]),
        (normalizer(std=[0.0] * 76), ["not a normalizer", "positive"]),
        (normalizer(mean=[float("nan")] * 76), ["not a normalizer", "finite"]),
    ],
    ids=["cut", "empty", "list", "no-std", "columns", "zero-std", "nan-mean"],
)
def test_a_bad_normalizer_is_named_before_a_run_directory_is_made(
    train: Command, tmp_path: Path, content: bytes, needles: list[str]
) -> None:
    path = tmp_path / "normalizer"
    path.write_bytes(content)
    train(model="lstm", normalizer=path).fails(FAILURE, path, *needles)
    assert not (tmp_path / "run").exists()


def test_a_normalizer_that_is_a_malicious_pickle_is_refused_and_not_run(
    train: Command, tmp_path: Path
) -> None:
    path = tmp_path / "normalizer"
    path.write_bytes(pickle.dumps({"means": Bomb(tmp_path / "exploded"), "stds": [1.0] * 76}))
    train(model="lstm", normalizer=path).fails(FAILURE, path, "not a normalizer", "mkdir")
    assert not (tmp_path / "exploded").exists()
