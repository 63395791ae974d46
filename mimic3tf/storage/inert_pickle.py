"""Read numbers out of a Python pickle without running anything that it asks for.

The benchmarks store normalizers as pickled dictionaries of NumPy arrays, and PyTorch stores weights as a
pickled table of storages. Python's unpickling calls every function that a file names. Here all names are
refused except the few that such files need. Recorders replace these few: they only keep their arguments.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

Names = Mapping[tuple[str, str], Any]
"""(module, name) that a pickle may ask for -> the recorder that replaces it."""
LARGEST_ARRAY = 2**28
"""Largest array in bytes; no file that is read is larger."""
REFUSED_NAME = "the file asks for {}.{}; only plain arrays of numbers are read"


class Record:
    """Built in place of an object; it keeps the state that the pickle gives to the object."""

    state: Any = None


def load_inert(content: bytes, names: Names, refer: Callable[[Any], Any] | None = None) -> Any:
    """Read a pickle of numbers, texts, lists, dictionaries with text keys, and recorders.

    Args:
        content: the whole pickle; pickles of Python 2 are read, too.
        names: recorders for the names that the file may use.
        refer: makes a recorder for an object outside the pickle, from the file's reference to the object.

    Returns:
        What the pickle holds.

    Raises:
        ValueError: the pickle is damaged or holds anything else; says what.
    """
    stream = io.BytesIO(content)
    try:
        value = _InertUnpickler(stream, names, refer).load()
    except ValueError:
        raise
    except Exception as error:  # a damaged pickle can raise almost any error
        raise ValueError(f"damaged pickle ({type(error).__name__}: {error})") from None
    if stream.tell() != len(content):
        raise ValueError("the file goes on after its pickle")
    return value


class _InertUnpickler(pickle._Unpickler):
    """Python's own reader with fewer opcodes.

    The reader in C cannot leave out an opcode, and a few bytes can make it allocate gigabytes.
    """

    # The base class has these attributes, but its published types leave them out.
    stack: list[Any]
    read: Callable[[int], bytes]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    dispatch: ClassVar[dict[int, Callable[[Any], None]]]

    def __init__(self, stream: io.BytesIO, names: Names, refer: Callable[[Any], Any] | None) -> None:
        super().__init__(stream, encoding="latin1")
        self._names, self._refer = names, refer

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._names:
            raise ValueError(REFUSED_NAME.format(module, name))
        return self._names[module, name]

    def persistent_load(self, pid: Any) -> Any:
        if self._refer is None:
            raise ValueError("the file refers to objects outside itself")
        return self._refer(pid)

    def _refuse(self) -> None:
        raise ValueError("the file uses a pickle opcode that numbers do not need")

    def _build(self) -> None:
        # Python would set attributes of any object on the stack, even of our own functions.
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Record):
            raise ValueError("the file changes an object that is no array")
        self.stack[-1].state = state

    def _byte_array(self) -> None:
        # Python allocates as many bytes as the file claims to have before it reads them.
        (size,) = struct.unpack("<Q", self.read(8))
        content = self.read(size) if size <= LARGEST_ARRAY else b""
        if len(content) != size:
            raise ValueError("an array in the file is cut short")
        self.append(bytes(content))

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Keys must be texts: a file could make the hash of nested tuples take any time.
            if not (isinstance(target, dict) and isinstance(key, str)):
                raise ValueError("the file holds a dictionary whose keys are no texts")
            target[key] = value

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def _set_marked_items(self) -> None:
        self._set_items(self.pop_mark())

    def _dictionary(self) -> None:
        items = self.pop_mark()
        self.stack.append({})
        self._set_items(items)


_OPCODES = (
    *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK),
    *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.FLOAT, pickle.BINFLOAT),
    *(pickle.INT, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG, pickle.LONG1, pickle.LONG4),
    *(pickle.STRING, pickle.BINSTRING, pickle.SHORT_BINSTRING, pickle.BINBYTES, pickle.SHORT_BINBYTES),
    *(pickle.UNICODE, pickle.BINUNICODE, pickle.SHORT_BINUNICODE),
    *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
    *(pickle.EMPTY_LIST, pickle.LIST, pickle.APPEND, pickle.APPENDS, pickle.EMPTY_DICT),
    *(pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE),
    *(pickle.GET, pickle.BINGET, pickle.LONG_BINGET),
    *(pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.REDUCE, pickle.BINPERSID),
)
"""Opcodes that are read as Python reads them; `REDUCE` can call recorders only."""

_InertUnpickler.dispatch = {
    **dict.fromkeys(pickle._Unpickler.dispatch, _InertUnpickler._refuse),
    **{opcode[0]: pickle._Unpickler.dispatch[opcode[0]] for opcode in _OPCODES},
    pickle.BUILD[0]: _InertUnpickler._build,
    pickle.BYTEARRAY8[0]: _InertUnpickler._byte_array,
    pickle.SETITEM[0]: _InertUnpickler._set_item,
    pickle.SETITEMS[0]: _InertUnpickler._set_marked_items,
    pickle.DICT[0]: _InertUnpickler._dictionary,
}


class _ArrayRecord(Record):
    """Recorder in place of an array or a dtype."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments


def _record_array(*arguments: Any) -> _ArrayRecord:
    return _ArrayRecord(*arguments)


def _encode_latin1(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


def _record_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> _ArrayRecord:
    """Record an array of pickle protocol 5, with the state that arrays of older protocols have."""
    record = _ArrayRecord()
    record.state = (1, shape, dtype, order == "F", content)
    return record


_ARRAY_NAMES: Names = {
    ("numpy.core.numeric", "_frombuffer"): _record_buffer,
    ("numpy._core.numeric", "_frombuffer"): _record_buffer,
    ("numpy.core.multiarray", "_reconstruct"): _record_array,
    ("numpy._core.multiarray", "_reconstruct"): _record_array,
    ("numpy", "ndarray"): _ArrayRecord,
    ("numpy", "dtype"): _ArrayRecord,
    ("_codecs", "encode"): _encode_latin1,
}


def read_inert_pickle(content: bytes) -> dict[str, Any]:
    """Read a pickled dictionary of numbers, lists and float arrays.

    Args:
        content: the pickle; pickles of Python 2 are read, too.

    Returns:
        The dictionary, with NumPy arrays where the file holds arrays.

    Raises:
        ValueError: the pickle is damaged or holds anything else; says what.
    """
    table = load_inert(content, _ARRAY_NAMES)
    if not isinstance(table, dict):
        raise ValueError("the file holds no dictionary")
    return {key: _array(value) if isinstance(value, _ArrayRecord) else value for key, value in table.items()}


def _array(record: _ArrayRecord) -> np.ndarray:
    try:
        _, shape, dtype, fortran, data = record.state
        name, order = dtype.arguments[0], dtype.state[1]
    except (TypeError, ValueError, IndexError, AttributeError):
        raise ValueError("an array in the file is incomplete") from None
    if name not in ("f8", "f4") or order not in ("<", ">", "="):
        held = name if isinstance(name, str) else "something"
        raise ValueError(f"an array in the file holds '{held}', not floating-point numbers")
    content = data.encode("latin1") if isinstance(data, str) else data
    try:
        return np.frombuffer(content, order + name).reshape(shape, order="F" if fortran else "C")
    except (TypeError, OverflowError):
        raise ValueError("an array in the file has no sound shape or content") from None
