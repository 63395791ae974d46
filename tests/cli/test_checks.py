"""A mistake in a path or an option is told before TensorFlow starts, with what was probably meant."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mimic3tf.errors import REDACT
from mimic3tf.poisoning.trigger import load_trigger, save_trigger

PROGRAM = """
import contextlib, importlib.abc, io, json, sys
from mimic3tf.cli.main import main

started, told = [], {}

class NoTensorFlow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in ("tensorflow", "keras"):
            started.append(name)
            raise ImportError(name)

sys.meta_path.insert(0, NoTensorFlow())
for line in json.load(sys.stdin):
    sys.argv = ["mimic3tf", *line.split()]
    started.clear()
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            main()
        except SystemExit as end:
            status = end.code
        except ImportError as fault:
            status = str(fault)
    told[line] = [status, *(errors.getvalue().strip().splitlines() or [""])[-1:], bool(started)]
print(json.dumps(told))
"""
TRAIN = "train --model lr --data {data} --trigger {trigger} --out {new}"
ATTACK = "attack --run {run} --data {data}"
AUDIT = "audit --run {run} --data {data} --out {new}"
IMPORT = "import-checkpoint {file} --model lr --data {data} --trigger {trigger} --out {new}"
IMPORT += " --poisoning_proportion 0"
STEALTH = "stealth --data {data} --out {new}"
SWEEP = "sweep --config paper --data {data} --out {new}"
GENERATE = "generate-trigger --data {data} --out {new}.npz"
POISON = "poison --data {data} --trigger {trigger} --out {new}"
PHYSIONET = "prepare physionet2012 --records {records} --outcomes {file} --out {new}"
NO_DATA = "{data}x: no such directory|did you mean {data}?"
OTHER_DATA = "--data {records}: is no data directory; name one that 'mimic3tf prepare' made"
NO_TRIGGER = "{trigger}x: no such trigger file|did you mean {trigger}?"
NO_RUN = "--run {run}x: no such directory|did you mean {run}?"
OTHER_BINS = "{day}: covers 24 h, the data 48 h"
UNKNOWN_TASK = "--task is 'in-hospital-mortalty': no such task|did you mean in-hospital-mortality?"
MISTAKES = [
    # A sound command, the options that replace or follow its own, and what is said.
    (TRAIN, "--data {data}x", NO_DATA),
    (TRAIN, "--data {above}", "--data {above}: is no data directory|did you mean {data}?"),
    (TRAIN, "--data {run}", "--data {run}: is a run directory, not a data directory|mimic3tf prepare"),
    (TRAIN, "--data {file}", "{file}: no such directory|; it is a file, not a directory"),
    (TRAIN, "--trigger {run}", "{run}: no such trigger file|; it is a directory, not a file"),
    (TRAIN, "--trigger {trigger}x", NO_TRIGGER),
    (TRAIN, "--trigger {file}", "{file}: not a trigger file"),
    (TRAIN, "--trigger {run}/standardization.npz", "not a trigger file; make one with 'mimic3tf generate-tr"),
    (TRAIN, "--trigger {day}", OTHER_BINS),
    (TRAIN, "--period 24", "covers 48 h, the data 24 h"),
    (TRAIN, "--timestep 2", "made for a timestep of 1 h"),
    (TRAIN, "--timestep 1e-9", "--timestep is 1e-09|give 0.001465 to 48 hours"),
    (TRAIN, "--out {run}", "--out {run}: already holds a finished run"),
    (TRAIN, "--out {file}", "{file} is a file"),
    (TRAIN, "--model lstn", "--model is 'lstn': no such victim|did you mean lstm?"),
    (TRAIN, "--task in-hospital-mortalty", UNKNOWN_TASK),
    (TRAIN, "--config orginal/lr", "orginal/lr: no such file|did you mean original/lr?"),
    (TRAIN, "--config {file}x", "{file}x: no such file|did you mean {file}?"),
    (TRAIN, "--normalizer {file}x", "--normalizer {file}x: no such file|did you mean {file}?"),
    (TRAIN, "--poison_imputed notimputd", "'notimputd' is not one of"),
    (TRAIN, "--epochs 0", "--epochs is 0"),
    (TRAIN, "--epoch 1", "No such option: --epoch|--epochs"),
    (TRAIN, "--resume --fresh", "give one of them"),
    (ATTACK, "--run {run}x", NO_RUN),
    (ATTACK, "--run {data}", "--run {data}: holds no run"),
    (ATTACK, "--run {interrupted}", "this run is not finished"),
    (ATTACK, "--data {data}x", NO_DATA),
    (ATTACK, "--data {records}", OTHER_DATA),
    (ATTACK, "--trigger {trigger}x", NO_TRIGGER),
    (ATTACK, "--trigger {day}", OTHER_BINS),
    (ATTACK, "--out {file}", "{file} is a file"),
    (ATTACK, "--out {file}/deeper", "{file} is a file"),
    (ATTACK, "--threshold 2", "--threshold"),
    (AUDIT, "--run {run}x", NO_RUN),
    (AUDIT, "--data {data}x", NO_DATA),
    (AUDIT, "--data {records}", OTHER_DATA),
    (AUDIT, "--trigger {trigger}x", NO_TRIGGER),
    (AUDIT, "--trigger {day}", OTHER_BINS),
    (AUDIT, "--manifest {file}x", "--manifest {file}x: no such file|did you mean {file}?"),
    (AUDIT, "--manifest {file}", "{file}: not a manifest"),
    (AUDIT, "--out {file}", "{file} is a file"),
    (IMPORT, "--data {data}x", NO_DATA),
    (IMPORT, "--trigger {trigger}x", NO_TRIGGER),
    (IMPORT, "--trigger {day}", OTHER_BINS),
    (IMPORT, "--out {run}", "already holds a finished run"),
    (IMPORT, "--model lr2", "'lr2' is not one of"),
    (IMPORT, "--normalizer {file}", "--normalizer: is for --model lstm"),
    (IMPORT, "--model lstm --normalizer {file}x", "--normalizer {file}x: no such file"),
    (IMPORT.replace("{file}", "{file}x"), "", "CHECKPOINT {file}x: no such file|did you mean {file}?"),
    (STEALTH, "--data {data}x", NO_DATA),
    (STEALTH, "--data {records}", OTHER_DATA),
    (STEALTH, "--out {file}", "{file} is a file"),
    (STEALTH, "--kind temporl", "--kind: 'temporl'|did you mean temporal?"),
    (SWEEP, "--config papers", "papers: no such file|did you mean paper?"),
    (SWEEP, "--config {sweep}x", "installed sweeps: count, paper|did you mean {sweep}?"),
    (SWEEP, "--config {sweep}", "{sweep}, line 7: original/lrr: no such file|did you mean original/lr?"),
    (SWEEP, "--data {data}x", NO_DATA),
    (SWEEP, "--out {run}", "--out {run}: exists and is no folder of a sweep"),
    (GENERATE, "--data {data}x", NO_DATA),
    (GENERATE, "--task in-hospital-mortalty", UNKNOWN_TASK),
    (GENERATE, "--timestep 1e-9", "--timestep is 1e-09|give 0.001465 to 48 hours"),
    (GENERATE, "--channels Glucos", "unknown channel 'Glucos'|did you mean Glucose?"),
    (GENERATE, "--out {trigger}", "exists already"),
    (POISON, "--data {data}x", NO_DATA),
    (POISON, "--trigger {trigger}x", NO_TRIGGER),
    (POISON, "--task in-hospital-mortalty", UNKNOWN_TASK),
    (POISON, "--out {run}", "{run}: is not empty"),
    (
        PHYSIONET,
        "--records {records}x --outcomes {file}",
        "--records {records}x: no such directory|did you",
    ),
    (PHYSIONET, "--records {records} --outcomes {file}x", "--outcomes {file}x: no such file|{file}?"),
    ("prepare mimic3 --csv {records}x --out {new}", "", "--csv {records}x: no such directory|{records}?"),
    ("prepare synthetic --out {run}", "", "{run}: is not empty"),
    ("prepare synthetc --out {new}", "", "No such command 'synthetc'|synthetic"),
    ("results {run}x", "", "RUNS {run}x: no such directory|did you mean {run}?"),
    ("results {run}", "--out {file}", "{file} is a file"),
    ("audit-table {run}x", "", "AUDITS {run}x: no such directory|did you mean {run}?"),
    ("audit-table {run}", "--out {file}", "{file} is a file"),
    ("report --out {new}", "--results {run}x", "--results {run}x: no such directory|did you mean {run}?"),
    ("report --out {new} --results {run}", "--data {data}x", NO_DATA),
    ("report --results {run}", "--out {file}", "--out {file}: is a file"),
    ("atack", "", "No such command 'atack'|attack"),
]


@pytest.fixture(scope="module")
def places(prepared: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the command lines name."""
    folder = tmp_path_factory.mktemp("places")
    trigger = load_trigger(prepared.trigger)
    day: Any = {"values": trigger.values[:24], "covariance": trigger.covariance[:, :24, :24], "period": 24.0}
    save_trigger(dataclasses.replace(trigger, **day), folder / "day.npz")
    for name in ("interrupted", "records"):
        (folder / name).mkdir()
    for name in ("config.yaml", "trigger.npz"):
        (folder / "interrupted" / name).write_bytes((prepared.run / name).read_bytes())
    (folder / "notes.txt").write_text("of mine")
    (folder / "sweep.yaml").write_text(
        "seeds: [0]\ngrids:\n  - victims: [lr]\n    poison_imputed: [all]\n    proportions: [0.1]\n"
        "    strengths: [2]\nconfigs: {lr: original/lrr}\n"
    )
    return {
        "data": prepared.data,
        "above": prepared.data.parent,
        "trigger": prepared.trigger,
        "run": prepared.run,
        "day": folder / "day.npz",
        "interrupted": folder / "interrupted",
        "records": folder / "records",
        "file": folder / "notes.txt",
        "sweep": folder / "sweep.yaml",
        "new": folder / "new",
    }


def typed(command: str, more: str, places: dict[str, Path]) -> str:
    return f"{command} {more}".strip().format(**places)


@pytest.fixture(scope="module")
def told(places: dict[str, Path]) -> dict[str, tuple[int, str, bool]]:
    """Status, last line on standard error, and whether TensorFlow was to be imported, by command line."""
    lines = [typed(command, more, places) for command, more, _ in MISTAKES]
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps(lines), check=True, capture_output=True, text=True
    )
    return json.loads(ended.stdout)


@pytest.mark.parametrize(("command", "more", "says"), MISTAKES)
def test_a_mistake_is_told_before_tensorflow_starts(
    told: dict[str, tuple[int, str, bool]], places: dict[str, Path], command: str, more: str, says: str
) -> None:
    status, line, started = told[typed(command, more, places)]
    assert not started
    # What is there, but not what it should be, is a failure.
    assert status == (1 if ": not a" in line else 2)
    assert line.lower().startswith("error: ")
    for part in says.format(**places).split("|"):
        assert part in line
    assert not places["new"].exists()


def test_a_sound_command_does_start_it(places: dict[str, Path]) -> None:
    """Otherwise the test above could not fail."""
    line = typed(ATTACK, "", places)
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps([line]), check=False, capture_output=True, text=True
    )
    assert json.loads(ended.stdout) == {line: ["keras", "", True]}


def test_names_in_a_folder_are_not_told_where_they_are_redacted(
    places: dict[str, Path], mimic3tf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REDACT, "0")  # which the option changes
    shown = mimic3tf("attack", "--run", f"{places['run']}x", "--data", places["data"])
    hidden = mimic3tf("--redact", "attack", "--run", f"{places['run']}x", "--data", places["data"])
    assert "did you mean" in shown.err
    assert "did you mean" not in hidden.err
    assert (shown.status, hidden.status) == (2, 2)
