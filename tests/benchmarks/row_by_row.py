"""Plain row-by-row reading, discretization and feature extraction: what the benchmarks measure against."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.stats import skew

from mimic3tf.channels import CHANNELS
from mimic3tf.data.features import SLACK, WINDOWS

Row = tuple[float, list[str]]
BINS = 48


def read_rows(path: Path) -> list[Row]:
    """Rows of one series: hours and the cells of the 17 channels."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    return [(float(cells[0]), cells[1:]) for cells in (line.split(",") for line in lines)]


def discretize(rows: list[Row]) -> np.ndarray:
    """The 48x76 grid of one stay, previous value imputed."""
    grid = [[""] * len(CHANNELS) for _ in range(BINS)]
    for hours, cells in rows:
        if hours > BINS + 1e-6:
            continue
        for channel, cell in enumerate(cells):
            if cell:
                grid[int(hours - 1e-6)][channel] = cell
    mask = [[float(cell != "") for cell in row] for row in grid]
    last = [channel.normal_value for channel in CHANNELS]
    table = np.zeros((BINS, 76))
    for hour in range(BINS):
        column = 0
        for index, channel in enumerate(CHANNELS):
            last[index] = grid[hour][index] or last[index]
            if channel.is_categorical:
                table[hour, column + channel.possible_values.index(last[index])] = 1.0
                column += len(channel.possible_values)
            else:
                table[hour, column] = float(last[index])
                column += 1
        table[hour, column:] = mask[hour]
    return table


def features(rows: list[Row]) -> np.ndarray:
    """The 714 features of one stay's unfilled records."""
    columns: list[float] = []
    for index, channel in enumerate(CHANNELS):
        measured = [(hours, cells[index]) for hours, cells in rows if cells[index]]
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
