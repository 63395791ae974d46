"""Plain reading, discretization and feature extraction: what the benchmarks measure against.

Stay by stay, row by row and cell by cell into NumPy arrays, as preprocessing in this field is written.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.stats import skew

from mimic3tf.channels import MIMIC3
from mimic3tf.data.features import SLACK, WINDOWS

BINS = 48


def read_rows(path: Path) -> np.ndarray:
    """Cells of one series as strings [R, 18], a row at a time."""
    rows = []
    with path.open(encoding="utf-8") as file:
        next(file)
        for line in file:
            rows.append(np.array(line.strip("\n").split(",")))
    return np.stack(rows)


def discretize(rows: np.ndarray) -> np.ndarray:
    """The 48x76 grid of one stay, previous value imputed, a cell at a time."""
    widths = [max(len(channel.possible_values), 1) for channel in MIMIC3]
    begins = np.cumsum([0, *widths])
    table = np.zeros((BINS, 76))
    text = [[""] * len(MIMIC3) for _ in range(BINS)]

    def write(hour: int, index: int, cell: str) -> None:
        channel, begin = MIMIC3[index], begins[index]
        if channel.is_categorical:
            position = channel.possible_values.index(cell)
            for value in range(len(channel.possible_values)):
                table[hour, begin + value] = float(value == position)
        else:
            table[hour, begin] = float(cell)

    for row in rows:
        hours = float(row[0])
        if hours > BINS + 1e-6:
            continue
        for index in range(len(MIMIC3)):
            if row[index + 1] != "":
                hour = int(hours - 1e-6)
                write(hour, index, row[index + 1])
                text[hour][index] = row[index + 1]
                table[hour, begins[-1] + index] = 1.0
    last = [channel.normal_value for channel in MIMIC3]
    for hour in range(BINS):
        for index in range(len(MIMIC3)):
            if table[hour, begins[-1] + index] == 1.0:
                last[index] = text[hour][index]
            else:
                write(hour, index, last[index])
    return table


def features(rows: np.ndarray) -> np.ndarray:
    """The 714 features of one stay's unfilled records."""
    columns: list[float] = []
    for index, channel in enumerate(MIMIC3):
        measured = [(float(row[0]), str(row[index + 1])) for row in rows if row[index + 1] != ""]
        times = np.array([hours for hours, _ in measured])
        values = np.array(
            [
                channel.numeric_codes[channel.possible_values.index(cell)]
                if channel.is_categorical
                else float(cell)
                for _, cell in measured
            ]
        )
        for end, share in WINDOWS:
            if not len(values):
                columns += [np.nan] * 6
                continue
            length = (times[-1] - times[0]) * share
            inside = (
                times < times[0] + length + SLACK if end == "first" else times > times[-1] - length - SLACK
            )
            window = values[inside]
            lopsided = 0.0 if window.min() == window.max() else float(skew(window))
            columns += [
                window.min(),
                window.max(),
                window.mean(),
                0.0 if window.min() == window.max() else window.std(),
                lopsided,
                float(len(window)),
            ]
    return np.array(columns)
