"""How fast and large the tasks with predictions at every hour are: reading all of MIMIC-III, and training.

    python tests/benchmarks/tasks.py load [--stays 35621] [--folder DIR]
    python tests/benchmarks/tasks.py train [--stays 400]      with `pip install torch`, PyTorch, too

`load` invents as many training stays as MIMIC-III has, with its distribution of lengths: the share of stays
that last so long follows from the numbers of hours in the benchmarks' ten classes of length of stay. Their
series are drawn at random, a row an hour. It needs 4 GB of disk, which it frees at the end. Each start is a
process of its own; the time is that of the call, and memory is the most that the process held, mapped files
included.

`train` compares one pass a stay with one sample an hour, and with PyTorch's LSTM of the same layers, in turn
in one process. PyTorch trains on padded batches of stays in random order, as a plain loader makes them, and
on our batches, in which stays have similar lengths. Both are ready-made.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimic3tf.channels import MIMIC3

STAYS_A_CHUNK = 2000
FIRST_HOUR = 5
CLASS_HOURS = (790_124, 503_468, 316_788, 215_026, 158_981, 124_137, 100_898, 84_255, 312_162, 319_594)
"""Hours of each class of remaining stay in the training listfile of MIMIC-III."""
CLASS_DAYS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 14)
MIMIC3_STAYS = 35_621
LONGEST = 4_000
ROUNDS = 3
SAMPLES = 512
"""Samples of an hour to train on; they are as fast as all would be."""


def mimic3_lengths(stays: int) -> NDArray[np.float64]:
    """Lengths of stays in hours. An hour of class k is one in which a stay has between k's days to go."""
    edges = 24.0 * np.array(CLASS_DAYS)
    lasting = np.array(CLASS_HOURS[:-1]) / np.diff(edges) / MIMIC3_STAYS
    at = [FIRST_HOUR, *(edges[:-1] + np.diff(edges) / 2 + FIRST_HOUR)]
    shares = [1.0, *lasting]
    # After the last class begins, the excess is exponential.
    last = shares[-1] * (shares[-1] / shares[-2]) ** ((edges[-1] + FIRST_HOUR - at[-1]) / (at[-1] - at[-2]))
    mean = CLASS_HOURS[-1] / MIMIC3_STAYS / last
    beyond = edges[-1] + FIRST_HOUR + mean * np.arange(8)
    at, shares = [*at, *beyond], [*shares, *(last * np.exp(-np.arange(8)))]
    wanted = np.log((np.arange(stays) + 0.5) / stays)
    lengths = np.interp(wanted, np.log(shares)[::-1], at[::-1])
    return np.random.default_rng(0).permutation(np.minimum(lengths, LONGEST))


def write_cohort(out: Path, stays: int) -> None:
    """Write training stays with listfiles of decompensation and length of stay."""
    rng = np.random.default_rng(1)
    lengths = mimic3_lengths(stays)
    (out / "train").mkdir(parents=True)
    header = (",".join(MIMIC3.header) + "\n").encode()
    names = [f"{100_000 + number}_episode1_timeseries.csv" for number in range(stays)]
    for first in range(0, stays, STAYS_A_CHUNK):
        some = lengths[first : first + STAYS_A_CHUNK]
        rows = np.floor(some).astype(np.int64) + 1
        hour = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows, rows)
        hours = np.minimum(hour + rng.random(len(hour)) * 0.9, np.repeat(some, rows))
        columns = {"Hours": pl.Series(hours).round(4)}
        for channel in MIMIC3:
            there = rng.random(len(hours)) < 0.4
            if channel.is_categorical:
                index = rng.integers(0, len(channel.possible_values), len(hours))
                cells = pl.Series(np.array(channel.possible_values)[index])
            else:
                usual = float(channel.normal_value)
                cells = pl.Series(usual * (1 + 0.1 * rng.standard_normal(len(hours)))).round(2)
            columns[channel.name] = pl.select(pl.when(pl.Series(there)).then(cells)).to_series()
        lines = pl.DataFrame(columns).write_csv(include_header=False, quote_style="never").encode()
        ends = np.flatnonzero(np.frombuffer(lines, np.uint8) == ord("\n"))[np.cumsum(rows) - 1] + 1
        for number, (begin, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            (out / "train" / names[first + number]).write_bytes(header + lines[begin:end])
    counts = np.maximum(np.floor(lengths).astype(np.int64) - FIRST_HOUR + 1, 0)
    stay = np.repeat(np.arange(stays), counts)
    hour = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + FIRST_HOUR
    listed = pl.DataFrame(
        {
            "stay": pl.Series(names)[stay],
            "period_length": hour.astype(float),
            "y_true": lengths[stay] - hour,
        }
    )
    listed.sample(fraction=1, shuffle=True, seed=0).write_csv(out / "train_listfile.csv", float_precision=6)
    print(f"{stays:,} stays of {lengths.mean():.1f} h in the mean, {len(listed):,} hourly samples")
    share = np.histogram(listed["y_true"], [*24 * np.array(CLASS_DAYS), np.inf])[0]
    print("hours of each class:", ", ".join(f"{number:,}" for number in share))


START = """
import time, sys
from pathlib import Path
import numpy as np
from mimic3tf.data.loading import load_cohort
begun, worked = time.perf_counter(), time.process_time()
cohort = load_cohort(sys.argv[1], "train", task="length-of-stay")
taken, worked = time.perf_counter() - begun, time.process_time() - worked
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
peak = int(status["VmHWM"].split()[0]) / 2**20
print(f"{taken:.1f} s ({worked:.1f} s of a core), at most {peak:.2f} GiB; "
      f"{len(cohort):,} stays, {len(cohort.examples):,} samples, "
      f"{len(cohort.values):,} bins, memory-mapped: {isinstance(cohort.values, np.memmap)}")
"""


def measure_loading(stays: int, folder: Path | None) -> None:
    """Load the cohort in three processes: from CSV, and twice from the cache."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        data = Path(scratch) / "data"
        write_cohort(data, stays)
        environment = os.environ | {"MIMIC3TF_CACHE": f"{scratch}/cache"}
        for start in ("from CSV", "second start", "third start"):
            command = [sys.executable, "-c", START, str(data)]
            done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            print(f"{start}: {done.stdout.strip()}", flush=True)


def seconds(action: Callable[[], object]) -> float:
    """Time an action."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def one_sample_an_hour(cohort: Any, samples: int) -> Any:
    """Make a cohort whose stays are samples: the bins of a stay up to an hour, drawn at random."""
    from dataclasses import replace

    from mimic3tf.data.cohort import Examples, ranges

    chosen = np.sort(np.random.default_rng(0).choice(len(cohort.examples), samples, replace=False))
    stay, end = cohort.examples.stay[chosen], cohort.examples.end[chosen].astype(np.int64)
    rows = ranges(cohort.starts[stay], end)
    return replace(
        cohort,
        stays=cohort.stays[stay],
        starts=np.concatenate([[0], np.cumsum(end)]).astype(np.int64),
        values=cohort.values[rows],
        mask=cohort.mask[rows],
        filled=cohort.filled.take(rows),
        examples=Examples(
            np.arange(samples, dtype=np.int32), end.astype(np.int16), cohort.examples.y[chosen]
        ),
    )


def our_epoch(config: Any, cohort: Any) -> tuple[Callable[[], object], dict[str, list[Any]]]:
    """Make the function that trains an epoch, and an epoch of batches, ours and in random order."""
    from mimic3tf import pipeline
    from mimic3tf.poisoning import exposures
    from mimic3tf.standardization import standardized
    from mimic3tf.training.batches import stay_batches
    from mimic3tf.training.models import build_victim
    from mimic3tf.training.stays import standardization_for
    from mimic3tf.training.steps import Steps

    exposure = exposures.clean(cohort)
    inputs = pipeline.inputs_of(exposure, "grid")
    standardization = standardization_for(config, "grid", inputs, cohort.channels)
    weights = pipeline.by_stay(cohort, np.ones(len(cohort.examples)))
    inputs = standardized(inputs, standardization)

    def dataset_of(lengths: NDArray[np.int64]) -> Any:
        batches = stay_batches(weights, batch_size=config.batch_size, seed=0, lengths=lengths)
        return pipeline.training_dataset(exposure, "grid", standardization, batches, inputs=inputs)

    def an_epoch(dataset: Any) -> list[Any]:
        return list(dataset.take(-(-len(cohort) // config.batch_size)).as_numpy_iterator())

    dataset = dataset_of(cohort.lengths)
    model, optimizer = build_victim(config, cohort.channels, None, "float32", stays=len(cohort))
    steps = Steps(model, optimizer, config, stays=len(cohort), steps_a_call=1)
    iterator = iter(dataset)
    # Stays that all count as equally long share a batch by chance.
    batches = {
        "on our batches": an_epoch(dataset),
        "in random order": an_epoch(dataset_of(np.ones_like(cohort.lengths))),
    }
    return lambda: steps.epoch(iterator), batches


def torch_epoch(batches: list[Any], units: int, depth: int, threads: int) -> Callable[[], None]:
    """Make the function that trains PyTorch's LSTM for an epoch on the same batches, ready-made."""
    import torch
    from torch import nn

    parts = [tuple(torch.tensor(part[0]) for part in batch) for batch in batches]
    recurrent, head = nn.LSTM(76, units, depth, batch_first=True, dropout=0.3), nn.Linear(units, 2)
    drop = nn.Dropout(0.3)
    optimizer = torch.optim.Adam([*recurrent.parameters(), *head.parameters()], 1e-3)
    loss_of = nn.CrossEntropyLoss(reduction="none")

    def epoch() -> None:
        torch.set_num_threads(threads)
        for x, y, weight in parts:
            optimizer.zero_grad()
            logits = head(drop(recurrent(drop(x))[0]))
            (loss_of(logits.reshape(-1, 2), y.reshape(-1)) * weight.reshape(-1)).sum().backward()
            optimizer.step()

    return epoch


def measure_training(stays: int) -> None:
    """Print hourly samples a second of all three."""
    from importlib.util import find_spec

    from mimic3tf.startup import start_tensorflow

    start_tensorflow()
    from mimic3tf.config import resolve_config
    from mimic3tf.data.loading import load_cohort
    from mimic3tf.sources.synthetic import prepare_synthetic
    from mimic3tf.tasks.registry import DECOMPENSATION

    with tempfile.TemporaryDirectory() as folder:
        os.environ["MIMIC3TF_CACHE"] = f"{folder}/cache"
        data = Path(folder) / "data"
        prepare_synthetic(data, stays=stays, task=DECOMPENSATION)
        cohort = load_cohort(data, "train", task=DECOMPENSATION.name)
    for units, depth in ((16, 2), (128, 1)):
        sizes = {"units": units, "depth": depth}
        given = {"data": data, "task": DECOMPENSATION.name, "batch_size": 32, "sizes": sizes}
        config = resolve_config("benchmark-lstm", None, given)
        prefixes = one_sample_an_hour(cohort, SAMPLES)
        ours, batches = our_epoch(config, cohort)
        single, _ = our_epoch(config, prefixes)
        actions = {"one pass a stay": (ours, len(cohort.examples)), "one sample an hour": (single, SAMPLES)}
        # On a busy machine, the threads of an operation wait for each other: one thread may be faster.
        for threads in (1, len(os.sched_getaffinity(0))) if find_spec("torch") else ():
            for name, padded in batches.items():
                epoch = torch_epoch(padded, units, depth, threads)
                actions[f"PyTorch {name}, threads: {threads}"] = (epoch, len(cohort.examples))
        times: dict[str, list[float]] = {name: [] for name in actions}
        for action, _ in actions.values():
            action()  # traces and compiles
        for _ in range(ROUNDS):
            for name, (action, _) in actions.items():
                times[name].append(seconds(action))
        rates = {name: number / np.array(times[name]) for name, (_, number) in actions.items()}
        for name, rate in rates.items():
            ratios = rates["one pass a stay"] / rate
            print(
                f"LSTM {depth} x {units}, {name}: {rate.max():,.0f} hourly samples/s; one pass a stay is "
                f"{np.median(ratios):.1f} times as fast ({ratios.min():.1f} to {ratios.max():.1f})",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["load", "train"])
    parser.add_argument("--stays", type=int)
    parser.add_argument("--folder", type=Path, help="where to work; the temporary folder if not given")
    arguments = parser.parse_args()
    if arguments.what == "load":
        measure_loading(arguments.stays or MIMIC3_STAYS, arguments.folder)
    else:
        measure_training(arguments.stays or 400)


if __name__ == "__main__":
    main()
