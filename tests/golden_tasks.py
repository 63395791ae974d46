"""What the benchmarks' own code made of demo stays and of invented stays, for four tasks (golden-tasks).

The invented stays and all metrics are in `fixtures`; the rest is read from ../shared, where it is at hand.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic3tf.channels import MIMIC3
from mimic3tf.data import Discretizer, Normalizer
from mimic3tf.data.readers import (
    DecompensationReader,
    LengthOfStayReader,
    MultitaskReader,
    PhenotypingReader,
    Reader,
)

FIXTURES = Path(__file__).parent / "fixtures" / "golden-tasks"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "golden-tasks"
READERS: dict[str, type[Reader]] = {
    "decompensation": DecompensationReader,
    "length_of_stay": LengthOfStayReader,
    "phenotyping": PhenotypingReader,
    "multitask": MultitaskReader,
}


def at_hand(path: Path) -> Path:
    """Return a path, or skip the test if nothing is there."""
    if not path.exists():
        pytest.skip(f"the benchmarks' results are not at hand: {path} is absent")
    return path


class Golden:
    """The results for one group of stays.

    Attributes:
        demo: whether they are stays of the MIMIC-III demo; the others are invented.
        stays: folder of the series files of all splits.
    """

    def __init__(self, root: Path, stays: Path, *, demo: bool) -> None:
        self.root, self.stays, self.demo = root, stays, demo

    def listfile(self, task: str, *, dsup: bool = False) -> Path:
        name = task.replace("_", "-") + ("_dsup" if dsup else "")
        return self.root / "samples" / f"{name}.csv"

    def reader(self, task: str) -> Any:
        return READERS[task](self.stays, self.listfile(task))

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        file = name if self.demo else name.replace("_", "-")
        return dict(np.load(self.root / f"{file}.npz", allow_pickle=False))

    def batch(self, name: str) -> dict[str, np.ndarray]:
        return dict(np.load(self.root / "batches" / f"{name}.npz", allow_pickle=False))


def discretizer() -> Discretizer:
    """As every network of the benchmarks reads grids."""
    return Discretizer(1.0, store_masks=True, impute_strategy="previous", start_time="zero")


def normalizer(task: str, folder: Path) -> Normalizer:
    """The benchmarks' normalizer of a task for bins of one hour; written to `folder` and read back."""
    table = json.loads(at_hand(SHARED / "normalizers.json").read_text())
    (name,) = (name for name in table if name.startswith(f"{task}/") and "_ts1.0." in name)
    file = folder / "normalizer.json"
    file.write_text(json.dumps(table[name]))
    numeric = [column for column, name in enumerate(MIMIC3.columns()) if "->" not in name]
    loaded = Normalizer(numeric)
    loaded.load_params(file)
    return loaded


def unpack(root: Path, archive: str, folder: Path) -> Path:
    """Put the series files of all splits into one folder; those of a stay are equal in the four tasks."""
    with tarfile.open(at_hand(root / archive)) as file:
        file.extractall(folder / "unpacked", filter="data")
    stays = folder / "stays"
    stays.mkdir()
    for series in sorted((folder / "unpacked").rglob("*_timeseries.csv")):
        if "in-hospital-mortality" not in series.parts:
            (stays / series.name).write_bytes(series.read_bytes())
    return stays
