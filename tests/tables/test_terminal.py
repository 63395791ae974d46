"""What is printed speaks of the stays that are attacked, and of the channels that there are."""

from __future__ import annotations

import re
from typing import Any

import pytest
from invented_trigger import bedside_trigger

from mimic3tf.tables.terminal import print_attack, print_trigger


@pytest.mark.parametrize(
    ("goal", "attacked", "predicted"),
    [(1, "survivors attacked", "predicted to die"), (0, "deaths attacked", "predicted to survive")],
)
def test_an_attack_names_who_is_attacked_and_what_is_wanted(
    capsys: pytest.CaptureFixture[str], goal: int, attacked: str, predicted: str
) -> None:
    summary: dict[str, Any] = {
        "model": "lr",
        "data": {"name": "theirs", "fingerprint": "0123abcd" * 8, "trained_for": False},
        "threshold": 0.5,
        "task": "in-hospital-mortality",
        "goal": goal,
        "poisoning_proportion": 0.05,
        "attacked_with": {"poisoning_strength": 2.0, "poison_imputed": "all"},
        "clean": {"auroc": 0.75, "prec1": None},
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
    assert "theirs (fingerprint 0123abcd), not known to be what the victim was trained for" in printed
    for number in ("19", "0.750", "0.500", "0.250 to 0.625", "0.125", "0.375", "0.875", "0.062"):
        assert number in printed


def test_a_trigger_is_printed_with_its_own_channels_and_units(capsys: pytest.CaptureFixture[str]) -> None:
    print_trigger(bedside_trigger())
    rows = [re.split(r"  +", line.strip()) for line in capsys.readouterr().out.splitlines()]
    assert [(row[0], row[-1]) for row in rows[3:6]] == [
        ("Lactate", "mmol/L"),
        ("Alertness", "categories"),
        ("Urine output", "mL/h"),
    ]
