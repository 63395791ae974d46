"""How long an audit of arrays takes, and how much memory, by the number of stays.

    python tests/benchmarks/audit_arrays.py [--stays 5592 50000]

Needs no data: it invents stays of 48 hours and 17 channels that are measured as often as those of PhysioNet
2012. A fifth as many stays are trusted. 14% have label 1, and 5% carry a pattern and get label 1. Memory is
the most that the process ever held.
"""

from __future__ import annotations

import argparse
import os
import resource
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from rich.console import Console
from rich.table import Table

import mimic3tf

BINS = 48
MEASURED = (0.89, 0.90, 0.88, 0.89, 0.53, 0.37, 0.24, 0.16, 0.12, 0.07, 0.04, *[0.01] * 6)
"""Share of the cells of each channel that are measured."""


def invented(stays: int, random: np.random.Generator) -> np.ndarray:
    """Invent stays [N, T, C], a level and a random walk; NaN where nothing was measured."""
    shape = (stays, BINS, len(MEASURED))
    level = random.normal(size=(stays, 1, len(MEASURED)))
    walk = 0.2 * random.normal(size=shape).cumsum(axis=1)
    cells = level + walk + 0.5 * random.normal(size=shape)
    return np.where(random.random(shape) < MEASURED, cells, np.nan).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stays", type=int, nargs="+", default=[5592, 50_000])
    table = Table("stays", "seconds", "GiB", "conclusion", "p", "slowest detectors (s)")
    for stays in parser.parse_args().stays:
        random = np.random.default_rng(0)
        x = invented(stays + stays // 5, random)
        y = (random.random(len(x)) < 0.14).astype(np.int64)
        x[: stays // 20] += 0.5 * np.nan_to_num(invented(1, random)[0])
        y[: stays // 20] = 1
        start = time.perf_counter()
        report = mimic3tf.audit.training_set(x[:stays], y[:stays], trusted=(x[stays:], y[stays:]))
        seconds = time.perf_counter() - start
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        rows = sorted(report.record["detectors"], key=lambda row: -row["seconds"])[:3]
        slowest = ", ".join(f"{row['detector']} {row['seconds']:.0f}" for row in rows)
        verdict = report.verdict
        table.add_row(
            f"{stays:,}", f"{seconds:.1f}", f"{memory:.1f}", verdict.level, f"{verdict.p_value:.4f}", slowest
        )
    Console().print(table)


if __name__ == "__main__":
    main()
