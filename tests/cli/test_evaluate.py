from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
SCRIPT = Path(__file__).parents[1] / "fixtures" / "evaluation"
PREDICTIONS, LISTFILE = SCRIPT / "ihm_predictions.csv", SCRIPT / "ihm_listfile.csv"


def test_the_result_is_that_of_the_benchmarks_script(mimic3tf: Command, tmp_path: Path) -> None:
    out = tmp_path / "new" / "result.json"
    made = mimic3tf("evaluate", PREDICTIONS, "--listfile", LISTFILE, "--n_iters", 200, "--out", out)
    assert (made.status, made.err) == (0, "")
    found, expected = (json.loads(file.read_text()) for file in (out, SCRIPT / "ihm_results.json"))
    assert list(found) == list(expected)
    assert found["n_iters"] == 200
    for metric in list(expected)[1:]:
        assert list(found[metric]) == list(expected[metric])
        # The same resamples: the script seeded NumPy's generator with 0, and 0 is the default seed.
        assert found[metric] == pytest.approx(expected[metric], rel=1e-12)


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
    survivors = tmp_path / "survivors.csv"
    survivors.write_text("stay,y_true\na,0\nb,0\n")
    risks = tmp_path / "risks.csv"
    risks.write_text("stay,prediction\na,0.1\nb,0.2\n")
    mimic3tf("evaluate", risks, "--listfile", survivors).fails(1, survivors, "all stays have label 0")
