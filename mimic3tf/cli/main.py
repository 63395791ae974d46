"""Run the command line: signals, errors and exit status."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from mimic3tf.errors import Stopped, UserError, private_path, redacts


def main() -> None:
    """Run the command line; a user's mistake gives one line and status 1 or 2, a signal 130 or 143."""
    before: dict[signal.Signals, Any] = {}
    hook = sys.unraisablehook
    sys.unraisablehook = partial(_repeat_lost, hook)
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, _stop)
        _run()
    except Stopped as stopped:
        _fail(f"stopped: {stopped}; {_how_to_go_on(sys.argv[1:])}", 128 + stopped.signal)
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _run() -> None:
    """Run the command that was typed."""
    try:
        # Import the commands only now, because it takes a while, in which the user may press Ctrl-C.
        from mimic3tf.cli.app import app

        sys.argv[1:] = map(_as_meant, sys.argv[1:])
        app(prog_name="mimic3tf")
    except UserError as error:
        _fail(f"error: {error}", error.exit_status)
    except OSError as error:
        # An output cannot be written: no permission, a file in place of a folder, or a full disk.
        place = error.filename2 or error.filename
        shown = private_path(Path(os.fsdecode(place))) if isinstance(place, (str, bytes)) else None
        _fail(f"error: {shown}: {error.strerror}" if shown else f"error: {error}", UserError.exit_status)
    except Exception as error:
        if not redacts():
            raise
        # This is a bug of mimic3tf, whose traceback may contain names of stays and values.
        _fail(
            f"error: {type(error).__name__} (run again without --redact for details)", UserError.exit_status
        )


def _how_to_go_on(arguments: list[str]) -> str:
    """Say which command to type after a command was stopped."""
    from mimic3tf.storage.notes import command_line

    resumes = arguments[:1] in (["train"], ["sweep"]) and "--resume" not in arguments
    return f"to go on: {command_line(*arguments, *(['--resume'] if resumes else []))}"


def _as_meant(argument: str) -> str:
    """Write an argument with dashes in its option, and with the home folder in place of ~.

    The original spells options with underscores, and shells do not replace the ~ in `--out=~/x`.
    """
    option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    return option.replace("_", "-") + equals + os.path.expanduser(value)  # noqa: PTH111


def _stop(number: int, _: FrameType | None) -> NoReturn:
    # A second signal ends the process at once, without clearing up.
    signal.signal(number, signal.SIG_DFL)
    raise Stopped(number)


def _repeat_lost(
    otherwise: Callable[[sys.UnraisableHookArgs], object], unraisable: sys.UnraisableHookArgs
) -> None:
    """Send a signal again if its `Stopped` was lost: Python drops errors that a destructor raises."""
    lost = unraisable.exc_value
    if isinstance(lost, Stopped):
        signal.signal(lost.signal, _stop)
        timer = threading.Timer(0.01, os.kill, (os.getpid(), lost.signal))
        timer.daemon = True  # a command that has ended in the meantime does not wait for the timer
        timer.start()
    else:
        otherwise(unraisable)


def _fail(line: str, status: int) -> NoReturn:
    from mimic3tf.storage.notes import note

    note(line)
    sys.exit(status)
