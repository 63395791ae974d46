"""Errors that are a user's to mend: one line that says what is wrong, where, and what to do."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

NAMES_COMPARED = 2000
"""Names in a folder that a missing one is compared with; more would take long."""
REDACT = "MIMIC3TF_REDACT"
"""Environment variable, so that the processes of a sweep know it, too."""


class UserError(Exception):
    """A failure the user can mend, printed as one line without a traceback (exit status 1)."""

    exit_status = 1


class DataError(UserError, ValueError):
    """A data file that breaks the layout; the text names file, line and channel."""


class UsageError(UserError, ValueError):
    """An option or configuration value that cannot be used (exit status 2)."""

    exit_status = 2


def redacts() -> bool:
    """Whether errors must neither name stays nor show what cells hold (`mimic3tf --redact`)."""
    return os.environ.get(REDACT, "0") not in ("", "0")


def private(text: object) -> str:
    """The name of a stay, or what a cell holds, as an error shows it: not at all where it `redacts`."""
    return "[redacted]" if redacts() else str(text)


def private_path(path: Path) -> Path:
    """The path of a stay's file as an error shows it: its folder only where it `redacts`."""
    return path.parent / private(path.name)


class Stopped(BaseException):
    """SIGINT or SIGTERM has come: whatever goes on clears up and ends.

    Not a KeyboardInterrupt, of which libraries make their own.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.strsignal(number))
        self.signal = number


def near(name: str, known: Iterable[str]) -> str:
    """What an error adds for a name that is not known: the known one that is most like it, if one is."""
    found = _alike(name, known)
    return f"; did you mean {found[0]}?" if found else ""


def near_path(path: Path) -> str:
    """What an error adds for a path that is not there: one that is there and has almost the same name.

    Only the first part of the path that is missing may differ. Names in a folder may be those of stays: none
    is shown where it `redacts`.
    """
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
        pass  # a folder that may not be read
    return ""


def _alike(name: str, known: Iterable[str]) -> list[str]:
    """Names like one, the most alike first; capitals make no difference."""
    # Needed for a mistake only.
    from difflib import get_close_matches

    by_letters = {other.casefold(): other for other in known}
    return [by_letters[letters] for letters in get_close_matches(name.casefold(), by_letters)]


def printable(text: str) -> str:
    """A text on one line, with nothing in it that a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
