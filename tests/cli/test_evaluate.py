from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
SCRIPT = Path(__file__).parents[1] / "fixtures" / "evaluation"
PREDICTIONS, LISTFILE = SCRIPT / "ihm_predictions.csv", SCRIPT / "ihm_listfile.csv"


TASKS = {
    "in-hospital-mortality": "ihm",
    "decompensation": "decomp",
    "length-of-stay": "los",
    "phenotyping": "pheno",
}
"""Task -> how the names of its files begin."""


def files_of(task: str) -> tuple[object, ...]:
    name = TASKS[task]
    return SCRIPT / f"{name}_predictions.csv", "--listfile", SCRIPT / f"{name}_listfile.csv", "--task", task


@pytest.mark.parametrize("task", list(TASKS))
def test_the_result_is_that_of_the_benchmarks_script(task: str, mimic3tf: Command, tmp_path: Path) -> None:
    out = tmp_path / "new" / "result.json"
    made = mimic3tf("evaluate", *files_of(task), "--n_iters", 200, "--out", out)
    assert (made.status, made.err) == (0, "")
    found, expected = (json.loads(file.read_text()) for file in (out, SCRIPT / f"{TASKS[task]}_results.json"))
    assert list(found) == list(expected)
    assert found["n_iters"] == 200
    for metric in list(expected)[1:]:
        assert list(found[metric]) == list(expected[metric])
        # The same resamples: the script seeded NumPy's generator with 0, and 0 is the default seed.
        assert found[metric] == pytest.approx(expected[metric], rel=1e-12)


@pytest.mark.parametrize("task", ["decompensation", "length-of-stay"])
def test_hours_of_a_stay_are_drawn_together_unless_told_otherwise(
    task: str, mimic3tf: Command, tmp_path: Path
) -> None:
    """Ten hours a stay with almost the same prediction: drawn one by one, they pretend to know more."""
    predictions, _, listfile, *rest = files_of(task)
    repeated = []
    for source in (predictions, listfile):
        header, *lines = Path(str(source)).read_text().strip().split("\n")
        rows = [line.split(",") for line in lines]
        copies = [",".join([row[0], str(hour), *row[2:]]) for row in rows for hour in range(5, 15)]
        file = tmp_path / Path(str(source)).name
        file.write_text("\n".join([header, *copies]) + "\n")
        repeated.append(file)
    found = {}
    for unit in ("stays", "hours"):
        out = tmp_path / f"{unit}.json"
        options = ("--n_iters", 200, "--resample", unit, "--out", out)
        made = mimic3tf("evaluate", repeated[0], "--listfile", repeated[1], *rest, *options)
        assert made.status == 0, made.err
        assert "Predictions of 4,000 hours of 400 stays" in made.out
        assert ("as if those of a stay were independent" in " ".join(made.out.split())) == (unit == "hours")
        found[unit] = json.loads(out.read_text())
    single = json.loads((SCRIPT / f"{TASKS[task]}_results.json").read_text())
    for metric in list(single)[1:]:
        assert found["stays"][metric] == pytest.approx(single[metric], rel=1e-6)
        assert found["hours"][metric]["std"] < single[metric]["std"] / 2


def test_a_label_that_no_stay_has_is_left_out_of_the_means(mimic3tf: Command, tmp_path: Path) -> None:
    risks, listed = tmp_path / "risks.csv", tmp_path / "listfile.csv"
    risks.write_text("stay,pred_1,pred_2\na,0.1,0.2\nb,0.3,0.4\nc,0.2,0.3\n")
    listed.write_text("stay,period_length,Shock,Other\na,9,0,0\nb,9,1,0\nc,9,0,0\n")
    out = tmp_path / "result.json"
    made = mimic3tf("evaluate", risks, "--listfile", listed, "--task", "phenotyping", "--out", out)
    assert made.status == 0, made.err
    record = json.loads(out.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert record["n_iters"] == 10_000
    assert record["ROC AUC of task 2"]["value"] is None
    assert record["Macro ROC AUC"]["value"] == record["ROC AUC of task 1"]["value"] == 1.0
    assert "ROC AUC of task 2" in made.out


def test_the_table_shows_what_the_file_holds_at_80_columns(
    mimic3tf: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "result.json"
    made = mimic3tf(
        "evaluate", PREDICTIONS, "--listfile", LISTFILE, "--n-iters", 100, "--seed", 3, "--out", out
    )
    rows = {line.split("  ")[0].strip(): line.split() for line in made.out.splitlines()}
    record = json.loads(out.read_text())
    for metric in ("AUC of ROC", "AUC of PRC", "min(+P, Se)"):
        assert rows[metric][-6:] == [f"{number:.4f}" for number in record[metric].values()]
    assert max(map(len, made.out.splitlines())) <= 80


def test_another_seed_gives_other_intervals_of_the_same_values(mimic3tf: Command, tmp_path: Path) -> None:
    records = []
    for seed in (1, 1, 2):
        out = tmp_path / "result.json"
        options = ("--listfile", LISTFILE, "--n_iters", 50, "--seed", seed, "--out", out)
        assert mimic3tf("evaluate", PREDICTIONS, *options).status == 0
        records.append(json.loads(out.read_text())["AUC of ROC"])
    assert records[0] == records[1]
    assert records[0]["value"] == records[2]["value"]
    assert records[0]["mean"] != records[2]["mean"]


def test_mistakes_are_refused(mimic3tf: Command, tmp_path: Path) -> None:
    listfile = ("--listfile", LISTFILE)
    mimic3tf("evaluate", tmp_path / "no.csv", *listfile).fails(2, "PREDICTIONS", tmp_path / "no.csv")
    mimic3tf("evaluate", PREDICTIONS, "--listfile", tmp_path / "no.csv").fails(2, "--listfile", "no.csv")
    mimic3tf("evaluate", PREDICTIONS, *listfile, "--out", tmp_path).fails(2, "--out", tmp_path)
    mimic3tf("evaluate", PREDICTIONS, *listfile, "--n_iters", 0).refuses_option("--n_iters", 0)
    mimic3tf("evaluate", PREDICTIONS, *listfile, "--seed", -1).refuses_option("--seed", -1)
    mimic3tf("evaluate", LISTFILE, *listfile).fails(1, LISTFILE, "line 1", "'prediction'")
    mimic3tf("evaluate", PREDICTIONS, *listfile, "--task", "phenotypes").fails(
        2, "option --task is 'phenotypes'", "did you mean phenotyping?"
    )
    mimic3tf("evaluate", PREDICTIONS, *listfile, "--task", "multitask").fails(2, "--task", "its four tasks")
    mimic3tf("evaluate", PREDICTIONS, *listfile, "--resample", "hours").fails(2, "--resample hours")
    mimic3tf("evaluate", PREDICTIONS, *listfile, "--task", "decompensation").fails(1, "'period_length'")
    survivors = tmp_path / "survivors.csv"
    survivors.write_text("stay,y_true\na,0\nb,0\n")
    risks = tmp_path / "risks.csv"
    risks.write_text("stay,prediction\na,0.1\nb,0.2\n")
    mimic3tf("evaluate", risks, "--listfile", survivors).fails(1, survivors, "all stays have label 0")
