"""Arrays that took long to make, kept in the user's cache folder until their sources change."""

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
from mimic3tf.storage.folders import scratch_folder
from mimic3tf.storage.notes import note

META = "meta.json"
NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
Layout = Mapping[str, tuple[DTypeLike, tuple[int, ...]]]
"""Type and shape of every array by its name."""


def cache_folder() -> Path:
    """The folder of all caches: the user's, or the one that MIMIC3TF_CACHE names."""
    folder = os.environ.get("MIMIC3TF_CACHE")
    return Path(folder).expanduser() if folder else Path(platformdirs.user_cache_dir("mimic3tf"))


def read_cache(
    cache: Path, state: str, layout: Layout
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
    """Arrays, memory-mapped, and notes of a cache.

    Args:
        cache: its folder.
        state: what it must have been made from.
        layout: what it must hold.

    Returns:
        None where it is absent, damaged or made from something else.
    """
    try:
        if not cache.exists():
            return None
    except OSError:  # a home that is somebody else's
        return None
    try:
        meta = read_json(cache / META)
        if meta["state"] != state:
            return None
        if meta["digest"] != _digest(cache, meta, layout):
            raise ValueError("not as it was written")
        arrays = {name: np.load(cache / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in layout}
        for name, (dtype, shape) in layout.items():
            if (arrays[name].dtype, arrays[name].shape) != (np.dtype(dtype), shape):
                raise ValueError("not what it must hold")
    except Exception:  # an array's header is Python text, which fails in many ways
        note(f"{cache}: this cache is damaged; it is made again")
        return None
    return arrays, meta


def _digest(cache: Path, meta: Mapping[str, Any], names: Iterable[str]) -> str:
    """CRC-32 of all files: against broken disks, not against people."""
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
    """Write a cache, whole or not at all. Where nothing may be written, say so and go on without one.

    Raises:
        DataError: there is no room for it.
    """
    try:
        # Stays lie in it: nobody else on the machine may read them.
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
                f"{cache.parent}: nothing may be written there ({error.strerror}), so stays are read anew "
                "every time; set MIMIC3TF_CACHE to a folder of yours"
            )
            return
        # Another process may have written the same cache meanwhile; a full disk must not look like that.
        if not (cache / META).exists():
            raise DataError(
                f"{cache.parent}: the cache cannot be written ({error.strerror or error}); "
                "set MIMIC3TF_CACHE to a folder with space"
            ) from None


def list_caches() -> list[tuple[Path, dict[str, Any], int]]:
    """All caches: folder, notes (empty where they cannot be read) and size in bytes."""
    found = []
    for cache in sorted(cache_folder().glob("*/")):
        if (cache / META).exists():
            try:
                meta = dict(read_json(cache / META))
            except (OSError, ValueError):
                meta = {}
            found.append((cache, meta, sum(file.stat().st_size for file in cache.iterdir())))
    return found


def clear_caches() -> int:
    """Remove all caches, and nothing else that lies in their folder: how many there were."""
    caches = list_caches()
    for cache, _, _ in caches:
        shutil.rmtree(cache)
    return len(caches)
