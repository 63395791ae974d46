"""A state dict is read number for number; a file with anything else is refused, and nothing in it is run."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mimic3tf.storage.torch_checkpoint import LEGACY_START, read_state_dict

SHAPES = {"fc1.weight": (2, 3), "fc1.bias": (2,)}
TENSORS = {
    "fc1.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fc1.bias": np.array([-1.5, 1e-40], np.float32),
}
Files = Any
"""`TorchFiles` of conftest.py."""


@pytest.fixture
def entries(torch_files: Files) -> dict[str, Any]:
    return torch_files.entries(TENSORS)


@pytest.fixture
def spoil(torch_files: Files, entries: dict[str, Any]) -> Callable[..., bytes]:
    """The sound file with items of its state dict or entries replaced; an entry of None is left out."""

    def write(items: dict[Any, Any] | None = None, **changes: bytes | None) -> bytes:
        if items is not None:
            sound = {
                "fc1.weight": torch_files.tensor("0", 0, (2, 3), (3, 1), 6),
                "fc1.bias": torch_files.tensor("1", 0, (2,), (1,), 2),
            }
            changed = {name: value for name, value in (sound | items).items() if value is not None}
            changes["data.pkl"] = torch_files.state_dict(changed)
        return torch_files.zipped(entries | changes)

    return write


def refused(content: bytes, *needles: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        read_state_dict(content, SHAPES)
    for needle in needles:
        assert needle in str(caught.value)


def assert_sound(content: bytes) -> None:
    tensors = read_state_dict(content, SHAPES)
    assert list(tensors) == list(SHAPES)
    for name, array in TENSORS.items():
        assert tensors[name].dtype == np.float32
        np.testing.assert_array_equal(tensors[name], array)


# --- What is read -------------------------------------------------------------------------------------


def test_numbers_are_read_as_they_were_written(torch_files: Files) -> None:
    assert_sound(torch_files.file(TENSORS))


def test_old_files_without_notes_are_read(spoil: Callable[..., bytes]) -> None:
    assert_sound(spoil(**{"byteorder": None, "version": None}))
    assert_sound(spoil(**{".data/serialization_id": b"1" * 40, ".format_version": b"1"}))


def test_tensors_in_one_storage_and_transposed_ones_are_read(torch_files: Files) -> None:
    """As an LSTM trained on a GPU saves them."""
    weight, bias = TENSORS["fc1.weight"], TENSORS["fc1.bias"]
    storage = np.concatenate([[9, 9], weight.T.ravel(), [9], bias]).astype("<f4")
    state = {
        "fc1.bias": torch_files.tensor("7", 9, (2,), (1,), 11),
        "fc1.weight": torch_files.tensor("7", 2, (2, 3), (1, 2), 11),
    }
    pickled = torch_files.state_dict(state)
    assert_sound(torch_files.zipped({"data.pkl": pickled, "data/7": storage.tobytes()}))


def test_a_plain_dictionary_is_read_too(torch_files: Files, spoil: Callable[..., bytes]) -> None:
    weight = torch_files.tensor("0", 0, (2, 3), (3, 1), 6)
    bias = torch_files.tensor("1", 0, (2,), (1,), 2)
    pairs = b"".join(torch_files.opcodes(part) for part in ("fc1.weight", weight, "fc1.bias", bias))
    assert_sound(spoil(**{"data.pkl": b"\x80\x02}(" + pairs + b"u."}))


# --- Tensors ------------------------------------------------------------------------------------------

WEIGHT = ("0", 0, (2, 3), (3, 1), 6)
"""Storage, offset, shape, strides and numbers in the storage of the sound weight."""


@pytest.mark.parametrize(
    ("tensor", "needle"),
    [
        (("0", 0, (3, 2), (2, 1), 6), "has shape (3, 2), this model needs (2, 3)"),
        (("0", 0, (6,), (1,), 6), "has shape (6,)"),
        (("0", 0, (2**62, 3), (3, 1), 6), "has shape"),
        (("0", 0, (2**200, 3), (3, 1), 6), "whole numbers"),
        (("0", 0, (2.0, 3), (3, 1), 6), "whole numbers"),
        (("0", 0, (True, 3), (3, 1), 6), "whole numbers"),
        (("0", 0, ((2, 3),), (3, 1), 6), "whole numbers"),
        (("0", 0, 6, (3, 1), 6), "whole numbers"),
        (("0", 1, (2, 3), (3, 1), 6), "beyond its storage"),
        (("0", 0, (2, 3), (4, 1), 6), "beyond its storage"),
        (("0", 0, (2, 3), (2**62, 2**62), 6), "beyond its storage"),
        (("0", 2**62, (2, 3), (0, 0), 6), "beyond its storage"),
        (("0", -1, (2, 3), (3, 1), 6), "whole numbers"),
        (("0", 5, (2, 3), (-3, 1), 6), "whole numbers"),
        (("0", 0, (2, 3), (3,), 6), "1 strides for 2 dimensions"),
        (("0", 0, (2, 3), (3, 1), 7), "24 bytes instead of 28"),
        (("0", 0, (2, 3), (3, 1), 2**60), "24 bytes"),
        (("5", 0, (2, 3), (3, 1), 6), "'5' is not in the file"),
        (("../../etc/passwd", 0, (2, 3), (3, 1), 6), "is not in the file"),
        ((*WEIGHT, "DoubleStorage"), "DoubleStorage; only 32-bit floats"),
        ((*WEIGHT, "HalfStorage"), "HalfStorage"),
        ((*WEIGHT, "LongStorage"), "LongStorage"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(
    torch_files: Files, spoil: Callable[..., bytes], tensor: tuple[Any, ...], needle: str
) -> None:
    refused(spoil({"fc1.weight": torch_files.tensor(*tensor)}), "tensor 'fc1.weight'", needle)


@pytest.mark.parametrize("value", [1, "text", None, 0.5, (1, 2), b"]", b"}", b"ctorch\nFloatStorage\n"])
def test_what_is_no_tensor_is_named(spoil: Callable[..., bytes], value: Any) -> None:
    if value is None:
        value = b"N"
    refused(spoil({"fc1.bias": value}), "tensor 'fc1.bias'", "no plain tensor")


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_no_number_is_refused(torch_files: Files, number: float) -> None:
    bias = np.array([0, number], np.float32)
    refused(torch_files.file(TENSORS | {"fc1.bias": bias}), "'fc1.bias'", "no finite number")


@pytest.mark.parametrize("length", [0, 4, 23, 25, 48])
def test_a_storage_of_another_length_is_refused(spoil: Callable[..., bytes], length: int) -> None:
    refused(spoil(**{"data/0": b"\0" * length}), "'fc1.weight'", f"{length} bytes instead of 24")


def test_missing_and_further_tensors_are_named(torch_files: Files, spoil: Callable[..., bytes]) -> None:
    refused(spoil({"fc1.bias": None}), "lacks tensor 'fc1.bias'")
    refused(spoil({"fc2.bias": torch_files.tensor("1", 0, (2,), (1,), 2)}), "holds 'fc2.bias'")
    refused(spoil({"epoch": 3}), "holds 'epoch'")
    refused(spoil({7: 3}), "keys are no texts")


# --- The pickle ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "name", "arguments"),
    [
        ("os", "mkdir", ("exploded",)),
        ("builtins", "exec", ("import os; os.mkdir('exploded')",)),
        ("torch", "load", ("x",)),
        ("torch.storage", "_load_from_bytes", ("x",)),
        ("torch._utils", "_rebuild_parameter", (1, True, 0)),
        ("numpy", "ndarray", ()),
        ("collections", "defaultdict", ()),
    ],
)
def test_a_name_that_a_state_dict_does_not_need_is_refused_and_not_run(
    torch_files: Files,
    spoil: Callable[..., bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    name: str,
    arguments: tuple[Any, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(spoil({"fc1.bias": torch_files.call(module, name, *arguments)}), f"{module}.{name}")
    assert not (tmp_path / "exploded").exists()


def test_references_that_are_no_storage_are_refused(torch_files: Files, spoil: Callable[..., bytes]) -> None:
    for reference in ("x", 1, ("storage", "FloatStorage", "0", "cpu", 6), ("a", "b"), None):
        refused(spoil({"fc1.bias": torch_files.opcodes(reference) + b"Q"}), "no storage")


@pytest.mark.parametrize("arguments", [(), (1,), (1, 2, 3, 4, 5, 6, 7, 8), ("s", 0, (2,), (1,), False, None)])
def test_a_tensor_made_of_other_parts_is_refused(
    torch_files: Files, spoil: Callable[..., bytes], arguments: tuple[Any, ...]
) -> None:
    refused(spoil({"fc1.bias": torch_files.call("torch._utils", "_rebuild_tensor_v2", *arguments)}))


@pytest.mark.parametrize("content", [b"", b"\x80\x02", b"\x80\x02N.", b"\x80\x02].", b"text", b"\x80\x05."])
def test_a_pickle_of_something_else_is_refused(spoil: Callable[..., bytes], content: bytes) -> None:
    refused(spoil(**{"data.pkl": content}))


def test_a_pickle_that_goes_on_or_on_and_on_is_refused(
    spoil: Callable[..., bytes], entries: dict[str, Any]
) -> None:
    refused(spoil(**{"data.pkl": entries["data.pkl"] + b"N."}), "goes on")
    refused(spoil(**{"data.pkl": b"\x80\x02" + b"0N" * 100_000 + b"."}), "larger")


# --- The zip file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["code/model.py", "constants.pkl", "data/2", "extra", ".data/x", "", "data"])
def test_a_further_entry_is_refused(spoil: Callable[..., bytes], name: str) -> None:
    refused(spoil(**{name: b"x"}), f"entry '{name}'")


def test_a_file_without_its_pickle_is_refused(spoil: Callable[..., bytes]) -> None:
    refused(spoil(**{"data.pkl": None}), "data.pkl")


@pytest.mark.parametrize("order", [b"big", b"", b"\xff"])
def test_another_byte_order_is_refused(spoil: Callable[..., bytes], order: bytes) -> None:
    refused(spoil(byteorder=order), "byte order")


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_bomb_is_refused_before_it_is_unpacked(
    torch_files: Files, entries: dict[str, Any], compression: int
) -> None:
    bomb = torch_files.zipped(entries | {"data/0": bytes(20_000_000)}, compression)
    refused(bomb, "larger than the file")
    refused(torch_files.zipped(entries, compression), "compressed")


def test_entries_that_share_bytes_are_refused_before_they_are_read() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data/0", bytes(100_000))
        archive.filelist *= 1000
    refused(file.getvalue(), "larger than the file")


def test_an_entry_given_twice_or_outside_the_folder_is_refused(torch_files: Files) -> None:
    for name in ("archive/data/0", "other/data/0", "data.pkl"):
        file = io.BytesIO(torch_files.file(TENSORS))
        with zipfile.ZipFile(file, "a") as archive, pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.warn", lambda *_, **__: None)
            archive.writestr(name, b"\0" * 24)
        refused(file.getvalue(), "outside its one folder")


def test_a_file_of_another_format_is_refused(torch_files: Files) -> None:
    refused(LEGACY_START + b"\x80\x02M\xe9\x03.", "PyTorch before 1.6")
    refused(b"", "no zip file")
    refused(b"#!/bin/sh\n" + torch_files.file(TENSORS), "no zip file")
    refused(b"PK\x03\x04", "damaged zip")


def test_a_file_cut_off_anywhere_is_refused(torch_files: Files) -> None:
    whole = torch_files.file(TENSORS)
    for length in range(len(whole)):
        refused(whole[:length])


# --- Anything at all ----------------------------------------------------------------------------------


def read_or_refuse(torch_files: Files, content: bytes) -> None:
    """Of all that may be refused, the sound file may not."""
    try:
        tensors = read_state_dict(content, SHAPES)
    except ValueError:
        assert content != torch_files.file(TENSORS), "the sound file is refused"
        return
    assert {name: array.shape for name, array in tensors.items()} == SHAPES
    assert all(np.isfinite(array).all() for array in tensors.values())


CHANGE = {"at": st.floats(0, 1), "length": st.integers(0, 12), "inserted": st.binary(max_size=12)}


def change(content: bytes, at: float, length: int, inserted: bytes) -> bytes:
    start = int(at * len(content))
    return content[:start] + inserted + content[start + length :]


@settings(max_examples=400, deadline=None)
@given(**CHANGE)
@example(at=0.0, length=0, inserted=b"")
def test_a_changed_file_is_read_or_refused(
    torch_files: Files, at: float, length: int, inserted: bytes
) -> None:
    read_or_refuse(torch_files, change(torch_files.file(TENSORS), at, length, inserted))


@settings(max_examples=400, deadline=None)
@given(**CHANGE)
@example(at=0.0, length=0, inserted=b"")
def test_a_changed_pickle_in_a_sound_file_is_read_or_refused(
    torch_files: Files, at: float, length: int, inserted: bytes
) -> None:
    entries = torch_files.entries(TENSORS)
    pickled = change(entries["data.pkl"], at, length, inserted)
    read_or_refuse(torch_files, torch_files.zipped(entries | {"data.pkl": pickled}))


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=200), start=st.sampled_from([b"", b"PK\x03\x04", LEGACY_START]))
def test_arbitrary_bytes_are_refused(content: bytes, start: bytes) -> None:
    refused(start + content)


WHOLE = st.one_of(st.integers(-2, 7), st.integers(), st.floats(), st.text(max_size=3), st.none())


@settings(max_examples=300, deadline=None)
@given(
    key=st.one_of(st.just("0"), WHOLE),
    offset=WHOLE,
    shape=st.one_of(st.just((2, 3)), st.lists(WHOLE, max_size=3).map(tuple), WHOLE),
    strides=st.one_of(st.lists(st.integers(0, 3), max_size=3).map(tuple), st.lists(WHOLE).map(tuple), WHOLE),
    count=st.one_of(st.just(6), WHOLE),
)
@example(key="0", offset=0, shape=(2, 3), strides=(3, 1), count=6)
def test_any_window_on_a_storage_is_read_or_refused(
    torch_files: Files, key: Any, offset: Any, shape: Any, strides: Any, count: Any
) -> None:
    entries = torch_files.entries(TENSORS)
    state = {
        "fc1.weight": torch_files.tensor(key, offset, shape, strides, count),
        "fc1.bias": torch_files.tensor("1", 0, (2,), (1,), 2),
    }
    read_or_refuse(torch_files, torch_files.zipped(entries | {"data.pkl": torch_files.state_dict(state)}))
