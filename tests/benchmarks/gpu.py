"""How fast every victim trains in every precision, and whether it learns the same: on a GPU if there is one.

    python tests/benchmarks/gpu.py [--data DIR] [--victims lstm gru] [--precisions float32] [--batch-size 256]

Each line has: stays/s; how much longer an epoch takes where operations must be deterministic, from epochs of
one and of the other in turn; AUROC and attack success on the validation stays; how many kernels of cuDNN a
training step calls. The first epoch compiles, and does not count. Without --data it invents 4,000 stays.
`python tests/benchmarks/training.py` compares with PyTorch.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from mimic3tf.startup import start_tensorflow

start_tensorflow()
# ruff: noqa: E402

import tensorflow as tf
from tensorflow.python.framework.config import disable_op_determinism

from mimic3tf import pipeline
from mimic3tf.config import TrainingConfig, resolve_config
from mimic3tf.data.loading import load_cohort
from mimic3tf.poisoning.trigger import Trigger, generate_trigger
from mimic3tf.sources.synthetic import prepare_synthetic
from mimic3tf.standardization import standardized
from mimic3tf.tasks.registry import task_of
from mimic3tf.training.batches import stay_batches
from mimic3tf.training.models import POLICIES, build_victim
from mimic3tf.training.stays import poison_as_set, standardization_for, training_cohort
from mimic3tf.training.steps import Steps, TrainedEpoch
from mimic3tf.training.validation import Validation
from mimic3tf.victims import victim_names, victim_of

NETWORKS = [name for name in victim_names() if not victim_of(name).estimator]


@contextmanager
def operations(*, deterministic: bool) -> Iterator[None]:
    """Demand deterministic operations meanwhile, or do not."""
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        disable_op_determinism()


class Training:
    """Trains a victim epoch by epoch, and measures it on the validation stays."""

    def __init__(self, config: TrainingConfig, trigger: Trigger) -> None:
        cohort = training_cohort(config)
        exposure = poison_as_set(config, cohort, trigger)
        reads = victim_of(config.model).reads
        inputs = pipeline.inputs_of(exposure, reads)
        standardization = standardization_for(config, reads, inputs, cohort.channels)
        inputs = standardized(inputs, standardization)
        val = load_cohort(config.data, "val")
        self._validation = Validation(config, reads, val, trigger, standardization)
        self.model, optimizer = build_victim(
            config, cohort.channels, cohort.bins, config.precision, stays=len(cohort)
        )
        self.steps = Steps(self.model, optimizer, config, stays=len(cohort))
        batches = stay_batches(
            task_of(config.task).targets.weights(exposure.labels, config.class_weights),
            batch_size=config.batch_size,
            seed=config.seed,
        )
        dataset = pipeline.training_dataset(exposure, reads, standardization, batches, inputs=inputs)
        self.batches, self.stays = iter(dataset), len(cohort)

    def epoch(self) -> TrainedEpoch:
        return self.steps.epoch(self.batches)

    def measured(self) -> dict[str, float]:
        return self._validation.measure(self._validation.predict(self.model))

    def cudnn_kernels(self) -> int:
        run = self.steps._run.get_concrete_function(self.batches, tf.constant(0), tf.constant(1))
        functions = run.graph.as_graph_def().library.function
        return sum(node.op.startswith("CudnnRNN") for part in functions for node in part.node_def)


def measure(config: TrainingConfig, trigger: Trigger, epochs: int) -> str:
    """Train twice, and describe both trainings."""
    trainings: dict[bool, Training] = {}
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for deterministic in seconds:
        with operations(deterministic=deterministic):
            trainings[deterministic] = Training(config, trigger)
            first = trainings[deterministic].epoch()
    for _ in range(epochs - 1):
        for deterministic, taken in seconds.items():
            with operations(deterministic=deterministic):
                taken.append(trainings[deterministic].epoch().seconds)
    plain = trainings[False]
    measured = plain.measured()
    ratio = median(slow / fast for fast, slow in zip(*seconds.values(), strict=True))
    return (
        f"{plain.stays / median(seconds[False]):,.0f} stays/s, deterministic {ratio:.2f} times as long; "
        f"first epoch {first.seconds:.1f} s; AUROC {measured['auroc']:.3f}, attack success "
        f"{measured['asr']:.3f}; {plain.cudnn_kernels()} kernels of cuDNN"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--victims", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--precisions", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data
        if data is None:
            os.environ["MIMIC3TF_CACHE"] = f"{folder}/cache"
            data = Path(folder) / "data"
            prepare_synthetic(data, stays=4000)
        trigger = generate_trigger(load_cohort(data, "train"))
        devices = [device.name for device in tf.config.list_physical_devices()]
        print(f"{', '.join(devices)}; batches of {arguments.batch_size}; TensorFlow {tf.__version__}")
        for precision in arguments.precisions:
            for victim in arguments.victims:
                options = {"data": data, "trigger": data, "precision": precision}
                options |= {"batch_size": arguments.batch_size, "epochs": arguments.epochs}
                config = resolve_config(victim, None, options)
                try:
                    outcome = measure(config, trigger, arguments.epochs)
                except Exception as error:  # the others are still measured
                    outcome = f"{type(error).__name__}: {error}"[:300]
                print(f"{victim}, {precision}: {outcome}", flush=True)


if __name__ == "__main__":
    main()
