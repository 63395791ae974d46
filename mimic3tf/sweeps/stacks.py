"""Stacks: trials whose victims are trained together in one process, and how they are chosen and run."""

from __future__ import annotations

import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Sequence

from mimic3tf.errors import UserError
from mimic3tf.sweeps.trial import Job, attack_trial, forget_rows, record_trial, run_trial
from mimic3tf.training.run_files import CHECKPOINT, FINISHED

FAST_ON_A_CPU, FAST_ON_A_GPU = ("lr", "mlp"), ("lr", "mlp", "lstm")
"""Victims that gain from a stack. On a CPU the LSTM's time is its arithmetic, which a stack does not lessen."""
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
        # Stacks of nearly equal sizes, in the order of their seeds: victims of one seed share their dropout.
        count = -(-len(alike) // most)
        size = -(-len(alike) // count)
        stacks += [tuple(alike[first : first + size]) for first in range(0, len(alike), size)]
    return alone + stacks


def _stackable(job: Job, *, gpu: bool) -> bool:
    config = job.config
    # A training that was interrupted alone goes on alone.
    begun = any((job.folder / name).exists() for name in (CHECKPOINT, FINISHED))
    return (
        config.model in (FAST_ON_A_GPU if gpu else FAST_ON_A_CPU)
        and config.strategy == "none"
        and config.precision != "mixed_float16"
        and not begun
    )


def _kind(job: Job) -> str:
    """Return a text that is the same for all trials that one stack can hold."""
    from mimic3tf.training.settings import OWN_OF_A_VICTIM

    return job.config.model_dump_json(exclude=OWN_OF_A_VICTIM)


def run_stack(jobs: Sequence[Job]) -> None:
    """Run the trials of a stack and record how each of them ended, even if it failed.

    If the victims cannot be trained together after all, each of them is trained alone.
    """
    if len(jobs) == 1:
        run_trial(jobs[0])
        return
    for job in jobs:
        forget_rows(job)
    try:
        _train_and_attack(jobs)
    except Exception:
        print(f"{jobs[0].trial.name} and {len(jobs) - 1} others, together:", file=sys.stderr)
        traceback.print_exc()
        print("each of them runs alone now", file=sys.stderr)
    for job in jobs:
        if not job.recorded:
            run_trial(job)


def _train_and_attack(jobs: Sequence[Job]) -> None:
    import keras

    from mimic3tf.dashboards.tensorboard import RunLog
    from mimic3tf.pipeline import RememberedInputs
    from mimic3tf.training.stacked import train_stacked

    # The use of memory is then as in a new process.
    keras.backend.clear_session()
    begun, inputs = time.perf_counter(), RememberedInputs()
    runs = train_stacked(
        [job.config for job in jobs], [job.folder for job in jobs], log=RunLog, inputs=inputs
    )
    # All victims share the time.
    seconds = (time.perf_counter() - begun) / len(jobs)
    for job, run in zip(jobs, runs, strict=True):
        if isinstance(run, UserError):
            record_trial(job, error=run)
        else:
            record_trial(job, attack_trial(job, run, seconds, inputs=inputs))
