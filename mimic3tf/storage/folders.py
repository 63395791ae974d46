"""Folders that one process at a time writes, and what a killed one left in them."""

from __future__ import annotations

import fcntl
import glob
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mimic3tf.errors import UsageError
from mimic3tf.storage.files import naming
from mimic3tf.storage.notes import note


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other processes from writing into a folder, which is made, and removed if it stays empty.

    The claim ends with the process, however that ends. On a file system without locks it holds nobody off.

    Args:
        folder: folder to claim.

    Raises:
        UsageError: another process has claimed it.
        OSError: it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if _lock(descriptor) is False:
            raise UsageError(f"{folder}: another process writes there; wait for it, or choose another folder")
        try:
            yield
        finally:
            with suppress(OSError):
                folder.rmdir()
    finally:
        os.close(descriptor)


@contextmanager
def scratch_folder(parent: Path, name: str, *, alone: bool = False) -> Iterator[Path]:
    """An empty folder to work in, removed at the end; those that killed processes left are removed, too.

    On a file system without locks nobody can tell which ones these are: they are named, and stay.

    Args:
        parent: folder that exists.
        name: what its name begins with; ".partial-" and something of its own follow.
        alone: refuse to work while another process works under this name.

    Raises:
        UsageError: another process does.
        OSError: it cannot be made.
    """
    for left in parent.glob(f"{glob.escape(name)}.partial-*"):
        if _is_in_use(left) and alone:
            raise UsageError(f"{left}: another run works there; wait for it, or stop it")
    scratch = Path(tempfile.mkdtemp(prefix=f"{name}.partial-", dir=parent))
    descriptor = os.open(scratch, os.O_RDONLY)
    try:
        _lock(descriptor)
        with naming(parent):
            yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(descriptor)


def _is_in_use(scratch: Path) -> bool:
    """Whether a living process works in a scratch folder; that of a dead one is removed."""
    with suppress(OSError):
        descriptor = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            locked = _lock(descriptor)
            if locked:
                shutil.rmtree(scratch)
                note(f"{scratch}: removed what an interrupted process left there")
            elif locked is None:
                note(
                    f"{scratch}: belongs to a run that goes on, or was interrupted; this file system has no "
                    f"locks that would tell. If no run goes on: rm -r {shlex.quote(str(scratch))}"
                )
            return locked is False
        finally:
            os.close(descriptor)
    return False


def _lock(descriptor: int) -> bool | None:
    """Lock an open folder: False if another process has, None where there are no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def check_new_directory(out: Path) -> None:
    """Refuse a directory that cannot be written without touching what is there.

    Raises:
        UsageError: `out` is a file, a mount point, or a directory that is not empty.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; name a new directory")
    if out.is_dir() and any(out.iterdir()):
        raise UsageError(f"{out}: is not empty; name a new directory, or remove this one first")
    if out.is_dir() and out.is_mount():
        raise UsageError(f"{out}: is a mount point and cannot be replaced; name a new directory inside it")


@contextmanager
def written_beside(out: Path) -> Iterator[Path]:
    """A directory beside `out` that takes its place at the end, or is removed where anything fails.

    Raises:
        UsageError: it cannot be made, or another process makes `out`.
    """
    target = out.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out}: cannot be made: {error.strerror}") from None
    with scratch_folder(target.parent, f".{target.name}", alone=True) as scratch:
        # A directory of its own inside: the scratch folder is readable by nobody else.
        directory = scratch / "whole"
        directory.mkdir()
        yield directory
        directory.replace(target)
