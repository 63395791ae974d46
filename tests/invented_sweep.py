"""Invented results of a sweep, in the files that `mimic3tf sweep` writes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mimic3tf.channels import MIMIC3
from mimic3tf.poisoning.trigger import Trigger, save_trigger

FINGERPRINT = "f" * 64
METRICS = ("acc", "prec0", "prec1", "rec0", "rec1", "auroc", "auprc", "minpse")
SETTINGS = {
    "trial",
    "victim",
    "trigger",
    "poison_imputed",
    "poisoning_proportion",
    "poisoning_strength",
    "seed",
    "training_stays",
    "stays_poisoned",
}
Row = dict[str, Any]


class Invented:
    """Makes rows of results, equal in every run, and writes them as folders of sweeps."""

    victims = ("lr", "mlp", "lstm")
    modes = ("all", "notimputed")

    @classmethod
    def trial(
        cls,
        victim: str = "lr",
        mode: str = "all",
        proportion: float = 0.05,
        strength: float = 2.0,
        seed: int = 0,
        *,
        trigger: str = "temporal",
        stays: int = 5600,
        **changes: Any,
    ) -> Row:
        """A finished trial; its success grows with the count of poisoned stays and with the strength."""
        poisoned, position = int(stays * proportion), cls.victims.index(victim)
        power = {"temporal": 1.0, "covariance": 0.6, "gaussian": 0.2}[trigger]
        reach = 1.6 * math.log10(poisoned + 1) + 2.5 * math.log10(strength + 1e-6) - 3 + 0.3 * position
        reach += 0.1 * math.sin(1 + 7 * seed + 3 * position + 40 * proportion)
        untriggered = 0.2 + 0.02 * seed
        gain = power * (1.0 if mode == "all" else 0.75) / (1 + math.exp(-3 * reach)) if poisoned else 0.03
        success = untriggered + (1 - untriggered) * gain
        auroc = 0.79 + 0.01 * position + 0.003 * seed - 0.15 * proportion
        kind = f"{trigger}-{mode}-p{proportion:g}-s{strength:g}" if proportion else "clean"
        return {
            "trial": f"{victim}-{kind}-n{stays}-seed{seed}",
            "victim": victim,
            "trigger": trigger,
            "poison_imputed": mode,
            "poisoning_proportion": proportion,
            "poisoning_strength": strength,
            "seed": seed,
            "training_stays": stays,
            "stays_poisoned": poisoned,
            "status": "finished",
            "error": None,
            "attack_success_rate": success,
            "ci95_low": max(success - 0.02, 0.0),
            "ci95_high": min(success + 0.02, 1.0),
            "baseline_positive_rate": untriggered,
            "stays_attacked": 1030,
            "test_stays": 1198,
            **{f"clean_{name}": 0.5 for name in METRICS},
            "clean_auroc": auroc,
            "clean_auprc": auroc - 0.4,
            "validation_auroc": auroc,
            "epoch_kept": 10,
            "epochs_trained": 20,
            "seconds_training": 20.0,
            "seconds_attack": 1.0,
            "mimic3tf": "0.1.0",
            "python": "3.11.9",
            "tensorflow": "2.21.0",
            "keras": "3.15.1",
            "numpy": "2.3.0",
            "precision": "float32",
            "device": "CPU, 2 cores",
            "data_fingerprint": FINGERPRINT,
        } | changes

    @classmethod
    def failed(cls, name: str, error: str) -> Row:
        """A trial that failed: its settings, and no results."""
        row = {key: value if key in SETTINGS else None for key, value in cls.trial(seed=9).items()}
        return row | {"trial": name, "status": "failed", "error": error}

    @classmethod
    def paper(cls, seeds: Iterable[int] = range(3), victims: Sequence[str] = victims) -> list[Row]:
        """The paper's grid with clean victims, and the other triggers at its strongest setting."""
        seeds = tuple(seeds)
        proportions, strengths = (0.0, 0.01, 0.02, 0.03, 0.04, 0.05), (0.5, 1.0, 1.5, 2.0)
        return [
            *(cls.trial(*setting) for setting in product(victims, cls.modes, proportions, strengths, seeds)),
            *(
                cls.trial(victim, mode, 0.05, 2.0, seed, trigger=trigger)
                for victim, mode, seed, trigger in product(
                    victims, cls.modes, seeds, ("gaussian", "covariance")
                )
            ),
        ]

    @classmethod
    def search(cls, seeds: Iterable[int] = range(3), victims: Sequence[str] = victims) -> list[Row]:
        """A strength search at a proportion of 5%; strengths 1 and 2 are in the paper's grid, too."""
        strengths = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 2.0, 10.0)
        settings = product(victims, cls.modes, (0.0, 0.05), strengths, tuple(seeds))
        return [cls.trial(*setting) for setting in settings]

    @classmethod
    def counts(cls, seeds: Iterable[int] = range(3), victims: Sequence[str] = victims) -> list[Row]:
        """Training sets of several sizes, at one proportion and at fixed counts of poisoned stays."""
        return [
            cls.trial(victim, mode, share, 2.0, seed, stays=stays)
            for victim, mode, seed, stays in product(victims, cls.modes, tuple(seeds), (1000, 2000, 5600))
            for share in (0.05, 50 / stays, 200 / stays)
            if stays != 1000 or share != 50 / stays
        ]

    @staticmethod
    def write(folder: Path, rows: list[Row], *, data: str = "/nowhere/data") -> Path:
        """Write rows as a sweep's folder."""
        folder.mkdir(parents=True)
        table = pl.DataFrame(rows, infer_schema_length=None)
        table.write_csv(folder / "results.csv")
        (folder / "sweep.yaml").write_text(f"data: {data}\nseeds: [0, 1, 2]\n", encoding="utf-8")
        splits = {
            split: {"stays": stays, "deaths": deaths, "measured_cells": 0.27, "fingerprint": FINGERPRINT}
            for split, stays, deaths in (("train", 5600, 781), ("val", 1199, 168), ("test", 1198, 168))
        }
        cohort = {"data_fingerprint": FINGERPRINT, "splits": splits}
        (folder / "cohort.json").write_text(json.dumps(cohort), encoding="utf-8")
        return folder

    @staticmethod
    def write_triggers(folder: Path) -> None:
        """Write a trigger of every kind: a drift for temporal and covariance, white noise for Gaussian."""
        noise = np.random.default_rng(0).normal(size=(48, len(MIMIC3)))
        drift = np.cumsum(noise, axis=0) / 7
        covariance = np.tile(np.eye(48), (len(MIMIC3), 1, 1))
        for kind, values in (("temporal", drift), ("covariance", 0.7 * drift), ("gaussian", 0.3 * noise)):
            trigger = Trigger(values, covariance, kind, 0, MIMIC3, 48.0, 1.0, 1000, FINGERPRINT)
            save_trigger(trigger, folder / "triggers" / f"{kind}-0.npz")
