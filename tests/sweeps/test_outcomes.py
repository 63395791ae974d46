"""What a trial left is read as it was written, also by an earlier version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mimic3tf.errors import DataError
from mimic3tf.sweeps.outcomes import has_finished, read_rows, write_rows
from mimic3tf.sweeps.plan import Attack, Trial
from mimic3tf.tables.columns import COLUMNS, OF_LABELS

TRIAL = Trial("a-trial", "lr", 3, 40, 0.1, (Attack("temporal", "all", 2.0),))
MEASURED: dict[str, Any] = {"attack_success_rate": 0.5, "stays_attacked": 19, "test_stays": 24}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder of a trial that has finished."""
    write_rows(tmp_path / "trial", TRIAL, "f" * 64, [MEASURED])
    return tmp_path / "trial"


def test_a_row_says_what_was_tried_and_what_was_measured(folder: Path) -> None:
    (row,) = read_rows(folder)
    assert list(row) == [*COLUMNS, *OF_LABELS]
    assert row.items() >= MEASURED.items()
    assert (row["trial"], row["victim"], row["seed"], row["stays_poisoned"]) == ("a-trial", "lr", 3, 4)
    assert row["clean_auroc"] is None, "it was not measured"


def test_a_trial_of_an_earlier_version_is_read(folder: Path) -> None:
    """It calls the attacked stays victims."""
    rows, file = read_rows(folder), folder / "trial.json"
    (old,) = json.loads(file.read_text(encoding="utf-8"))
    old["victims"] = old.pop("stays_attacked")
    file.write_text(json.dumps([old]), encoding="utf-8")
    assert read_rows(folder) == rows
    assert has_finished(folder)


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"seed": "zero"}]'])
def test_a_damaged_trial_is_named(folder: Path, text: str) -> None:
    (folder / "trial.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"trial\.json: damaged"):
        read_rows(folder)
