"""`mimic3tf report` ends in a page, or in one line that says what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from invented_run import write_run

from mimic3tf.cli.main import main
from mimic3tf.data.loading import load_cohort
from mimic3tf.poisoning.trigger import generate_trigger, save_trigger

Report = Callable[..., tuple[int, str, str]]


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Report:
    """Runs the command; its exit status, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mimic3tf", "report", *map(str, arguments)])
        capsys.readouterr()
        status = 0
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def sweep(invented: Any, synthetic_stays: Path, tmp_path: Path) -> Path:
    """A sweep of one trial on the synthetic stays."""
    folder = invented.write(tmp_path / "sweep", [invented.trial()], data=str(synthetic_stays))
    trigger = generate_trigger(load_cohort(synthetic_stays, "train"))
    save_trigger(trigger, folder / "triggers" / "temporal-0.npz")
    return Path(folder)


def test_the_patient_comes_from_the_sweeps_data(report: Report, sweep: Path, tmp_path: Path) -> None:
    status, out, _ = report("--results", sweep, "--out", tmp_path / "out")
    assert status == 0
    assert str(tmp_path / "out" / "report.html") in out
    assert (tmp_path / "out" / "figures" / "stay_courses.pdf").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--no-patient"], "left out by --no-patient"),
        ([], "the sweep&#39;s data directory gone is not there any more; give its place as --data"),
    ],
)
def test_a_page_without_a_patient_says_why(
    report: Report, sweep: Path, tmp_path: Path, options: list[str], reason: str
) -> None:
    (sweep / "sweep.yaml").write_text("data: gone\n", encoding="utf-8")
    assert report("--results", sweep, "--out", tmp_path / "out", *options)[0] == 0
    assert reason in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert not (tmp_path / "out" / "figures" / "stay_courses.pdf").exists()


def test_changed_data_are_left_out_unless_they_are_asked_for(
    report: Report, invented: Any, sweep: Path, tmp_path: Path, synthetic_stays: Path
) -> None:
    invented.write_triggers(sweep)
    assert report("--results", sweep, "--out", tmp_path / "out")[0] == 0
    assert "holds other stays" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    status, _, err = report("--results", sweep, "--out", tmp_path / "other", "--data", synthetic_stays)
    assert (status, err.count("\n")) == (2, 1)
    assert "holds other stays" in err


def test_a_wrong_folder_ends_in_one_line(report: Report, tmp_path: Path) -> None:
    status, _, err = report("--results", tmp_path, "--out", tmp_path / "out")
    assert status == 2
    assert err.startswith(f"error: --results {tmp_path}: holds no results.csv")
    assert "mimic3tf sweep" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_damaged_file_ends_in_one_line(report: Report, sweep: Path, tmp_path: Path) -> None:
    (sweep / "cohort.json").write_text("{", encoding="utf-8")
    status, _, err = report("--results", sweep, "--out", tmp_path / "out")
    assert (status, err.count("\n")) == (1, 1)
    assert str(sweep / "cohort.json") in err


def test_runs_are_reported_side_by_side(report: Report, tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name) for name in ("one", "other")]
    status, out, _ = report(*runs, "--out", tmp_path / "out")
    assert status == 0
    assert str(tmp_path / "out" / "report.html") in out
    assert "2 runs: one, other." in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_sweep_needs_no_option(report: Report, sweep: Path, tmp_path: Path) -> None:
    assert report(sweep, "--out", tmp_path / "out", "--no-patient")[0] == 0
    assert "1 finished trials of LR" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (None, "no such folder"),
        ((), "holds no run, audit or sweep; train a victim with 'mimic3tf train --model lr --data DATA"),
        (("config.yaml", "trigger.npz"), "this run is not finished; go on with: mimic3tf train --model lr"),
    ],
)
def test_a_folder_without_a_finished_run_ends_in_one_line(
    report: Report, tmp_path: Path, left: tuple[str, ...] | None, said: str
) -> None:
    run = tmp_path / "run"
    if left is not None:
        for file in write_run(run).iterdir():
            if file.name not in left:
                file.unlink()
    status, _, err = report(run, "--out", tmp_path / "out")
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith(f"error: {run}: {said}")
    assert not (tmp_path / "out").exists()


def test_a_data_directory_is_told_from_runs(report: Report, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "train_listfile.csv").touch()
    status, _, err = report(data, "--out", tmp_path / "out")
    assert status == 2
    assert err.startswith(f"error: {data}: is a data directory")
    assert f"--data {data} --out runs/NAME" in err


def test_a_report_of_nothing_says_what_to_name(report: Report, tmp_path: Path) -> None:
    status, _, err = report("--out", tmp_path / "out")
    assert status == 2
    assert (
        err == "error: name what to report: folders of runs or audits, or --results with a sweep's folder\n"
    )


@pytest.mark.parametrize(
    ("file", "content", "next_step"),
    [
        ("metrics.csv", "epoch,loss\n1,x\n", "train the run again"),
        ("run.json", "{", "train the run again"),
        ("config.yaml", "model: lr\n", "train the run again"),
        ("trigger.npz", "none", "not a trigger file"),
        ("attack.json", "{}", "attack the run again"),
        ("predictions.csv", "stay,y_true\na,0\n", "attack the run again"),
    ],
)
def test_a_damaged_file_of_a_run_ends_in_one_line(
    report: Report, tmp_path: Path, file: str, content: str, next_step: str
) -> None:
    run = write_run(tmp_path / "run")
    (run / file).write_text(content, encoding="utf-8")
    status, _, err = report(run, "--out", tmp_path / "out")
    assert (status, err.count("\n")) == (1, 1)
    assert str(run / file) in err
    assert next_step in err
