"""Several attacks in one table, for people and for programs."""

from __future__ import annotations

import csv
import json
from io import StringIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from mimic3tf.errors import DataError, UsageError
from mimic3tf.tables.results import (
    collect_results,
    results_over_seeds,
    results_table,
    write_results,
)

METRICS = ("acc", "prec0", "prec1", "rec0", "rec1", "auroc", "auprc", "minpse")


def attack(
    run: str = "lr",
    *,
    model: str = "lr",
    proportion: float = 0.05,
    imputed: str = "all",
    trigger: str = "temporal",
    strength: float = 2.0,
    success: float = 0.5,
    prec1: float | None = 0.25,
    seed: int = 0,
    goal: int = 1,
) -> dict[str, Any]:
    """Contents of an `attack.json`."""
    return {
        "run": f"runs/{run}",
        "model": model,
        "task": "in-hospital-mortality",
        "goal": goal,
        "poisoning_proportion": proportion,
        "trained_with": {
            "trigger": "temporal",
            "poisoning_strength": 2.0,
            "poison_imputed": "all",
            "seed": seed,
        },
        "attacked_with": {"trigger": trigger, "poisoning_strength": strength, "poison_imputed": imputed},
        "clean": dict.fromkeys(METRICS, 0.75) | {"prec1": prec1},
        "attack_success_rate": success,
        "attack_success_rate_ci95": [success - 0.125, success + 0.0625],
        "baseline_positive_rate": 0.1875,
        "baseline_positive_rate_ci95": [0.1, 0.2],
        "stays_attacked": 19,
        "test_stays": 24,
    }


def write(folder: Path, *attacks: dict[str, Any]) -> Path:
    for number, contents in enumerate(attacks):
        path = folder / f"{number:03d}" / "attack.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(contents), encoding="utf-8")
    return folder


def test_every_attack_below_a_folder_is_a_row(tmp_path: Path) -> None:
    write(tmp_path / "runs", attack("a"), attack("b"))
    write(tmp_path / "runs" / "deeper", attack("c"))
    assert sorted(collect_results([tmp_path / "runs"])["run"]) == ["a", "b", "c"]


def test_runs_can_be_named_one_by_one(tmp_path: Path) -> None:
    write(tmp_path, attack("a"), attack("b"), attack("c"))
    results = collect_results([tmp_path / "000", tmp_path / "002"])
    assert sorted(results["run"]) == ["a", "c"]


def test_a_row_holds_what_the_attack_measured(tmp_path: Path) -> None:
    write(tmp_path, attack("mine", model="mlp", proportion=0.01, imputed="notimputed", strength=1.5))
    (row,) = collect_results([tmp_path]).to_dicts()
    assert row == {
        "run": "mine",
        "victim": "mlp",
        "goal": 1,
        "poisoning_proportion": 0.01,
        "poisoned_labels": "flipped",
        "poison_imputed": "notimputed",
        "trigger": "temporal",
        "poisoning_strength": 1.5,
        "seed": 0,
        "attack_success_rate": 0.5,
        "ci95_low": 0.375,
        "ci95_high": 0.5625,
        "baseline_positive_rate": 0.1875,
        "stays_attacked": 19,
        **{f"clean_{name}": 0.75 for name in METRICS},
        "clean_prec1": 0.25,
    }


def test_an_attack_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """It calls the attacked stays victims, and does not say its goal: it was 1."""
    old = attack()
    old["victims"] = old.pop("stays_attacked")
    del old["task"], old["goal"]
    write(tmp_path / "old", old)
    write(tmp_path / "new", attack())
    assert collect_results([tmp_path / "old"]).equals(collect_results([tmp_path / "new"]))


def test_rows_go_by_mode_victim_clean_or_not_trigger_and_strength(tmp_path: Path) -> None:
    expected = [
        attack("1", model="lr", proportion=0),
        attack("2", model="lr", strength=2.0),
        attack("3", model="lr", strength=0.5),
        attack("4", model="lr", trigger="gaussian", strength=2.0),
        attack("5", model="mlp"),
        attack("6", model="lstm", proportion=0),
        attack("7", model="lstm"),
        attack("8", model="lr", imputed="notimputed"),
    ]
    write(tmp_path, *reversed(expected))
    assert list(collect_results([tmp_path])["run"]) == list("12345678")


def test_an_undefined_metric_is_empty_and_not_a_failure(tmp_path: Path) -> None:
    write(tmp_path, attack("a", prec1=None), attack("b", prec1=0.5))
    assert list(collect_results([tmp_path])["clean_prec1"]) == [None, 0.5]


def test_a_metric_may_be_undefined_in_the_first_hundred_attacks(tmp_path: Path) -> None:
    write(tmp_path, *[attack(prec1=None)] * 101, attack(model="lstm", prec1=0.5))
    assert collect_results([tmp_path])["clean_prec1"][-1] == 0.5


def test_overlapping_folders_count_an_attack_once(tmp_path: Path) -> None:
    write(tmp_path, attack("a"), attack("b"))
    assert list(collect_results([tmp_path, tmp_path / "001"])["run"]) == ["a", "b"]


def test_seeds_are_averaged_within_a_setting_only(tmp_path: Path) -> None:
    write(
        tmp_path,
        attack("a", success=0.5, seed=0),
        attack("b", success=0.75, seed=1, prec1=None),
        attack("c", success=0.25, model="lstm"),
    )
    lr, lstm = results_over_seeds(collect_results([tmp_path])).to_dicts()
    assert (lr["victim"], lr["seeds"], lstm["victim"], lstm["seeds"]) == ("lr", 2, "lstm", 1)
    assert lr["attack_success_rate"] == 0.625
    assert (lr["lowest_success_rate"], lr["highest_success_rate"]) == (0.5, 0.75)
    assert lr["clean_prec1"] == 0.25
    assert lstm["attack_success_rate"] == lstm["lowest_success_rate"] == lstm["highest_success_rate"] == 0.25


def test_the_same_seed_twice_is_not_averaged(tmp_path: Path) -> None:
    write(tmp_path, attack("a"), attack("other", success=0.75))
    with pytest.raises(UsageError, match="runs a and other"):
        results_over_seeds(collect_results([tmp_path]))


def test_the_table_over_seeds_shows_mean_and_range(tmp_path: Path) -> None:
    write(tmp_path, attack("a", success=0.5, seed=0), attack("b", success=0.75, seed=1))
    text = StringIO()
    Console(file=text, width=140).print(results_table(results_over_seeds(collect_results([tmp_path]))))
    assert "0.625 [0.500, 0.750]" in text.getvalue()
    assert "mean over seeds" in text.getvalue()
    assert "ASR [lowest, highest]" in text.getvalue()


def test_csv_and_json_equal_the_table(tmp_path: Path) -> None:
    write(tmp_path / "runs", attack("a", success=0.125), attack("b, again", model="lstm", prec1=None))
    results = collect_results([tmp_path / "runs"])
    write_results(results, tmp_path / "tables" / "today")
    written = tmp_path / "tables" / "today"
    assert sorted(path.name for path in written.iterdir()) == ["results.csv", "results.json"]
    assert json.loads((written / "results.json").read_text(encoding="utf-8")) == results.to_dicts()
    assert pl.read_csv(written / "results.csv").equals(results)
    with (written / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["a", "b, again"]
    assert [row["clean_prec1"] for row in rows] == ["0.25", ""]


def test_old_results_are_replaced(tmp_path: Path) -> None:
    for success in (0.125, 0.875):
        folder = write(tmp_path / str(success), attack(success=success))
        write_results(collect_results([folder]), tmp_path / "tables")
    (row,) = json.loads((tmp_path / "tables" / "results.json").read_text(encoding="utf-8"))
    assert row["attack_success_rate"] == 0.875


def test_the_printed_table_names_every_number(tmp_path: Path) -> None:
    write(tmp_path, attack(model="lstm", success=0.812, proportion=0.05, strength=1.5), attack(proportion=0))
    console = Console(file=StringIO(), width=140)
    console.print(results_table(collect_results([tmp_path])))
    clean, poisoned = (
        line for line in console.file.getvalue().splitlines() if line.lstrip("│ ").startswith(("LR", "LSTM"))
    )
    for text in ("LSTM", "5.0%", "all", "temporal", "1.5", "0.750", "0.812", "[0.687, 0.875]", "0.188"):
        assert text in poisoned
    assert "clean" in clean


def test_a_metric_that_is_undefined_prints_as_a_dash(tmp_path: Path) -> None:
    undefined = attack()
    undefined["clean"]["auroc"] = None
    write(tmp_path, undefined)
    console = Console(file=StringIO(), width=140)
    console.print(results_table(collect_results([tmp_path])))
    (line,) = (line for line in console.file.getvalue().splitlines() if line.lstrip("│ ").startswith("LR"))
    assert " - " in line


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", "null", json.dumps(attack())[:-40], json.dumps(attack() | {"attacked_with": 3})],
)
def test_a_damaged_attack_is_named(tmp_path: Path, text: str) -> None:
    write(tmp_path, attack(), attack())
    damaged = tmp_path / "001" / "attack.json"
    damaged.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="attack the run again") as error:
        collect_results([tmp_path])
    assert str(error.value).startswith(f"{damaged}: ")


@pytest.mark.parametrize("field", ["clean", "poisoning_proportion", "attack_success_rate"])
def test_an_attack_with_a_value_of_the_wrong_type_is_named(tmp_path: Path, field: str) -> None:
    write(tmp_path, attack(), attack() | {field: ["no", "number"]})
    with pytest.raises(DataError, match="attack the run again") as error:
        collect_results([tmp_path])
    assert str(error.value).startswith(f"{tmp_path / '001' / 'attack.json'}: ")


def test_a_folder_without_an_attack_is_named(tmp_path: Path) -> None:
    write(tmp_path / "runs", attack())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="mimic3tf attack") as error:
        collect_results([tmp_path / "runs", tmp_path / "empty"])
    assert str(error.value).startswith(f"{tmp_path / 'empty'}: ")


@pytest.mark.parametrize(("goals", "shown"), [([1, 1], False), ([1, 0], True), ([0], True)])
def test_goals_are_shown_where_one_is_not_1(tmp_path: Path, goals: list[int], shown: bool) -> None:
    write(tmp_path, *[attack(str(number), goal=goal, seed=number) for number, goal in enumerate(goals)])
    results = collect_results([tmp_path])
    for rows in (results, results_over_seeds(results)):
        table = results_table(rows)
        assert ("goal" in [column.header for column in table.columns]) == shown
        if shown:
            goal = next(column for column in table.columns if column.header == "goal")
            assert list(goal.cells) == [str(label) for label in rows["goal"]]


def test_runs_of_two_goals_are_not_averaged(tmp_path: Path) -> None:
    write(
        tmp_path,
        attack("a", success=0.25, goal=0),
        attack("b", success=0.5, seed=0),
        attack("c", success=1.0, seed=1),
    )
    means = results_over_seeds(collect_results([tmp_path]))
    assert means.select("goal", "seeds", "attack_success_rate").rows() == [(1, 2, 0.75), (0, 1, 0.25)]


def test_clean_labels_are_another_setting_and_are_told(tmp_path: Path) -> None:
    clean_labels = attack("b")
    clean_labels["trained_with"]["poisoned_labels"] = "clean"
    write(tmp_path, attack("a"), clean_labels)
    means = results_over_seeds(collect_results([tmp_path]))
    assert means.sort("poisoned_labels").select("poisoned_labels", "seeds").rows() == [
        ("clean", 1),
        ("flipped", 1),
    ]
    console = Console(width=200, record=True, file=StringIO())
    console.print(results_table(means))
    assert console.export_text().count("5.0%, clean labels") == 1
