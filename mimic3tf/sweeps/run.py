"""Run a sweep from its file to its table."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from mimic3tf.errors import UserError
from mimic3tf.storage.files import PathText
from mimic3tf.storage.folders import claimed
from mimic3tf.storage.notes import note
from mimic3tf.sweeps.board import SweepBoard
from mimic3tf.sweeps.folder import SweepFolder, check_sweep_folder, open_folder
from mimic3tf.sweeps.local import run_locally
from mimic3tf.sweeps.outcomes import write_results
from mimic3tf.sweeps.plan import Engine, SweepFile
from mimic3tf.sweeps.stacks import stacks_of
from mimic3tf.sweeps.trial import Job
from mimic3tf.victims import shown_victim


@dataclass(frozen=True)
class SweepOutcome:
    """The outcome of a sweep.

    Attributes:
        trials: number of all trials.
        failed: number of trials that failed in this call.
        results: table of results, a row for every attack.
    """

    trials: int
    failed: int
    results: pl.DataFrame


def run_sweep(
    file: SweepFile,
    data: PathText,
    out: PathText,
    *,
    start: Callable[[int], None],
    command: str,
    engine: Engine = "local",
    workers: int | None = None,
    ray_address: str | None = None,
    resume: bool = False,
    follow_links: bool = False,
) -> SweepOutcome:
    """Train and attack every victim of a sweep, and write its table.

    Args:
        file: the sweep.
        data: benchmark directory.
        out: folder of the sweep; made, or resumed.
        start: starts TensorFlow in a worker, on the given number of cores.
        command: the command line, which is recorded.
        engine: "local" for processes of this machine, "stacked" for the same with victims trained together,
            "ray" for Ray Tune.
        workers: trials at a time; of "stacked", processes. If not given, one for each core, or as many as
            Ray's resources allow; of "stacked" with a GPU, one.
        ray_address: address of a Ray cluster; if not given, Ray is started on this machine.
        resume: resume the sweep in `out`: run the trials that have not finished.
        follow_links: read links that lead out of `data`, too.

    Raises:
        UserError: the folder is taken, the data is malformed, or every trial failed.
    """
    data, out = Path(data), Path(out)
    check_sweep_folder(out, resume=resume)
    with claimed(out):
        folder = open_folder(out, file, data, command=command, resume=resume, follow_links=follow_links)
        board = SweepBoard(folder.left, before=len(folder.jobs) - len(folder.left))
        with board:
            if engine == "ray":
                _run_on_ray(file, folder, out, board, start, workers, ray_address)
            else:
                cores = os.cpu_count() or 1
                stacks: list[tuple[Job, ...]] = [(job,) for job in folder.left]
                if engine == "stacked":
                    stacks, workers = _stacked(folder.left, start, workers)
                at_once = min(workers or cores, len(stacks))
                run_locally(
                    stacks,
                    workers=at_once,
                    start=partial(start, max(cores // max(at_once, 1), 1)),
                    log=out / "workers.log",
                    board=board,
                )
        results = write_results(out, [job.folder for job in folder.jobs])
    if board.failed == len(folder.jobs):
        raise UserError(f"every trial failed; the first: {results['error'][0]}")
    return SweepOutcome(len(folder.jobs), board.failed, results)


def _stacked(
    jobs: list[Job], start: Callable[[int], None], workers: int | None
) -> tuple[list[tuple[Job, ...]], int | None]:
    """Divide the trials into stacks, and choose the number of processes if it is not given."""
    if not jobs:
        return [], workers
    start(os.cpu_count() or 1)
    import tensorflow as tf

    gpu = bool(tf.config.list_physical_devices("GPU"))
    stacks = stacks_of(jobs, gpu=gpu)
    alone = [stack[0].trial.victim for stack in stacks if len(stack) == 1]
    if alone:
        victims = ", ".join(sorted({shown_victim(victim) for victim in alone}))
        note(f"{len(alone)} trials run alone, because a stack cannot hold them or gains nothing: {victims}")
    return stacks, workers or (1 if gpu else None)


def _run_on_ray(
    file: SweepFile,
    folder: SweepFolder,
    out: Path,
    board: SweepBoard,
    start: Callable[[int], None],
    workers: int | None,
    address: str | None,
) -> None:
    # Ray is an optional dependency.
    from mimic3tf.sweeps.on_ray import run_on_ray

    resources = file.sweep.resources
    run_on_ray(
        folder.left,
        address=address,
        workers=workers,
        resources=resources,
        start=partial(start, resources.cpus),
        scratch=out.resolve() / "ray",
        board=board,
    )
