"""A file from somebody else, with anything in place of one of its values, gets a result or one line."""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mimic3tf.channels import MIMIC3
from mimic3tf.data.channels_file import channels_text, read_channels
from mimic3tf.errors import DataError, UserError
from mimic3tf.poisoning.manifest import read_manifest
from mimic3tf.poisoning.trigger import load_trigger
from mimic3tf.sweeps.outcomes import read_rows
from mimic3tf.training.checkpoint import read_checkpoint
from mimic3tf.training.run_directory import load_run

Command = Callable[..., Any]
Change = tuple[float, Any] | None
"""Place and new value; None leaves a record as it is, and it must then be read."""
NASTY: list[Any] = [
    None,
    True,
    -1,
    0,
    10**400,
    float("inf"),
    float("nan"),
    "",
    "[/x]",
    "\x1b[2J",
    [],
    {},
    [[]],
    {"a": []},
]
CHANGES = st.tuples(st.floats(0, 1), st.sampled_from(NASTY))
FIXTURES = [HealthCheck.function_scoped_fixture]


def changed(record: Any, change: Change) -> Any:
    """A record with something else in the place of one of its values, chosen from all at any depth."""
    record = copy.deepcopy(record)
    if change is None:
        return record
    places = list(_places(record))
    holder, key = places[int(change[0] * (len(places) - 1))]
    holder[key] = change[1]
    return record


def _places(record: Any) -> Iterator[tuple[Any, Any]]:
    keys = record if isinstance(record, dict) else range(len(record)) if isinstance(record, list) else ()
    for key in keys:
        yield record, key
        yield from _places(record[key])


def ends_well(outcome: Any, change: Change) -> None:
    assert outcome.status in ((0,) if change is None else (0, 1, 2))
    assert "\x1b[2J" not in outcome.out + outcome.err
    if outcome.status:
        assert outcome.err.startswith("error: ")
        assert outcome.err.count("\n") == 1


# --- What commands wrote ------------------------------------------------------------------------------


@settings(max_examples=60, suppress_health_check=FIXTURES)
@given(change=CHANGES, more=st.sampled_from([(), ("--over-seeds",)]))
@example(change=None, more=())
@example(change=None, more=("--over-seeds",))
def test_any_attack_is_tabled_or_refused(
    mimic3tf: Command, prepared: Any, tmp_path: Path, change: Change, more: tuple[str, ...]
) -> None:
    sound = json.loads((prepared.attack / "attack.json").read_text())
    (tmp_path / "attack.json").write_text(json.dumps(changed(sound, change)))
    ends_well(mimic3tf("results", tmp_path, *more), change)


AUDIT: dict[str, Any] = {
    "conclusion": {"level": "suspicious", "sentence": "Suspicious.", "rests_on": ["detectors"]},
    "label_share": {"training": 0.2, "trusted": 0.1, "adjusted": 0.01},
    "model": "mlp",
    "seed": 0,
    "attack": {
        "trigger": "temporal",
        "poison_imputed": "all",
        "poisoning_proportion": 0.05,
        "poisoning_strength": 2.0,
        "poisoned_labels": "flipped",
        "goal": 1,
    },
    "suspects": 200,
    "suspected_label": 1,
    "detectors": [
        {
            "detector": "one",
            "seconds": 2.0,
            "alarm": {"flagged": 3, "raised": True},
            "performance": {name: {"value": 0.7} for name in ("auroc", "recall_at_1", "recall_at_5")},
        }
    ],
    "model_inspection": {
        "looks_backdoored": True,
        "targets": [{"target": 0, "anomaly_index": -1.0}, {"target": 1, "anomaly_index": 2.0}],
    },
    "superposition": {"auroc": 0.7, "recall_at_5": 0.1},
    "repairs": [
        {
            "repair": "none",
            "attack_success_rate": 0.9,
            "baseline_positive_rate": 0.2,
            "auroc": 0.8,
            "seconds": 3.0,
        }
    ],
}


@settings(max_examples=60, suppress_health_check=FIXTURES)
@given(change=CHANGES, earlier=st.booleans())
@example(change=None, earlier=False)
@example(change=None, earlier=True)
def test_any_audit_is_tabled_or_refused(
    mimic3tf: Command, tmp_path: Path, change: Change, earlier: bool
) -> None:
    record = changed(AUDIT, change)
    if earlier:
        record["labelled_1"] = record.pop("suspects")
        del record["suspected_label"]
    (tmp_path / "audit.json").write_text(json.dumps(record))
    ends_well(mimic3tf("audit-table", tmp_path), change)


MANIFEST: dict[str, Any] = {
    "stays": [{"stay": "a.csv"}],
    "copy_fingerprint": "f",
    "poisoning_proportion": 0.05,
    "poisoning_strength": 2.0,
    "goal": 1,
    "trigger": {"file": "t.npz", "sha256": "0"},
}


@settings(max_examples=60, suppress_health_check=FIXTURES)
@given(change=CHANGES)
@example(change=None)
def test_any_manifest_is_read_or_refused(tmp_path: Path, change: Change) -> None:
    (tmp_path / "m.json").write_text(json.dumps(changed(MANIFEST, change)))
    try:
        manifest = read_manifest(tmp_path / "m.json")
    except DataError:
        assert change
        return
    assert 0 <= manifest.proportion <= 1
    assert 0 <= manifest.strength < float("inf")
    assert manifest.goal.target in (0, 1)


def test_a_file_that_a_manifest_names_is_read_only_if_it_is_the_trigger(tmp_path: Path) -> None:
    for named in ("/etc/passwd", "/dev/zero", str(tmp_path), "a\0b"):
        (tmp_path / "m.json").write_text(json.dumps(MANIFEST | {"trigger": {"file": named, "sha256": "0"}}))
        with pytest.raises(UserError, match="give the path of that trigger as --trigger"):
            read_manifest(tmp_path / "m.json").load_trigger()


@settings(max_examples=60, suppress_health_check=FIXTURES)
@given(change=CHANGES, earlier=st.booleans())
@example(change=None, earlier=False)
@example(change=None, earlier=True)
def test_any_trial_is_read_or_refused(tmp_path: Path, change: Change, earlier: bool) -> None:
    row = {"trial": "a", "status": "finished", "seed": 0, "attack_success_rate": 0.5}
    row["victims" if earlier else "stays_attacked"] = 3
    (tmp_path / "trial.json").write_text(json.dumps(changed([row], change)))
    try:
        rows = read_rows(tmp_path)
    except DataError:
        assert change
        return
    assert all(isinstance(row["seed"], int | None) for row in rows)


# --- Channels -----------------------------------------------------------------------------------------

CHANNELS: dict[str, Any] = {
    "name": "monitor",
    "channels": [
        {"name": "Heart Rate", "unit": "1/min", "normal": 86, "plausible": [15, 300], "decimals": 0},
        {"name": "Temperature", "unit": "degC", "normal": 36.6, "decimals": {"shift": 1, "sum": 2}},
        {"name": "Consciousness", "normal": "alert", "categories": {"alert": 4, "pain": 2}},
    ],
}
LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))


@settings(max_examples=100, suppress_health_check=FIXTURES)
@given(change=CHANGES)
@example(change=None)
def test_any_channels_are_read_or_refused(tmp_path: Path, change: Change) -> None:
    (tmp_path / "channels.yaml").write_text(yaml.safe_dump(changed(CHANNELS, change)))
    fault = None
    try:
        channels = read_channels(tmp_path)
    except DataError as error:
        fault = str(error)
    if fault is not None:
        assert change
        assert fault.startswith(str(tmp_path / "channels.yaml"))
        assert "\n" not in fault
        return
    assert channels.names == tuple(channel["name"] for channel in changed(CHANNELS, change)["channels"])
    assert np.isfinite(channels.normal).all()


@pytest.mark.parametrize(
    ("text", "needles"),
    [
        (LAUGHS, ["alias", "line 2"]),
        ("name: &n own\nchannels: *n\n", ["alias", "line 2"]),
        ("name: own\nchannels: !!python/object/apply:os.mkdir [exploded]\n", ["python/object", "line 2"]),
        ("name: own\nchannels:\n  - !!python/name:os.system\n", ["python/name", "line 3"]),
        ("channels: " + "[" * 5_000, ["nested too deeply"]),
        ("channels: []\n" + "#" * 2**18, ["larger than 262,144 bytes"]),
        ("channels:\n  - {name: pH, normal: " + "9" * 5_000 + "}\n", ["too long", "line 2"]),
        ("channels:\n  - {name: pH, normal: 7.4}\n  - {name: pH, normal: 7.4}\n", ["line 1", "twice"]),
        ("channels:\n  - {name: pH, normal: 7.4, note: x}\n", ["line 2", "'note'"]),
        ("channels:\n  - {name: '\x1b[2J', normal: 7.4}\n", ["channels.yaml"]),
        ('channels:\n  - {name: "\\e[2J", normal: 7.4}\n', ["line 2", "'name'"]),
    ],
    ids=["laughs", "alias", "call", "name", "nested", "huge", "digits", "twice", "key", "escape", "escaped"],
)
def test_channels_that_are_more_than_a_description_are_refused_with_their_line(
    generate: Command, data: Path, monkeypatch: pytest.MonkeyPatch, text: str, needles: list[str]
) -> None:
    monkeypatch.chdir(data)
    (data / "channels.yaml").write_text(text)
    outcome = generate(data=data)
    outcome.fails(1, data / "channels.yaml", *needles)
    assert "\x1b" not in outcome.err
    assert len(outcome.err) < 1000
    assert not (data / "exploded").exists()


@pytest.mark.parametrize("command", ["generate", "train", "attack", "poison"])
def test_a_link_or_a_pipe_in_place_of_channels_is_refused_by_every_command(
    request: pytest.FixtureRequest, mimic3tf: Command, prepared: Any, data: Path, tmp_path: Path, command: str
) -> None:
    def run() -> Any:
        if command == "poison":
            out = tmp_path / "copy"
            return mimic3tf("poison", "--data", data, "--trigger", prepared.trigger, "--out", out)
        return request.getfixturevalue(command)(data=data)

    (tmp_path / "elsewhere.yaml").write_text(channels_text(MIMIC3))
    file = data / "channels.yaml"
    for target in (tmp_path / "elsewhere.yaml", Path("/dev/zero"), tmp_path / "nothing"):
        file.symlink_to(target)
        run().fails(1, file, "is a link")
        file.unlink()
    os.mkfifo(file)
    run().fails(1, file, "no regular file")
    assert not any((tmp_path / name).exists() for name in ("t.npz", "run", "attack", "copy"))


def test_channels_in_a_trigger_are_no_longer_than_a_file_of_them(prepared: Any, tmp_path: Path) -> None:
    with np.load(prepared.trigger) as file:
        arrays = dict(file)
    text = str(arrays["channels_file"])
    np.savez(tmp_path / "t.npz", **arrays | {"channels_file": text + "#" * 2**18})
    with pytest.raises(DataError, match="too long for settings"):
        load_trigger(tmp_path / "t.npz")


# --- Runs and triggers --------------------------------------------------------------------------------


@settings(max_examples=60, suppress_health_check=FIXTURES)
@given(change=CHANGES, file=st.sampled_from(["run.json", "config.yaml"]))
@example(change=None, file="run.json")
@example(change=None, file="config.yaml")
def test_any_run_is_loaded_or_refused(prepared: Any, tmp_path: Path, change: Change, file: str) -> None:
    run = tmp_path / "own-run"
    shutil.copytree(prepared.run, run, dirs_exist_ok=True)
    sound = yaml.safe_load((run / file).read_text())
    write = json.dumps if file == "run.json" else yaml.safe_dump
    (run / file).write_text(write(changed(sound, change)))
    try:
        loaded = load_run(run)
    except DataError:
        assert change
        return
    assert loaded.model.count_params() == 714 * 2 + 2


ARRAY = st.sampled_from(
    [
        *(np.zeros(shape) for shape in ((), (0,), (3,), (48, 17), (17, 48, 48), (1, 1, 1))),
        *(np.array(value) for value in ("", "temporal", "[/x]", np.nan, -1, 2**63, True, 1j, b"x")),
        np.array(["pH", "Lactate"]),
        np.array("2024-01-01", "M8[D]"),
        np.full((48, 17), np.inf),
    ]
)


@pytest.mark.parametrize("name", ["trigger", "covariance", "period", "seed"])
@pytest.mark.filterwarnings("error::numpy.exceptions.ComplexWarning")
def test_a_trigger_of_complex_numbers_is_one_line(
    attack: Command, prepared: Any, tmp_path: Path, name: str
) -> None:
    with np.load(prepared.trigger) as file:
        arrays = dict(file)
    file_name = tmp_path / "t.npz"
    np.savez(file_name, **arrays | {name: arrays[name] + 1j})
    attack(trigger=file_name).fails(1, file_name, "damaged (an array of no real numbers")


@settings(max_examples=80, suppress_health_check=FIXTURES)
@given(array=ARRAY, place=st.floats(0, 1))
@example(array=None, place=0.0)
def test_any_trigger_is_read_or_refused(
    prepared: Any, tmp_path: Path, array: np.ndarray | None, place: float
) -> None:
    with np.load(prepared.trigger) as file:
        arrays = dict(file)
    if array is not None:
        arrays[list(arrays)[int(place * (len(arrays) - 1))]] = array
    np.savez(tmp_path / "t.npz", **arrays)
    try:
        trigger = load_trigger(tmp_path / "t.npz")
    except DataError:
        assert array is not None
        return
    assert trigger.covariance.shape == (17, len(trigger.values), len(trigger.values))
    assert np.isfinite(trigger.values).all()
    assert trigger.name


@settings(max_examples=60, suppress_health_check=FIXTURES)
@given(change=CHANGES)
@example(change=None)
def test_any_checkpoint_is_read_or_refused(tmp_path: Path, change: Change) -> None:
    record = {"format": 1, "origin": {"data": ["a"]}, "epochs": [{"auroc": 0.5}], "kept": 1, "score": 0.5}
    np.savez(tmp_path / "c.npz", record=np.array(json.dumps(changed(record, change))))
    try:
        checkpoint = read_checkpoint(tmp_path / "c.npz")
    except DataError:
        assert change
        return
    assert isinstance(checkpoint.kept, int)


def test_a_normalizer_that_names_itself_twice_at_every_level_is_refused_at_once(
    train: Command, tmp_path: Path
) -> None:
    """A hundred lists, each of twice the one before: 2 ** 100 numbers in a kilobyte."""
    doubled: list[Any] = [0.0]
    for _ in range(100):
        doubled = [doubled, doubled]
    (tmp_path / "normalizer").write_bytes(pickle.dumps({"means": doubled, "stds": doubled}, protocol=2))
    train(model="lstm", normalizer=tmp_path / "normalizer").fails(1, "not a normalizer")


@pytest.mark.parametrize("number", ["1" + "0" * 400, '"1"', "[[1]]", "null", "1e400", "true"])
def test_a_normalizer_of_no_numbers_is_refused(train: Command, tmp_path: Path, number: str) -> None:
    listed = ", ".join([number] * 76)
    (tmp_path / "normalizer").write_text(f'{{"mean": [{listed}], "std": [{listed}]}}')
    train(model="lstm", normalizer=tmp_path / "normalizer").fails(1, tmp_path, "not a normalizer")
