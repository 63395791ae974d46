"""What the log levels cost an epoch: training, validation, checkpoint and all.

    python tests/benchmarks/log_levels.py [--data DIR] [--victims lr mlp lstm]

Whole runs of one level and of the other in turn in this process; the time between one epoch's end and the
next one's is taken. Without --data it invents 4,000 stays.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import get_args
from unittest.mock import patch

from mimic3tf.startup import start_tensorflow

start_tensorflow()
# ruff: noqa: E402

import numpy as np
from scipy.stats import bootstrap

from mimic3tf.config import LogLevel, resolve_config
from mimic3tf.dashboards.tensorboard import RunLog
from mimic3tf.data.loading import load_cohort
from mimic3tf.poisoning.trigger import generate_trigger, save_trigger
from mimic3tf.sources.synthetic import prepare_synthetic
from mimic3tf.training import loop
from mimic3tf.training.metrics_file import MetricsFile

ROUNDS = 20
EPOCHS = {"lr": 40, "mlp": 20, "lstm": 6}


class Ends(MetricsFile):
    """Takes the time at which epochs end."""

    times: list[float]

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        super().on_epoch_end(epoch, logs)
        self.times.append(time.perf_counter())


def epoch_seconds(victim: str, level: LogLevel, folder: Path, data: Path) -> np.ndarray:
    """Seconds of every epoch of a run but the first, which compiles."""
    Ends.times = []
    options = {"data": data, "trigger": folder / "trigger.npz", "epochs": EPOCHS[victim]}
    options |= {"patience": EPOCHS[victim], "log_level": level}
    with tempfile.TemporaryDirectory(dir=folder) as out:
        loop.train_victim(resolve_config(victim, None, options), Path(out) / "run", log=RunLog)
    return np.diff(Ends.times)


def measure(victim: str, folder: Path, data: Path) -> None:
    levels = get_args(LogLevel)[:2]
    seconds: dict[LogLevel, list[float]] = {level: [] for level in levels}
    for _ in range(ROUNDS):
        for level in levels:
            seconds[level].append(np.median(epoch_seconds(victim, level, folder, data)))
    minimal, default = (np.array(seconds[level]) for level in levels)
    added = default / minimal - 1
    interval = bootstrap((added,), np.median, rng=0).confidence_interval
    print(
        f"{victim}: an epoch takes {np.median(minimal) * 1e3:.1f} ms at minimal, "
        f"{np.median(default) * 1e3:.1f} ms at default; median of {ROUNDS} rounds {np.median(added):+.1%} "
        f"(95 % interval {interval.low:+.1%} to {interval.high:+.1%}); best rounds "
        f"{minimal.min() * 1e3:.1f} and {default.min() * 1e3:.1f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--victims", nargs="+", choices=list(EPOCHS), default=list(EPOCHS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, patch.object(loop, "MetricsFile", Ends):
        folder = Path(temporary)
        data = arguments.data
        if data is None:
            os.environ["MIMIC3TF_CACHE"] = f"{folder}/cache"
            data = folder / "data"
            prepare_synthetic(data, stays=4000)
        cohort = load_cohort(data, "train")
        save_trigger(generate_trigger(cohort), folder / "trigger.npz")
        print(f"{len(cohort)} training stays, {len(os.sched_getaffinity(0))} cores")
        for victim in arguments.victims:
            measure(victim, folder, data)


if __name__ == "__main__":
    main()
