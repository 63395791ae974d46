"""Invented results of attacks, in the files that `mimic3tf attack` writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
    data: str = "ours",
    fingerprint: str = "0123456789",
    trained_for: bool = True,
) -> dict[str, Any]:
    """Contents of an `attack.json`."""
    return {
        "run": f"runs/{run}",
        "data": {"name": data, "fingerprint": f"{data} {fingerprint}", "trained_for": trained_for},
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
        "clean_ci95": {"auroc": [0.6875, 0.8125], "auprc": [0.625, 0.875]},
        "threshold": 0.5,
        "at_prevalence": {"threshold": 0.25, "attack_success_rate": 0.875, "baseline_positive_rate": 0.125},
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
