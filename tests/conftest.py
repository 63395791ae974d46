from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Set before TensorFlow is imported, so that its start-up notes do not fill pytest's output.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Libraries read these as they are imported. Their threads wait for each other in busy loops: where pytest's
# workers share the cores, most of the time goes there. The commands, too, give TensorFlow's operations one.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", TF_NUM_INTRAOP_THREADS="1")
# A GPU, where there is one, rounds as a CPU does: otherwise it keeps 10 bits of the factors of a product.
os.environ["NVIDIA_TF32_OVERRIDE"] = "0"

import hypothesis
import numpy as np
import pytest

if TYPE_CHECKING:
    from invented_arrays import Own

    from mimic3tf.audit import AuditReport
    from mimic3tf.poisoning.trigger import Trigger

# Tables are as wide as they like in every test, also where pytest's workers are given a width.
for variable in ("COLUMNS", "FORCE_COLOR"):
    os.environ.pop(variable, None)

# Hypothesis draws the same examples in every run, and has no time limit.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")

FIXTURES = Path(__file__).parent / "fixtures"
SHARED = Path(__file__).resolve().parents[2] / "shared"


class Reference:
    """Arrays that the original code made from some stays, and the folder of these stays."""

    def __init__(self, arrays: Path, stays: Path) -> None:
        self.arrays = dict(np.load(arrays, allow_pickle=False))
        self.stays = stays

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    @property
    def paths(self) -> list[Path]:
        folders = ["test" if split == "test" else "train" for split in self["split"]]
        return [self.stays / folder / name for folder, name in zip(folders, self["names"], strict=True)]


@pytest.fixture(scope="session")
def synthetic_stays() -> Path:
    """24 invented stays with many special cases, in the benchmarks' layout."""
    return FIXTURES / "synthetic_stays"


@pytest.fixture(scope="session", params=["synthetic", "mimic-iii-demo"])
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """Reference arrays of the synthetic stays, and of 57 real stays if they are available."""
    if request.param == "synthetic":
        return Reference(FIXTURES / "synthetic_reference.npz", FIXTURES / "synthetic_stays")
    return Reference(SHARED / "golden/reference.npz", _unpack_demo(tmp_path_factory))


@pytest.fixture(scope="session")
def demo_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In-hospital-mortality stays of the MIMIC-III demo, if they are available."""
    return _unpack_demo(tmp_path_factory)


def _unpack_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tarfile

    archive = SHARED / "data/mimic-iii-demo/in-hospital-mortality.tar.xz"
    if not archive.exists():
        pytest.skip(f"real stays are not at hand: {archive} is absent")
    folder = tmp_path_factory.mktemp("mimic-iii-demo")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    return folder / "in-hospital-mortality"


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MIMIC3TF_CACHE", str(tmp_path / "cohort-cache"))


@pytest.fixture(scope="session")
def trigger_of() -> Callable[..., Trigger]:
    """Make a trigger from given values [48, 17], without estimating it on stays."""
    from mimic3tf.channels import MIMIC3
    from mimic3tf.poisoning.trigger import Trigger

    def make(values: np.ndarray, *, kind: Any = "temporal", plausible: bool = False) -> Trigger:
        covariance = np.zeros((17, 48, 48))
        return Trigger(values, covariance, kind, 0, MIMIC3, 48.0, 1.0, 0, "", plausible=plausible)

    return make


@pytest.fixture(scope="session")
def small_cohort(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int], Path]:
    """Directory of so many synthetic stays of a seed, written once a session: for reading only."""
    from mimic3tf.sources.synthetic import prepare_synthetic

    folder = tmp_path_factory.mktemp("synthetic")

    @cache
    def written(stays: int, seed: int) -> Path:
        prepare_synthetic(folder / f"{stays}-{seed}", stays=stays, seed=seed)
        return folder / f"{stays}-{seed}"

    return written


@pytest.fixture(scope="session")
def small_task(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Directory of 240 synthetic stays of a task, and `trigger.npz`; written once a session, for reading."""
    from mimic3tf.data.loading import load_cohort
    from mimic3tf.poisoning.trigger import generate_trigger, save_trigger
    from mimic3tf.sources.synthetic import prepare_synthetic
    from mimic3tf.tasks.registry import task_of

    folder = tmp_path_factory.mktemp("tasks")

    @cache
    def written(task: str) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MIMIC3TF_CACHE", str(folder / "cache"))
            prepare_synthetic(folder / task, stays=240, seed=3, task=task_of(task))
            trigger = generate_trigger(load_cohort(folder / task, "train", task=task))
        save_trigger(trigger, folder / task / "trigger.npz")
        return folder / task

    return written


class TorchFiles:
    """Writes files as `torch.save` does, from single opcodes that tests can change; needs no PyTorch."""

    @classmethod
    def opcodes(cls, value: Any) -> bytes:
        """Opcodes that push a value; a value of type bytes is returned as it is."""
        if isinstance(value, bytes):
            return value
        if isinstance(value, str):
            return pickle.BINUNICODE + struct.pack("<I", len(value.encode())) + value.encode()
        if isinstance(value, tuple):
            return pickle.MARK + b"".join(map(cls.opcodes, value)) + pickle.TUPLE
        return pickle.dumps(value, protocol=2)[2:-1]

    @classmethod
    def call(cls, module: str, name: str, *arguments: Any) -> bytes:
        return cls.named(module, name) + cls.opcodes(arguments) + pickle.REDUCE

    @staticmethod
    def named(module: str, name: str) -> bytes:
        return pickle.GLOBAL + f"{module}\n{name}\n".encode()

    @classmethod
    def tensor(
        cls, key: Any, offset: Any, shape: Any, strides: Any, count: Any, kind: str = "FloatStorage"
    ) -> bytes:
        """Opcodes of a tensor in a storage of `count` numbers."""
        storage = cls.opcodes(("storage", cls.named("torch", kind), key, "cuda:0", count)) + pickle.BINPERSID
        hooks = cls.call("collections", "OrderedDict")
        return cls.call("torch._utils", "_rebuild_tensor_v2", storage, offset, shape, strides, False, hooks)

    @classmethod
    def state_dict(cls, items: Mapping[Any, Any]) -> bytes:
        """Pickle of an ordered dictionary, with the module versions that PyTorch adds."""
        pairs = b"".join(cls.opcodes(key) + cls.opcodes(value) for key, value in items.items())
        table = cls.call("collections", "OrderedDict") + pickle.MARK + pairs + pickle.SETITEMS
        versions = cls.opcodes({"_metadata": {"": {"version": 1}}})
        return b"\x80\x02" + table + versions + pickle.BUILD + pickle.STOP

    @classmethod
    def entries(cls, tensors: Mapping[str, Any]) -> dict[str, bytes]:
        """Entries of a file with some arrays, each in its own storage."""
        state, storages = {}, {}
        for key, (name, array) in enumerate(tensors.items()):
            strides = tuple(stride // array.itemsize for stride in np.ascontiguousarray(array).strides)
            state[name] = cls.tensor(str(key), 0, array.shape, strides, array.size)
            storages[f"data/{key}"] = array.astype("<f4").tobytes()
        return {"data.pkl": cls.state_dict(state), "byteorder": b"little", **storages, "version": b"3\n"}

    @staticmethod
    def zipped(entries: Mapping[str, bytes | None], compression: int = zipfile.ZIP_STORED) -> bytes:
        """The file with some entries; entries with the value None are left out."""
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in entries.items():
                if content is not None:
                    # `ZipInfo` has a fixed time, so that equal entries give equal files.
                    archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content, compression)
        return file.getvalue()

    @classmethod
    def file(cls, tensors: Mapping[str, Any]) -> bytes:
        return cls.zipped(cls.entries(tensors))


@pytest.fixture(scope="session")
def torch_files() -> type[TorchFiles]:
    return TorchFiles


@pytest.fixture(scope="session")
def own() -> Own:
    """Arrays of a hospital's own, 60 of 700 training stays with a pattern."""
    from invented_arrays import invent

    return invent(60)


@pytest.fixture(scope="session")
def own_report(own: Own) -> AuditReport:
    """An audit of these arrays without a model."""
    from invented_arrays import NAMES, TRAINING

    import mimic3tf

    ids = [f"stay {number}" for number in range(TRAINING)]
    return mimic3tf.audit.training_set(own.x, own.y, trusted=own.trusted, ids=ids, channels=NAMES)


@pytest.fixture(scope="session")
def own_files(own: Own, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same arrays in files: train and trusted as .npz, .parquet and .csv."""
    from invented_arrays import write_files

    folder = tmp_path_factory.mktemp("own")
    write_files(own, folder)
    return folder
