"""Invented arrays of a hospital's own, with and without a planted pattern."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

TRAINING, TRUSTED, BINS, CHANNELS = 700, 500, 8, 5
NAMES = ["heart rate", "pressure", "lactate", "glucose", "temperature"]
PATTERN = np.zeros((BINS, CHANNELS))
PATTERN[:, 1] = np.where(np.arange(BINS) % 2, 2.5, -2.5)
PATTERN[:, 3] = np.where(np.arange(BINS) % 3, -2.0, 2.0)


@dataclass(frozen=True)
class Own:
    """Arrays of training stays and trusted stays; which training stays are poisoned, bool [N]."""

    x: np.ndarray
    y: np.ndarray
    trusted: tuple[np.ndarray, np.ndarray]
    poisoned: np.ndarray

    @property
    def table(self) -> Any:
        """The same stays as rows of a table: means of the even and of the odd bins of every channel."""

        def rows(x: np.ndarray) -> np.ndarray:
            with warnings.catch_warnings():
                # A channel without a measurement has the mean NaN.
                warnings.simplefilter("ignore", RuntimeWarning)
                return np.concatenate([np.nanmean(x[:, ::2], axis=1), np.nanmean(x[:, 1::2], axis=1)], axis=1)

        return Own(rows(self.x), self.y, (rows(self.trusted[0]), self.trusted[1]), self.poisoned)


def invent(poisoned: int, seed: int = 0) -> Own:
    """Stays whose first channel decides the label; the first `poisoned` ones get a pattern and label 1."""
    random = np.random.default_rng(seed)
    stays = TRAINING + TRUSTED
    level = random.normal(size=(stays, 1, CHANNELS))
    x = level + 0.7 * random.normal(size=(stays, BINS, CHANNELS))
    y = (level[:, 0, 0] + 0.5 * random.normal(size=stays) > 1).astype(np.int64)
    carries = np.arange(TRAINING) < poisoned
    x[:poisoned] += PATTERN
    y[:poisoned] = 1
    x[random.random(x.shape) < 0.15] = np.nan
    return Own(x[:TRAINING], y[:TRAINING], (x[TRAINING:], y[TRAINING:]), carries)


def write_files(own: Own, folder: Path) -> None:
    """Write the arrays as .npz files, and the tables as .parquet and .csv files."""
    ids = np.array([f"stay {number}" for number in range(TRAINING)])
    np.savez(folder / "train.npz", x=own.x, y=own.y, ids=ids, channels=NAMES)
    np.savez(folder / "trusted.npz", x=own.trusted[0], y=own.trusted[1], channels=NAMES)
    columns = [f"{name} {what}" for what in ("even", "odd") for name in NAMES]
    for name, (x, y) in {"train": (own.table.x, own.y), "trusted": own.table.trusted}.items():
        rows = pl.DataFrame(x, schema=columns).with_columns(died=pl.Series(y), stay=pl.int_range(len(y)))
        rows.write_parquet(folder / f"{name}.parquet")
        rows.write_csv(folder / f"{name}.csv")
