"""A `.npz` file gives back what was put in, or is refused before it takes more memory than it has bytes."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mimic3tf.storage.stored_zip import read_arrays

ARRAYS: dict[str, Any] = {
    "numbers": np.arange(12.0).reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    "text": np.array("temporal"),
    "texts": np.array(["pH", "Glucose"]),
    "flag": np.array(True),
    "empty": np.array(()),
}


def sound() -> bytes:
    file = io.BytesIO()
    np.savez(file, **ARRAYS)
    return file.getvalue()


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], dict[str, np.ndarray]]:
    def from_bytes(content: bytes) -> dict[str, np.ndarray]:
        (tmp_path / "file.npz").write_bytes(content)
        return read_arrays(tmp_path / "file.npz")

    return from_bytes


def npz_of(header: str, numbers: bytes = bytes(8), *, version: bytes = b"\x01\x00") -> bytes:
    """A file of one array with a header of one's own."""
    text = header.encode() + b"\n"
    size = len(text).to_bytes(2 if version[0] == 1 else 4, "little")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("numbers.npy", b"\x93NUMPY" + version + size + text + numbers)
    return file.getvalue()


def test_arrays_are_read_as_they_were_written(read: Callable[[bytes], dict[str, np.ndarray]]) -> None:
    arrays = read(sound())
    assert list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<U1000000000', 'fortran_order': False, 'shape': ()}",
        "{'descr': ('<f8', (1000000000,)), 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '|V0', 'fortran_order': False, 'shape': (1000000000,)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), 'x': " + "1" * 60_000 + "}",
        "[" * 9_000,
        "-" * 9_000 + "1",
        "__import__('os').mkdir('exploded')",
    ],
)
def test_a_header_that_lies_is_refused_and_takes_no_memory(
    read: Callable[[bytes], dict[str, np.ndarray]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    header: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"."):
            read(npz_of(header))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2**24
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("array", [np.array([1j]), np.array("2024-01-01", "M8[D]"), np.array(b"x")])
def test_what_is_neither_a_real_number_nor_a_text_is_refused(
    read: Callable[[bytes], dict[str, np.ndarray]], array: np.ndarray
) -> None:
    file = io.BytesIO()
    np.savez(file, array=array)
    with pytest.raises(ValueError, match="an array of no real numbers or texts"):
        read(file.getvalue())


def test_a_longer_header_than_numpy_reads_is_refused(read: Callable[[bytes], dict[str, np.ndarray]]) -> None:
    with pytest.raises(ValueError, match="format"):
        read(npz_of("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}", version=b"\x02\x00"))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(
    read: Callable[[bytes], dict[str, np.ndarray]], tmp_path: Path
) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", numbers=np.zeros(10_000_000))
    content = (tmp_path / "bomb.npz").read_bytes()
    assert len(content) < 200_000
    with pytest.raises(ValueError, match="larger than the file"):
        read(content)


@settings(max_examples=200)
@given(at=st.floats(0, 1), length=st.integers(0, 12), inserted=st.binary(max_size=12))
@example(at=0.0, length=0, inserted=b"")
def test_a_changed_npz_is_read_or_refused(at: float, length: int, inserted: bytes) -> None:
    content = sound()
    start = int(at * len(content))
    with pytest.MonkeyPatch.context() as patch:
        changed = content[:start] + inserted + content[start + length :]
        patch.setattr("mimic3tf.storage.stored_zip.read_file", lambda _: changed)
        try:
            arrays = read_arrays(Path("changed.npz"))
        except ValueError:
            assert changed != content, "the sound file is refused"
            return
    assert sum(array.nbytes for array in arrays.values()) <= len(changed)
