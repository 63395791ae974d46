"""The `repr` of objects that hold patients' arrays: types and shapes, never a value or a stay's name."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

LONGEST = 60
"""Largest number of characters of a text that are shown."""


class Described:
    """Base of data classes with `repr=False`: their `repr` is one line with shapes instead of contents."""

    def __repr__(self) -> str:
        parts = (f"{field.name}={description(getattr(self, field.name))}" for field in fields(self))  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(parts)})"


def description(value: Any) -> str:
    """Describe a value in one short text: an array by its type and shape, a collection by its length."""
    if isinstance(value, np.ndarray):
        kind = "str" if value.dtype.kind == "U" else value.dtype.name
        return f"{kind}{list(value.shape)}"
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, str):
        return repr(value if len(value) <= LONGEST else value[: LONGEST - 3] + "...")
    if isinstance(value, Described):
        return repr(value)
    size = f"[{len(value)}]" if hasattr(value, "__len__") else ""
    return f"{type(value).__name__}{size}"
