"""Read files up to a largest size; write files completely or not at all."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mimic3tf.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

PathText = str | os.PathLike[str]
"""What public functions take for a file or a folder."""
LARGEST = 2**28
"""Largest file in bytes that is read, unless the caller sets a smaller limit."""


def read_file(path: Path, largest: int = LARGEST) -> bytes:
    """Read a file that somebody else may have made.

    Args:
        path: file to read.
        largest: largest size in bytes; a larger file is refused before it is read.

    Raises:
        OSError: the file cannot be read, is too large, or is no regular file (a pipe may never answer, and a
            device may never end).
    """
    # Unbuffered: a buffer takes as long to set up as a short file takes to read.
    with open(path, "rb", buffering=0, opener=_without_waiting) as file:  # noqa: PTH123
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "no regular file", str(path))
        if status.st_size > largest:
            raise OSError(errno.EFBIG, f"larger than {largest:,} bytes", str(path))
        return file.readall()


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        OSError: as `read_file`.
        ValueError: the file is no JSON in UTF-8.
    """
    return parse_json(read_file(path))


def parse_json(text: str | bytes) -> Any:
    """Parse a JSON text.

    Raises:
        ValueError: the text is no JSON, or is nested too deeply for Python.
    """
    try:
        return json.loads(text.decode() if isinstance(text, bytes) else text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside `path` to write to, and rename it at the end: `path` is never half-written.

    Args:
        path: file to write, in a folder that exists; an existing file is replaced.

    Raises:
        UsageError: another process writes the file.
        OSError: the file cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    with naming(path), _open_alone(partial) as file:
        try:
            yield file
            file.flush()
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add `path` to an `OSError` that names no file: the system names only files that it cannot open."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from None
        raise


def _open_alone(partial: Path) -> BinaryIO:
    """Open a file to write that no other process writes; delete what a killed process left in it."""
    while True:
        file = open(partial, "wb", opener=_without_truncating)  # noqa: PTH123, SIM115
        try:
            with suppress(OSError):  # a network file system may have no locks
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise UsageError(f"{partial}: another process writes it; wait for it") from None
            # Another process may have finished and renamed this file after it was opened here.
            if partial.exists() and os.path.samestat(os.fstat(file.fileno()), partial.stat()):
                file.truncate()
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _without_truncating(path: str, flags: int) -> int:
    return os.open(path, flags & ~os.O_TRUNC, 0o666)


def write_whole(path: Path, text: str) -> None:
    """Write a text file as `whole_file` does.

    Args:
        path: file to write, in a folder that exists; an existing file is replaced.
        text: contents of the file, with line feeds; written in UTF-8.
    """
    with whole_file(path) as file:
        file.write(text.encode())


def write_parquet(table: pl.DataFrame, path: Path, **options: Any) -> None:
    """Write a table as Parquet; `options` are those of `polars.DataFrame.write_parquet`.

    Raises:
        OSError: the file cannot be written. Polars itself reports a full disk as an error of its own.
    """
    content = io.BytesIO()
    table.write_parquet(content, **options)
    path.write_bytes(content.getbuffer())


def write_together(texts: Mapping[Path, str]) -> None:
    """Write text files that belong together, each as `write_whole` does.

    The last file of an earlier set is removed before the first file of the new set takes its place. So if the
    last file exists, all files belong to one set.

    Args:
        texts: path of each file -> its contents; the folders must exist.
    """
    with ExitStack() as stack:
        # The stack renames the files in the order of `texts`.
        for path in reversed(list(texts)):
            file = stack.enter_context(whole_file(path))
            file.write(texts[path].encode())
            file.flush()
        list(texts)[-1].unlink(missing_ok=True)
