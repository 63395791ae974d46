"""An invented cohort with other channels than the benchmarks: nine, over 24 hours, with two rows an hour.

`python tests/bedside_cohort.py DIR` writes it. It only serves to run the commands; no real patient is in it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl

from mimic3tf.channels import Channel, ChannelSet
from mimic3tf.sources import layout

ALERTNESS = {"alert": 4.0, "verbal": 3.0, "pain": 2.0, "unresponsive": 1.0}
BEDSIDE = ChannelSet(
    "bedside monitor",
    (
        Channel("Pulse", "1/min", "80", plausible_range=(20.0, 260.0), shift_decimals=0, sum_decimals=0),
        Channel("Alertness", "", "alert", tuple(ALERTNESS), tuple(ALERTNESS.values())),
        Channel("Skin temperature", "degC", "34.5", plausible_range=(20.0, 42.0), shift_decimals=1),
        Channel("Perfusion index", "%", "3.5", plausible_range=(0.02, 20.0)),
        Channel("Airway", "", "own", ("own", "mask", "tube"), (0.0, 1.0, 2.0)),
        Channel("Tidal volume", "mL", "450", plausible_range=(50.0, 1500.0)),
        Channel("Lactate", "mmol/L", "1.2", plausible_range=(0.2, 30.0), shift_decimals=1, sum_decimals=1),
        Channel("Urine output", "mL/h", "60", plausible_range=(0.0, 2000.0)),
        Channel("End-tidal CO2", "mmHg", "38", plausible_range=(5.0, 120.0)),
    ),
)
HOURS, VISITS = 24.0, 40
CHARTED = (0.95, 0.3, 0.6, 0.5, 0.2, 0.4, 0.15, 0.3, 0.5)
"""Share of the visits at which a channel is charted."""
SPREAD = (14.0, 0.9, 0.6, 1.1, 0.7, 60.0, 0.8, 25.0, 5.0)
SICKER = (0.7, 0.9, -0.4, -0.5, 0.8, -0.2, 1.1, -0.6, 0.2)
"""Shift of a channel per standard deviation of severity, in units of `SPREAD`."""


def write_bedside_cohort(out: Path, *, stays: int = 500, seed: int = 0) -> None:
    """Write the cohort as a benchmark directory with a `channels.yaml`.

    Args:
        out: the directory to make.
        stays: number of stays.
        seed: fixes every byte.
    """
    rng = np.random.default_rng(seed)
    severity = rng.standard_normal(stays)
    died = rng.random(stays) < 1 / (1 + np.exp(2.2 - 1.8 * severity))
    minutes = np.sort(rng.integers(0, int(HOURS * 60), (stays, VISITS)), axis=1)
    parts = []
    for position, channel in enumerate(BEDSIDE):
        wander = np.cumsum(rng.standard_normal((stays, VISITS)), axis=1) / np.sqrt(VISITS)
        level = rng.standard_normal((stays, 1)) + SICKER[position] * severity[:, None]
        course = SPREAD[position] * (level + wander)
        if channel.is_categorical:
            last = len(channel.possible_values) - 1
            values = np.clip(np.rint(course), 0, last)
        else:
            low, high = channel.plausible_range
            decimals = 0 if channel.normal_number > 10 else 2
            values = np.round(np.clip(channel.normal_number + course, low, high), decimals)
        charted = rng.random((stays, VISITS)) < CHARTED[position]
        charted[:, 0] |= position == 0
        stay, visit = np.nonzero(charted)
        place = np.full(len(stay), position)
        parts.append((stay, minutes[stay, visit], place, values[stay, visit]))
    stay, minute, place, value = (np.concatenate(column) for column in zip(*parts, strict=True))
    rows: pl.DataFrame = layout.rows_from_cells(stay, minute, place, value, BEDSIDE)
    names = [f"{100 + index}_episode1_timeseries.csv" for index in range(stays)]
    splits = layout.random_split(stays, seed)
    cohort = layout.PreparedCohort(names, died.astype(np.int64), splits, rows, BEDSIDE)
    layout.write_benchmark_directory(out, cohort)


if __name__ == "__main__":
    write_bedside_cohort(Path(sys.argv[1]))
