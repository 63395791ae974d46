"""Read files of predictions, with the columns that the benchmarks' evaluation scripts read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimic3tf.data.directory import read_listfile
from mimic3tf.data.records import CHARACTERS_SHOWN
from mimic3tf.described import Described
from mimic3tf.errors import DataError, private
from mimic3tf.storage.files import PathText, read_file
from mimic3tf.tasks.registry import MORTALITY

STAY, PREDICTION, LABEL = "stay", "prediction", "y_true"
"""Columns of a file of predictions; others are not read."""


@dataclass(frozen=True, repr=False)
class Predictions(Described):
    """The predictions in a file.

    Attributes:
        path: the file.
        lines: int64 [N], the line of each prediction.
        stays: names [N] of the stays, in file order; they differ.
        probabilities: float64 [N], predicted probability of label 1.
        labels: int64 [N], 0 or 1; None if the file has no column `y_true`.
    """

    path: Path
    lines: NDArray[np.int64]
    stays: NDArray[np.str_]
    probabilities: NDArray[np.float64]
    labels: NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.stays)


def read_predictions(path: PathText) -> Predictions:
    """Read a CSV file with the columns stay, prediction and, if it has it, y_true.

    Raises:
        DataError: the file cannot be read, lacks a column or lists no stay; a prediction is no number from 0
            to 1, a label is not 0 or 1, or a stay is listed twice; names the line.
    """
    path = Path(path)
    rows = _rows_of(path)
    lines = rows["line"].to_numpy()
    repeated = rows.filter(~pl.col(STAY).is_first_distinct())
    if len(repeated):
        line, stay, *_ = repeated.row(0)
        raise DataError(f"{path}, line {line}: stay '{_shown(stay)}' is listed twice")
    numbers = rows.with_columns(
        pl.col(name).str.strip_chars().cast(pl.Float64, strict=False) for name in rows.columns[2:]
    )
    # A text that is no number is null, which is no sound prediction either.
    sound = {
        PREDICTION: (pl.col(PREDICTION).is_between(0, 1), "a prediction is a number from 0 to 1"),
        LABEL: (pl.col(LABEL).is_in([0.0, 1.0]), "labels are 0 or 1"),
    }
    for name in rows.columns[2:]:
        as_it_must_be, expected = sound[name]
        for row in numbers.select(pl.arg_where(~as_it_must_be.fill_null(False)))[name].head(1):
            held = private(rows[name][row][:CHARACTERS_SHOWN])
            raise DataError(f"{path}, line {lines[row]}: column '{name}' holds '{held}'; {expected}")
    return Predictions(
        path,
        lines,
        np.array(rows[STAY].to_list()),
        numbers[PREDICTION].to_numpy(),
        numbers[LABEL].cast(pl.Int64).to_numpy() if LABEL in numbers.columns else None,
    )


def _rows_of(path: Path) -> pl.DataFrame:
    """Read the cells of a file as texts: columns line, stay, prediction and, if the file has it, y_true."""
    try:
        text = read_file(path).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text: {error}") from None
    first, *rest = text.split("\n")
    header = first.split(",")
    for name in (STAY, PREDICTION):
        if header.count(name) != 1:
            raise DataError(
                f"{path}, line 1: the header must name the column '{name}' once; it reads "
                f"'{private(first[:80])}'. The columns are {STAY},{PREDICTION},{LABEL}"
            )
    table = pl.DataFrame(
        {"line": np.arange(2, 2 + len(rest)), "text": rest}, schema_overrides={"text": pl.String}
    )
    table = table.filter(pl.col("text") != "").with_columns(cells=pl.col("text").str.split(","))
    if not len(table):
        raise DataError(f"{path}: holds no predictions")
    for line, count in (
        table.select("line", pl.col("cells").list.len()).filter(pl.col("cells") != len(header)).head(1).rows()
    ):
        raise DataError(f"{path}, line {line}: has {count} cells; the header has {len(header)}")
    names = [STAY, PREDICTION, *([LABEL] if LABEL in header else [])]
    return table.select("line", *(pl.col("cells").list.get(header.index(name)).alias(name) for name in names))


def in_order_of(
    predictions: Predictions, stays: Sequence[str], labels: NDArray[np.int64] | None, source: Path
) -> Predictions:
    """Bring predictions into the order of some stays, which are matched by name.

    Args:
        predictions: the predictions.
        stays: names [N] of the stays; each must have one prediction, and no other stay any.
        labels: int64 [N], labels of these stays; those in the predictions, if any, must be equal. None takes
            the labels of the predictions.
        source: the file that lists these stays and labels.

    Returns:
        The predictions of the stays, with `labels`.

    Raises:
        DataError: a stay has no prediction, a prediction is of another stay, or a label differs; names file
            and line.
    """
    path = predictions.path
    place = {name: position for position, name in enumerate(predictions.stays.tolist())}
    missing = [name for name in stays if name not in place]
    if missing:
        raise DataError(
            f"{path}: has no prediction of stay '{_shown(missing[0])}', which {source} lists{_more(missing)}"
        )
    others = sorted(place.keys() - set(stays), key=place.__getitem__)
    if others:
        line = predictions.lines[place[others[0]]]
        raise DataError(f"{path}, line {line}: stay '{_shown(others[0])}' is not in {source}{_more(others)}")
    order = np.array([place[name] for name in stays])
    held = None if predictions.labels is None else predictions.labels[order]
    if labels is not None and held is not None and (held != labels).any():
        first = int(np.flatnonzero(held != labels)[0])
        raise DataError(
            f"{path}, line {predictions.lines[order[first]]}: column '{LABEL}' of stay "
            f"'{_shown(stays[first])}' holds {held[first]}, but {source} has {labels[first]}"
        )
    return Predictions(
        path,
        predictions.lines[order],
        predictions.stays[order],
        predictions.probabilities[order],
        held if labels is None else labels,
    )


def with_labels_of(predictions: Predictions, listfile: Path) -> Predictions:
    """Bring predictions of in-hospital mortality into the order of a listfile, and give them its labels.

    Raises:
        DataError: the listfile is malformed, or `in_order_of` refuses the predictions.
    """
    entries = read_listfile(listfile, MORTALITY, follow_links=True)
    labels = np.array([label for _, label in entries], np.int64)
    return in_order_of(predictions, [stay for stay, _ in entries], labels, listfile)


def _shown(stay: str) -> str:
    return private(stay[:CHARACTERS_SHOWN])


def _more(found: Sequence[object]) -> str:
    return f" (and {len(found) - 1} more)" if len(found) > 1 else ""
