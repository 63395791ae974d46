"""Errors that are a user's to mend: one line that says what is wrong, where, and what to do."""

from __future__ import annotations

import signal


class UserError(Exception):
    """A failure the user can mend, printed as one line without a traceback (exit status 1)."""

    exit_status = 1


class DataError(UserError, ValueError):
    """A data file that breaks the layout; the text names file, line and channel."""


class UsageError(UserError, ValueError):
    """An option or configuration value that cannot be used (exit status 2)."""

    exit_status = 2


class Stopped(BaseException):
    """SIGINT or SIGTERM has come: whatever goes on clears up and ends.

    Not a KeyboardInterrupt, of which libraries make their own.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.strsignal(number))
        self.signal = number


def printable(text: str) -> str:
    """A text on one line, with nothing in it that a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
