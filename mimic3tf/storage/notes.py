"""Notes and commands for the user at the terminal."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.console import Console

from mimic3tf.errors import printable


def note(text: str) -> None:
    """Print one line on standard error; line breaks and control characters in the text are escaped."""
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(printable(text))


def warn(*texts: str | None) -> None:
    """Print what a result is not worth on standard error, a line a text; None is nothing to say."""
    for text in filter(None, texts):
        note(f"warning: {text}")


def command_line(*words: str | Path) -> str:
    """Write a mimic3tf command that can be pasted into a shell, whatever its paths contain.

    Args:
        words: the subcommand, options and their values. A `Path` that begins with a dash gets "./" before it,
            so that it is not read as an option.
    """
    texts = (
        f"./{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word) for word in words
    )
    return shlex.join(["mimic3tf", *texts])
