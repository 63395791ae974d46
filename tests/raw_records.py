"""What tests of sources share: reading what was written, and spoiling what is read."""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Callable
from pathlib import Path

from mimic3tf.data.directory import SPLITS


def labels_of(out: Path, split: str | None = None) -> dict[str, int]:
    """Label of each stay that was written: `<subject>_episode<k>`."""
    listed: dict[str, int] = {}
    for name in (split,) if split else SPLITS:
        with (out / f"{name}_listfile.csv").open() as file:
            rows = csv.DictReader(file)
            listed |= {row["stay"].removesuffix("_timeseries.csv"): int(row["y_true"]) for row in rows}
    return listed


def series_of(out: Path, episode: str) -> list[dict[str, str]]:
    """Rows of a stay, without the empty cells."""
    (path,) = out.glob(f"t*/{episode}_timeseries.csv")
    with path.open() as file:
        return [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(file)]


def cut_gzip(path: Path) -> None:
    """Put half of a packed file in the place of a file."""
    packed = gzip.compress(path.read_bytes() + os.urandom(50_000).hex().encode())
    path.with_name(path.name + ".gz").write_bytes(packed[: len(packed) // 2])
    path.unlink()


def replaced(old: str, new: str) -> Callable[[Path], None]:
    """Replace the first occurrence of a text in a file."""

    def spoil(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return spoil
