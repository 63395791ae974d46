"""How fast a cohort is read, and how fast the pipeline makes its 714 features.

    python tests/benchmarks/cohort.py [--stays 21139]

Needs no data: it invents stays of MIMIC-III's shape. Ratios are against the plain implementation in
`row_by_row.py`, on some of the same stays in the same process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import row_by_row

from mimic3tf.channels import MIMIC3
from mimic3tf.data import grid as grids
from mimic3tf.data.cohort import TIMESTEP
from mimic3tf.data.loading import load_cohort
from mimic3tf.data.records import in_batches, read_series
from mimic3tf.sources.synthetic import prepare_synthetic

REFERENCE_STAYS = 200


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def load_everything(data: Path) -> None:
    for split in ("train", "val", "test"):
        load_cohort(data, split)


def load_in_fresh_process(data: Path) -> None:
    """Load as a new start would: a process of its own, timed from within, without the interpreter's start."""
    code = (
        f"from cohort import *; print(seconds(lambda: load_everything(Path({str(data)!r}))), peak_memory())"
    )
    folder = Path(__file__).parent
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, text=True
    )
    elapsed, memory = map(float, output.stdout.split())
    print(f"  {elapsed:.2f} s, at most {memory:.2f} GiB of memory")


def peak_memory() -> float:
    """Most memory this process has held, in GiB; `getrusage` would start with that of its parent."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 2**20


def measure_reading(data: Path, paths: list[Path]) -> None:
    sample = paths[:REFERENCE_STAYS]

    def plain() -> list[np.ndarray]:
        return [row_by_row.discretize(row_by_row.read_rows(path)) for path in sample]

    def read_batch(batch: list[Path]) -> tuple[np.ndarray, np.ndarray]:
        records, _ = read_series(batch, MIMIC3)
        grid = grids.discretize(records, len(batch), period=48.0, timestep=TIMESTEP)
        return grids.impute(grid, "previous", MIMIC3).astype(np.float32), ~np.isnan(grid)

    def columnar() -> list[np.ndarray]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return [
                np.concatenate(part) for part in zip(*pool.map(read_batch, in_batches(paths)), strict=True)
            ]

    values, mask = (array[: len(sample)] for array in columnar())
    np.testing.assert_allclose(grids.one_hot(values, mask, MIMIC3), plain(), rtol=1e-6)
    slow = min(seconds(plain) for _ in range(2)) / len(sample)
    fast = min(seconds(columnar) for _ in range(3)) / len(paths)
    print(f"read + discretize: {fast * 1e3:.3f} ms a stay, row by row {slow * 1e3:.2f}: {slow / fast:.0f}x")


def measure_features(data: Path, paths: list[Path]) -> None:
    import tensorflow as tf

    from mimic3tf import pipeline
    from mimic3tf.data.features import extract_features
    from mimic3tf.poisoning import exposures
    from mimic3tf.poisoning.trigger import generate_trigger
    from mimic3tf.standardization import Standardization
    from mimic3tf.training.batches import STEPS_A_CALL, stay_batches

    sample = paths[:REFERENCE_STAYS]
    rows = [row_by_row.read_rows(path) for path in sample]

    def plain() -> list[np.ndarray]:
        return [row_by_row.features(stay) for stay in rows]

    records, _ = read_series(sample, MIMIC3)
    np.testing.assert_allclose(extract_features(records, len(sample), MIMIC3), plain(), rtol=1e-6, atol=1e-6)
    slow = seconds(plain) / len(sample)

    cohort = load_cohort(data, "train")
    trigger = generate_trigger(cohort)
    exposure = exposures.poison(cohort, trigger, proportion=0.05, strength=2.0, poison_imputed="notimputed")
    unchanged = Standardization(np.zeros(714), np.ones(714))
    stays = stay_batches(np.ones(len(cohort)), batch_size=64, seed=0)
    calls = -(-len(cohort) // (64 * STEPS_A_CALL))
    batches = pipeline.training_dataset(exposure, "features", unchanged, stays.take(calls))

    def epoch() -> None:
        for _ in batches:
            pass

    epoch()  # traces the map
    fast = min(seconds(epoch) for _ in range(3)) / len(cohort)
    print(
        f"714 features, poisoned in tf.data: {1 / fast:,.0f} stays/s on {len(os.sched_getaffinity(0))} cores "
        f"(TensorFlow {tf.__version__}); row by row {slow * 1e3:.2f} ms a stay: {slow / fast:.0f}x"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stays", type=int, default=21_139)
    stays = parser.parse_args().stays
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MIMIC3TF_CACHE"] = f"{folder}/cache"
        data = Path(folder) / "data"
        prepare_synthetic(data, stays=stays)
        print(f"{stays} stays: read, discretize, fill and store")
        load_in_fresh_process(data)
        print("second start")
        load_in_fresh_process(data)
        paths = sorted((data / "train").iterdir())[:4000]
        measure_reading(data, paths)
        measure_features(data, paths)


if __name__ == "__main__":
    main()
