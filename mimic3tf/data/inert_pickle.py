"""Read numbers out of a Python pickle without running anything it asks for.

The benchmarks store normalizers as pickled dictionaries of NumPy arrays. Unpickling calls whatever the
file names, so here every name is refused but the three an array needs, and those are replaced by
recorders that only note what they were given.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np


class _ArrayRecord:
    """Stands where an array or dtype would be built, and keeps the state given to it."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _record_array(*arguments: Any) -> _ArrayRecord:
    return _ArrayRecord(*arguments)


def _encode_latin1(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): _record_array,
    ("numpy._core.multiarray", "_reconstruct"): _record_array,
    ("numpy", "ndarray"): _ArrayRecord,
    ("numpy", "dtype"): _ArrayRecord,
    ("_codecs", "encode"): _encode_latin1,
}


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise ValueError(f"the file asks for {module}.{name}; only plain arrays of numbers are read")
        return _NAMES[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise ValueError("the file refers to objects outside itself")


def read_inert_pickle(content: bytes) -> dict[str, Any]:
    """Read a pickled dictionary of numbers, lists and float arrays.

    Args:
        content: the pickle; Python 2's are read too.

    Returns:
        The dictionary, with NumPy arrays where the file holds arrays.

    Raises:
        ValueError: the pickle is damaged or holds anything else; says what.
    """
    try:
        table = _InertUnpickler(io.BytesIO(content), encoding="latin1").load()
    except ValueError:
        raise
    except Exception as error:  # a damaged pickle fails in as many ways as there are opcodes
        raise ValueError(f"damaged pickle ({type(error).__name__}: {error})") from None
    if not isinstance(table, dict):
        raise ValueError("the file holds no dictionary")
    return {
        str(key): _array(value) if isinstance(value, _ArrayRecord) else value for key, value in table.items()
    }


def _array(record: _ArrayRecord) -> np.ndarray:
    try:
        _, shape, dtype, fortran, data = record.state
        name, order = dtype.arguments[0], dtype.state[1]
    except (TypeError, ValueError, IndexError, AttributeError):
        raise ValueError("an array in the file is incomplete") from None
    if name not in ("f8", "f4") or order not in ("<", ">", "="):
        raise ValueError(f"an array in the file holds '{name}', not floating-point numbers")
    content = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(content, order + name).reshape(shape, order="F" if fortran else "C")
