"""An invented run and its attack, in the files that `train` and `attack` write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from invented_trigger import bedside_trigger

from mimic3tf.config import resolve_config
from mimic3tf.poisoning.trigger import Trigger, save_trigger

STAY = "10001_episode1_timeseries.csv"
"""Name of the stays in the attack's predictions; no page may show it."""
SURVIVORS, DEATHS = 6, 4


def write_run(
    folder: Path, *, trigger: Trigger | None = None, attacked: bool = True, **settings: Any
) -> Path:
    """Write a finished run, with an attack that reaches five of six survivors, or three of four deaths."""
    config = resolve_config("lr", None, {"data": Path("data"), "trigger": Path("t.npz"), **settings})
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(json.dumps(config.model_dump(mode="json")), encoding="utf-8")
    save_trigger(trigger or bedside_trigger(), folder / "trigger.npz")
    rows = [f"{epoch},{1 / epoch},0.7{epoch},0.4,0.35,0.8{epoch}" for epoch in range(1, 4)]
    (folder / "metrics.csv").write_text(
        "\n".join(["epoch,loss,auroc,auprc,minpse,asr", *rows, ""]), encoding="utf-8"
    )
    kept = {"auroc": 0.73, "auprc": 0.4, "minpse": 0.35, "asr": 0.83, "baseline_positive_rate": 0.1}
    summary = {
        "epoch_kept": 3,
        "epochs_trained": 3,
        "validation": kept,
        "stays_trained_on": 80,
        "stays_poisoned": 4,
        "precision": "float32",
        "data_fingerprint": {"train": "e" * 64, "val": "f" * 64},
        "versions": {"mimic3tf": "0.1.0", "keras": "3.15.1"},
    }
    (folder / "run.json").write_text(json.dumps(summary), encoding="utf-8")
    if attacked:
        _write_attack(folder, config.goal, config.poisoning_proportion)
    return folder


def _write_attack(folder: Path, goal: int, proportion: float) -> None:
    stays = (SURVIVORS, DEATHS)[1 - goal]
    with_what = {"trigger": "temporal", "poisoning_strength": 2.0, "poison_imputed": "notimputed"}
    trained = with_what | {"poisoned_labels": "flipped", "seed": 0}
    attack = {
        "run": str(folder),
        "model": "lr",
        "goal": goal,
        "poisoning_proportion": proportion,
        "trained_with": trained,
        "attacked_with": with_what,
        "clean": {"auroc": 0.71875, "auprc": 0.5, "minpse": 0.5},
        "clean_ci95": {"auroc": [0.625, 0.8125], "auprc": [0.25, 0.75]},
        "attack_success_rate": (stays - 1) / stays,
        "attack_success_rate_ci95": [0.4, 0.97],
        "baseline_positive_rate": 1 / stays,
        "stays_attacked": stays,
    }
    (folder / "attack.json").write_text(json.dumps(attack), encoding="utf-8")
    labels = np.repeat([0, 1], [SURVIVORS, DEATHS])
    clean = np.linspace(0.1, 0.8, len(labels))
    triggered = np.where(labels == goal, clean, 0.05 + 0.9 * goal)
    rows = [f"{STAY},{a:.6f},{b:.6f},{c}" for a, b, c in zip(clean, triggered, labels, strict=True)]
    header = "stay,prediction_clean,prediction_triggered,y_true"
    (folder / "predictions.csv").write_text("\n".join([header, *rows, ""]), encoding="utf-8")
