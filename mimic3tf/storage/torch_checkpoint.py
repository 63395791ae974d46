"""Read the weights out of a PyTorch checkpoint, without PyTorch and without running anything in it.

`torch.save` writes an uncompressed zip file. Its entry `<name>/data.pkl` is the pickle of a state dict, whose
tensors are windows (offset, shape, strides) on storages. Each entry `<name>/data/<key>` holds the raw numbers
of one storage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimic3tf.storage.inert_pickle import Names, Record, load_inert
from mimic3tf.storage.stored_zip import read_stored

PICKLE = "data.pkl"
STORAGES = "data/"
NOTES = {"version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id"}
"""Entries that PyTorch writes beside the pickle and the storages."""
LARGEST_PICKLE = 2**16
"""Largest pickle in bytes; that of the largest victim has 1777."""
LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""First bytes of the files that PyTorch wrote before version 1.6."""
STORAGE_KINDS = (
    *("FloatStorage", "DoubleStorage", "HalfStorage", "BFloat16Storage", "LongStorage", "IntStorage"),
    *("ShortStorage", "CharStorage", "ByteStorage", "BoolStorage"),
)


def read_state_dict(content: bytes, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[np.float32]]:
    """Read a state dict that must hold the expected float32 tensors and nothing else.

    Args:
        content: the whole file, as `torch.save(model.state_dict(), ...)` writes it since PyTorch 1.6.
        shapes: name of each expected tensor -> its shape.

    Returns:
        The tensors, in the order of `shapes`.

    Raises:
        ValueError: the file is damaged, or holds anything else; says what, and in which tensor.
    """
    entries = _read_entries(content)
    if entries.get("byteorder", b"little") != b"little":
        raise ValueError("written in another byte order than little-endian")
    if len(entries[PICKLE]) > LARGEST_PICKLE:
        raise ValueError(f"{PICKLE} is larger than a state dict of this model can be")
    state = load_inert(entries[PICKLE], _NAMES, _record_storage)
    if not isinstance(state, dict):
        raise ValueError("holds no state dict")
    for name in shapes:
        if name not in state:
            raise ValueError(f"lacks tensor '{name}' of this model")
    for name in state:
        if name not in shapes:
            raise ValueError(f"holds '{name}', which this model does not have")
    tensors = {}
    storages = set()
    for name, shape in shapes.items():
        try:
            tensor = _check_tensor(state[name], shape)
            tensors[name] = _read_tensor(tensor, entries)
        except ValueError as error:
            raise ValueError(f"tensor '{name}': {error}") from None
        storages.add(STORAGES + tensor.storage.key)
    for entry in entries.keys() - storages - NOTES - {PICKLE}:
        raise ValueError(f"has an entry '{entry}' that no tensor uses")
    return tensors


def _read_entries(content: bytes) -> dict[str, bytes]:
    """Read the entries of the zip file, by their names below the one folder that holds all entries."""
    if content.startswith(LEGACY_START):
        raise ValueError("written by PyTorch before 1.6; load it there and save it with a newer one")
    listed = read_stored(content)
    folders = {name.partition("/")[0] for name, _ in listed}
    entries = {name.partition("/")[2]: entry for name, entry in listed}
    if PICKLE not in entries:
        raise ValueError(f"is no PyTorch checkpoint: has no entry '{PICKLE}'")
    if len(folders) != 1 or len(entries) != len(listed):
        raise ValueError("has entries outside its one folder, or two of the same name")
    for name in entries:
        if name != PICKLE and name not in NOTES and not name.startswith(STORAGES):
            raise ValueError(f"has an entry '{name}'; a state dict has none of that name")
    return entries


@dataclass(frozen=True)
class _Storage:
    """A storage that the pickle refers to: type of its numbers, name of its entry, count of numbers."""

    kind: str
    key: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A window on a storage; offset and strides count numbers. `_check_tensor` checks it."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _StateDict(dict[str, Any], Record):
    """Recorder in place of an ordered dictionary; its state is the modules' versions, which are not used."""


@dataclass(frozen=True)
class _Kind:
    name: str


def _record_state_dict() -> _StateDict:
    return _StateDict()


def _record_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, requires_grad: Any, hooks: Any, metadata: Any = None
) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


def _record_storage(reference: Any) -> _Storage:
    try:
        _, kind, key, _, count = reference
    except (TypeError, ValueError):
        raise ValueError("the file refers to an object that is no storage") from None
    if not (isinstance(kind, _Kind) and isinstance(key, str) and _are_counts((count,))):
        raise ValueError("the file refers to an object that is no storage")
    return _Storage(kind.name, key, count)


_NAMES: Names = {
    ("collections", "OrderedDict"): _record_state_dict,
    ("torch._utils", "_rebuild_tensor_v2"): _record_tensor,
    **{("torch", kind): _Kind(kind) for kind in STORAGE_KINDS},
}


def _are_counts(numbers: Any) -> bool:
    """Tell whether `numbers` is a tuple of whole numbers that are not negative and fit into 63 bits."""
    return isinstance(numbers, tuple) and all(
        type(number) is int and 0 <= number < 2**63 for number in numbers
    )


def _check_tensor(tensor: Any, shape: tuple[int, ...]) -> _Tensor:
    """Return the tensor if it is float32, has this shape and lies within its storage; else refuse it."""
    if not (isinstance(tensor, _Tensor) and isinstance(tensor.storage, _Storage)):
        raise ValueError("is no plain tensor")
    if not (_are_counts((tensor.offset,)) and _are_counts(tensor.shape) and _are_counts(tensor.strides)):
        raise ValueError("its offset, shape or strides are no whole numbers")
    if tensor.shape != shape:
        raise ValueError(f"has shape {tensor.shape}, this model needs {shape}")
    if len(tensor.strides) != len(shape):
        raise ValueError(f"has {len(tensor.strides)} strides for {len(shape)} dimensions")
    if tensor.storage.kind != "FloatStorage":
        raise ValueError(f"is a {tensor.storage.kind}; only 32-bit floats are read")
    steps = sum((length - 1) * stride for length, stride in zip(shape, tensor.strides, strict=True))
    if tensor.offset + steps >= tensor.storage.count:
        raise ValueError(f"reaches beyond its storage of {tensor.storage.count} numbers")
    return tensor


def _read_tensor(tensor: _Tensor, entries: Mapping[str, bytes]) -> NDArray[np.float32]:
    data = entries.get(STORAGES + tensor.storage.key)
    if data is None:
        raise ValueError(f"its storage '{tensor.storage.key}' is not in the file")
    if len(data) != 4 * tensor.storage.count:
        raise ValueError(
            f"its storage '{tensor.storage.key}' has {len(data)} bytes instead of {4 * tensor.storage.count}"
        )
    # Several tensors may share one storage, such as those of an LSTM that was trained on a GPU.
    places = np.full(tensor.shape, tensor.offset)
    for steps, stride in zip(np.indices(tensor.shape, sparse=True), tensor.strides, strict=True):
        places = places + steps * stride
    weights = np.frombuffer(data, "<f4")[places].astype(np.float32)
    if not np.isfinite(weights).all():
        raise ValueError("holds a weight that is no finite number")
    return weights
