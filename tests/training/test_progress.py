"""The progress bar says how training goes, and leaves the terminal as it was."""

from __future__ import annotations

import atexit
from collections.abc import Callable
from typing import Any

import pytest

from mimic3tf.training.progress import EpochProgress

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
LOGS = {"loss": 0.7183, "auroc": 0.8142, "asr": 0.25}


@pytest.fixture
def exit_functions(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], Any]]:
    """What would be called at the end of the process, on what rich takes for a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    registered: list[Callable[[], Any]] = []
    monkeypatch.setattr(atexit, "register", registered.append)
    monkeypatch.setattr(atexit, "unregister", registered.remove)
    return registered


def test_the_bar_shows_the_epoch_and_its_metrics(
    exit_functions: list[Callable[[], Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    bar = EpochProgress(2)
    bar.on_train_begin()
    assert "the first one takes the longest" in capsys.readouterr().err
    bar.on_epoch_end(0, LOGS)
    bar.on_train_end()
    printed = capsys.readouterr()
    assert "loss 0.718  AUROC 0.814  ASR 0.250" in printed.err
    assert "1/2" in printed.err
    assert printed.out == ""


def test_a_finished_bar_gives_the_cursor_back(
    exit_functions: list[Callable[[], Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    bar = EpochProgress(1)
    bar.on_train_begin()
    bar.on_train_end()
    assert SHOW_CURSOR in capsys.readouterr().err
    assert exit_functions == []


def test_an_interrupted_bar_gives_the_cursor_back_at_exit(
    exit_functions: list[Callable[[], Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    EpochProgress(1).on_train_begin()
    before = capsys.readouterr().err
    assert HIDE_CURSOR in before
    assert SHOW_CURSOR not in before
    for function in exit_functions:
        function()
    assert SHOW_CURSOR in capsys.readouterr().err
