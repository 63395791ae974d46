"""Read a benchmark directory stay by stay, with the interface of the readers in mimic3-benchmarks."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimic3tf.data.directory import FOLDERS, read_listfile
from mimic3tf.data.links import check_link
from mimic3tf.data.records import LARGEST_SERIES, unreadable_series
from mimic3tf.errors import DataError, private_path
from mimic3tf.storage.files import PathText, read_file, write_whole
from mimic3tf.tasks.registry import MORTALITY


class InHospitalMortalityReader:
    """The stays of one split, with their labels of in-hospital mortality.

    The interface is that of the class of the same name in mimic3-benchmarks.

    Args:
        dataset_dir: directory that holds the series files.
        listfile: the split's listfile; `dataset_dir/listfile.csv` if not given.
        period_length: hours of a stay; `read_example` returns this number as "t".
        follow_links: read links that lead out of the benchmark directory, too.
    """

    def __init__(
        self,
        dataset_dir: PathText,
        listfile: PathText | None = None,
        period_length: float = 48.0,
        *,
        follow_links: bool = False,
    ) -> None:
        self._dataset_dir = Path(dataset_dir)
        self._period_length = period_length
        self._current_index = 0
        listed = Path(listfile) if listfile else self._dataset_dir / "listfile.csv"
        self._data = read_listfile(listed, MORTALITY, follow_links=follow_links)
        # In a benchmark directory, a link may lead to any place in the whole directory.
        whole = self._dataset_dir.name in FOLDERS and listed.parent == self._dataset_dir.parent
        self._root = listed.parent if whole else self._dataset_dir
        self._follow_links = follow_links

    def get_number_of_examples(self) -> int:
        """Return the number of stays in the listfile."""
        return len(self._data)

    def random_shuffle(self, seed: int | None = None) -> None:
        """Shuffle the order of the stays; the same seed gives the same order."""
        random.Random(seed).shuffle(self._data)

    def read_example(self, index: int) -> dict[str, Any]:
        """Read one stay.

        Args:
            index: position in the current order.

        Returns:
            "X": strings [R, 18], the hours in the first column; "t": period length in hours; "y": label;
            "header": column names; "name": series file name.

        Raises:
            ValueError: the index is out of range.
            DataError: the series file is absent, cannot be read or has no rows.
        """
        if not 0 <= index < len(self._data):
            raise ValueError(f"index must be from 0 to {len(self._data) - 1}, not {index}")
        name, label = self._data[index]
        rows, header = self._read_timeseries(name)
        return {"X": rows, "t": self._period_length, "y": label, "header": header, "name": name}

    def read_next(self) -> dict[str, Any]:
        """Read the next stay in the current order; after the last stay, start again with the first."""
        index = self._current_index
        self._current_index = (index + 1) % self.get_number_of_examples()
        return self.read_example(index)

    def _read_timeseries(self, name: str) -> tuple[NDArray[np.str_], list[str]]:
        path = self._dataset_dir / name
        check_link(path, self._root, follow_links=self._follow_links)
        try:
            text = read_file(path, LARGEST_SERIES).decode()
        except OSError as error:
            raise unreadable_series(path, error) from None
        except UnicodeDecodeError:
            raise DataError(f"{private_path(path)}: the series is not UTF-8 text") from None
        lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
        if len(lines) < 2:
            raise DataError(f"{private_path(path)}: the series is empty; leave the stay out of the listfile")
        header, *rows = (line.split(",") for line in lines)
        for number, row in enumerate(rows, start=2):
            if len(row) != len(header):
                cells = f"{len(row)} cells where the header names {len(header)}"
                raise DataError(f"{private_path(path)}, line {number}: {cells}")
        return np.array(rows), header


def read_chunk(reader: InHospitalMortalityReader, chunk_size: int) -> dict[str, Any]:
    """Read the next `chunk_size` stays: a list for each key of `read_example`, but one header for all."""
    examples = [reader.read_next() for _ in range(chunk_size)]
    chunk: dict[str, Any] = {key: [example[key] for example in examples] for key in examples[0]}
    chunk["header"] = chunk["header"][0]
    return chunk


def load_data(
    reader: InHospitalMortalityReader,
    discretizer: Any,
    normalizer: Any | None,
    small_part: bool = False,
    return_names: bool = False,
) -> Any:
    """Read all stays of a reader into arrays.

    Args:
        reader: any object with the methods of `InHospitalMortalityReader`.
        discretizer: any object with the benchmarks' `transform(X, end=hours)`.
        normalizer: any object with the benchmarks' `transform(X)`, or None.
        small_part: read the first 1000 stays only.
        return_names: return `{"data": (X, y), "names": [...]}` instead of `(X, y)`.

    Returns:
        X, float64 [N, T, D], and the list of N labels.
    """
    stays = reader.get_number_of_examples()
    chunk = read_chunk(reader, min(1000, stays) if small_part else stays)
    steps = preparation(discretizer, normalizer)
    whole = (
        np.array([steps(rows, hours) for rows, hours in zip(chunk["X"], chunk["t"], strict=True)]),
        chunk["y"],
    )
    return {"data": whole, "names": chunk["name"]} if return_names else whole


def save_results(names: list[str], pred: Any, y_true: Any, path: PathText) -> None:
    """Write predictions as CSV with the columns `stay,prediction,y_true`; make the folder if needed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{name},{p:.6f},{int(y)}\n" for name, p, y in zip(names, pred, y_true, strict=True)]
    write_whole(path, "stay,prediction,y_true\n" + "".join(lines))


def preparation(discretizer: Any, normalizer: Any | None) -> Callable[[Any, float], NDArray[np.float64]]:
    """Return a function that makes a grid [T, D] of the rows and hours of a stay."""

    def transform(rows: Any, hours: float) -> NDArray[np.float64]:
        grid = discretizer.transform(rows, end=hours)[0]
        return grid if normalizer is None else normalizer.transform(grid)

    return transform
