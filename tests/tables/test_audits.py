"""Audits become one table: a row an attack and detector, means over seeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from scipy.stats import t

from mimic3tf.errors import UsageError
from mimic3tf.report.page import write_report
from mimic3tf.report.sections import report_of_sweeps
from mimic3tf.report.sweep import read_sweeps
from mimic3tf.tables.audits import (
    conclusions_table,
    detectors_tables,
    models_table,
    read_audits,
    summarize_detectors,
    summarize_models,
    summarize_repairs,
)
from mimic3tf.tables.fitting import print_table


def write_audit(
    folder: Path, seed: int, auroc: float | None, flagged: int, *, raised: bool, goal: int = 1, **about: Any
) -> None:
    """An audit of two detectors, the second of which nobody can calibrate."""
    attack = {
        "stays_poisoned": 50,
        "trigger": "temporal",
        "poison_imputed": "all",
        "poisoning_proportion": 0.05,
        "poisoning_strength": 2.0,
        "poisoned_labels": "flipped",
        "goal": goal,
    }
    found = {"anomaly_index": 4.0 * (auroc or 0)} | ({"true_trigger": {"correlation": 0.5}} if auroc else {})
    other = {"anomaly_index": -1.0} | ({"true_trigger": {"correlation": -0.5}} if auroc else {})
    targets: list[dict[str, Any]] = [{"target": 1 - goal, **other}, {"target": goal, **found}]
    inspection = {
        "looks_backdoored": raised,
        "targets": sorted(targets, key=lambda target: target["target"]),
    }
    tried = {"baseline_positive_rate": 0.2, "seconds": 3.0}
    repairs = [
        {"repair": "none", "attack_success_rate": 0.9, "auroc": auroc, **tried},
        {
            "repair": f"filter by {'two' if seed else 'one'}",
            "attack_success_rate": 0.3,
            "auroc": auroc,
            **tried,
        },
        {"repair": "fine-prune", "attack_success_rate": None, "auroc": None, **tried},
    ]
    measured = auroc and {
        name: {"value": auroc, "low": auroc - 0.1, "high": auroc + 0.1}
        for name in ("auroc", "recall_at_1", "recall_at_5")
    }
    alarm = {"flagged": flagged, "raised": raised}
    record = {
        "conclusion": {
            "level": "suspicious" if raised else "no sign",
            "sentence": f"Suspicious: {flagged} stays." if raised else "No sign.",
            "rests_on": ["share of deaths", "detectors"] if raised else [],
        },
        "label_share": {"training": 0.178, "trusted": 0.12, "adjusted": 0.0003 if raised else 1.0},
        "model": "mlp",
        "data": f"out/seed-{seed}/data",
        "seed": seed,
        "attack": attack if auroc else None,
        "suspected_label": goal,
        "suspects": 200,
        "detectors": [
            {"detector": "one", "seconds": 2.0, "alarm": alarm, "performance": measured},
            {"detector": "two", "seconds": 1.0, "alarm": None, "performance": measured},
        ],
        "model_inspection": inspection,
    }
    if auroc:
        record |= {"superposition": {"auroc": auroc, "recall_at_5": 0.1}, "repairs": repairs}
    record |= about
    folder.mkdir(parents=True)
    (folder / "audit.json").write_text(json.dumps(record), encoding="utf-8")


@pytest.fixture
def audits(tmp_path: Path) -> Path:
    """Three seeds of an attack, and as many of clean stays, one with a false alarm."""
    for seed, auroc in enumerate((0.6, 0.7, 0.8)):
        write_audit(tmp_path / "audits" / f"poisoned-{seed}", seed, auroc, 100, raised=True)
        write_audit(tmp_path / "audits" / f"clean-{seed}", seed, None, 10 * (seed + 1), raised=seed == 2)
    return tmp_path / "audits"


def test_seeds_are_averaged_with_their_interval(audits: Path) -> None:
    table = summarize_detectors(read_audits([audits]).detectors)
    assert table.select("attack", "detector", "seeds").rows() == [
        ("none known", "one", 3),
        ("none known", "two", 3),
        ("temporal all, 5% at 2", "one", 3),
        ("temporal all, 5% at 2", "two", 3),
    ]
    clean, _, poisoned, uncalibrated = table.iter_rows(named=True)
    assert clean["auroc"] is None
    assert clean["flagged"] == pytest.approx(0.1)
    assert clean["alarms"] == pytest.approx(1 / 3)
    assert poisoned["auroc"] == pytest.approx(0.7)
    half = t.ppf(0.975, 2) * 0.1 / 3**0.5
    assert poisoned["auroc_low"] == pytest.approx(0.7 - half)
    assert poisoned["recall_at_1_high"] == pytest.approx(0.7 + half)
    assert poisoned["flagged"] == pytest.approx(0.5)
    assert uncalibrated["flagged"] is None
    assert uncalibrated["alarms"] is None


def test_every_audit_concludes_first(
    audits: Path, invented: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = read_audits([audits])
    expected = {
        "model": "mlp",
        "attack": "temporal all, 5% at 2",
        "task": "in-hospital-mortality",
        "label": "1",
        "data": "data",
        "seed": 0,
        "conclusion": "suspicious",
        "rests_on": "share of deaths, detectors",
        "training_share": 0.178,
        "trusted_share": 0.12,
        "p_value": 0.0003,
        "in_words": "Suspicious: 100 stays.",
    }
    assert expected in found.conclusions.to_dicts()
    assert sorted(found.conclusions["conclusion"]) == ["no sign"] * 2 + ["suspicious"] * 4
    print_table(conclusions_table(found.conclusions))
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines() if "suspicious" in line]
    assert len(rows) == 4
    assert rows[-1].endswith("2 suspicious 0.178 0.120 0.0003 share of deaths, detectors")
    folder = invented.write(tmp_path / "sweep", [invented.trial()])
    audits.rename(folder / "audits")
    write_report(report_of_sweeps(read_sweeps([folder]), None, ""), tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    section = page[page.index("<h2>Would it be noticed") :]
    assert section.index("What each audit concludes") < section.index("Attacks and detectors")
    for cell in ("suspicious", "Suspicious: 100 stays.", "0.178", "0.0003"):
        assert f">{cell}</td>" in section


def test_models_and_repairs_are_averaged_too(audits: Path) -> None:
    found = read_audits([audits])
    clean, poisoned = summarize_models(found.models).iter_rows(named=True)
    assert clean["looks_backdoored"] == pytest.approx(1 / 3)
    assert clean["correlation"] is None
    assert clean["superposition_auroc"] is None
    assert poisoned["looks_backdoored"] == 1
    assert (poisoned["anomaly_index_0"], poisoned["anomaly_index_1"]) == pytest.approx((-1.0, 2.8))
    assert (poisoned["correlation"], poisoned["superposition_auroc"]) == pytest.approx((0.5, 0.7))
    repairs = summarize_repairs(found.repairs)
    # Filters by different detectors are one repair; one that cannot be applied has no row.
    assert repairs["repair"].to_list() == ["none", "filter by the clearest"]
    assert repairs["seeds"].to_list() == [3, 3]
    assert repairs["attack_success_rate"].to_list() == pytest.approx([0.9, 0.3])
    assert repairs["auroc_low"][1] == pytest.approx(0.7 - t.ppf(0.975, 2) * 0.1 / 3**0.5)


def test_two_audits_of_the_same_are_refused(audits: Path) -> None:
    write_audit(audits / "again", 1, 0.9, 100, raised=True)
    with pytest.raises(UsageError, match=r"again.*same victim, attack, label, name of the data"):
        read_audits([audits])


@pytest.mark.parametrize(
    ("about", "column", "shown"),
    [
        ({"task": "decompensation"}, "task", {"in-hospital-mortality", "decompensation"}),
        ({"data": "elsewhere/copy"}, "data", {"data", "copy"}),
        ({"suspected_label": 0}, "label", {"1", "0"}),
        ({"goal_label": "Shock"}, "label", {"1", "1 Shock"}),
        ({"target": 3}, "label", {"1", "3"}),
    ],
)
def test_audits_of_other_tasks_labels_or_data_are_not_averaged_and_are_told_apart(
    audits: Path, about: dict[str, Any], column: str, shown: set[str]
) -> None:
    write_audit(audits / "other", 1, None, 100, raised=True, **about)
    found = read_audits([audits])
    detectors, models = summarize_detectors(found.detectors), summarize_models(found.models)
    unknown = models.filter(pl.col("attack") == "none known")
    assert sorted(unknown["seeds"]) == [1, 3]
    for table in (conclusions_table(found.conclusions), models_table(models)):
        cells = {heading.header: set(heading.cells) for heading in table.columns}
        assert cells[column] == shown
        assert not {"task", "label", "data"} - {column} & cells.keys()
    titles = {str(table.title) for table in detectors_tables(detectors)}
    assert f"MLP, poisoned: none known, {column} {unknown[column][-1]}, seeds: 1" in titles


def test_the_p_is_that_of_the_whole_audit(audits: Path) -> None:
    conclusion = {"level": "weak sign", "sentence": "Weak.", "rests_on": ["detectors"], "p_value": 0.02}
    write_audit(audits / "other", 3, None, 100, raised=False, conclusion=conclusion)
    row = read_audits([audits]).conclusions.filter(pl.col("seed") == 3)
    assert row["p_value"].to_list() == [0.02]


def test_an_audit_of_an_earlier_version_is_read(audits: Path) -> None:
    """It says how many stays are labelled 1, has no goal (it was 1), and concludes nothing."""
    new = read_audits([audits])
    for file in audits.rglob("audit.json"):
        record = json.loads(file.read_text(encoding="utf-8"))
        record["labelled_1"] = record.pop("suspects")
        for key in ("suspected_label", "conclusion", "label_share"):
            del record[key]
        if record["attack"]:
            del record["attack"]["goal"]
        file.write_text(json.dumps(record), encoding="utf-8")
    old = read_audits([audits])
    for name in ("detectors", "models", "repairs"):
        assert getattr(old, name).equals(getattr(new, name)), name
    assert old.conclusions["conclusion"].null_count() == len(new.conclusions)
    assert conclusions_table(old.conclusions).row_count == len(new.conclusions)


def test_audits_of_two_goals_are_two_attacks(audits: Path) -> None:
    write_audit(audits / "to-0", 0, 0.6, 100, raised=True, goal=0)
    found = read_audits([audits])
    tables = (summarize_detectors(found.detectors), summarize_models(found.models))
    for table in tables:
        attacks = table.unique(["attack"], maintain_order=True)
        assert attacks.select("attack", "seeds").rows() == [
            ("none known", 3),
            ("temporal all, 5% at 2", 3),
            ("temporal all, goal 0, 5% at 2", 1),
        ]
    # Each recovered pattern that leads where the attacker wants is compared with the true trigger.
    assert tables[1]["correlation"].to_list() == [None, 0.5, 0.5]
    assert tables[1]["anomaly_index_0"].to_list()[-1] == pytest.approx(2.4)


def test_a_report_shows_the_audits_in_its_folder(audits: Path, invented: Any, tmp_path: Path) -> None:
    folder = invented.write(tmp_path / "sweep", [invented.trial()])
    audits.rename(folder / "audits")
    write_report(report_of_sweeps(read_sweeps([folder]), None, ""), tmp_path / "out")
    table = pl.read_csv(tmp_path / "out" / "tables" / "detectors.csv")
    assert table["auroc"].to_list() == pytest.approx([None, None, 0.7, 0.7])
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Would it be noticed" in page
    assert "temporal all, 5% at 2" in page
