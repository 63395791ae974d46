"""Errors that the user can correct: one line that says what is wrong, where, and what to do."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

NAMES_COMPARED = 2000
"""Largest number of names in a folder with which a missing name is compared; more would take long."""
REDACT = "MIMIC3TF_REDACT"
"""Environment variable of `--redact`, so that the processes of a sweep redact, too."""


class UserError(Exception):
    """A failure that the user can correct: printed as one line without a traceback, exit status 1."""

    exit_status = 1


class DataError(UserError, ValueError):
    """A data file breaks the layout; the message names file, line and channel."""


class UsageError(UserError, ValueError):
    """An option or a setting cannot be used; exit status 2."""

    exit_status = 2


def redacts() -> bool:
    """Check whether errors must not show names of stays or contents of cells (`mimic3tf --redact`)."""
    return os.environ.get(REDACT, "0") not in ("", "0")


def private(text: object) -> str:
    """Return a stay's name or a cell's contents as an error may show it: hidden if `redacts()` is true."""
    return "[redacted]" if redacts() else str(text)


def private_path(path: Path) -> Path:
    """Return the path of a stay's file as an error may show it: without its name if `redacts()` is true."""
    return path.parent / private(path.name)


class Stopped(BaseException):
    """SIGINT or SIGTERM has come: the running work cleans up and ends.

    This is no KeyboardInterrupt, because libraries handle that error in their own ways.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.strsignal(number))
        self.signal = number


def near(name: str, known: Iterable[str]) -> str:
    """Return the end of an error for an unknown name: the most similar known name, or an empty text."""
    found = _alike(name, known)
    return f"; did you mean {found[0]}?" if found else ""


def near_path(path: Path) -> str:
    """Return the end of an error for a missing path: an existing path with a similar name, or an empty text.

    Only the first missing part of the path may differ. Names in a folder may be names of stays, so the text
    is empty if `redacts()` is true. A path that exists is a file in place of a directory, or the reverse; the
    text says so.
    """
    if path.exists():
        return f"; it is a {'directory, not a file' if path.is_dir() else 'file, not a directory'}"
    if redacts():
        return ""
    missing = path
    try:
        while not missing.parent.exists():
            missing = missing.parent
        names = [entry.name for entry in islice(missing.parent.iterdir(), NAMES_COMPARED)]
        for name in _alike(missing.name, names):
            found = missing.parent / name / path.relative_to(missing)
            if found.exists():
                return f"; did you mean {found}?"
    except OSError:
        pass  # the folder cannot be read
    return ""


def _alike(name: str, known: Iterable[str]) -> list[str]:
    """List the known names that are similar to `name`, the most similar first; case is ignored."""
    # Imported here, because only a mistake needs it.
    from difflib import get_close_matches

    by_letters = {other.casefold(): other for other in known}
    return [by_letters[letters] for letters in get_close_matches(name.casefold(), by_letters)]


def printable(text: str) -> str:
    """Return a text on one line, with control characters escaped, so that a terminal does not obey them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
