"""The progress of a sweep, in the terminal."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from mimic3tf.sweeps.outcomes import FAILED, read_rows
from mimic3tf.sweeps.trial import Job

SHOWN = 10
"""Number of trials in the table: those that ended last."""


class SweepBoard:
    """A live table of trials on a terminal; elsewhere one line for each trial that ends.

    Args:
        left: the trials to run.
        before: number of trials that an earlier call has finished.
    """

    def __init__(self, left: Sequence[Job], *, before: int) -> None:
        self.failed = 0
        self._at_once = 1
        self._waiting = {job.trial.name: job.trial.victim for job in left}
        self._running: dict[str, float] = {}
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._ended: deque[tuple[str, ...]] = deque(maxlen=SHOWN)
        self._progress = Progress(
            TextColumn("Trials"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}")
        )
        self._task = self._progress.add_task("", total=before + len(left), completed=before)
        self._console = Console(stderr=True, soft_wrap=True, highlight=False)
        self._live = Live(
            get_renderable=self._render, console=self._console, transient=True, auto_refresh=True
        )

    def __enter__(self) -> SweepBoard:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def started(self, job: Job) -> None:
        """Show that a worker has begun a trial."""
        self._running[job.trial.name] = time.monotonic()
        self._at_once = max(self._at_once, len(self._running))

    def ended(self, job: Job) -> None:
        """Show that a trial has finished or failed; its rows must be written already."""
        name = job.trial.name
        seconds = time.monotonic() - self._running.pop(name, time.monotonic())
        self._seconds[self._waiting.pop(name)].append(seconds)
        self._progress.advance(self._task)
        rows = read_rows(job.folder)
        failed = rows[0]["status"] == FAILED
        self.failed += failed
        if failed:
            shown, said = ("failed", ""), f"failed: {rows[0]['error']}"
        else:
            rates = [row["attack_success_rate"] for row in rows]
            lowest, highest = _rate(min(rates)), _rate(max(rates))
            success = lowest if lowest == highest else f"{lowest} to {highest}"
            shown = (success, _rate(rows[0]["clean_auroc"]))
            said = f"ASR {shown[0]}, AUROC {shown[1]}"
        self._ended.append((name, *shown, _duration(seconds)))
        if failed or not self._console.is_terminal:
            task = self._progress.tasks[0]
            line = f"{task.completed:g}/{task.total:g} {name}: {said}, {_duration(seconds)}; {self._state()}"
            self._console.print(line, markup=False)

    def _state(self) -> str:
        left = self._left()
        return f"{self.failed} failed" + (f", about {_duration(left)} left" if left else "")

    def _left(self) -> float:
        """Estimate the seconds left from the mean duration of each victim's trials, or else of all trials."""
        means = {victim: sum(taken) / len(taken) for victim, taken in self._seconds.items()}
        if not means:
            return 0.0
        usual = sum(means.values()) / len(means)
        return sum(means.get(victim, usual) for victim in self._waiting.values()) / self._at_once

    def _render(self) -> RenderableType:
        table = Table()
        table.add_column("trial", overflow="fold")
        for heading in ("ASR", "AUROC", "took"):
            table.add_column(heading, no_wrap=True, justify="right")
        for row in self._ended:
            table.add_row(*row)
        self._progress.update(self._task, description=f"{len(self._running)} running, {self._state()}")
        now = time.monotonic()
        for name, since in list(self._running.items()):
            table.add_row(name, "", "", _duration(now - since), style="dim")
        return Group(table, self._progress)


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.3f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
