from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from mimic3tf.config import resolve_config
from mimic3tf.sweeps import board as sweep_board
from mimic3tf.sweeps.board import SweepBoard
from mimic3tf.sweeps.outcomes import write_rows
from mimic3tf.sweeps.plan import Attack, Trial
from mimic3tf.sweeps.trial import Job


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(sweep_board, "time", clock)
    return clock


def job(folder: Path, name: str, victim: str = "lr", attacks: int = 1) -> Job:
    config = resolve_config("lr", None, {"data": folder, "trigger": folder / "t.npz"})
    several = tuple(Attack("temporal", "all", strength) for strength in range(attacks))
    trial = Trial(name, victim, 0, 40, 0.1, several)
    return Job(trial, config, {}, folder / name, "fingerprint")


def end(board: SweepBoard, job: Job, *rates: float, error: str | None = None) -> None:
    measured = [{"attack_success_rate": rate, "clean_auroc": 0.75} for rate in rates]
    write_rows(job.folder, job.trial, "fingerprint", measured, error)
    board.ended(job)


def test_a_line_a_trial_where_there_is_no_terminal(
    clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [
        job(tmp_path, "a"),
        job(tmp_path, "b", attacks=3),
        job(tmp_path, "c", "lstm"),
        *(job(tmp_path, f"d{i}", "lstm") for i in range(3)),
    ]
    with SweepBoard(jobs, before=4) as board:
        board.started(jobs[0])
        board.started(jobs[1])
        clock.now += 10
        end(board, jobs[0], 0.5)
        board.started(jobs[2])
        clock.now += 10
        end(board, jobs[1], 0.25, 0.75, 0.5)
        clock.now += 80
        end(board, jobs[2], error="[red] no such luck")
    printed = capsys.readouterr().err.splitlines()
    assert printed == [
        # Two at a time: five as long as this one, at first; then four; then three as long as the LSTM.
        "5/10 a: ASR 0.500, AUROC 0.750, 10 s; 0 failed, about 25 s left",
        "6/10 b: ASR 0.250 to 0.750, AUROC 0.750, 20 s; 0 failed, about 30 s left",
        "7/10 c: failed: [red] no such luck, 1 min 30 s; 1 failed, about 2 min 15 s left",
    ]
    assert board.failed == 1


def test_a_terminal_gets_a_table_of_what_ended_last_and_of_what_runs(clock: Clock, tmp_path: Path) -> None:
    jobs = [job(tmp_path, f"trial-{i}") for i in range(14)]
    board = SweepBoard(jobs, before=0)
    for one in jobs[:12]:
        board.started(one)
        end(board, one, 0.125)
    board.started(jobs[12])
    clock.now += 7
    screen = Console(width=100, record=True, file=(tmp_path / "screen").open("w"))
    screen.print(board._render())
    shown = screen.export_text()
    assert [f"trial-{i} " in shown for i in range(14)] == [False] * 2 + [True] * 11 + [False]
    assert "12/14" in shown
    assert "1 running, 0 failed" in shown
    assert "7 s" in shown
