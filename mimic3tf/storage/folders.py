"""Folders that only one process at a time writes, and removal of what killed processes left."""

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
    """Make a folder and keep other processes from writing into it; remove it if it is empty at the end.

    The claim ends with the process, however the process ends. On a file system without locks, the claim keeps
    no other process away.

    Args:
        folder: folder to claim.

    Raises:
        UsageError: another process has claimed the folder.
        OSError: the folder cannot be made.
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
    """Make an empty folder to work in and remove it at the end, with those that killed processes left.

    On a file system without locks, a folder that is in use looks like one that a killed process left. Such
    folders are not removed, and a note names them.

    Args:
        parent: folder that exists.
        name: start of the new folder's name; ".partial-" and a random text follow.
        alone: refuse to work while another process has a folder of this name.

    Raises:
        UsageError: `alone` is true, and another process has a folder of this name.
        OSError: the folder cannot be made.
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


def remove_left(parent: Path, names: str) -> None:
    """Remove the scratch folders that killed processes left, by a pattern of their names without the end."""
    for left in parent.glob(f"{names}.partial-*"):
        _is_in_use(left)


def _is_in_use(scratch: Path) -> bool:
    """Tell whether a living process works in a scratch folder; remove the folder of a dead process."""
    with suppress(OSError):
        descriptor = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            locked = _lock(descriptor)
            if locked:
                shutil.rmtree(scratch)
                note(f"{scratch}: removed what an interrupted process left there")
            elif locked is None:
                note(
                    f"{scratch}: belongs to a run that is active or was interrupted; this file system has no "
                    f"locks to tell which. If no run is active: rm -r {shlex.quote(str(scratch))}"
                )
            return locked is False
        finally:
            os.close(descriptor)
    return False


def _lock(descriptor: int) -> bool | None:
    """Lock an open folder: True if it works, False if another process has the lock, None without locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def check_new_directory(out: Path) -> None:
    """Refuse a directory that cannot be made without touching something that exists.

    Raises:
        UsageError: `out` is a file, a mount point, the current directory, or a directory that is not empty.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; name a new directory")
    if out.is_dir() and any(out.iterdir()):
        raise UsageError(f"{out}: is not empty; name a new directory, or remove this one first")
    if out.is_dir() and out.resolve() == Path.cwd():
        raise UsageError(f"{out}: is the directory you are in; name a new directory inside it")
    if out.is_dir() and out.is_mount():
        raise UsageError(f"{out}: is a mount point and cannot be replaced; name a new directory inside it")


@contextmanager
def written_beside(out: Path) -> Iterator[Path]:
    """Make a directory beside `out`; it becomes `out` at the end, or is removed if anything fails.

    Raises:
        UsageError: the directory cannot be made, or another process makes `out`.
    """
    target = out.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out}: cannot be made: {error.strerror}") from None
    with scratch_folder(target.parent, f".{target.name}", alone=True) as scratch:
        # A new directory inside, because only this user may read the scratch folder itself.
        directory = scratch / "whole"
        directory.mkdir()
        yield directory
        directory.replace(target)
