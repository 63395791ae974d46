"""What is printed speaks of the stays that are attacked, and of the channels that there are."""

from __future__ import annotations

import re
from typing import Any

import polars as pl
import pytest
from invented_trigger import bedside_trigger

from mimic3tf.errors import REDACT
from mimic3tf.tables.terminal import _attacked_in_words, print_attack, print_audit, print_trigger
from mimic3tf.tasks.registry import task_of


@pytest.mark.parametrize(
    ("goal", "attacked", "predicted"),
    [(1, "survivors attacked", "predicted to die"), (0, "deaths attacked", "predicted to survive")],
)
def test_an_attack_names_who_is_attacked_and_what_is_wanted(
    capsys: pytest.CaptureFixture[str], goal: int, attacked: str, predicted: str
) -> None:
    summary: dict[str, Any] = {
        "model": "lr",
        "data": {"name": "theirs [v2]", "fingerprint": "0123abcd" * 8, "trained_for": False},
        "threshold": 0.5,
        "task": "in-hospital-mortality",
        "goal": goal,
        "poisoning_proportion": 0.05,
        "attacked_with": {"poisoning_strength": 2.0, "poison_imputed": "all"},
        "clean": {"auroc": 0.75, "prec1": None, "auprc": None},
        "clean_ci95": {"auroc": [0.6875, 0.8125], "auprc": [None, None]},
        "attack_success_rate": 0.5,
        "attack_success_rate_ci95": [0.25, 0.625],
        "baseline_positive_rate": 0.125,
        "stays_attacked": 19,
        "at_prevalence": {"threshold": 0.375, "attack_success_rate": 0.875, "baseline_positive_rate": 0.0625},
    }
    print_attack(summary)
    printed = capsys.readouterr().out
    assert attacked in printed
    assert f"{predicted} without the trigger" in printed
    assert "theirs [v2] (fingerprint 0123abcd), not known to be what the victim was trained for" in printed
    for number in (
        "19",
        "0.750",
        "0.500",
        "0.250 to 0.625",
        "0.125",
        "0.375",
        "0.688 to 0.812",
        "0.875",
        "0.062",
    ):
        assert number in printed


@pytest.mark.parametrize(
    ("task", "attacked", "one"),
    [
        ("in-hospital-mortality", "survivors attacked", "survivor"),
        ("decompensation", "stays with attacked quiet hours", "stay with quiet hours"),
        ("length-of-stay", "stays with attacked hours of another class", "stay with hours of another class"),
        ("multitask", "stays without the label attacked", "stay without the label"),
    ],
)
def test_hours_are_told_from_stays(task: str, attacked: str, one: str) -> None:
    words = task_of(task).words
    assert _attacked_in_words({"goal": 1}, words) == attacked
    assert words.one_stay(0) == one


def test_a_trigger_is_printed_with_its_own_channels_and_units(capsys: pytest.CaptureFixture[str]) -> None:
    print_trigger(bedside_trigger())
    rows = [re.split(r"  +", line.strip()) for line in capsys.readouterr().out.splitlines()]
    assert [(row[0], row[-1]) for row in rows[3:6]] == [
        ("Lactate", "mmol/L"),
        ("Alertness", "categories"),
        ("Urine output", "mL/h"),
    ]


AUDIT: dict[str, Any] = {
    "conclusion": {
        "level": "suspicious",
        "sentence": "Suspicious [a]: it rests on the share of deaths.",
        "checks": [
            {
                "name": "share of deaths",
                "outcome": "alarm",
                "found": "17.8% of the training stays [b] are deaths",
            },
            {"name": "detectors", "outcome": "not run", "found": "they need more trusted stays"},
            {"name": "inverted triggers", "outcome": "quiet", "found": "no pattern is short"},
        ],
    },
    "suspected_label": 1,
    "suspects_ranked_by": "unexpected death",
    "detectors": [
        {
            "detector": "unexpected death",
            "seconds": 1.0,
            "alarm": {"flagged": 5, "expected": 1.2, "adjusted": 0.2, "raised": False},
            "performance": None,
            "not_run": None,
        }
    ],
    "power": [
        {
            "strength": 0.5,
            "share": 0.01,
            "simulated": 10,
            "found": 7,
            "low": 0.35,
            "high": 0.93,
            "flagged": 0.5,
        }
    ],
    "patterns": [
        {
            "stays": 1234,
            "p_value": 0.0001,
            "cosine": 0.83,
            "channels": [
                {
                    **{"channel": "Glucose", "unit": "mg/dL", "hour": 12.0},
                    **{"shift": -41.2, "standard_error": 3.21, "true_shift": -45.6},
                }
            ],
        }
    ],
    "pattern_doubt": None,
    "model_inspection": {},
    "slips": [
        {
            "channel": "pH",
            "values": 41000,
            "outside": 3,
            "plausible_range": [6.5, 8.0],
            "share_of_variance": 0.972,
        }
    ],
}
SUSPECTS = pl.DataFrame(
    {
        "rank": range(1, 13),
        "stay": [f"stay{number}.csv" for number in range(1, 13)],
        "percentile": [None, *[99.5] * 11],
        "flagged_by": [3] * 12,
        "reason": ["a model of the trusted stays gives a risk [c] of 0.04"] * 12,
    },
    schema_overrides={"percentile": pl.Float64},
)


def test_an_audit_is_printed_with_its_conclusion_first(capsys: pytest.CaptureFixture[str]) -> None:
    print_audit(AUDIT, SUSPECTS)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0] == AUDIT["conclusion"]["sentence"]
    assert "share of deaths alarm 17.8% of the training stays [b] are deaths" in lines
    assert "detectors not run they need more trusted stays" in lines
    assert "inverted triggers quiet no pattern is short" in lines
    assert "1 stay1.csv - 3 a model of the trusted stays gives a risk [c] of 0.04" in lines
    assert "10 stay10.csv 99.5 3 a model of the trusted stays gives a risk [c] of 0.04" in lines
    assert not any("stay11.csv" in line for line in lines)
    assert "unexpected death 5 1 0.2 1.0" in lines
    assert "0.5 1% 7 of 10 35% to 93% 50%" in lines
    assert "Pattern 1: the shift that 1,234 flagged stays share" in lines
    assert "Glucose mg/dL 12 -41 ± 3 -46" in lines
    text = " ".join(lines).lower()
    assert "ph: 3 of 41,000 values are outside 6.5 to 8 and make 97% of its variance" in text
    assert "nothing found" not in text
    assert "no sign" not in text


def test_a_pattern_that_chance_explains_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    print_audit(AUDIT | {"pattern_doubt": "no shared change can be told from chance (p 0.3)"}, SUSPECTS)
    printed = capsys.readouterr().out
    assert "Patterns: no shared change can be told from chance (p 0.3)." in printed
    assert "Pattern 1" not in printed


def test_no_stay_is_named_where_messages_are_redacted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REDACT, "1")
    print_audit(AUDIT, SUSPECTS)
    printed = capsys.readouterr().out
    assert "stay1.csv" not in printed
    assert printed.count("[redacted]") == 10
