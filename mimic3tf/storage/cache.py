"""Arrays that take long to make, kept in the user's cache folder until their sources change."""

from __future__ import annotations

import errno
import json
import os
import shutil
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import DTypeLike, NDArray

from mimic3tf.errors import DataError
from mimic3tf.storage.files import read_json
from mimic3tf.storage.folders import remove_left, scratch_folder
from mimic3tf.storage.notes import note

META = "meta.json"
NAMES = "[0-9a-f]" * 16
"""Pattern of the caches' names: the user may have chosen a folder that holds other things, too."""
NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
Layout = Mapping[str, tuple[DTypeLike, tuple[int, ...]]]
"""Name of an array -> its type and shape. A type of texts stands for texts of any length."""
ANY = -1
"""Length of an axis that may have any length."""


def cache_folder() -> Path:
    """Return the folder of all caches: the one that MIMIC3TF_CACHE names, or the user's cache folder."""
    folder = os.environ.get("MIMIC3TF_CACHE")
    return Path(folder).expanduser() if folder else Path(platformdirs.user_cache_dir("mimic3tf"))


def read_cache(
    cache: Path, state: str, layout: Layout
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
    """Read the arrays, memory-mapped, and the notes of a cache.

    Args:
        cache: folder of the cache.
        state: fingerprint of the sources that the cache must have been made from.
        layout: the arrays that the cache must hold.

    Returns:
        Arrays and notes; None if the cache is absent, damaged or made from other sources.
    """
    try:
        if not cache.exists():
            return None
    except OSError:  # the cache folder belongs to another user
        return None
    try:
        meta = read_json(cache / META)
        if meta["state"] != state:
            return None
        if meta["digest"] != _digest(cache, meta, layout):
            raise ValueError("not as it was written")
        arrays = {name: np.load(cache / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in layout}
        for name, (dtype, shape) in layout.items():
            if not _fits(arrays[name], np.dtype(dtype), shape):
                raise ValueError("not what it must hold")
    except Exception:  # the header of a damaged array can raise many kinds of errors
        note(f"{cache}: this cache is damaged; it is made again")
        return None
    return arrays, meta


def _fits(array: NDArray[Any], dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
    same = array.dtype.kind == "U" if dtype == np.dtype(np.str_) else array.dtype == dtype
    lengths = zip(array.shape, shape, strict=False)
    return same and array.ndim == len(shape) and all(wanted in (ANY, own) for own, wanted in lengths)


def _digest(cache: Path, meta: Mapping[str, Any], names: Iterable[str]) -> str:
    """Compute the CRC-32 of all files; it finds damage by disks, not changes by people."""
    written = json.dumps({key: value for key, value in meta.items() if key != "digest"}, sort_keys=True)
    digest = zlib.crc32(written.encode())
    for name in sorted(names):
        with (cache / f"{name}.npy").open("rb") as file:
            while piece := file.read(2**20):
                digest = zlib.crc32(piece, digest)
    return f"{digest:08x}"


def write_cache(
    cache: Path, state: str, arrays: Mapping[str, NDArray[Any]], notes: Mapping[str, Any]
) -> None:
    """Write a cache completely or not at all. Without the right to write, print a note and write no cache.

    Args:
        cache: folder of the cache.
        state: fingerprint of the sources.
        arrays: the arrays by name.
        notes: further entries of `meta.json`.

    Raises:
        DataError: the cache cannot be written for another reason, such as a full disk.
    """
    try:
        # The cache holds stays: no other user of the machine may read them.
        cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with scratch_folder(cache.parent, cache.name) as scratch:
            whole = scratch / "whole"
            whole.mkdir(mode=0o700)
            for name, array in arrays.items():
                np.save(whole / f"{name}.npy", array, allow_pickle=False)
            meta = {"state": state, **notes}
            meta["digest"] = _digest(whole, meta, arrays)
            (whole / META).write_text(json.dumps(meta), encoding="utf-8")
            for file in whole.iterdir():
                file.chmod(0o600)
            shutil.rmtree(cache, ignore_errors=True)
            whole.rename(cache)
    except OSError as error:
        if error.errno in NOT_ALLOWED:
            note(
                f"{cache.parent}: cannot be written ({error.strerror}), so stays are read again every time; "
                "set MIMIC3TF_CACHE to a folder that you may write"
            )
            return
        # The error does no harm if another process has written the same cache meanwhile.
        if not (cache / META).exists():
            raise DataError(
                f"{cache.parent}: the cache cannot be written ({error.strerror or error}); "
                "set MIMIC3TF_CACHE to a folder with space"
            ) from None


def list_caches() -> list[tuple[Path, dict[str, Any], int]]:
    """List all caches: folder, notes (empty if they cannot be read) and size in bytes."""
    found = []
    for cache in sorted(cache_folder().glob(NAMES)):
        if cache.is_symlink() or not (cache / META).exists():
            continue
        try:
            meta = dict(read_json(cache / META))
        except (OSError, TypeError, ValueError):
            meta = {}
        found.append((cache, meta, sum(file.stat().st_size for file in cache.iterdir())))
    return found


def clear_caches() -> int:
    """Remove all caches, also those that killed processes left half-made; return the number of whole ones.

    Nothing else in their folder is removed.
    """
    caches = list_caches()
    for cache, _, _ in caches:
        shutil.rmtree(cache)
    remove_left(cache_folder(), NAMES)
    return len(caches)
