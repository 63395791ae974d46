"""Progress bars on the standard error stream, which show nothing where that is no terminal."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TypeVar

from rich import progress
from rich.console import Console

Item = TypeVar("Item")


@cache
def progress_console() -> Console:
    """Return the console of all progress bars: only bars of one console can stand below each other."""
    return Console(stderr=True)


def track(items: Iterable[Item], what: str, total: int | None = None) -> Iterable[Item]:
    """Iterate with a bar that disappears at the end; `total` is needed if the items have no length."""
    return progress.track(items, what, total=total, console=progress_console(), transient=True)
