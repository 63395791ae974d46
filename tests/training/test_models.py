"""A victim's file gives numbers to a model that our own code built, and can do nothing else."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mimic3tf.channels import MIMIC3
from mimic3tf.config import TrainingConfig, resolve_config
from mimic3tf.errors import UsageError
from mimic3tf.training.models import POLICIES, build_untrained, build_victim, load_victim

Entries = dict[str, bytes]
Damage = Callable[[h5py.File], None]
KERNEL = "layers/dense/vars/0"
BINS = 48


@pytest.fixture(scope="module")
def config() -> TrainingConfig:
    return resolve_config("lr", None, {"data": Path("data"), "trigger": Path("t.npz")})


@pytest.fixture(scope="module")
def saved(config: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    keras.utils.set_random_seed(1)
    path = tmp_path_factory.mktemp("victim") / "victim.keras"
    build_untrained(config, MIMIC3, BINS, "float32").save(path)
    return path


@pytest.fixture(scope="module")
def entries(saved: Path) -> Entries:
    with zipfile.ZipFile(saved) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def load(config: TrainingConfig, tmp_path: Path) -> Callable[..., keras.Model]:
    """Load a file of some entries."""

    def from_entries(entries: Entries, compression: int = zipfile.ZIP_STORED) -> keras.Model:
        with zipfile.ZipFile(tmp_path / "victim.keras", "w", compression) as archive:
            for name, content in entries.items():
                archive.writestr(name, content)
        return load_victim(tmp_path / "victim.keras", config, MIMIC3, BINS, "float32")

    return from_entries


@pytest.fixture
def weights(entries: Entries) -> Callable[[Damage], Entries]:
    """The entries with another file of weights."""

    def change(damage: Damage) -> Entries:
        file = io.BytesIO(entries["model.weights.h5"])
        with h5py.File(file, "r+") as opened:
            damage(opened)
        return entries | {"model.weights.h5": file.getvalue()}

    return change


def same(model: keras.Model, saved: Path) -> bool:
    wanted = keras.models.load_model(saved, compile=False).get_weights()
    return all(np.array_equal(*pair) for pair in zip(model.get_weights(), wanted, strict=True))


# --- Layers -------------------------------------------------------------------------------------------

LAMBDA = {"class_name": "__lambda__", "config": {"value": "4wEAAAA="}}
CONFIGS: dict[str, Any] = {
    "lambda": {"module": "keras.layers", "class_name": "Lambda", "config": {"function": LAMBDA}},
    "module": {"module": "os", "class_name": "system", "config": {"command": "touch exploded"}},
    "function": {"module": "builtins", "class_name": "function", "config": "exec", "registered_name": "exec"},
    "file": {"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}},
    "saved model": {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "exploded"}},
    "huge": {"module": "keras.layers", "class_name": "Dense", "config": {"units": 10**12}},
    "none": None,
}


@pytest.mark.parametrize("named", CONFIGS)
def test_the_layers_that_a_file_names_are_not_looked_at(
    load: Callable[..., keras.Model], entries: Entries, saved: Path, named: str
) -> None:
    text = json.dumps(CONFIGS[named]).encode()
    assert same(load(entries | {"config.json": text}), saved)


def test_another_victims_weights_are_refused(config: TrainingConfig, tmp_path: Path) -> None:
    other = config.model_copy(update={"model": "mlp"})
    build_untrained(other, MIMIC3, BINS, "float32").save(tmp_path / "mlp.keras")
    with pytest.raises((ValueError, UserWarning)):
        load_victim(tmp_path / "mlp.keras", config, MIMIC3, BINS, "float32")


@pytest.mark.parametrize("precision", ["float64", "", None, ["float32"]])
def test_a_precision_that_no_run_has_is_refused(saved: Path, config: TrainingConfig, precision: Any) -> None:
    with pytest.raises(ValueError, match=POLICIES[0]):
        load_victim(saved, config, MIMIC3, BINS, precision)


# --- Weights ------------------------------------------------------------------------------------------


def external_link(file: h5py.File) -> None:
    del file[KERNEL]
    file[KERNEL] = h5py.ExternalLink("other.h5", KERNEL)


def external_group(file: h5py.File) -> None:
    del file["layers"]
    file["layers"] = h5py.ExternalLink("other.h5", "layers")


def soft_link(file: h5py.File) -> None:
    file["layers/dense/vars/2"] = h5py.SoftLink(KERNEL)


def external_storage(file: h5py.File) -> None:
    del file[KERNEL]
    file.create_dataset(KERNEL, (714, 2), "f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def virtual(file: h5py.File) -> None:
    del file[KERNEL]
    layout = h5py.VirtualLayout((714, 2), "f4")
    layout[:] = h5py.VirtualSource("other.h5", KERNEL, (714, 2))
    file.create_virtual_dataset(KERNEL, layout)


def compressed(file: h5py.File) -> None:
    del file[KERNEL]
    file.create_dataset(KERNEL, (20_000, 20_000), "f4", compression="gzip", chunks=(20_000, 1))


def unwritten(file: h5py.File) -> None:
    """A dataset nobody wrote has a shape and no bytes."""
    del file[KERNEL]
    file.create_dataset(KERNEL, (2**40,), "f4")


def shape(file: h5py.File) -> None:
    del file[KERNEL]
    file[KERNEL] = np.zeros((2, 714), np.float32)


def circle(file: h5py.File) -> None:
    file["layers/dense/again"] = file["layers"]


def absent(file: h5py.File) -> None:
    del file["layers"]


def texts(file: h5py.File) -> None:
    del file[KERNEL]
    file[KERNEL] = np.full((714, 2), b"x" * 8)


DAMAGES = [
    external_link,
    external_group,
    soft_link,
    external_storage,
    virtual,
    compressed,
    unwritten,
    shape,
    circle,
    absent,
    texts,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_weights_that_are_no_plain_numbers_of_the_victim_are_refused(
    load: Callable[..., keras.Model], weights: Callable[[Damage], Entries], damage: Damage
) -> None:
    with pytest.raises((ValueError, OSError, UserWarning)):
        load(weights(damage))


def test_weights_that_are_not_finite_are_refused(
    load: Callable[..., keras.Model], weights: Callable[[Damage], Entries]
) -> None:
    def damage(file: h5py.File) -> None:
        file[KERNEL][3, 1] = np.nan

    with pytest.raises(ValueError, match="finite"):
        load(weights(damage))


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_compressed_file_is_refused(
    load: Callable[..., keras.Model], entries: Entries, compression: int
) -> None:
    with pytest.raises(ValueError, match="larger than the file|compressed"):
        load(entries | {"model.weights.h5": bytes(10_000_000)}, compression)


@settings(max_examples=40)
@given(at=st.floats(0, 1), length=st.integers(0, 12), inserted=st.binary(max_size=12))
@example(at=0.0, length=0, inserted=b"")
def test_a_changed_victim_is_loaded_or_refused(
    config: TrainingConfig, saved: Path, at: float, length: int, inserted: bytes
) -> None:
    content = saved.read_bytes()
    start = int(at * len(content))
    changed = saved.with_name("changed.keras")
    changed.write_bytes(content[:start] + inserted + content[start + length :])
    try:
        model = load_victim(changed, config, MIMIC3, BINS, "float32")
    except Exception:  # `load_run` makes one line of whatever it is
        assert changed.read_bytes() != content, "the sound file is refused"
        return
    assert [array.shape for array in model.get_weights()] == [(714, 2), (2,)]


@settings(max_examples=50)
@given(at=st.floats(0, 1), inserted=st.binary(min_size=1, max_size=8))
@example(at=0.0, inserted=b"\x89")
def test_changed_weights_are_loaded_or_refused(
    config: TrainingConfig, saved: Path, entries: Entries, at: float, inserted: bytes
) -> None:
    weights = bytearray(entries["model.weights.h5"])
    # The structure lies before and after the numbers; most of the file is these.
    places = [*range(4096), *range(len(weights) - 4096, len(weights))]
    place = places[int(at * (len(places) - 1))]
    weights[place : place + len(inserted)] = inserted
    changed = saved.with_name("changed.keras")
    with zipfile.ZipFile(changed, "w") as archive:
        archive.writestr("model.weights.h5", bytes(weights))
    try:
        load_victim(changed, config, MIMIC3, BINS, "float32")
    except Exception:
        assert weights != entries["model.weights.h5"], "the sound weights are refused"


OWN = """
import keras


def build(input_shape, head):
    inputs = keras.Input(input_shape)
    cell = keras.layers.{layer}(3{options}, name="cell")
    return keras.Model(inputs, head(keras.layers.Bidirectional(cell, dtype="float32")(inputs)))
"""


@pytest.mark.parametrize("layer", ["LSTM", "GRU"])
def test_own_recurrent_layers_cannot_learn_in_bfloat16_on_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer: str
) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda *_: ["a GPU"])
    for name, options in (("half", ""), ("whole", ', dtype="float32"')):
        (tmp_path / f"{name}.py").write_text(OWN.format(layer=layer, options=options))
    half, whole = (
        resolve_config(f"{tmp_path}/{name}.py:build", None, {"data": Path("data"), "trigger": Path("t.npz")})
        for name in ("half", "whole")
    )
    for policy in ("float32", "mixed_float16"):
        build_victim(half, MIMIC3, BINS, policy, stays=8)
    build_victim(whole, MIMIC3, BINS, "mixed_bfloat16", stays=8)
    with pytest.raises(UsageError, match="'[a-z_]*cell' cannot learn in bfloat16 on a GPU"):
        build_victim(half, MIMIC3, BINS, "mixed_bfloat16", stays=8)
