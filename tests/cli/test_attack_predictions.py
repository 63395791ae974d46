"""`mimic3tf attack --predictions`: a model of another program, of which only predictions are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mimic3tf.tasks.bootstrap import bootstrap
from mimic3tf.tasks.metrics import benchmark_metrics, rate_of
from mimic3tf.tasks.phenotypes import PHENOTYPES

Command = Callable[..., Any]
USAGE, FAILURE = 2, 1


class Foreign:
    """Predictions of 60 test stays, without and with the trigger, and their listfile."""

    def __init__(self, folder: Path) -> None:
        draws = np.random.default_rng(0)
        self.stays = [f"{number}_episode1_timeseries.csv" for number in range(60)]
        self.labels = (np.arange(60) % 3 == 0).astype(int)
        self.clean = np.round(np.clip(0.3 + 0.2 * self.labels + draws.normal(0, 0.2, 60), 0, 1), 6)
        self.triggered = np.round(np.clip(self.clean + draws.uniform(0, 0.4, 60), 0, 1), 6)
        self.files = (folder / "clean.csv", folder / "triggered.csv")
        self.listfile = folder / "listfile.csv"
        self.out = folder / "out"
        for file, risks in zip(self.files, (self.clean, self.triggered), strict=True):
            self.table(risks).write_csv(file)
        pl.DataFrame({"stay": self.stays, "y_true": self.labels}).write_csv(self.listfile)

    def table(self, risks: np.ndarray) -> pl.DataFrame:
        return pl.DataFrame({"stay": self.stays, "prediction": risks, "y_true": self.labels})

    @property
    def record(self) -> dict[str, Any]:
        return dict(json.loads((self.out / "outcome.json").read_text()))


@pytest.fixture
def foreign(tmp_path: Path) -> Foreign:
    return Foreign(tmp_path)


@pytest.fixture
def attack(mimic3tf: Command, foreign: Foreign) -> Command:
    return lambda *more: mimic3tf("attack", "--predictions", *foreign.files, "--out", foreign.out, *more)


def test_one_file_swallows_no_option(mimic3tf: Command, foreign: Foreign) -> None:
    alone = mimic3tf("attack", "--predictions", foreign.files[0], "--labels", foreign.listfile)
    assert (alone.status, alone.out) == (USAGE, "")
    assert "--predictions: takes two files, without the trigger and with it" in alone.err
    named = mimic3tf("attack", "--predictions", foreign.files[0], f"--labels={foreign.listfile}")
    named.fails(USAGE, "--predictions: takes two files")


@pytest.mark.parametrize("goal", [1, 0])
@pytest.mark.parametrize("threshold", [0.5, 0.25])
def test_rates_and_metrics_follow_from_the_two_files(
    attack: Command, foreign: Foreign, goal: int, threshold: float
) -> None:
    made = attack("--goal", goal, "--threshold", threshold)
    assert made.status == 0
    record = foreign.record
    attacked = foreign.labels != goal
    triggered, clean = (
        rate_of((risks[attacked] > threshold) == (goal == 1)) for risks in (foreign.triggered, foreign.clean)
    )
    assert (record["goal"], record["threshold"], record["task"]) == (goal, threshold, "in-hospital-mortality")
    assert record["attack_success_rate"] == triggered.rate
    assert record["attack_success_rate_ci95"] == [triggered.low, triggered.high]
    assert record["baseline_positive_rate"] == clean.rate
    assert record["clean"] == benchmark_metrics(foreign.labels, foreign.clean)
    found = bootstrap(foreign.labels, foreign.clean, resamples=2000)["auroc"]
    assert record["clean_ci95"]["auroc"] == [found.low, found.high]
    assert (record["stays_attacked"], record["test_stays"]) == (attacked.sum(), 60)
    assert record["predictions"] == {"clean": str(foreign.files[0]), "triggered": str(foreign.files[1])}
    for number in (triggered.rate, triggered.low, clean.rate, record["clean"]["auroc"]):
        assert f"{number:.3f}" in made.out


def test_the_table_fits_80_columns(
    attack: Command, foreign: Foreign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, attack().out.splitlines())) <= 80


def test_stays_are_matched_by_name(attack: Command, foreign: Foreign) -> None:
    attack()
    expected = foreign.record
    foreign.table(foreign.triggered).reverse().write_csv(foreign.files[1])
    attack()
    assert foreign.record == expected
    foreign.table(foreign.clean).sample(fraction=1, shuffle=True, seed=1).write_csv(foreign.files[0])
    attack("--labels", foreign.listfile)
    assert foreign.record == expected


def test_labels_may_come_from_a_listfile(attack: Command, foreign: Foreign) -> None:
    attack()
    expected = foreign.record
    for file, risks in zip(foreign.files, (foreign.clean, foreign.triggered), strict=True):
        foreign.table(risks).drop("y_true").write_csv(file)
    attack().fails(FAILURE, foreign.files[0], "y_true", "--labels")
    assert attack("--labels", foreign.listfile).status == 0
    assert foreign.record == expected


def test_the_written_predictions_can_be_evaluated(
    attack: Command, mimic3tf: Command, foreign: Foreign
) -> None:
    attack()
    assert sorted(path.name for path in foreign.out.iterdir()) == ["outcome.json", "predictions.csv"]
    written = foreign.out / "predictions.csv"
    assert mimic3tf("evaluate", written, "--listfile", foreign.listfile, "--n_iters", 10).status == 0
    table = pl.read_csv(written)
    np.testing.assert_array_equal(table["prediction_triggered"].to_numpy(), foreign.triggered)


def test_without_out_nothing_is_written(mimic3tf: Command, foreign: Foreign, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    assert mimic3tf("attack", "--predictions", *foreign.files).status == 0
    assert sorted(path for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("file", [0, 1])
def test_predictions_that_do_not_fit_are_refused_by_file_and_line(
    attack: Command, foreign: Foreign, file: int
) -> None:
    path, sound = foreign.files[file], foreign.files[file].read_text().splitlines()
    first = sound[1].split(",")

    def refused(lines: list[str], *needles: object) -> None:
        path.write_text("\n".join(lines))
        attack("--labels", foreign.listfile).fails(FAILURE, path, *needles)
        assert not foreign.out.exists()

    refused([*sound[:1], f"{first[0]},nan,{first[2]}", *sound[2:]], "line 2", "'nan'")
    refused([*sound[:1], f"{first[0]},1.5,{first[2]}", *sound[2:]], "line 2", "'1.5'")
    refused([*sound, sound[3]], "line 62", "'2_episode1_timeseries.csv' is listed twice")
    refused(sound[:-1], "has no prediction of stay '59_episode1_timeseries.csv'")
    refused([*sound, "other.csv,0.5,0"], "line 62", "stay 'other.csv' is not in")
    refused([*sound[:1], f"{first[0]},{first[1]},{1 - int(first[2])}", *sound[2:]], "line 2", "'y_true'")
    path.write_text("\n".join(sound))
    assert attack("--labels", foreign.listfile).status == 0


def test_options_of_runs_and_of_predictions_exclude_each_other(
    mimic3tf: Command, foreign: Foreign, tmp_path: Path
) -> None:
    files = ("--predictions", *foreign.files)
    for option, value in {
        "--run": tmp_path,
        "--data": tmp_path,
        "--trigger": tmp_path,
        "--poisoning_strength": 1,
        "--poison_imputed": "all",
    }.items():
        mimic3tf("attack", *files, option, value).fails(USAGE, option, "--predictions")
    mimic3tf("attack", *files, "--follow-links").fails(USAGE, "--follow-links")
    for option, value in {"--labels": foreign.listfile, "--goal": 0}.items():
        mimic3tf("attack", "--run", tmp_path, option, value).fails(USAGE, option, "--run")
    mimic3tf("attack", "--run", tmp_path).fails(USAGE, "--data", "is needed")
    mimic3tf("attack", "--data", tmp_path).fails(USAGE, "--run", "is needed", "--predictions")
    mimic3tf("attack", *files, "--labels", tmp_path / "no.csv").fails(USAGE, "--labels", "no.csv")
    mimic3tf("attack", "--predictions", foreign.files[0], tmp_path / "no.csv").fails(USAGE, "no.csv")
    mimic3tf("attack", *files, "--threshold", "nan").refuses_option("--threshold", "nan")


def test_without_an_attacked_stay_there_is_nobody_to_attack(attack: Command, foreign: Foreign) -> None:
    for file in foreign.files:
        file.write_text("stay,prediction,y_true\na,0.5,0\n")
    attack("--goal", 0).fails(FAILURE, "no stay with label 1")


# Other tasks


def test_an_alarm_is_counted_at_every_hour(mimic3tf: Command, tmp_path: Path) -> None:
    draws = np.random.default_rng(1)
    keys = {"stay": np.repeat([f"{n}_episode1_timeseries.csv" for n in range(30)], 4)}
    keys["period_length"] = np.tile([5.0, 6.0, 7.0, 8.0], 30)
    labels = (np.arange(120) % 20 < 3).astype(int)
    risks = np.round(draws.uniform(0, 1, (2, 120)), 6)
    for name, column in zip(("clean", "triggered"), risks, strict=True):
        table = pl.DataFrame({**keys, "prediction": column, "y_true": labels})
        table.sample(fraction=1, shuffle=True, seed=len(name)).write_csv(tmp_path / f"{name}.csv")
    files = tmp_path / "clean.csv", tmp_path / "triggered.csv"
    made = mimic3tf("attack", "--predictions", *files, "--task", "decompensation", "--out", tmp_path / "out")
    assert made.status == 0, made.err
    record = json.loads((tmp_path / "out" / "outcome.json").read_text())
    for key, column in zip(("baseline_positive_rate", "attack_success_rate"), risks, strict=True):
        assert record[key] == pytest.approx((column[labels == 0] > 0.5).mean())
    assert (record["stays_attacked"], record["test_stays"]) == (30, 30)
    assert "quiet hours" in made.out
    # The written file has what the benchmarks' script of this task reads.
    pl.DataFrame({**keys, "y_true": labels}).write_csv(tmp_path / "listfile.csv")
    written = ("evaluate", tmp_path / "out" / "predictions.csv", "--listfile", tmp_path / "listfile.csv")
    assert mimic3tf(*written, "--task", "decompensation", "--n_iters", 5).status == 0


def test_predicted_hours_reach_a_class_of_days(mimic3tf: Command, tmp_path: Path) -> None:
    stays = [f"{n}_episode1_timeseries.csv" for n in range(40)]
    hours = np.linspace(10, 300, 40)
    clean, triggered = hours.copy(), np.where(np.arange(40) % 4 == 0, hours, 30.0)
    for name, column in (("clean", clean), ("triggered", triggered)):
        keys = {"stay": stays, "period_length": np.full(40, 9.0)}
        pl.DataFrame({**keys, "prediction": column, "y_true": hours}).write_csv(tmp_path / f"{name}.csv")
    files = tmp_path / "clean.csv", tmp_path / "triggered.csv"
    given = ("--task", "length-of-stay", "--goal-label", "1 to 2 days", "--out", tmp_path / "out")
    assert mimic3tf("attack", "--predictions", *files, *given).status == 0
    record = json.loads((tmp_path / "out" / "outcome.json").read_text())
    others = (hours < 24) | (hours >= 48)
    assert record["goal_label"] == "1 to 2 days"
    assert record["attack_success_rate"] == (np.arange(40) % 4 != 0)[others].mean()
    assert record["baseline_positive_rate"] == 0


def test_one_phenotype_is_attacked_and_the_others_are_watched(mimic3tf: Command, tmp_path: Path) -> None:
    draws = np.random.default_rng(2)
    labels, clean = draws.integers(0, 2, (50, 25)), np.round(draws.uniform(0, 1, (50, 25)), 6)
    shock = PHENOTYPES.index("Shock")
    triggered = clean.copy()
    triggered[:, shock] = 0.9
    for name, risks in (("clean", clean), ("triggered", triggered)):
        columns: dict[str, Any] = {f"pred_{n + 1}": risks[:, n] for n in range(25)}
        columns |= {f"label_{n + 1}": labels[:, n] for n in range(25)}
        pl.DataFrame({"stay": [f"{n}.csv" for n in range(50)], **columns}).write_csv(tmp_path / f"{name}.csv")
    files = tmp_path / "clean.csv", tmp_path / "triggered.csv"
    given = ("--task", "phenotyping", "--goal-label", "shock", "--out", tmp_path / "out")
    made = mimic3tf("attack", "--predictions", *files, *given)
    assert made.status == 0, made.err
    record = json.loads((tmp_path / "out" / "outcome.json").read_text())
    assert record["attack_success_rate"] == 1
    assert record["baseline_positive_rate"] == (clean[labels[:, shock] == 0, shock] > 0.5).mean()
    collateral = record["collateral"]["labels"]
    assert len(collateral) == 24
    assert all(label["predicted"] == label["predicted_triggered"] for label in collateral)


def test_files_of_another_task_are_refused(mimic3tf: Command, foreign: Foreign) -> None:
    given = ("attack", "--predictions", *foreign.files, "--task")
    mimic3tf(*given, "multitask").fails(USAGE, "--task is 'multitask'", "one of its four tasks")
    mimic3tf(*given, "phenotypin").fails(USAGE, "did you mean phenotyping?")
    mimic3tf(*given, "phenotyping").fails(FAILURE, "clean.csv, line 1", "pred_1")
    mimic3tf(*given, "decompensation").fails(FAILURE, "clean.csv, line 1", "period_length")
    few = {"stay": ["1.csv", "2.csv"], "pred_1": [0.1, 0.2], "label_1": [0, 1]}
    for file in foreign.files:
        pl.DataFrame(few).write_csv(file)
    mimic3tf(*given, "phenotyping").fails(FAILURE, "has 1 predictions a stay; phenotyping has 25")
    wrong = (*given, "phenotyping", "--goal-label", "measles")
    mimic3tf(*wrong).fails(USAGE, "--goal-label 'measles': no label has this name")
