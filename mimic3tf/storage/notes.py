"""Lines for whoever sits at the terminal."""

from __future__ import annotations

from rich.console import Console

from mimic3tf.errors import printable


def note(text: str) -> None:
    """Print one line on standard error; a name in it may hold a line break, and a damaged file anything."""
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(printable(text))
