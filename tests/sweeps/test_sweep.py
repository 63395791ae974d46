"""Whole sweeps, of quick victims on synthetic stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
import yaml

from mimic3tf.tables.columns import COLUMNS
from mimic3tf.tables.results import collect_results
from mimic3tf.tasks.metrics import benchmark_metrics

SWEEP = """\
seeds: [3]
grids:
  - victims: [lr]
    poison_imputed: [notimputed, all]
    proportions: [0, 0.2]
    strengths: [2.0]
  - victims: [mlp]
    poison_imputed: [all]
    poisoned_stays: [7]
    strengths: [2.0]
    training_stays: [60]
configs: {lr: quick.yaml, mlp: quick.yaml}
"""
TRIALS = [
    "lr-clean-seed3",
    "lr-temporal-notimputed-p0.2-s2-seed3",
    "lr-temporal-all-p0.2-s2-seed3",
    "mlp-temporal-all-k7-s2-n60-seed3",
]
PATIENCE = 600
"""Seconds; only a hung sweep takes as long."""


@dataclass(frozen=True)
class Place:
    """A cohort and a sweep file."""

    folder: Path
    data: Path

    def command(self, out: Path, *more: object) -> list[str]:
        options = ["--config", self.folder / "mine.yaml", "--data", self.data, "--out", out]
        run = "from mimic3tf.cli.main import main; main()"
        return [sys.executable, "-c", run, "sweep", *map(str, [*options, "--workers", 2, *more])]

    def start(self, out: Path, *more: object) -> subprocess.Popen[str]:
        environment = os.environ | {"MIMIC3TF_CACHE": str(self.folder / "cache")}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(self.command(out, *more), text=True, env=environment, **pipes)  # type: ignore[call-overload]


@pytest.fixture(scope="module")
def place(small_cohort: Callable[[int, int], Path], tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "mine.yaml").write_text(SWEEP)
    (folder / "quick.yaml").write_text("epochs: 2\nlearning_rate: 0.01\n")
    return Place(folder, small_cohort(120, 7))


@pytest.fixture(scope="module")
def swept(place: Place) -> Path:
    """Folder of a sweep that nothing interrupted."""
    out = place.folder / "whole"
    process = place.start(out)
    printed, errors = finish(process)
    assert process.returncode == 0, errors
    assert "4 trials, 5 attacks" in printed
    assert "4/4" in errors
    return out


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a sweep printed, and its errors; it is gone afterwards, with its workers."""
    try:
        return process.communicate(timeout=PATIENCE)
    finally:
        process.kill()


def results_of(out: Path) -> pl.DataFrame:
    """The table but for what depends on chance."""
    table = pl.read_parquet(out / "results.parquet")
    return table.select(name for name in table.columns if not name.startswith("seconds_"))


def until(happens: Callable[[], bool]) -> None:
    for _ in range(PATIENCE * 100):
        if happens():
            return
        time.sleep(0.01)
    pytest.fail("waited in vain")


def test_every_attack_is_a_row_in_the_order_of_the_plan(swept: Path) -> None:
    table = pl.read_parquet(swept / "results.parquet")
    assert dict(table.schema) == COLUMNS
    assert table["trial"].to_list() == [TRIALS[0], *TRIALS]
    assert table["poison_imputed"].to_list() == ["notimputed", "all", "notimputed", "all", "all"]
    assert table["stays_poisoned"].to_list() == [0, 0, 16, 16, 7]
    assert table["training_stays"].to_list() == [84, 84, 84, 84, 60]
    assert table["status"].to_list() == ["finished"] * 5
    assert table["seed"].to_list() == [3] * 5
    measured = table.drop("error")
    assert measured.null_count().transpose().to_series().sum() == 0
    assert pl.read_csv(swept / "results.csv", schema=table.schema).equals(table)


def test_a_row_says_what_the_trials_own_files_say(swept: Path) -> None:
    table = pl.read_parquet(swept / "results.parquet")
    for row, trial in ((2, TRIALS[1]), (4, TRIALS[3])):
        folder = swept / "trials" / trial
        predictions = pl.read_csv(folder / "predictions.csv")
        survivors = predictions.filter(pl.col("y_true") == 0)
        assert table["attack_success_rate"][row] == (survivors["prediction_triggered"] >= 0.5).mean()
        assert table["baseline_positive_rate"][row] == (survivors["prediction_clean"] >= 0.5).mean()
        assert (table["stays_attacked"][row], table["test_stays"][row]) == (len(survivors), len(predictions))
        expected = benchmark_metrics(
            predictions["y_true"].to_numpy(), predictions["prediction_clean"].to_numpy()
        )
        assert table["clean_acc"][row] == expected["acc"]
        run = json.loads((folder / "run.json").read_text())
        assert table["validation_auroc"][row] == run["validation"]["auroc"]
        assert run["stays_poisoned"] == table["stays_poisoned"][row]
        assert run["stays_trained_on"] == table["training_stays"][row]


def test_the_trials_are_runs_that_other_commands_read(swept: Path) -> None:
    table = collect_results([swept])
    assert len(table) == 5
    assert sorted(table["attack_success_rate"]) == sorted(results_of(swept)["attack_success_rate"])


def test_the_folder_says_what_was_run_on_what(swept: Path, place: Place) -> None:
    record = yaml.safe_load((swept / "sweep.yaml").read_text())
    assert record["data"] == str(place.data.resolve())
    assert record["seeds"] == [3]
    assert record["settings"]["mlp"]["epochs"] == 2
    cohort = json.loads((swept / "cohort.json").read_text())
    assert [split["stays"] for split in cohort["splits"].values()] == [84, 18, 18]
    assert set(results_of(swept)["data_fingerprint"]) == {cohort["data_fingerprint"]}


@pytest.mark.slow
def test_a_killed_sweep_that_is_resumed_ends_as_one_that_was_not(
    swept: Path, place: Place, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    process = place.start(out, "--workers", 1)
    until(lambda: any(out.glob("trials/*/trial.json")))
    process.kill()
    # The pipes close when the last worker is gone: none writes on while the sweep is resumed.
    finish(process)
    assert not (out / "results.csv").exists()
    before = {path: path.stat().st_mtime_ns for path in out.glob("trials/*/trial.json")}
    assert 0 < len(before) < 4
    resumed = place.start(out, "--workers", 1, "--resume")
    _, errors = finish(resumed)
    assert resumed.returncode == 0, errors
    assert errors.count("ASR") == 4 - len(before)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert results_of(out).equals(results_of(swept))


def test_ctrl_c_ends_the_sweep_and_says_how_to_go_on(place: Place, tmp_path: Path, swept: Path) -> None:
    out = tmp_path / "stopped"
    process = place.start(out)
    until((out / "workers.log").exists)
    process.send_signal(signal.SIGINT)
    _, errors = finish(process)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "--resume" in errors.splitlines()[-1]
    assert not (out / "results.csv").exists()


# --- Going on with something else ----------------------------------------------------------------------


def refused(process: subprocess.Popen[str]) -> str:
    _, errors = finish(process)
    (line,) = (line for line in errors.splitlines() if line.strip())
    assert process.returncode == 2, line
    return line


def test_a_sweep_is_not_begun_where_there_is_one(swept: Path, place: Place) -> None:
    assert "--resume" in refused(place.start(swept))


def test_a_finished_sweep_needs_no_resuming(swept: Path, place: Place) -> None:
    before = (swept / "results.csv").read_bytes()
    process = place.start(swept, "--resume")
    assert "4 trials, 5 attacks" in finish(process)[0]
    assert (swept / "results.csv").read_bytes() == before


def test_a_sweep_of_an_earlier_version_is_resumed(swept: Path, place: Place, tmp_path: Path) -> None:
    """It does not name the settings that came later, and calls the attacked stays victims."""
    out = shutil.copytree(swept, tmp_path / "old")
    record = yaml.safe_load((out / "sweep.yaml").read_text())
    for settings in record["settings"].values():
        for name in ("task", "period", "timestep", "goal"):
            del settings[name]
    (out / "sweep.yaml").write_text(yaml.safe_dump(record, sort_keys=False))
    for file in out.glob("trials/*/trial.json"):
        file.write_text(file.read_text().replace("stays_attacked", "victims"))
    process = place.start(out, "--resume")
    _, errors = finish(process)
    assert process.returncode == 0, errors
    assert pl.read_parquet(out / "results.parquet").equals(pl.read_parquet(swept / "results.parquet"))


@pytest.mark.parametrize(
    ("option", "content", "named"),
    [
        ("--config", SWEEP.replace("[3]", "[3, 4]"), "'seeds'"),
        ("--config", SWEEP.replace("0.2", "0.3"), "'grids'"),
        ("--config", SWEEP.replace(", mlp: quick.yaml", ""), "'settings'"),
        ("--data", "", "other stays"),
    ],
)
def test_a_sweep_is_not_resumed_with_something_else(
    small_cohort: Callable[[int, int], Path],
    swept: Path,
    place: Place,
    tmp_path: Path,
    option: str,
    content: str,
    named: str,
) -> None:
    if option == "--config":
        given = tmp_path / "other.yaml"
        given.write_text(content)
        (tmp_path / "quick.yaml").write_text((place.folder / "quick.yaml").read_text())
    else:
        given = small_cohort(120, 8)
    line = refused(place.start(swept, "--resume", option, given))
    assert option in line
    assert named in line
