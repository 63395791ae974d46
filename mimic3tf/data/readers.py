"""Read a benchmark directory sample by sample, with the interface of the readers in mimic3-benchmarks."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimic3tf.data.listfiles import read_hourly, read_listfile, read_multitask, read_phenotyping
from mimic3tf.data.series_text import SeriesText
from mimic3tf.storage.files import PathText, write_whole
from mimic3tf.tasks.registry import MORTALITY
from mimic3tf.tasks.rules import LABEL, REMAINING, Rule

Names = Sequence[str] | pl.Series
SMALL_PART = 1000
"""Number of samples of which `small_part` takes the first."""


class Reader:
    """The samples of one split. Each task has a class of its own, named as in mimic3-benchmarks.

    Args:
        dataset_dir: directory that holds the series files.
        listfile: the split's listfile; `dataset_dir/listfile.csv` if not given.
        follow_links: read links that lead out of the benchmark directory, too.

    Raises:
        DataError: the listfile is missing, or a line of it is malformed; names line and column.
    """

    def __init__(
        self, dataset_dir: PathText, listfile: PathText | None = None, *, follow_links: bool = False
    ) -> None:
        listed = Path(listfile) if listfile else Path(dataset_dir) / "listfile.csv"
        self._series = SeriesText(Path(dataset_dir), listed, follow_links=follow_links)
        self._current_index = 0
        self._stays, self._hours = self._read_listfile(listed, follow_links=follow_links)
        self._order = list(range(len(self._stays)))

    def _read_listfile(self, listfile: Path, *, follow_links: bool) -> tuple[Names, NDArray[np.float64]]:
        """Read names and hours [N] of the samples; keep their labels."""
        raise NotImplementedError

    def _targets(self, row: int) -> dict[str, Any]:
        """Return what `read_example` gives of the labels in a row of the listfile."""
        raise NotImplementedError

    def _until(self, row: int) -> float:
        """Return the hour up to which the rows of the series belong to a sample."""
        return np.inf

    @property
    def hours(self) -> NDArray[np.float64]:
        """Hours "t" of every sample in the current order: float64 [N]."""
        return self._hours[self._order]

    def get_number_of_examples(self) -> int:
        """Return the number of samples in the listfile."""
        return len(self._stays)

    def random_shuffle(self, seed: int | None = None) -> None:
        """Shuffle the order of the samples; the same seed gives the same order."""
        random.Random(seed).shuffle(self._order)

    def read_example(self, index: int) -> dict[str, Any]:
        """Read one sample.

        Args:
            index: position in the current order.

        Returns:
            "X": strings [R, 18], the hours in the first column; "t": hours of the stay that are read; the
            labels, as the class says; "header": column names; "name": series file name.

        Raises:
            ValueError: the index is out of range.
            DataError: the series file is absent, cannot be read or has no rows up to the hour.
        """
        if not 0 <= index < len(self._stays):
            raise ValueError(f"index must be from 0 to {len(self._stays) - 1}, not {index}")
        row = self._order[index]
        name = self._stays[row]
        rows, header = self._series.rows(name, self._until(row))
        given = {"X": rows, "t": float(self._hours[row]), **self._targets(row)}
        return {**given, "header": header, "name": name}

    def read_next(self) -> dict[str, Any]:
        """Read the next sample in the current order; after the last one, start again with the first."""
        index = self._current_index
        self._current_index = (index + 1) % self.get_number_of_examples()
        return self.read_example(index)


class InHospitalMortalityReader(Reader):
    """The stays of one split: "y" is 1 for death in hospital, else 0.

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
        self._period_length = period_length
        super().__init__(dataset_dir, listfile, follow_links=follow_links)

    def _read_listfile(self, listfile: Path, *, follow_links: bool) -> tuple[Names, NDArray[np.float64]]:
        entries = read_listfile(listfile, MORTALITY, follow_links=follow_links)
        self._labels = [label for _, label in entries]
        return [stay for stay, _ in entries], np.full(len(entries), float(self._period_length))

    def _targets(self, row: int) -> dict[str, Any]:
        return {"y": self._labels[row]}


class _HourlyReader(Reader):
    """Samples that read the rows of a stay up to an hour."""

    _rule: Rule

    def _read_listfile(self, listfile: Path, *, follow_links: bool) -> tuple[Names, NDArray[np.float64]]:
        listed = read_hourly(listfile, self._rule, follow_links=follow_links)
        self._labels = listed.labels[:, 0]
        return listed.stays, listed.hours

    def _until(self, row: int) -> float:
        return float(self._hours[row])


class DecompensationReader(_HourlyReader):
    """The hours of one split: "y" is 1 if the patient dies within 24 hours after the hour "t", else 0."""

    _rule = LABEL

    def _targets(self, row: int) -> dict[str, Any]:
        return {"y": int(self._labels[row])}


class LengthOfStayReader(_HourlyReader):
    """The hours of one split: "y" is the remaining time in the ICU after the hour "t", in hours."""

    _rule = REMAINING

    def _targets(self, row: int) -> dict[str, Any]:
        return {"y": float(self._labels[row])}


class PhenotypingReader(Reader):
    """The stays of one split: "y" lists for every phenotype whether the stay has it, 1 or 0.

    "t" is the length of the stay in hours.
    """

    def _read_listfile(self, listfile: Path, *, follow_links: bool) -> tuple[Names, NDArray[np.float64]]:
        listed = read_phenotyping(listfile, follow_links=follow_links)
        self._labels = listed.labels.astype(np.int64)
        return listed.stays, listed.hours

    def _targets(self, row: int) -> dict[str, Any]:
        return {"y": self._labels[row].tolist()}


class MultitaskReader(Reader):
    """The stays of one split, with the labels of four tasks; "t" is the length of the stay in hours.

    "ihm" is [position, mask, label] of in-hospital mortality; "los" and "decomp" are (masks, labels), each a
    list with one number for every hour 0, 1, 2, ...; "pheno" lists the labels of phenotyping.
    """

    def _read_listfile(self, listfile: Path, *, follow_links: bool) -> tuple[Names, NDArray[np.float64]]:
        listed, self._mortality, self._remaining, self._decompensation = read_multitask(
            listfile, follow_links=follow_links
        )
        self._phenotypes = listed.labels.astype(np.int64)
        return listed.stays, listed.hours

    def _targets(self, row: int) -> dict[str, Any]:
        los_masks, los_labels = self._remaining.of(row)
        decomp_masks, decomp_labels = self._decompensation.of(row)
        return {
            "ihm": self._mortality[row].tolist(),
            "los": (los_masks.astype(np.int64).tolist(), los_labels.tolist()),
            "pheno": self._phenotypes[row].tolist(),
            "decomp": (decomp_masks.astype(np.int64).tolist(), decomp_labels.astype(np.int64).tolist()),
        }


def read_chunk(reader: Reader, chunk_size: int) -> dict[str, Any]:
    """Read the next `chunk_size` samples: a list for each key of `read_example`, but one header for all."""
    examples = [reader.read_next() for _ in range(chunk_size)]
    chunk: dict[str, Any] = {key: [example[key] for example in examples] for key in examples[0]}
    chunk["header"] = chunk["header"][0]
    return chunk


def load_data(
    reader: Reader,
    discretizer: Any,
    normalizer: Any | None,
    small_part: bool = False,
    return_names: bool = False,
) -> Any:
    """Read all stays of a reader of in-hospital mortality into arrays.

    Args:
        reader: any object with the methods of `InHospitalMortalityReader`.
        discretizer: any object with the benchmarks' `transform(X, end=hours)`.
        normalizer: any object with the benchmarks' `transform(X)`, or None.
        small_part: read the first 1000 stays only.
        return_names: return `{"data": (X, y), "names": [...]}` instead of `(X, y)`.

    Returns:
        X, float64 [N, T, D], and the list of N labels.
    """
    chunk = read_grids(reader, discretizer, normalizer, small_part)
    whole = np.array(chunk["X"]), chunk["y"]
    return {"data": whole, "names": chunk["name"]} if return_names else whole


def read_grids(
    reader: Reader, discretizer: Any, normalizer: Any | None, small_part: bool = False
) -> dict[str, Any]:
    """Read all samples of a reader, or the first 1000: a list for each key of `read_example`.

    "X" lists the grids [T, D], so that the texts of only one stay are held at a time.
    """
    samples = reader.get_number_of_examples()
    steps = preparation(discretizer, normalizer)
    examples = []
    for _ in range(min(SMALL_PART, samples) if small_part else samples):
        example = reader.read_next()
        examples.append({**example, "X": steps(example["X"], example["t"])})
    return {key: [example[key] for example in examples] for key in examples[0]}


def save_results(names: Sequence[str], pred: Any, y_true: Any, path: PathText) -> None:
    """Write predictions as CSV with the columns `stay,prediction,y_true`; make the folder if needed."""
    cells = (f"{name},{p:.6f},{int(y)}" for name, p, y in zip(names, pred, y_true, strict=True))
    write_results("stay,prediction,y_true", cells, path)


def write_results(header: str, lines: Iterable[str], path: PathText) -> None:
    """Write lines below a header; make the folder if needed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "".join(f"{line}\n" for line in (header, *lines)))


def preparation(discretizer: Any, normalizer: Any | None) -> Callable[[Any, float], NDArray[np.float64]]:
    """Return a function that makes a grid [T, D] of the rows and hours of a stay."""

    def transform(rows: Any, hours: float) -> NDArray[np.float64]:
        grid = discretizer.transform(rows, end=hours)[0]
        return grid if normalizer is None else normalizer.transform(grid)

    return transform
