"""The entry point of `mimic3tf` and `python -m mimic3tf`.

This module imports as little as possible before it handles signals, because until then Python answers a
signal with a traceback.
"""

from __future__ import annotations

import os
import signal
from types import FrameType


def main() -> None:
    """Run the command line; a signal during the imports also ends it with one line."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)
    from mimic3tf.cli.main import main

    main()


def _end(number: int, _: FrameType | None) -> None:
    # End at once: no work has started, and an import could swallow an exception.
    os.write(2, f"stopped: {signal.strsignal(number)}\n".encode())
    os._exit(128 + number)


if __name__ == "__main__":
    main()
