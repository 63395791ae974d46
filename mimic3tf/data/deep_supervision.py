"""Stays with the labels of all their hours, with the interface of the loader in mimic3-benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimic3tf.data.listfiles import LABELS, STAY, read_hourly
from mimic3tf.data.series_text import SeriesText
from mimic3tf.storage.files import PathText
from mimic3tf.tasks.rules import REMAINING
from mimic3tf.tasks.task import PERIOD

SMALL_PART = 256
"""Number of stays of which `small_part` takes the first."""


class DeepSupervisionDataLoader:
    """The stays of a listfile of decompensation or length of stay, ordered by name.

    The interface is that of the class of the same name in mimic3-benchmarks: `_data` has four lists with one
    element a stay. "X": strings [R, 18], all rows of the stay, read when they are asked for; "ts": its hours;
    "ys": their labels as texts; "name": series file name.

    Args:
        dataset_dir: directory that holds the series files.
        listfile: the split's listfile; `dataset_dir/listfile.csv` if not given.
        small_part: take the first 256 stays only.
        follow_links: read links that lead out of the benchmark directory, too.

    Raises:
        DataError: the listfile is missing, or a line of it is malformed; names line and column.
    """

    def __init__(
        self,
        dataset_dir: PathText,
        listfile: PathText | None = None,
        small_part: bool = False,
        *,
        follow_links: bool = False,
    ) -> None:
        path = Path(listfile) if listfile else Path(dataset_dir) / "listfile.csv"
        listed = read_hourly(path, REMAINING, follow_links=follow_links)
        rows = pl.DataFrame({STAY: listed.stays, PERIOD: listed.hours, LABELS: listed.table.texts(LABELS)})
        stays = rows.sort(STAY, PERIOD).group_by(STAY, maintain_order=True).agg(PERIOD, LABELS)
        stays = stays.head(SMALL_PART) if small_part else stays
        names = stays[STAY].to_list()
        self._data: dict[str, Sequence[Any]] = {
            "X": _Series(SeriesText(Path(dataset_dir), path, follow_links=follow_links), names),
            "ts": stays[PERIOD].to_list(),
            "ys": stays[LABELS].to_list(),
            "name": names,
        }


class _Series(Sequence[NDArray[np.str_]]):
    """The rows of many stays, each read when it is asked for: together they take gigabytes as texts."""

    def __init__(self, series: SeriesText, names: list[str]) -> None:
        self._series, self._names = series, names

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, stay: int) -> NDArray[np.str_]: ...

    @overload
    def __getitem__(self, stay: slice) -> Sequence[NDArray[np.str_]]: ...

    def __getitem__(self, stay: int | slice) -> Any:
        if isinstance(stay, slice):
            return _Series(self._series, self._names[stay])
        return self._series.rows(self._names[stay])[0]
