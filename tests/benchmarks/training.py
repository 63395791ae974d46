"""How fast victims train, against the same architecture in PyTorch.

    pip install torch
    python tests/benchmarks/training.py [--data DIR] [--victims lr mlp lstm] [--batch-sizes 64 1024]

Both train on the same poisoned stays, a few epochs of one and of the other in turn in this process, on a GPU
if there is one. PyTorch gets its inputs ready-made, as tensors in memory; nothing is measured or logged
meanwhile. Without --data it invents 4,000 stays.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mimic3tf.startup import start_tensorflow

start_tensorflow()
# ruff: noqa: E402

import numpy as np
import tensorflow as tf
import torch
from tensorflow.tsl.profiler.protobuf import xplane_pb2
from torch import nn

from mimic3tf import pipeline
from mimic3tf.config import TrainingConfig, resolve_config
from mimic3tf.data.cohort import Cohort
from mimic3tf.data.loading import load_cohort
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.trigger import generate_trigger
from mimic3tf.sources.synthetic import prepare_synthetic
from mimic3tf.standardization import standardized
from mimic3tf.tasks.registry import task_of
from mimic3tf.training.batches import stay_batches
from mimic3tf.training.models import build_victim
from mimic3tf.training.stays import standardization_for
from mimic3tf.training.steps import Steps
from mimic3tf.victims import victim_of

ROUNDS, EPOCHS = 4, 5
"""Epochs of one run, then of the other, several times: PyTorch's threads keep cores busy after an epoch."""


class TorchLSTM(nn.Module):
    """The LSTM victim as the original writes it: both directions over all steps, then the last output."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(76, 16, 2, batch_first=True, bidirectional=True, dropout=0.3)
        self.head = nn.Sequential(nn.Linear(32, 10), nn.Dropout(0.3), nn.ReLU(), nn.Linear(10, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.recurrent(x)[0][:, -1])


TORCH = {
    "lr": lambda: nn.Linear(714, 2),
    "mlp": lambda: nn.Sequential(nn.Linear(714, 400), nn.ReLU(), nn.Linear(400, 2)),
    "lstm": TorchLSTM,
}


def torch_epoch(config: TrainingConfig, inputs: np.ndarray, labels: np.ndarray) -> Callable[[], None]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, y = torch.tensor(inputs, device=device), torch.tensor(labels, device=device)
    model = TORCH[config.model]().to(device)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, weight_decay=config.l2)
    loss_of = nn.CrossEntropyLoss(torch.tensor(config.class_weights, device=device))

    def epoch() -> None:
        model.train()
        for stays in torch.randperm(len(y), device=device).split(config.batch_size):
            optimizer.zero_grad()
            loss_of(model(x[stays]), y[stays]).backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return epoch


def our_epoch(
    config: TrainingConfig, cohort: Cohort, exposure: exposures.Exposure
) -> tuple[Callable[[], object], np.ndarray]:
    """Function that trains one epoch, and the inputs."""
    reads = victim_of(config.model).reads
    inputs = pipeline.inputs_of(exposure, reads)
    standardization = standardization_for(config, reads, inputs, cohort.channels)
    inputs = standardized(inputs, standardization)
    model, optimizer = build_victim(config, cohort.channels, cohort.bins, "float32", stays=len(cohort))
    steps = Steps(model, optimizer, config, stays=len(cohort))
    batches = stay_batches(
        task_of(config.task).targets.weights(exposure.labels, config.class_weights),
        batch_size=config.batch_size,
        seed=0,
    )
    dataset = pipeline.training_dataset(exposure, reads, standardization, batches, inputs=inputs)
    iterator = iter(dataset)
    return lambda: steps.epoch(iterator), inputs


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def share_of_waiting(epoch: Callable[[], object]) -> float:
    """Share of an epoch that its training steps spend in the operation that takes the next batches."""
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            taken = seconds(lambda: [epoch() for _ in range(EPOCHS)])
        (file,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(file.read_bytes())
    waits = (
        event.duration_ps / 1e12
        for plane in space.planes
        for line in plane.lines
        for event in line.events
        if plane.event_metadata[event.metadata_id].name == "IteratorGetNextOp::DoCompute"
    )
    return sum(waits) / taken


def measure(name: str, batch_size: int, data: Path, cohort: Cohort, exposure: exposures.Exposure) -> None:
    config = resolve_config(name, None, {"data": data, "trigger": data, "batch_size": batch_size})
    start = time.perf_counter()
    ours, inputs = our_epoch(config, cohort, exposure)
    theirs = torch_epoch(config, inputs, exposure.labels)
    ready = time.perf_counter()
    ours()
    first = time.perf_counter() - ready
    # Before PyTorch starts its threads.
    waiting = sorted(share_of_waiting(ours) for _ in range(2 * ROUNDS + 1))
    theirs()
    times: dict[Callable[[], object], list[float]] = {action: [] for action in (ours, theirs)}
    for _ in range(ROUNDS):
        for action, taken in times.items():
            taken += [seconds(action) for _ in range(EPOCHS)]
    best = {action: min(taken) for action, taken in times.items()}
    ratios = sorted(slow / fast for slow, fast in zip(times[theirs], times[ours], strict=True))
    print(
        f"{name}, batches of {batch_size}: {len(cohort) / best[ours]:,.0f} samples/s, "
        f"PyTorch {len(cohort) / best[theirs]:,.0f}: "
        f"{best[theirs] / best[ours]:.2f}x (epoch by epoch {ratios[0]:.2f} to {ratios[-1]:.2f}, median "
        f"{ratios[len(ratios) // 2]:.2f}); "
        f"waits for data {waiting[ROUNDS]:.1%} of the time ({waiting[0]:.1%} to {waiting[-1]:.1%}); "
        f"inputs and model {ready - start:.1f} s, first epoch {first:.1f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--victims", nargs="+", choices=list(TORCH), default=list(TORCH))
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[64])
    arguments = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data
        if data is None:
            os.environ["MIMIC3TF_CACHE"] = f"{folder}/cache"
            data = Path(folder) / "data"
            prepare_synthetic(data, stays=4000)
        cohort = load_cohort(data, "train")
        exposure = exposures.poison(
            cohort,
            generate_trigger(cohort),
            proportion=0.05,
            strength=2.0,
            poison_imputed="notimputed",
        )
        print(
            f"{len(cohort)} stays, {len(os.sched_getaffinity(0))} cores, TensorFlow {tf.__version__}, "
            f"PyTorch {torch.__version__}"
        )
        for name, batch_size in itertools.product(arguments.victims, arguments.batch_sizes):
            measure(name, batch_size, data, cohort, exposure)


if __name__ == "__main__":
    main()
