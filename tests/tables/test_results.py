"""Several attacks in one table, for people and for programs."""

from __future__ import annotations

import csv
import json
from io import StringIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from invented_attack import METRICS, attack, write
from rich.console import Console

from mimic3tf.errors import DataError, UsageError
from mimic3tf.tables.columns import AT_PREVALENCE
from mimic3tf.tables.fitting import print_table
from mimic3tf.tables.results import (
    INTERVALS,
    collect_results,
    results_over_seeds,
    results_table,
    write_results,
)


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
        "data": "ours",
        "test_fingerprint": "ours 0123456789",
        "trained_for_data": True,
        "task": "in-hospital-mortality",
        "victim": "mlp",
        "goal": 1,
        "goal_label": None,
        "poisoning_proportion": 0.01,
        "poisoned_labels": "flipped",
        "trained_poison_imputed": "all",
        "trained_poisoning_strength": 2.0,
        "poison_imputed": "notimputed",
        "trigger": "temporal",
        "poisoning_strength": 1.5,
        "at": 0.0,
        "seed": 0,
        "attack_success_rate": 0.5,
        "ci95_low": 0.375,
        "ci95_high": 0.5625,
        "baseline_positive_rate": 0.1875,
        "threshold": 0.5,
        "prevalence_threshold": 0.25,
        "prevalence_success_rate": 0.875,
        "prevalence_baseline_rate": 0.125,
        "stays_attacked": 19,
        **{f"clean_{name}": 0.75 for name in METRICS},
        "clean_prec1": 0.25,
        "auroc_ci95_low": 0.6875,
        "auroc_ci95_high": 0.8125,
        "auprc_ci95_low": 0.625,
        "auprc_ci95_high": 0.875,
    }


def test_an_attack_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """It calls the attacked stays victims, and does not say its goal: it was 1."""
    old = attack()
    old["victims"] = old.pop("stays_attacked")
    later = ["data", "test_fingerprint", "trained_for_data", *AT_PREVALENCE, *INTERVALS]
    for name in ("task", "goal", "data", "threshold", "at_prevalence", "clean_ci95"):
        del old[name]
    write(tmp_path / "old", old)
    write(tmp_path / "new", attack())
    found, expected = (collect_results([tmp_path / name]) for name in ("old", "new"))
    assert found.drop(later).equals(expected.drop(later))
    assert found.select(later).rows() == [(None,) * len(later)]
    assert found.schema == expected.schema


def test_old_and_new_attacks_stand_in_one_table(tmp_path: Path) -> None:
    old = attack("old")
    for name in ("data", "threshold", "at_prevalence"):
        del old[name]
    write(tmp_path, old, attack("new"))
    table = results_table(collect_results([tmp_path]))
    cells = {column.header: dict(zip(("new", "old"), column.cells, strict=True)) for column in table.columns}
    assert cells["data"] == {"new": "ours", "old": "-"}
    assert cells["ASR\nat prev."] == {"new": "0.875", "old": "-"}


def test_an_attack_is_shown_with_its_run_and_its_data(tmp_path: Path) -> None:
    write(tmp_path, attack("lr"), attack("lr", data="theirs", trained_for=False))
    table = results_table(collect_results([tmp_path]))
    names, data, *_ = table.columns
    assert list(names.cells) == ["lr", "lr"]
    assert list(data.cells) == ["ours", "theirs*"]
    assert "*: not known to be the data" in str(table.caption)


def test_two_data_sets_of_one_name_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path, attack("lr"), attack("lr", fingerprint="another"))
    data = results_table(collect_results([tmp_path])).columns[1]
    assert sorted(map(str, data.cells)) == ["ours ours 0", "ours ours a"]


def test_attacks_on_two_data_sets_are_not_averaged(tmp_path: Path) -> None:
    write(tmp_path, attack(success=0.5), attack(success=0.75, seed=1), attack(data="theirs", success=0.25))
    means = results_over_seeds(collect_results([tmp_path]))
    assert means.select("data", "seeds", "attack_success_rate").rows() == [
        ("ours", 2, 0.625),
        ("theirs", 1, 0.25),
    ]


def test_success_at_the_prevalence_is_averaged_and_another_threshold_is_another_setting(
    tmp_path: Path,
) -> None:
    second, other = attack(seed=1), attack() | {"threshold": 0.2}
    second["at_prevalence"] = second["at_prevalence"] | {"attack_success_rate": 0.625}
    write(tmp_path, attack(), second, other)
    means = results_over_seeds(collect_results([tmp_path])).sort("threshold")
    assert means.select("threshold", "seeds", "prevalence_success_rate").rows() == [
        (0.2, 1, 0.875),
        (0.5, 2, 0.75),
    ]
    table = results_table(means)
    (threshold,) = (column for column in table.columns if column.header == "risk threshold")
    assert list(threshold.cells) == ["0.2", "0.5"]


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


def test_an_undefined_interval_is_empty(tmp_path: Path) -> None:
    write(tmp_path, attack() | {"clean_ci95": {"auroc": [None, None], "auprc": [0.5, 1.0]}})
    (row,) = collect_results([tmp_path]).to_dicts()
    assert [row[name] for name in INTERVALS] == [None, None, 0.5, 1.0]


def test_the_table_fits_80_columns_with_intervals_in_the_files_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    write(tmp_path, attack("a"), attack("b", model="lstm", proportion=0))
    results = collect_results([tmp_path])
    print_table(results_table(results))
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "0.812" not in printed
    write_results(results, tmp_path / "tables")
    assert "0.8125" in (tmp_path / "tables" / "results.csv").read_text()


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
    printed = StringIO()
    Console(file=printed, width=300).print(results_table(collect_results([tmp_path])))
    lines = printed.getvalue().splitlines()
    clean, poisoned = (line for line in lines if "LR" in line or "LSTM" in line)
    for text in ("LSTM", "5.0%", "1.5", "0.750", "0.812", "[0.687, 0.875]", "0.188", "0.875", "0.125"):
        assert text in poisoned
    assert "clean" in clean
    assert any(
        "All rows: data ours, goal 1, mode all, trigger temporal, risk threshold 0.5." in line
        for line in lines
    )


def test_a_metric_that_is_undefined_prints_as_a_dash(tmp_path: Path) -> None:
    undefined = attack()
    undefined["clean"]["auroc"] = None
    write(tmp_path, undefined)
    table = results_table(collect_results([tmp_path]))
    (auroc,) = (column for column in table.columns if column.header == "AUROC")
    assert list(auroc.cells) == ["-"]


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


@pytest.mark.parametrize(("goals", "shown"), [([1, 1], False), ([1, 0], True), ([0], False)])
def test_goals_are_a_column_where_they_differ(tmp_path: Path, goals: list[int], shown: bool) -> None:
    write(tmp_path, *[attack(str(number), goal=goal, seed=number) for number, goal in enumerate(goals)])
    results = collect_results([tmp_path])
    for rows in (results, results_over_seeds(results)):
        table = results_table(rows)
        assert ("goal" in [column.header for column in table.columns]) == shown
        if shown:
            goal = next(column for column in table.columns if column.header == "goal")
            assert list(goal.cells) == [str(label) for label in rows["goal"]]
        else:
            assert f"goal {goals[0]}," in str(table.caption)


def test_runs_of_two_goals_are_not_averaged(tmp_path: Path) -> None:
    write(
        tmp_path,
        attack("a", success=0.25, goal=0),
        attack("b", success=0.5, seed=0),
        attack("c", success=1.0, seed=1),
    )
    means = results_over_seeds(collect_results([tmp_path]))
    assert means.select("goal", "seeds", "attack_success_rate").rows() == [(1, 2, 0.75), (0, 1, 0.25)]


@pytest.mark.parametrize(
    ("part", "setting", "heading", "cells"),
    [
        ("attacked_with", {"at": 24}, "from hour", {"0", "24"}),
        ("trained_with", {"poisoning_strength": 0.5}, "trained\nstrength", {"2", "0.5"}),
        ("trained_with", {"poison_imputed": "notimputed"}, "trained\nmode", {"all", "notimputed"}),
    ],
)
def test_another_training_or_hour_is_another_setting_and_is_shown(
    tmp_path: Path, part: str, setting: dict[str, Any], heading: str, cells: set[str]
) -> None:
    other = attack("b", success=0.75)
    other[part] |= setting
    write(tmp_path, attack("a"), other, attack("c", seed=1))
    means = results_over_seeds(collect_results([tmp_path])).sort("seeds")
    assert means.select("seeds", "attack_success_rate").rows() == [(1, 0.75), (2, 0.5)]
    shown = {column.header: set(column.cells) for column in results_table(means).columns}
    assert shown[heading] == cells
    assert not {"from hour", "trained\nstrength", "trained\nmode"} - {heading} & shown.keys()


def test_settings_in_which_a_clean_victim_was_not_poisoned_do_not_count(tmp_path: Path) -> None:
    other = attack("b", proportion=0, seed=1)
    other["trained_with"] |= {"poisoning_strength": 0.5, "poison_imputed": "notimputed"}
    write(tmp_path, attack("a", proportion=0), other)
    means = results_over_seeds(collect_results([tmp_path]))
    assert means["seeds"].to_list() == [2]
    assert not {"trained\nstrength", "trained\nmode"} & {
        column.header for column in results_table(means).columns
    }


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
