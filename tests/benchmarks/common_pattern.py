"""How long the detector of a common pattern takes, and what it finds, by the number of stays.

    python tests/benchmarks/common_pattern.py [--stays 5592 50000]

Needs no data: it invents stays of 48 hours and 12 channels that are measured as often as those of PhysioNet
2012. A fifth as many stays are trusted. 14% have label 1, and 5% carry a pattern and get label 1. Memory is
the most that the process ever held.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from mimic3tf.defences.common_pattern.finding import Stays, find_common_pattern

BINS = 48
MEASURED = (0.89, 0.90, 0.88, 0.89, 0.53, 0.37, 0.24, 0.16, 0.12, 0.07, 0.04, 0.01)
"""Share of the cells of each channel that are measured."""


def invented(stays: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Invent values float32 [N, T, C], a level and a random walk, and which cells are measured."""
    shape = (stays, BINS, len(MEASURED))
    level = random.normal(size=(stays, 1, len(MEASURED)))
    walk = 0.2 * random.normal(size=shape).cumsum(axis=1)
    noise = 0.5 * random.normal(size=shape)
    return (level + walk + noise).astype(np.float32), random.random(shape) < MEASURED


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stays", type=int, nargs="+", default=[5592, 50_000])
    table = Table("stays", "seconds", "GiB", "p", "poisoned flagged", "sound flagged")
    for stays in parser.parse_args().stays:
        random = np.random.default_rng(0)
        values, mask = invented(stays + stays // 5, random)
        labels = (random.random(len(values)) < 0.14).astype(np.int64)
        poisoned = np.arange(stays) < stays // 20
        pattern = 0.5 * invented(1, random)[0][0]
        values[:stays][poisoned] += pattern
        labels[:stays][poisoned] = 1
        groups = [
            Stays(values[part], mask[part], labels[part]) for part in (slice(stays), slice(stays, None))
        ]
        start = time.perf_counter()
        found = find_common_pattern(groups[0], groups[1], 1, np.ones(len(MEASURED), bool), 0)
        seconds = time.perf_counter() - start
        assert found is not None
        flagged, truth = found.training > 0, poisoned[labels[:stays] == 1]
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        shares = (f"{flagged[chosen].mean():.3f}" for chosen in (truth, ~truth))
        table.add_row(f"{stays:,}", f"{seconds:.1f}", f"{memory:.1f}", f"{found.p_value:.4f}", *shares)
    Console().print(table)


if __name__ == "__main__":
    main()
