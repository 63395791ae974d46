"""`mimic3tf`, and `python -m mimic3tf`: the first instructions of the command line.

As little as possible is imported before signals are handled: Python answers them with a traceback.
"""

from __future__ import annotations

import os
import signal
from types import FrameType


def main() -> None:
    """Run the command line; a signal while it is still being imported ends in one line, too."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)
    from mimic3tf.cli.main import main

    main()


def _end(number: int, _: FrameType | None) -> None:
    # At once: nothing has been begun, and an error might be swallowed where something is being imported.
    os.write(2, f"stopped: {signal.strsignal(number)}\n".encode())
    os._exit(128 + number)


if __name__ == "__main__":
    main()
