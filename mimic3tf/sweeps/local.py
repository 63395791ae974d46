"""Run trials in processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path

from mimic3tf.sweeps.outcomes import write_rows
from mimic3tf.sweeps.stacks import run_stack
from mimic3tf.sweeps.trial import ATTEMPTS, Board, Job

TRIALS_A_PROCESS = 30
"""Trials after which a process is replaced: TensorFlow keeps up to 30 MB of each until the process ends."""


class _Worker:
    """A process that runs one stack of trials after the other, so that TensorFlow starts only once in it.

    `concurrent.futures` is not used: if one process is killed, it fails the trials of all processes.
    """

    def __init__(self, start: Callable[[], None], log: Path) -> None:
        # A forked process would inherit locks of threads that it does not have.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, start, log), daemon=True)
        self.process.start()
        theirs.close()
        self.jobs: dict[str, Job] = {}
        self.trials = 0

    def take(self, stack: tuple[Job, ...]) -> None:
        """Send a stack of trials to the process."""
        self.jobs = {job.trial.name: job for job in stack}
        self.trials += len(stack)
        # If the process has died meanwhile, `next_end` will tell.
        with suppress(OSError):
            self.connection.send(stack)

    def next_end(self) -> Job | None:
        """Return the trial that has ended; None if the process has died. The connection must be ready."""
        try:
            return self.jobs.pop(self.connection.recv())
        except (EOFError, OSError):
            return None

    def end(self) -> None:
        """Kill the process, even if it runs a trial."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def run_locally(
    stacks: Sequence[tuple[Job, ...]],
    *,
    workers: int,
    start: Callable[[], None],
    log: Path,
    board: Board,
) -> None:
    """Run trials, several at a time.

    If a process dies, only the trials of its stack are lost that have not ended. Each of them runs again,
    alone, in a new process; if that process dies as well, the trial is recorded as failed.

    Args:
        stacks: the trials; those of a stack run together in one process.
        workers: number of processes.
        start: what each process calls first; it starts TensorFlow, for example.
        log: file for the output of the processes.
        board: receives the start and the end of every trial.
    """
    queue, deaths = deque(stacks), Counter[str]()
    crew = [_Worker(start, log) for _ in range(min(workers, len(stacks)))]
    try:
        while True:
            for worker in crew:
                if not worker.jobs and queue:
                    worker.take(queue.popleft())
                    for job in worker.jobs.values():
                        board.started(job)
            busy: dict[object, _Worker] = {worker.connection: worker for worker in crew if worker.jobs}
            if not busy:
                return
            for connection in wait([worker.connection for worker in busy.values()]):
                worker = busy[connection]
                ended = worker.next_end()
                if ended is None or (not worker.jobs and worker.trials >= TRIALS_A_PROCESS):
                    worker.end()
                    crew[crew.index(worker)] = _Worker(start, log)
                if ended is not None:
                    board.ended(ended)
                    continue
                for job in worker.jobs.values():
                    deaths[job.trial.name] += 1
                    if deaths[job.trial.name] < ATTEMPTS:
                        queue.appendleft((job,))
                        continue
                    write_rows(job.folder, job.trial, job.data_fingerprint, error=_death(worker, log))
                    board.ended(job)
    finally:
        for worker in crew:
            worker.end()


def _death(worker: _Worker, log: Path) -> str:
    status = worker.process.exitcode or 0
    how = f"was killed ({signal.strsignal(-status)})" if status < 0 else f"ended with status {status}"
    memory = "; was there enough memory?" if status == -signal.SIGKILL else ""
    return f"the worker {how}{memory} (see {log.name})"


def _serve(connection: Connection, start: Callable[[], None], log: Path) -> None:
    """Run every stack of trials that comes through a connection, until its other end is closed."""
    # Ctrl-C reaches all processes of a terminal, but the parent alone ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with log.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    start()
    while True:
        try:
            stack = connection.recv()
        except EOFError:
            return
        for job in run_stack(stack):
            connection.send(job.trial.name)


def _end_with_parent() -> None:
    """End this worker if its parent is killed: it must not write into the folder of a resumed sweep."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
