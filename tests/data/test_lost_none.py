from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mimic3tf.channels import MIMIC3
from mimic3tf.data.loading import load_cohort
from mimic3tf.data.lost_none import CHANNEL, ENOUGH_STAYS
from mimic3tf.sources import layout

EYES = MIMIC3.position(CHANNEL)
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Make a directory whose training stays are charted one text each, at hour 1."""

    def make(*texts: str) -> Path:
        count = len(texts) + 2
        codes = [MIMIC3[EYES].category_index(text) for text in (*texts, "To Pain", "To Pain")]
        stays = np.arange(count)
        rows = layout.rows_from_cells(stays, np.full(count, 60), np.full(count, EYES), np.array(codes, float))
        splits = {"train": stays[:-2], "val": stays[-2:-1], "test": stays[-1:]}
        names = [f"{stay}_episode1_timeseries.csv" for stay in stays]
        cohort = layout.PreparedCohort(names, np.zeros(count, np.int64), splits, rows)
        layout.write_benchmark_directory(tmp_path / "data", cohort)
        return tmp_path / "data"

    return make


def test_a_directory_that_never_holds_none_is_told_so_once(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = write(*["To Speech"] * ENOUGH_STAYS)
    load_cohort(directory, "train")
    (line,) = filter(None, capsys.readouterr().err.splitlines())
    assert line.startswith(str(directory))
    assert "mimic3tf prepare mimic3" in line
    assert "keep_default_na=False" in line
    load_cohort(directory, "train")
    assert not capsys.readouterr().err.strip()


def test_so_it_is_where_the_cohort_comes_from_the_cache(
    write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = write(*["Spontaneously"] * ENOUGH_STAYS)
    with monkeypatch.context() as silent:
        silent.setattr("mimic3tf.data.loading.note_lost_none", lambda *_: None)
        load_cohort(directory, "train")
    assert not capsys.readouterr().err.strip()
    load_cohort(directory, "train")
    assert "keep_default_na" in capsys.readouterr().err


@pytest.mark.parametrize(
    "texts",
    [
        ["To Speech"] * (ENOUGH_STAYS - 1),
        ["To Speech"] * ENOUGH_STAYS + ["None"],
        ["3 To speech"] * ENOUGH_STAYS,
    ],
    ids=["few stays", "None is there", "the other charting software"],
)
def test_nothing_is_said_without_a_reason(
    write: Write, texts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    load_cohort(write(*texts), "train")
    assert not capsys.readouterr().err.strip()


def test_synthetic_stays_have_lost_nothing(
    small_cohort: Callable[[int, int], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data = small_cohort(200, 0)
    capsys.readouterr()
    load_cohort(data, "train")
    assert not capsys.readouterr().err.strip()
