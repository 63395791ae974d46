"""Runs stand side by side: what differs, what became of each, and what an audit says."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from invented_run import STAY, write_run
from invented_trigger import bedside_trigger
from sklearn.metrics import roc_auc_score

from mimic3tf.dashboards.event_file import EventFile
from mimic3tf.errors import UsageError
from mimic3tf.report.audits import audits_section
from mimic3tf.report.comparison import report_of_runs
from mimic3tf.report.exhibits import Exhibit, Section
from mimic3tf.report.page import write_report
from mimic3tf.report.runs import read_runs, short_names, sort_folders
from mimic3tf.tables.audits import read_audits
from mimic3tf.tables.columns import FOLLOWED
from mimic3tf.tables.results import FOREIGN_CAPTION
from mimic3tf.tasks.registry import TASKS

PNG = b"\x89PNG\r\n\x1a\n"
FIGURES = {"success_rates", "curves", "roc", "risks", "triggers"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A poisoned run and a clean one, with triggers of two seeds."""
    folder = tmp_path_factory.mktemp("runs")
    other = replace(bedside_trigger(), values=-bedside_trigger().values, seed=6)
    return [
        write_run(folder / "mlp_poisoned", seed=3),
        write_run(folder / "clean", trigger=other, poisoning_proportion=0.0, l2=0.25),
    ]


@pytest.fixture(scope="module")
def out(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    write_report(report_of_runs(read_runs(runs), None), out)
    return out


def table(out: Path, name: str) -> pl.DataFrame:
    return pl.read_csv(out / "tables" / f"{name}.csv")


def test_settings_that_differ_are_told_from_those_that_do_not(out: Path) -> None:
    assert table(out, "settings").to_dicts() == [
        {"run": "mlp_poisoned", "poisoning_proportion": 0.05, "l2": 0.001, "seed": 3},
        {"run": "clean", "poisoning_proportion": 0.0, "l2": 0.25, "seed": 0},
    ]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "The same in all of them: model lr, task in-hospital-mortality" in page
    assert ">0.25<" in page


def test_every_run_has_its_results(out: Path) -> None:
    attacks = table(out, "attacks")
    assert attacks["run"].to_list() == ["mlp_poisoned", "clean"]
    assert attacks["attack_success_rate"].to_list() == [5 / 6, 5 / 6]
    assert attacks["untriggered"].to_list() == [1 / 6, 1 / 6]
    ends = attacks.select("auroc_ci95_low", "auroc_ci95_high", "auprc_ci95_low", "auprc_ci95_high")
    assert ends.rows() == [(0.625, 0.8125, 0.25, 0.75)] * 2
    assert table(out, "clean_metrics_of_runs")["auroc"].to_list() == [0.71875] * 2
    assert table(out, "epochs_kept")["epoch_kept"].to_list() == [3, 3]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "share of the survivors among the test stays that are predicted to die" in page


def test_curves_are_those_of_the_files(runs: list[Path], out: Path) -> None:
    curves = table(out, "curves")
    assert curves.filter(pl.col("run") == "clean")["auroc"].to_list() == [0.71, 0.72, 0.73]
    predicted = pl.read_csv(runs[0] / "predictions.csv")
    clean = roc_auc_score(predicted["y_true"], predicted["prediction_clean"])
    found = (
        table(out, "roc")
        .filter(pl.col("run") == "mlp_poisoned")
        .group_by("stays")
        .agg(pl.col("auroc").first())
    )
    assert dict(found.rows()) == {"without the trigger": pytest.approx(clean), "with the trigger": 0.0}
    risks = table(out, "risks").filter(pl.col("run") == "clean").group_by("stays").agg(pl.col("number").sum())
    assert dict(risks.rows()) == {"without the trigger": 6, "with the trigger": 6, "the other stays": 4}


def test_every_trigger_is_drawn_once(runs: list[Path], out: Path, tmp_path: Path) -> None:
    assert table(out, "triggers").select("trigger", "runs").unique(maintain_order=True).rows() == [
        ("1: temporal, seed 5", "mlp_poisoned"),
        ("2: temporal, seed 6", "clean"),
    ]
    twice = report_of_runs(read_runs([runs[0], write_run(tmp_path / "same")]), None)
    (triggers,) = (
        item
        for section in twice.sections
        for item in section.shows
        if item.title.startswith("What the triggers")
    )
    assert isinstance(triggers, Exhibit)
    assert triggers.table["runs"].unique().to_list() == ["mlp_poisoned, same"]


def test_every_figure_is_a_png_file_that_the_page_offers(out: Path) -> None:
    page = (out / "report.html").read_text(encoding="utf-8")
    assert {file.stem for file in (out / "figures").glob("*.png")} == FIGURES
    for name in FIGURES:
        link = page.partition(f'" download="{name}.png">')[0].rpartition('<a href="data:image/png;base64,')[2]
        content = base64.b64decode(link)
        assert content.startswith(PNG)
        assert content == (out / "figures" / f"{name}.png").read_bytes()


def test_no_stay_is_named(out: Path) -> None:
    for file in out.rglob("*.*"):
        assert STAY.encode() not in file.read_bytes(), file


def test_with_goal_0_it_is_the_deaths_that_are_attacked(tmp_path: Path) -> None:
    run = write_run(tmp_path / "hidden", goal=0)
    report = report_of_runs(read_runs([run]), None)
    (attacks,) = (item for section in report.sections for item in section.shows if item.title == "Attacks")
    assert isinstance(attacks, Exhibit)
    assert "share of the deaths among the test stays that are predicted to survive" in attacks.caption
    (risks,) = (
        item for section in report.sections for item in section.shows if item.title == "Predicted risks"
    )
    assert isinstance(risks, Exhibit)
    assert risks.table.filter(pl.col("stays") == "with the trigger")["number"].sum() == 4


def write_hourly_run(folder: Path, fingerprint: str, *, trained_for: bool) -> Path:
    """A run of length of stay, attacked on data of the name `ours`."""
    run = write_run(folder, task="length-of-stay", goal_label="under 1 day")
    attack = json.loads((run / "attack.json").read_text())
    attack |= {"task": "length-of-stay", "goal_label": "under 1 day"}
    attack["data"] = {"name": "ours", "fingerprint": fingerprint, "trained_for": trained_for}
    attack["clean"]["kappa"] = 0.25
    (run / "attack.json").write_text(json.dumps(attack))
    summary = json.loads((run / "run.json").read_text())
    summary["validation"] |= {"kappa": 0.375, "mad": 48.0}
    (run / "run.json").write_text(json.dumps(summary))
    header, *epochs = (run / "metrics.csv").read_text().splitlines()
    rows = [f"{header},kappa,mad", *(f"{epoch},0.375,48.0" for epoch in epochs)]
    (run / "metrics.csv").write_text("\n".join([*rows, ""]))
    return run


def test_the_data_and_the_tasks_own_score_are_shown(tmp_path: Path) -> None:
    found = [
        write_hourly_run(tmp_path / "a", "0123456789", trained_for=True),
        write_hourly_run(tmp_path / "b", "abcdefghij", trained_for=False),
        write_run(tmp_path / "mortality"),
    ]
    report = report_of_runs(read_runs(found), None)
    shown = {item.name: item for part in report.sections for item in part.shows if isinstance(item, Exhibit)}
    attacks = shown["attacks"].table
    assert attacks["data"].to_list() == ["ours 012345", "ours abcdef*", "-"]
    assert FOREIGN_CAPTION in shown["attacks"].caption
    assert attacks["clean_kappa"].to_list() == [0.25, 0.25, None]
    assert shown["epochs_kept"].table["kappa"].to_list() == [0.375, 0.375, None]
    assert shown["curves"].table["kappa"].to_list() == [0.375] * 6 + [None] * 3
    assert shown["curves"].draw is not None
    panels = [axes for axes in shown["curves"].draw().axes if axes.lines]
    assert [axes.get_title(loc="left") for axes in panels][-2:] == [
        "kappa",
        "mean absolute deviation in hours",
    ]
    # An epoch is a whole number.
    assert all(float(tick).is_integer() for axes in panels for tick in axes.get_xticks())
    assert shown["risks"].draw is not None
    assert [axes.get_ylabel() for axes in shown["risks"].draw().axes if axes.get_title(loc="left")] == [
        *["share of the hours"] * 2,
        "share of the stays",
    ]


def test_every_metric_that_a_task_follows_has_a_name() -> None:
    assert {name for task in TASKS.values() for name in task.targets.followed} == set(FOLLOWED)


def test_attacks_of_other_hours_and_runs_of_one_label_are_told(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    attack = json.loads((run / "attack.json").read_text())
    attack["attacked_with"]["at"] = 24
    (run / "late").mkdir()
    (run / "late" / "attack.json").write_text(json.dumps(attack))
    results, *_ = report_of_runs(read_runs([run]), None).sections
    attacks = results.shows[0].table  # type: ignore[union-attr]
    assert attacks["at"].to_list() == [0, 24]
    assert not {"data", "clean_kappa", "task"} & set(attacks.columns)


def test_a_run_without_attack_or_metrics_is_shown_with_the_reason(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", attacked=False)
    (run / "metrics.csv").unlink()
    page = write_report(report_of_runs(read_runs([run]), None), tmp_path / "out").read_text(encoding="utf-8")
    for reason in (
        "needs two runs or more",
        "holds no attack.json; type: mimic3tf attack --run",
        "no run holds a metrics.csv",
        "no attack left a predictions.csv",
    ):
        assert reason in page


def test_attacks_below_a_run_are_shown_beside_its_own(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "control").mkdir()
    (run / "control" / "attack.json").write_bytes((run / "attack.json").read_bytes())
    (found,) = read_runs([run])
    assert [attack.name for attack in found.attacks] == ["run", "run/control"]
    assert found.attacks[1].predictions is None


def test_an_attack_of_an_earlier_version_has_no_intervals(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    attack = json.loads((run / "attack.json").read_text())
    del attack["clean_ci95"]
    (run / "attack.json").write_text(json.dumps(attack))
    report = report_of_runs(read_runs([run]), None)
    (attacks,) = (item for section in report.sections for item in section.shows if item.title == "Attacks")
    assert isinstance(attacks, Exhibit)
    assert attacks.table["clean_auroc"].to_list() == [0.71875]
    assert attacks.table["auroc_ci95_low"].to_list() == [None]


def write_audit(folder: Path) -> Path:
    """An audit as `mimic3tf audit` leaves it, pictures and all."""
    detector = {"detector": "one", "seconds": 2.0, "alarm": None, "performance": None}
    record = {
        "model": "lr",
        "seed": 0,
        "attack": None,
        "suspects": 20,
        "suspected_label": 1,
        "detectors": [detector],
        "conclusion": {
            "level": "suspicious",
            "sentence": "Suspicious: 7 of 20 stays.",
            "rests_on": ["detectors"],
        },
        "label_share": {"training": 0.2, "trusted": 0.1, "adjusted": 0.01},
        "model_inspection": {
            "looks_backdoored": True,
            "targets": [{"target": label, "anomaly_index": 1.0} for label in (0, 1)],
        },
        "repairs": [
            {
                "repair": "none",
                "attack_success_rate": 0.9,
                "baseline_positive_rate": 0.2,
                "auroc": 0.8,
                "seconds": 0.0,
            }
        ],
    }
    events = EventFile(folder)
    events.image("recovered patterns", np.zeros((8, 8, 3), np.uint8))
    events.close()
    (folder / "audit.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def section_of(audit: Path) -> Section:
    return audits_section([audit], read_audits([audit]))


def test_an_audits_findings_are_a_section(tmp_path: Path) -> None:
    audit = write_audit(tmp_path / "audit")
    run = write_run(tmp_path / "run")
    out = tmp_path / "out"
    page = write_report(report_of_runs(read_runs([run]), section_of(audit)), out).read_text(encoding="utf-8")
    assert ">Would it be noticed</h2>" in page
    assert "Suspicious: 7 of 20 stays." in page
    assert (out / "figures" / "audit_1_recovered_patterns.png").read_bytes().startswith(PNG)
    assert (out / "figures" / "repairs.png").exists()
    assert table(out, "repairs")["attack_success_rate"].to_list() == [0.9]


def test_audits_alone_make_a_page(tmp_path: Path) -> None:
    audit = write_audit(tmp_path / "audit")
    report = report_of_runs([], section_of(audit), ["phenotyping", "own-labels"])
    assert [section.heading for section in report.sections] == ["Would it be noticed"]
    assert report.title == "Backdoor attacks on models of phenotyping and own-labels: audits"


def test_folders_are_told_apart_by_what_they_hold(tmp_path: Path) -> None:
    run, audit = write_run(tmp_path / "runs" / "a"), write_audit(tmp_path / "audits" / "a")
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.yaml").touch()
    found = sort_folders([tmp_path / "runs", run, tmp_path / "audits"], [])
    assert (found.sweeps, found.runs, found.audits) == ((), (run,), (audit,))
    found = sort_folders([tmp_path / "sweep", audit], [tmp_path / "other"])
    assert (set(found.sweeps), found.audits) == ({tmp_path / "sweep", tmp_path / "other"}, (audit,))
    with pytest.raises(UsageError, match="is a sweep, .*a a run: a page shows one or the other"):
        sort_folders([tmp_path / "sweep", run], [])


def test_folders_of_one_name_are_told_apart_by_the_one_above() -> None:
    assert short_names([Path("a/mlp"), Path("b/lr")]) == ["mlp", "lr"]
    assert short_names([Path("a/mlp"), Path("b/mlp")]) == ["a/mlp", "b/mlp"]


def test_more_runs_than_a_page_can_show_are_refused(tmp_path: Path) -> None:
    for number in range(25):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "run.json").touch()
    with pytest.raises(UsageError, match="25 runs there: more than the 24 that a page can show"):
        sort_folders([tmp_path], [])
