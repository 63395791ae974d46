"""Write files whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write beside its place, renamed at the end: nothing half-written is ever found there.

    Args:
        path: file to write, in a folder that exists; an existing one is replaced.
    """
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        yield file
    partial.replace(path)


def write_whole(path: Path, text: str) -> None:
    """Write a text file as `whole_file` does.

    Args:
        path: file to write, in a folder that exists; an existing one is replaced.
        text: its contents, with line feeds; written in UTF-8.
    """
    with whole_file(path) as file:
        file.write(text.encode())
