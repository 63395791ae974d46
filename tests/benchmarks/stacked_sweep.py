"""How long a few victims take one at a time, and as a stack, in one process.

    python tests/benchmarks/stacked_sweep.py [--data DIR] [--victims lr mlp] [--trials 8] [--epochs 10]

Both train and attack the same victims of the paper's grid, which differ in mode, proportion and strength. It
prints seconds of the wall clock and of the processor for each part, their ratios, and the largest difference
between the results. On a GPU it also measures the LSTM. It needs no network. Without --data it invents stays.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from mimic3tf.startup import start_tensorflow

start_tensorflow()
# ruff: noqa: E402

import tensorflow as tf

from mimic3tf.sources.synthetic import prepare_synthetic
from mimic3tf.sweeps import stacks, trial
from mimic3tf.sweeps.folder import open_folder
from mimic3tf.sweeps.outcomes import read_rows
from mimic3tf.sweeps.plan import read_sweep
from mimic3tf.sweeps.trial import Job
from mimic3tf.training.stacked_steps import StackedSteps
from mimic3tf.training.steps import Steps
from mimic3tf.training.validation import Validation

COMPARED = ("attack_success_rate", "clean_auroc", "validation_auroc", "epoch_kept")


class Clock:
    """Seconds of the wall clock and of the processor that each part has taken."""

    def __init__(self) -> None:
        self.parts: dict[str, tuple[float, float]] = {}

    @contextmanager
    def measuring(self, part: str) -> Iterator[None]:
        begun = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            before = self.parts.get(part, (0.0, 0.0))
            wall, processor = time.perf_counter() - begun[0], time.process_time() - begun[1]
            self.parts[part] = before[0] + wall, before[1] + processor

    def around(self, part: str, function: Callable[..., object]) -> Callable[..., object]:
        def measured(*given: object, **named: object) -> object:
            with self.measuring(part):
                return function(*given, **named)

        return measured


def timed(run: Callable[[], object]) -> Clock:
    """Run something, and tell how long its parts took."""
    clock = Clock()
    with (
        patch.object(Steps, "epoch", clock.around("steps", Steps.epoch)),
        patch.object(StackedSteps, "epoch", clock.around("steps", StackedSteps.epoch)),
        patch.object(Validation, "predict", clock.around("validation", Validation.predict)),
        patch.object(StackedSteps, "outputs", clock.around("validation", StackedSteps.outputs)),
        patch.object(Validation, "measure", clock.around("metrics", Validation.measure)),
        patch.object(trial, "_train_and_attack", clock.around("trial", trial._train_and_attack)),
        clock.measuring("all"),
    ):
        run()
    return clock


def sweep_of(folder: Path, victim: str, trials: int, epochs: int | None) -> Path:
    """Write a sweep file with at least so many victims, of which one is clean."""
    proportions = [round(0.01 * step, 2) for step in range(1, -(-trials // 8) + 1)]
    settings = f"configs: {{{victim}: quick.yaml}}\n" if epochs else ""
    (folder / "quick.yaml").write_text(f"epochs: {epochs}\npatience: {epochs}\n")
    (folder / "sweep.yaml").write_text(
        f"seeds: [0]\ngrids:\n  - victims: [{victim}]\n    poison_imputed: [notimputed, all]\n"
        f"    proportions: {[0, *proportions]}\n    strengths: [0.5, 1.0, 1.5, 2.0]\n{settings}"
    )
    return folder / "sweep.yaml"


def jobs_of(out: Path, sweep: Path, data: Path, trials: int) -> list[Job]:
    return open_folder(out, read_sweep(str(sweep)), data, command="", resume=False).jobs[:trials]


def measure(folder: Path, victim: str, data: Path, trials: int, epochs: int | None) -> None:
    sweep = sweep_of(folder, victim, trials, epochs)
    alone, together = (
        jobs_of(folder / f"{victim}-{how}", sweep, data, trials) for how in ("alone", "stacked")
    )
    # What TensorFlow does only once in a process is nobody's.
    (warm,) = jobs_of(folder / f"{victim}-warm", sweep, data, 1)
    trial.run_trial(warm)
    clocks = {
        "one at a time": timed(lambda: deque(map(trial.run_trial, alone))),
        "stacked": timed(lambda: list(stacks.run_stack(together))),
    }
    for how, clock in clocks.items():
        parts = ", ".join(f"{part} {wall:.1f} ({cpu:.1f})" for part, (wall, cpu) in clock.parts.items())
        print(f"{victim}, {trials} victims {how}, seconds (of the processor): {parts}")
    wall, processor = (
        clocks["one at a time"].parts["all"][kind] / clocks["stacked"].parts["all"][kind] for kind in (0, 1)
    )
    rows = [[row for job in jobs for row in read_rows(job.folder)] for jobs in (alone, together)]
    apart = {
        name: max(abs(mine[name] - theirs[name]) for mine, theirs in zip(*rows, strict=True))
        for name in COMPARED
    }
    print(f"{victim}: stacked {wall:.2f} times as fast, {processor:.2f} times as little of the processor")
    print(
        f"{victim}: largest differences {', '.join(f'{name} {value:.2g}' for name, value in apart.items())}"
    )


def main() -> None:
    gpus = tf.config.list_physical_devices("GPU")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument(
        "--victims", nargs="+", default=list(stacks.FAST_ON_A_GPU if gpus else stacks.FAST_ON_A_CPU)
    )
    parser.add_argument("--stays", type=int, default=4000, help="stays to invent, without --data")
    parser.add_argument("--epochs", type=int, help="the victim's tuned number if not given")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--no-xla", action="store_true", help="do not compile an LSTM's steps on a GPU")
    arguments = parser.parse_args()
    StackedSteps.compiles = not arguments.no_xla
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data
        if data is None:
            os.environ["MIMIC3TF_CACHE"] = f"{folder}/cache"
            data = Path(folder) / "data"
            prepare_synthetic(data, stays=arguments.stays)
        print(f"TensorFlow {tf.__version__}, {len(gpus)} GPUs, {len(os.sched_getaffinity(0))} cores")
        for victim in arguments.victims:
            measure(Path(folder), victim, data, arguments.trials, arguments.epochs)


if __name__ == "__main__":
    main()
