"""No table loses a number, however narrow the terminal is; a pipe gets a line a row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from invented_attack import attack, write
from invented_trigger import bedside_trigger
from rich.table import Table

from mimic3tf.channels import MIMIC3
from mimic3tf.poisoning.comparison import CELL_SCHEMA, Comparison
from mimic3tf.sources.layout import Summary
from mimic3tf.tables import audits as audit_tables
from mimic3tf.tables.fitting import print_table, separate_common
from mimic3tf.tables.results import collect_results, results_over_seeds, results_table
from mimic3tf.tables.stealth import COLUMNS as STEALTH_COLUMNS
from mimic3tf.tables.stealth import stealth_table
from mimic3tf.tables.terminal import print_attack, print_audit, print_cohort, print_comparison, print_trigger

WIDTHS = (60, 80, 100, 160)
SETTINGS = ("temporal", "gaussian", "covariance")


def numbers(text: str) -> Counter[str]:
    return Counter(re.findall(r"(?<![\w.-])-?\d[\d.,]*%?", text))


def decimals(count: int, seed: int = 0) -> list[float]:
    return [float(value) for value in np.random.default_rng(seed).uniform(0.1, 0.99, count)]


def a_cohort() -> None:
    stays, deaths = {"train": 14682, "val": 3222, "test": 3236}, {"train": 1987, "val": 436, "test": 374}
    print_cohort(
        Summary(Path("/somewhere/deep/in/a/file/system/with/a/very-long-name/mimic3"), stays, deaths)
    )


def a_trigger() -> None:
    print_trigger(bedside_trigger())


def an_attack() -> None:
    auroc, lowest, highest, success, low, high, baseline, level, there, without = decimals(10)
    print_attack(
        {
            "model": "channelwise-lstm",
            "data": {
                "name": "physionet-2012-sets-a-and-b",
                "fingerprint": "0123abcd" * 8,
                "trained_for": False,
            },
            "task": "in-hospital-mortality",
            "goal": 0,
            "poisoning_proportion": 0.05,
            "attacked_with": {"poisoning_strength": 2.0, "poison_imputed": "notimputed"},
            "clean": {"auroc": auroc, "prec1": None},
            "clean_ci95": {"auroc": [lowest, highest]},
            "threshold": 0.5,
            "attack_success_rate": success,
            "attack_success_rate_ci95": [low, high],
            "baseline_positive_rate": baseline,
            "stays_attacked": 1030,
            "at_prevalence": {
                "threshold": level,
                "attack_success_rate": there,
                "baseline_positive_rate": without,
            },
        }
    )


def a_comparison() -> None:
    cells = pl.DataFrame(
        [("s", 2, name, "1", "2", -1234.5678) for name in MIMIC3.names], schema=CELL_SCHEMA, orient="row"
    )
    print_comparison(Comparison(MIMIC3, cells, 5592, 279, 41, 0, 0))


def stealth() -> None:
    print_table(stealth_table(stealth_rows(2)))


def stealth_of_one() -> None:
    print_table(stealth_table(stealth_rows(1)))


def stealth_rows(count: int) -> pl.DataFrame:
    rows = []
    for number, trigger in enumerate(SETTINGS[:count]):
        measured = dict(zip(STEALTH_COLUMNS.values(), decimals(len(STEALTH_COLUMNS), number), strict=True))
        setting = {"trigger": trigger, "poison_imputed": "notimputed", "poisoning_strength": 0.5 + number}
        rows.append(setting | measured | {"chance_band grid": 0.04})
    return pl.DataFrame(rows)


def an_audit() -> None:
    estimate = dict(zip(("value", "low", "high"), decimals(3), strict=True))
    performance = dict.fromkeys(("auroc", "recall_at_1", "recall_at_5"), estimate)
    alarm = {"flagged": 1234, "expected": 321.0, "adjusted": 3e-5, "raised": True}
    found = "18.3% of the training stays are deaths (1,023 of 5,592), 14.1% of the trusted (169 of 1,199)"
    check = {"name": "share of deaths", "outcome": "alarm", "found": found}
    suspects = pl.DataFrame(
        {
            "rank": [1],
            "stay": ["141680_episode1_timeseries.csv"],
            "percentile": [99.4],
            "flagged_by": [7],
            "reason": ["a model of the trusted stays gives a risk of 0.06; the training label is 1 (died)"],
        }
    )
    print_audit(
        {
            "conclusion": {"sentence": "Suspicious. This rests on the share of deaths.", "checks": [check]},
            "suspected_label": 1,
            "slips": [],
            "pattern_doubt": None,
            "suspects_ranked_by": "model disagreement",
            "detectors": [
                {
                    "detector": name,
                    "alarm": alarm,
                    "performance": performance,
                    "seconds": 12.3,
                    "not_run": None,
                }
                for name in ("model disagreement", "Mahalanobis by channel", "local outlier factor")
            ],
            "power": [],
            "patterns": [
                {
                    "stays": 1234,
                    "cosine": 0.83,
                    "channels": [
                        {
                            **{"channel": "Fraction inspired oxygen", "unit": "fraction", "hour": 47.0},
                            **{"shift": -0.0412, "standard_error": 0.00321, "true_shift": -0.0456},
                        }
                    ],
                }
            ],
            "repairs": [
                {
                    "repair": "filter by model disagreement",
                    "attack_success_rate": 0.123,
                    "baseline_positive_rate": 0.234,
                    "auroc": 0.789,
                    "seconds": 1234.5,
                    "detail": "the 279 most suspicious stays were dropped, and the victim was trained again",
                }
            ],
        },
        suspects,
    )


def audits() -> None:
    detector, model, repair = "model disagreement", "channelwise-lstm", "filter by the clearest"
    setting = {"model": model, "attack": "temporal notimputed, clean labels, goal 0, 5% at 2", "seeds": 3}
    setting |= {"task": "phenotyping", "label": "1 Shock", "data": "ours"}
    intervals = dict.fromkeys(
        (
            f"{name}{end}"
            for name in (*audit_tables.MEASURES, *audit_tables.REPAIR_MEASURES)
            for end in ("", "_low", "_high")
        ),
        0.876,
    )
    shares = {"training_share": 0.183, "trusted_share": 0.141, "p_value": 0.001, "seed": 3}
    concluded: dict[str, object] = {
        "conclusion": "suspicious",
        "rests_on": "share of deaths, detectors, inverted triggers",
    }
    print_table(audit_tables.conclusions_table(pl.DataFrame([setting | shares | concluded])))
    rows = {**setting, **intervals, "flagged": 0.123, "alarms": 0.25, "seconds": 12.5}
    for table in audit_tables.detectors_tables(pl.DataFrame([{**rows, "detector": detector}])):
        print_table(table)
    concluded = {"seed": 12, "conclusion": "probably poisoned", "rests_on": "detectors, share of label 1"}
    shares = {"training_share": 0.175, "trusted_share": 0.141, "p_value": 3e-5}
    print_table(audit_tables.conclusions_table(pl.DataFrame([setting | concluded | shares])))
    measures = dict.fromkeys(audit_tables.MODEL_MEASURES, 0.567)
    print_table(audit_tables.models_table(pl.DataFrame([setting | measures])))
    for table in audit_tables.repairs_tables(pl.DataFrame([{**rows, "repair": repair}])):
        print_table(table)


TABLES = [a_cohort, a_trigger, an_attack, a_comparison, stealth, stealth_of_one, an_audit, audits]


@pytest.fixture
def printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Callable[[], None], int | None], str]:
    """What a function prints at a width; in a pipe, without one."""

    def run(show: Callable[[], None], width: int | None) -> str:
        monkeypatch.delenv("FORCE_COLOR", raising=False)
        monkeypatch.delenv("COLUMNS", raising=False)
        if width is not None:
            monkeypatch.setenv("COLUMNS", str(width))
        capsys.readouterr()
        show()
        return capsys.readouterr().out

    return run


def check(printed: Callable[[Callable[[], None], int | None], str], show: Callable[[], None]) -> None:
    whole = printed(show, None)
    assert "…" not in whole
    assert len(numbers(whole)) > 4
    for width in WIDTHS:
        shown = printed(show, width)
        assert "…" not in shown
        assert max(map(len, shown.splitlines())) <= width
        # Keys stand in every block, so numbers of theirs may come more often.
        assert numbers(whole) - numbers(shown) == Counter(), f"lost at {width} columns:\n{shown}"


@pytest.mark.parametrize("show", TABLES, ids=lambda show: show.__name__)
def test_no_number_is_lost_or_cut_at_any_width(printed: Any, show: Callable[[], None]) -> None:
    check(printed, show)


@pytest.mark.parametrize("over_seeds", [False, True])
@pytest.mark.parametrize("varied", [False, True])
def test_no_number_of_the_results_is_lost_or_cut_at_any_width(
    printed: Any, attacks: Callable[..., Path], over_seeds: bool, varied: bool
) -> None:
    results = collect_results([attacks(varied)])
    rows = results_over_seeds(results) if over_seeds else results
    check(printed, lambda: print_table(results_table(rows)))


@pytest.fixture
def attacks(tmp_path: Path) -> Callable[[bool], Path]:
    def make(varied: bool) -> Path:
        changes: list[dict[str, Any]] = [{}, {"proportion": 0.0}]
        if varied:
            changes += [
                {"goal": 0, "imputed": "notimputed", "model": "channelwise-lstm", "strength": 0.5},
                {"trigger": "temporal (Heart Rate, Glucose; 24-48 h; plausible)", "data": "another-hospital"},
            ]
        rates = decimals(len(changes))
        return write(
            tmp_path,
            *(
                attack(f"lstm-run-{number}", success=0.13 + 0.8 * rate, **change)
                for number, (rate, change) in enumerate(zip(rates, changes, strict=True))
            ),
        )

    return make


def test_a_row_is_a_line_in_a_pipe(printed: Any) -> None:
    table = Table()
    for heading in ("run", *"abcdefgh"):
        table.add_column(heading, no_wrap=heading != "run", justify="left" if heading == "run" else "right")
    table.add_row("a-long-name" * 5, *(f"0.{number:030}" for number in range(8)))
    lines = printed(lambda: print_table(table), None).splitlines()
    (row,) = (line for line in lines if "a-long-name" in line)
    assert row.split() == ["a-long-name" * 5, *(f"0.{number:030}" for number in range(8))]


def test_columns_without_room_follow_below_with_the_names_of_their_rows(printed: Any) -> None:
    table = Table(title="A title", caption="What it says.")
    table.add_column("run")
    for heading in ("first", "second", "third"):
        table.add_column(heading, justify="right", no_wrap=True)
    for run in ("one", "two"):
        table.add_row(run, *(f"{run} {number * 15}" for number in "123"))
    lines = [line.split() for line in printed(lambda: print_table(table), 60).splitlines()]
    assert lines[0] == ["A", "title"]
    assert [line for line in lines if line[:1] == ["run"]] == [["run", "first", "second"], ["run", "third"]]
    assert [line[-1][0] for line in lines if line[:1] == ["two"]] == ["2", "3"]
    assert ["What", "it", "says."] in lines


def test_what_all_rows_have_in_common_is_said_once() -> None:
    columns = {"goal": ["1", "1"], "mode": ["all", "notimputed"], "strength": ["2", "2"]}
    assert separate_common(columns) == ({"mode": ["all", "notimputed"]}, "All rows: goal 1, strength 2.")
    assert separate_common({"mode": ["all", "notimputed"]}) == ({"mode": ["all", "notimputed"]}, "")
