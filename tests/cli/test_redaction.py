"""`mimic3tf --redact`: messages neither name a stay nor show what a cell holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mimic3tf.channels import MIMIC3
from mimic3tf.data.readers import InHospitalMortalityReader, read_chunk
from mimic3tf.errors import REDACT, DataError

FAILURE = 1
Command = Callable[..., Any]
HEADER = MIMIC3.header
STAY = "9000_episode1_timeseries.csv"
SECRET = "77.7secret"
EYES = "Glascow coma scale eye opening"


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def spoil_cell(data: Path, column: str = "pH") -> None:
    path = data / "train" / STAY
    lines = path.read_text(encoding="utf-8").split("\n")
    cells = lines[2].split(",")
    cells[HEADER.index(column)] = SECRET
    lines[2] = ",".join(cells)
    path.write_text("\n".join(lines), encoding="utf-8")


def spoil_order(data: Path) -> None:
    path = data / "train" / STAY
    header, first, *rest = path.read_text(encoding="utf-8").split("\n")
    path.write_text("\n".join([header, f"47.77{first[first.index(',') :]}", *rest]), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "private", "named"),
    [
        (spoil_cell, (SECRET, STAY), "line 3: channel 'pH' holds"),
        (
            lambda data: spoil_cell(data, EYES),
            (SECRET, STAY),
            "line 3: unknown category '[redacted]' in channel",
        ),
        (spoil_order, ("47.77", STAY), "line 3: column 'Hours' goes back"),
        (lambda data: replace(data / "train" / STAY, "pH", SECRET), (SECRET, STAY), "missing channel 'pH'"),
        (lambda data: (data / "train" / STAY).unlink(), (STAY,), "the listfile names this stay"),
        (lambda data: (data / "train" / STAY).write_text(",".join(HEADER)), (STAY,), "the series is empty"),
        (
            lambda data: replace(data / "train_listfile.csv", STAY, f"../{STAY}"),
            (STAY,),
            "column 'stay' holds '[redacted]'; that is no file name",
        ),
        (
            lambda data: replace(data / "train_listfile.csv", f"{STAY},", f"{STAY},{SECRET}"),
            (SECRET,),
            "column 'y_true' holds '[redacted]'",
        ),
        (
            lambda data: replace(data / "train_listfile.csv", "\n", f"\n{STAY},0\n"),
            (STAY,),
            "stay '[redacted]' is listed twice",
        ),
    ],
    ids=["cell", "category", "order", "header", "absent", "empty", "path", "label", "twice"],
)
def test_only_the_place_is_told(
    mimic3tf: Command,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], Any],
    private: tuple[str, ...],
    named: str,
) -> None:
    # The option sets it; this restores it.
    monkeypatch.setenv(REDACT, "0")
    spoil(data)
    command = ("generate-trigger", "--data", data, "--out", tmp_path / "new.npz")
    shown = mimic3tf(*command)
    shown.fails(FAILURE, *private)
    hidden = mimic3tf("--redact", *command)
    hidden.fails(FAILURE, named, "[redacted]", "train")
    for text in private:
        assert text not in hidden.err


def test_records_of_physionet_are_not_named(
    mimic3tf: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REDACT, "1")
    records = tmp_path / "set-a"
    records.mkdir()
    (records / "132539.txt").write_text(f"Time,Parameter,Value\n00:00,RecordID,132539\n00:07,HR,{SECRET}\n")
    outcomes = tmp_path / "Outcomes-a.txt"
    outcomes.write_text("RecordID,In-hospital_death\n132539,0\n")
    outcome = mimic3tf(
        *("prepare", "physionet2012", "--records", records, "--outcomes", outcomes, "--out", tmp_path / "out")
    )
    outcome.fails(FAILURE, "line 3: HR is '[redacted]', not a number")
    assert "132539" not in outcome.err
    assert SECRET not in outcome.err


def test_the_reader_names_no_stay(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REDACT, "1")
    (data / "train" / STAY).write_bytes(b"\xff")
    reader = InHospitalMortalityReader(data / "train", data / "train_listfile.csv")
    with pytest.raises(DataError, match="not UTF-8") as raised:
        read_chunk(reader, reader.get_number_of_examples())
    assert STAY not in str(raised.value)


def test_a_fault_of_ours_shows_no_traceback(
    mimic3tf: Command, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REDACT, "0")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr("mimic3tf.poisoning.trigger.generate_trigger", fail)
    outcome = mimic3tf("--redact", "generate-trigger", "--data", data, "--out", tmp_path / "new.npz")
    outcome.fails(FAILURE, "RuntimeError", "without --redact")
    assert SECRET not in outcome.err
