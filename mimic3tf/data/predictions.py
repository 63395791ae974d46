"""Read files of predictions, with the columns that the benchmarks' evaluation scripts read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimic3tf.data.listfiles import check_distinct, read_hourly, read_listfile, read_phenotyping
from mimic3tf.data.records import CHARACTERS_SHOWN
from mimic3tf.data.text_table import (
    HOURS,
    PREDICTED_HOURS,
    PROBABILITY,
    TextTable,
    read_text_table,
)
from mimic3tf.described import Described
from mimic3tf.errors import DataError, private
from mimic3tf.storage.files import PathText
from mimic3tf.tasks.registry import MORTALITY
from mimic3tf.tasks.rules import LABEL, REMAINING, Rule
from mimic3tf.tasks.task import PERIOD

STAY = "stay"


@dataclass(frozen=True)
class Form:
    """What the files of predictions of a task hold.

    Attributes:
        hourly: whether a stay has a prediction for each of several hours, which a column `PERIOD` names.
        many: whether there are several labels: the columns are numbered.
        predictions: column of the predictions, or what stands before its number.
        labels: column of the labels, likewise.
        prediction: what a prediction must be.
        label: what a label must be.
    """

    hourly: bool = False
    many: bool = False
    predictions: str = "prediction"
    labels: str = "y_true"
    prediction: Rule = PROBABILITY
    label: Rule = LABEL

    @property
    def key(self) -> tuple[str, ...]:
        """Columns that say of what a prediction is."""
        return (STAY, PERIOD) if self.hourly else (STAY,)


STAYS = Form()
FORMS = {
    MORTALITY.name: STAYS,
    "decompensation": Form(hourly=True),
    "length-of-stay": Form(hourly=True, prediction=PREDICTED_HOURS, label=REMAINING),
    "phenotyping": Form(many=True, predictions="pred_", labels="label_"),
}
"""Task -> what its files of predictions hold."""


@dataclass(frozen=True, repr=False)
class Predictions(Described):
    """The predictions in a file, in file order.

    Attributes:
        path: the file.
        lines: int64 [N], the line of each prediction.
        stays: names [N] of the stays; they differ, or their hours do.
        probabilities: float64 [N], predicted probability of label 1, or remaining hours; [N, K] if there are
            several labels.
        labels: int64, 0 or 1, or float64 remaining hours; of the same shape. None if the file has none.
        hours: float32 [N], hours of the stay that each prediction reads; None if a stay has one prediction.
    """

    path: Path
    lines: NDArray[np.int64]
    stays: NDArray[np.str_]
    probabilities: NDArray[np.float64]
    labels: NDArray[Any] | None
    hours: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.stays)


def read_predictions(path: PathText, form: Form = STAYS) -> Predictions:
    """Read a CSV file with the columns of a form, of which those of labels may be absent.

    Raises:
        DataError: the file cannot be read, lacks a column or lists no stay; a prediction or a label is not
            what it must be, or a stay (at an hour) is listed twice; names the line.
    """
    table = read_text_table(Path(path))
    predicted = _columns(table, form.predictions, form)
    labelled = _columns(table, form.labels, form)
    for name in (*form.key, *(predicted or [form.predictions + "1" * form.many])):
        if table.header.count(name) != 1:
            firsts = (column + "1" * form.many for column in (form.predictions, form.labels))
            expected = ",".join((*form.key, *firsts))
            raise DataError(
                f"{table.path}, line 1: the header must name the column '{name}' once; it reads "
                f"'{private(','.join(table.header)[:80])}'. The columns are {expected}{', ...' * form.many}"
            )
    if not len(table.rows):
        raise DataError(f"{table.path}: holds no predictions")
    if labelled and len(labelled) != len(predicted):
        raise DataError(
            f"{table.path}, line 1: names {len(predicted)} columns of predictions, {len(labelled)} of labels"
        )
    stays = table.texts(STAY)
    hours = table.numbers([PERIOD], HOURS)[:, 0].astype(np.float32) if form.hourly else None
    check_distinct(table, _keys(stays, hours))
    probabilities = table.numbers(predicted, form.prediction)
    labels = _typed(table.numbers(labelled, form.label), form) if labelled else None
    return Predictions(
        table.path,
        table.rows["line"].to_numpy().astype(np.int64),
        np.array(stays.to_list()),
        probabilities if form.many else probabilities[:, 0],
        labels if form.many or labels is None else labels[:, 0],
        hours,
    )


def _columns(table: TextTable, name: str, form: Form) -> list[str]:
    """List the columns with a name, or those with the name and a number, by their numbers."""
    if not form.many:
        return [name] if name in table.header else []
    found = [column for column in table.header if re.fullmatch(f"{name}[0-9]+", column)]
    numbered = [f"{name}{number}" for number in range(1, len(found) + 1)]
    if sorted(found) != sorted(numbered):
        raise DataError(f"{table.path}, line 1: the columns '{name}...' must be numbered 1 to {len(found)}")
    return numbered


def _typed(labels: NDArray[np.float64], form: Form) -> NDArray[Any]:
    # The benchmarks read remaining hours in single precision.
    return labels.astype(np.int64) if form.label is LABEL else labels.astype(np.float32).astype(np.float64)


def _keys(stays: Sequence[str] | pl.Series, hours: NDArray[np.float32] | None) -> pl.DataFrame:
    keys = pl.DataFrame({STAY: pl.Series(stays, dtype=pl.String)})
    return keys if hours is None else keys.with_columns(pl.Series(PERIOD, hours))


def in_order_of(
    predictions: Predictions,
    stays: Sequence[str] | pl.Series,
    labels: NDArray[Any] | None,
    source: Path,
    hours: NDArray[np.float32] | None = None,
) -> Predictions:
    """Bring predictions into the order of some stays, which are matched by name (and hour).

    Args:
        predictions: the predictions.
        stays: names [N] of the stays; each must have one prediction, and no other stay any.
        labels: labels of these stays, as in `Predictions`; those in the predictions, if any, must be equal.
            None takes the labels of the predictions.
        source: the file that lists these stays and labels.
        hours: float32 [N], the hours, if a stay has several predictions.

    Returns:
        The predictions of the stays, with `labels`.

    Raises:
        DataError: a stay has no prediction, a prediction is of another stay, or a label differs; names file
            and line.
    """
    path = predictions.path
    wanted = _keys(stays, hours)
    given = _keys(predictions.stays.tolist(), predictions.hours).with_row_index("row")
    places = wanted.join(given, on=wanted.columns, how="left", maintain_order="left")["row"]
    missing = wanted.filter(places.is_null())
    if len(missing):
        raise DataError(
            f"{path}: has no prediction of {_named(missing)}, which {source} lists{_more(len(missing))}"
        )
    others = given.join(wanted, on=wanted.columns, how="anti", maintain_order="left")
    if len(others):
        line = predictions.lines[others["row"][0]]
        raise DataError(
            f"{path}, line {line}: {_named(others.drop('row'))} is not in {source}{_more(len(others))}"
        )
    order = places.to_numpy()
    held = None if predictions.labels is None else predictions.labels[order]
    if labels is not None and held is not None and (held != labels).any():
        first, *column = np.argwhere(held != labels)[0].tolist()
        name = f"label_{column[0] + 1}" if column else "y_true"
        raise DataError(
            f"{path}, line {predictions.lines[order[first]]}: column '{name}' of {_named(wanted[first:])} "
            f"holds {held[first, *column]:.7g}, but {source} has {labels[first, *column]:.7g}"
        )
    return Predictions(
        path,
        predictions.lines[order],
        predictions.stays[order],
        predictions.probabilities[order],
        held if labels is None else labels,
        None if predictions.hours is None else predictions.hours[order],
    )


def with_labels_of(predictions: Predictions, listfile: Path, task: str = MORTALITY.name) -> Predictions:
    """Bring predictions of a task into the order of a listfile, and give them its labels.

    Raises:
        DataError: the listfile is malformed or has another number of labels, or `in_order_of` refuses the
            predictions.
    """
    form = FORMS[task]
    if task == MORTALITY.name:
        entries = read_listfile(listfile, MORTALITY, follow_links=True)
        labels = np.array([label for _, label in entries], np.int64)
        return in_order_of(predictions, [stay for stay, _ in entries], labels, listfile)
    if form.many:
        listed = read_phenotyping(listfile, follow_links=True)
        expected, found = listed.labels.shape[1], predictions.probabilities.shape[1]
        if expected != found:
            raise DataError(
                f"{predictions.path}: has {found} predictions a stay; {listfile} has {expected} labels"
            )
        return in_order_of(predictions, listed.stays, _typed(listed.labels, form), listfile)
    listed = read_hourly(listfile, form.label, follow_links=True)
    labels = _typed(listed.labels[:, 0], form)
    return in_order_of(predictions, listed.stays, labels, listfile, listed.hours.astype(np.float32))


def _named(keys: pl.DataFrame) -> str:
    """Name the first stay of a table, and its hour if there is one."""
    stay, *hours = keys.row(0)
    named = f"stay '{private(stay[:CHARACTERS_SHOWN])}'"
    return f"{named} at hour {private(f'{hours[0]:g}')}" if hours else named


def _more(count: int) -> str:
    return f" (and {count - 1} more)" if count > 1 else ""
