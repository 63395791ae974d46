"""Stacks: trials whose victims are trained together in one process, and how they are chosen and run."""

from __future__ import annotations

import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mimic3tf.config import OF_A_STACK
from mimic3tf.errors import UserError
from mimic3tf.sweeps.trial import Job, Trained, forget_rows, run_trial, train_alone
from mimic3tf.tasks.registry import MORTALITY
from mimic3tf.training.run_files import CHECKPOINT, FINISHED

FAST_ON_A_CPU, FAST_ON_A_GPU = ("lr", "mlp"), ("lr", "mlp", "lstm")
"""Victims that gain from a stack. On a CPU the LSTM's time is its arithmetic, which a stack cannot lessen."""
AT_ONCE_ON_A_CPU, AT_ONCE_ON_A_GPU = 16, 64
"""Most victims of a stack."""


def stacks_of(jobs: Sequence[Job], *, gpu: bool) -> list[tuple[Job, ...]]:
    """Divide trials into stacks; a trial that cannot be stacked, or would not gain, is one of its own.

    Args:
        jobs: the trials.
        gpu: whether victims are trained on a GPU.

    Returns:
        The stacks: first the trials that are alone, because each takes longest on a CPU.
    """
    alone: list[tuple[Job, ...]] = []
    kinds: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        if _stackable(job, gpu=gpu):
            kinds[_kind(job)].append(job)
        else:
            alone.append((job,))
    most = AT_ONCE_ON_A_GPU if gpu else AT_ONCE_ON_A_CPU
    stacks = []
    for alike in kinds.values():
        # Victims of one seed share their dropout, and those of one setting the inputs that carry its trigger.
        alike.sort(key=_setting)
        # Stacks of nearly equal sizes.
        count = -(-len(alike) // most)
        size = -(-len(alike) // count)
        stacks += [tuple(alike[first : first + size]) for first in range(0, len(alike), size)]
    return alone + stacks


def _stackable(job: Job, *, gpu: bool) -> bool:
    config = job.config
    # A training that was interrupted alone goes on alone.
    begun = any((job.folder / name).exists() for name in (CHECKPOINT, FINISHED))
    return (
        config.task == MORTALITY.name
        and config.model in (FAST_ON_A_GPU if gpu else FAST_ON_A_CPU)
        and config.strategy == "none"
        and config.precision != "mixed_float16"
        and not begun
    )


def _setting(job: Job) -> tuple[object, ...]:
    config = job.config
    return config.seed, str(config.trigger), config.poison_imputed, config.poisoning_strength


def _kind(job: Job) -> str:
    """Return a text that is the same for all trials that one stack can hold."""
    return job.config.model_dump_json(exclude=OF_A_STACK)


def run_stack(jobs: Sequence[Job]) -> Iterator[Job]:
    """Run the trials of a stack, and record how each of them ended, even if it failed.

    If the victims cannot be trained together after all, each of them is trained alone.

    Yields:
        Each trial, as soon as its end is recorded.
    """
    train: Callable[[Job], Trained] = train_alone
    if len(jobs) > 1:
        for job in jobs:
            forget_rows(job)
        try:
            train = _train_together(jobs)
        except Exception:
            print(f"{jobs[0].trial.name} and {len(jobs) - 1} other trials, together:", file=sys.stderr)
            traceback.print_exc()
            print("each of these trials runs alone now", file=sys.stderr)
    for job in jobs:
        run_trial(job, train)
        yield job


def _train_together(jobs: Sequence[Job]) -> Callable[[Job], Trained]:
    """Train the victims of a stack; return a function that gives those of each trial."""
    import keras

    from mimic3tf.attacks import load_attacked
    from mimic3tf.dashboards.tensorboard import RunLog
    from mimic3tf.pipeline import RememberedInputs
    from mimic3tf.training.stacked import train_stacked

    # The use of memory is then as in a new process.
    keras.backend.clear_session()
    begun, inputs = time.perf_counter(), RememberedInputs()
    configs, folders = [job.config for job in jobs], [job.folder for job in jobs]
    runs = train_stacked(configs, folders, log=RunLog, inputs=inputs)
    # All victims share the time.
    seconds = (time.perf_counter() - begun) / len(jobs)
    by_trial = dict(zip((job.trial.name for job in jobs), runs, strict=True))
    attacked: list[Any] = []

    def load(victim: Any, data: Path, *, follow_links: bool) -> Any:
        # All victims read the same stays.
        if not attacked:
            attacked.append(load_attacked(victim, data, follow_links=follow_links))
        return attacked[0]

    def trained(job: Job) -> Trained:
        run = by_trial[job.trial.name]
        if isinstance(run, UserError):
            raise run
        return Trained(run, seconds, load, inputs)

    return trained
