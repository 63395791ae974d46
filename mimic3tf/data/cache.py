"""Arrays that took long to make, kept in the user's cache folder until their sources change."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import DTypeLike, NDArray

from mimic3tf.errors import DataError
from mimic3tf.files import read_json

META = "meta.json"
Layout = Mapping[str, tuple[DTypeLike, tuple[int, ...]]]
"""Type and shape of every array by its name."""


def cache_folder() -> Path:
    """The folder of all caches: the user's, or the one that MIMIC3TF_CACHE names."""
    folder = os.environ.get("MIMIC3TF_CACHE")
    return Path(folder) if folder else Path(platformdirs.user_cache_dir("mimic3tf"))


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
        meta = read_json(cache / META)
        if meta["state"] != state:
            return None
        arrays = {name: np.load(cache / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in layout}
    except Exception:  # an array's header is Python text, which fails in many ways
        return None
    found = {name: (array.dtype, array.shape) for name, array in arrays.items()}
    if found != {name: (np.dtype(dtype), shape) for name, (dtype, shape) in layout.items()}:
        return None
    return arrays, meta


def write_cache(
    cache: Path, state: str, arrays: Mapping[str, NDArray[Any]], notes: Mapping[str, Any]
) -> None:
    """Write a cache, whole or not at all.

    Raises:
        DataError: there is no room for it.
    """
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=cache.name, suffix=".partial", dir=cache.parent) as scratch:
            whole = Path(scratch) / "whole"
            whole.mkdir()
            for name, array in arrays.items():
                np.save(whole / f"{name}.npy", array, allow_pickle=False)
            (whole / META).write_text(json.dumps({"state": state, **notes}), encoding="utf-8")
            shutil.rmtree(cache, ignore_errors=True)
            whole.rename(cache)
    except OSError as error:
        # Another process may have written the same cache meanwhile; a full disk must not look like that.
        if not (cache / META).exists():
            raise DataError(
                f"{cache.parent}: the cache cannot be written ({error.strerror}); "
                "set MIMIC3TF_CACHE to a folder with space"
            ) from None
