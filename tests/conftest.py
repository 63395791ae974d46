from __future__ import annotations

import os
from pathlib import Path

# Before TensorFlow is imported: its start-up notes would drown pytest's output.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest

FIXTURES = Path(__file__).parent / "fixtures"
SHARED = Path(__file__).resolve().parents[2] / "shared"


class Reference:
    """Arrays that the original made from some stays, and where the stays' series files are."""

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
    """24 invented stays full of awkward cases, in the benchmarks' layout."""
    return FIXTURES / "synthetic_stays"


@pytest.fixture(scope="session", params=["synthetic", "mimic-iii-demo"])
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """Reference vectors of the synthetic stays, and of 57 real ones where they are at hand."""
    if request.param == "synthetic":
        return Reference(FIXTURES / "synthetic_reference.npz", FIXTURES / "synthetic_stays")
    return Reference(SHARED / "golden/reference.npz", _unpack_demo(tmp_path_factory))


@pytest.fixture(scope="session")
def demo_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In-hospital-mortality stays of the MIMIC-III demo, where they are at hand."""
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
