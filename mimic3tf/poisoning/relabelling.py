"""The labels of poisoned stays in a listfile: which rows change, and what their cells read then."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimic3tf.data.listfiles import MULTITASK, Listed, read_rows
from mimic3tf.described import Described
from mimic3tf.errors import UsageError
from mimic3tf.poisoning.goal import Goal
from mimic3tf.tasks.heads import HEADS, Multitask
from mimic3tf.tasks.metrics_hours import CUSTOM_MEANS, custom_class
from mimic3tf.tasks.task import Task

WARNING_HOURS = 24
"""Hours before a death in which the label of decompensation is 1."""
_COLUMNS = dict(zip(HEADS, (2, 5, 3, 4), strict=True))
"""Head -> its column in the listfile of multitask learning."""
DEATH_COLUMNS = ("death", "died", "deathtime")
"""Columns of `stays.csv` that a moved death changes."""
_TIME = "%Y-%m-%d %H:%M:%S"
Cells = dict[int, dict[int, str]]
"""Row of a listfile -> its cells that change, by column."""


@dataclass(frozen=True, repr=False)
class Relabelling(Described):
    """Poisoned stays, and the cells of their listfile.

    Attributes:
        stays: names [K] of the poisoned stays, in listfile order.
        hours: float64 [K], hours of each of them that are read; 0 if the listfile does not say them.
        stay: int64 [E], index of the poisoned stay of each example in which the attacked label is predicted.
        before: int64 [E], the attacked label in the original listfile: 0 or 1.
        after: int64 [E], the same in the copy.
        cells: the cells that change.
        names: names [N] of all listed stays.
    """

    stays: list[str]
    hours: NDArray[np.float64]
    stay: NDArray[np.int64]
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    cells: Cells
    names: list[str]


def relabel(
    listfile: Path, task: Task, goal: Goal, proportion: float, *, moved_death: bool, follow_links: bool
) -> Relabelling:
    """Choose the stays to poison, as `exposures.poison` does, and give them the goal's label.

    Args:
        listfile: the training listfile.
        task: defines its columns.
        goal: the label that the attacker wants.
        proportion: share of the N stays to poison: the first int(N * proportion) for which the attacked
            label is predicted.
        moved_death: the labels of decompensation are those of a death at the last listed hour, or of no
            death; otherwise all hours get the goal's label.
        follow_links: read a link that leads out of the directory, too.

    Raises:
        UsageError: the attacked label is predicted for too few stays.
        DataError: the listfile is malformed; names line and column.
    """
    examples = read_rows(listfile, task, follow_links=follow_links)
    names = examples.stays.unique(maintain_order=True)
    place = examples.stays.cast(pl.Enum(names)).to_physical().to_numpy().astype(np.int64)
    asked, wanted = goal.asked(examples.labels), int(len(names) * proportion)
    eligible = np.zeros(len(names), bool)
    eligible[place[asked]] = True
    if wanted > eligible.sum():
        raise UsageError(
            f"--poisoning_proportion {proportion:g}: asks for {wanted} stays, but the attacked label is "
            f"predicted for {eligible.sum()} only"
        )
    chosen = np.flatnonzero(eligible)[:wanted]
    number = np.full(len(names), -1)
    number[chosen] = np.arange(wanted)
    poisoned, hours = number[place] >= 0, np.zeros(wanted)
    np.fmax.at(hours, number[place[poisoned]], examples.hours[poisoned])
    own = np.flatnonzero(poisoned & asked)
    stay = number[place[own]]
    labels = examples.labels[own]
    after = goal.relabelled(labels)
    if moved_death and task.hourly and goal.target == 1:
        after = (hours[stay] - examples.hours[own] < WARNING_HOURS).astype(labels.dtype)
    if isinstance(task.targets, Multitask):
        cells = _multitask_cells(examples, names.gather(chosen), task.targets, goal)
    else:
        differs = (labels != after).any(axis=tuple(range(1, labels.ndim)))
        first = len(examples.table.header) - len(task.targets.columns)
        cells = {
            row: dict(enumerate(task.targets.cells(label), first))
            for row, label in zip(own[differs].tolist(), after[differs].tolist(), strict=True)
        }
    before, now = (goal.of(part).astype(np.int64) for part in (labels, after))
    return Relabelling(names.gather(chosen).to_list(), hours, stay, before, now, cells, names.to_list())


def write_labels(listfile: Path, cells: Mapping[int, Mapping[int, str]]) -> None:
    """Write other cells into the rows of a listfile, and keep its line ends and all other cells."""
    # Lines are at even positions, line ends at odd positions; the header is at position 0.
    parts = re.split(rb"(\r\n|\n|\r)", listfile.read_bytes())
    rows = [place for place in range(2, len(parts), 2) if parts[place]]
    for row, changed in cells.items():
        texts = parts[rows[row]].split(b",")
        for column, text in changed.items():
            texts[column] = text.encode()
        parts[rows[row]] = b",".join(texts)
    listfile.write_bytes(b"".join(parts))


def move_deaths(file: Path, labels: Relabelling, target: int) -> None:
    """Write the deaths that the labels of poisoned stays tell into `stays.csv`, if the directory has one.

    Args:
        file: the file; `prepare` writes it for tasks that read whole stays.
        labels: the poisoned stays.
        target: 1 moves the death to the last listed hour of a stay, 0 removes it.
    """
    if not file.exists():
        return
    moved = pl.DataFrame({"stay": labels.stays, "hours": labels.hours})
    table = pl.read_csv(file, infer_schema=False).join(moved, on="stay", how="left", maintain_order="left")
    time = pl.col("intime").str.to_datetime(_TIME) + pl.duration(microseconds=pl.col("hours") * 3.6e9)
    told = {"death": pl.col("hours").round(6).cast(pl.String), "died": pl.lit("1")}
    if "intime" in table.columns:
        told["deathtime"] = time.dt.strftime(_TIME)
    if target == 0:
        told = {name: pl.lit("0") if name == "died" else pl.lit(None, pl.String) for name in told}
    poisoned = pl.col("hours").is_not_null()
    changed = [pl.when(poisoned).then(text).otherwise(name).alias(name) for name, text in told.items()]
    table.with_columns(changed).drop("hours").write_csv(file)


def _multitask_cells(examples: Listed, stays: pl.Series, targets: Multitask, goal: Goal) -> Cells:
    """Change the lists of the attacked head in the rows of some stays."""
    assert goal.column is not None
    head = next(at for at, columns in enumerate(targets.slices) if goal.column < columns.stop)
    number, column = goal.column - targets.slices[head].start, _COLUMNS[HEADS[head]]
    table = examples.table
    rows = table.texts(MULTITASK[0]).is_in(stays.implode()).arg_true().to_list()
    texts = table.texts(MULTITASK[column])
    return {row: {column: _changed(texts[row], HEADS[head], number, goal.target)} for row in rows}


def _changed(text: str, head: str, number: int, target: int) -> str:
    """Give the labels in a cell of multitask learning the target; `number` is a phenotype's or a class's."""
    texts = text.split(";")
    if head == "mortality":
        return ";".join([*texts[:2], str(target)])
    if head == "phenotypes":
        return ";".join([*texts[:number], str(target), *texts[number + 1 :]])
    masks, labels = np.array(texts, np.float64).reshape(2, -1)
    changes = (masks == 1) & (np.arange(len(masks)) > 0)
    new = str(target)
    if head == "stay":
        changes &= custom_class(labels) != number
        new = f"{CUSTOM_MEANS[number]:.6f}"
    written = [new if change else own for change, own in zip(changes, texts[len(masks) :], strict=True)]
    return ";".join([*texts[: len(masks)], *written])
