"""What a pickle may ask for, and what it may not make us do."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mimic3tf.storage.inert_pickle import load_inert, read_inert_pickle

START, END = b"\x80\x02", pickle.STOP


def _record(*arguments: Any) -> tuple[Any, ...]:
    return arguments


def _load(opcodes: bytes) -> Any:
    return load_inert(START + opcodes + END, {("known", "record"): _record})


def test_a_known_name_is_called_with_what_the_file_gives() -> None:
    assert _load(b"cknown\nrecord\n(K\x01K\x02tR") == (1, 2)


@pytest.mark.parametrize(
    ("opcodes", "needle"),
    [
        (b"cos\nmkdir\n(X\x01\x00\x00\x00xtR", "os.mkdir"),
        (b"cbuiltins\neval\n.", "builtins.eval"),
        (b"\x8c\x02os\x8c\x06system\x93", "os.system"),
        (b"cknown\nrecord.__globals__\n", "known.record.__globals__"),
        (b"(ios\nmkdir\n", "opcode"),
        (b"(cknown\nrecord\no", "opcode"),
        (b"cknown\nrecord\n)\x81", "opcode"),
        (b"cknown\nrecord\n)}\x92", "opcode"),
        (b"\x82\x01", "opcode"),
        (b"Pname\n", "opcode"),
        (b"X\x01\x00\x00\x00xQ", "outside itself"),
        (b"\xff", "damaged"),
        (b"X\x01\x00\x00\x00x)R", "damaged"),
        (b"", "damaged"),
        (b"N.N", "goes on"),
    ],
)
def test_anything_else_is_refused(opcodes: bytes, needle: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=needle):
        _load(opcodes)


@pytest.mark.parametrize("state", [b"}X\x08\x00\x00\x00__doc__xK\x01s", b"N}X\x01\x00\x00\x00xK\x01s\x86"])
def test_a_pickle_cannot_change_our_own_functions(state: bytes) -> None:
    before = dict(vars(_record)), _record.__defaults__
    with pytest.raises(ValueError, match="no array"):
        _load(b"cknown\nrecord\n" + state + b"b")
    assert (dict(vars(_record)), _record.__defaults__) == before


def test_what_would_allocate_gigabytes_is_read_or_refused_at_once() -> None:
    assert _load(b"Nr\xff\xff\xff\xff") is None
    for opcode in (pickle.BYTEARRAY8, pickle.BINBYTES8, pickle.BINUNICODE8):
        with pytest.raises(ValueError, match="opcode|cut short"):
            _load(opcode + struct.pack("<Q", 2**40))
    with pytest.raises(ValueError, match="damaged|truncated"):
        _load(pickle.BINBYTES + struct.pack("<I", 2**32 - 1))


@pytest.mark.parametrize("store", [b"Ns", b"(%bNu", b"(%bNd"])
def test_a_key_that_would_take_forever_to_hash_is_refused(store: bytes) -> None:
    """A tuple of itself twice, a hundred times over: Python hashes tuples anew every time."""
    nested = b")" + b"q\x00h\x00\x86" * 100
    opcodes = b"}" + (store % nested if b"%b" in store else nested + store)
    with pytest.raises(ValueError, match="keys are no texts"):
        _load(opcodes)


@pytest.mark.parametrize("depth", [1_000, 100_000])
def test_deep_nesting_is_read_without_recursion(depth: int) -> None:
    assert isinstance(_load(b")" + b"\x85" * depth), tuple)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4"])
def test_arrays_keep_their_numbers(dtype: str, order: Any) -> None:
    array = np.arange(6.0).reshape(2, 3).astype(dtype, order=order)
    np.testing.assert_array_equal(read_inert_pickle(pickle.dumps({"a": array}, protocol=2))["a"], array)


SOUND = pickle.dumps({"means": np.arange(3.0), "stds": np.ones(3)}, protocol=2)


@settings(max_examples=300, deadline=None)
@given(
    start=st.integers(0, len(SOUND)),
    length=st.integers(0, 8),
    inserted=st.binary(max_size=8),
)
@example(start=0, length=0, inserted=b"")
def test_a_changed_pickle_is_read_or_refused(start: int, length: int, inserted: bytes) -> None:
    changed = SOUND[:start] + inserted + SOUND[start + length :]
    try:
        read_inert_pickle(changed)
    except ValueError:
        assert changed != SOUND, "the sound pickle is refused"
