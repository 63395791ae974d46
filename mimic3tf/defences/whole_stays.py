"""Stays of any task as defences read them: of one length, with one label, 0 or 1, of the whole stay.

An attacker poisons a stay as a whole, whatever is predicted at its hours. So detectors compare whole stays:
their first hours, and the label that is attacked.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mimic3tf.data.cohort import Cohort, Examples
from mimic3tf.data.grid import bin_count
from mimic3tf.poisoning.goal import Goal
from mimic3tf.tasks.targets import Binary
from mimic3tf.tasks.task import Task, Words

HOURS = 48.0
"""Hours of a stay that detectors compare."""


def whole_stays(cohort: Cohort, goal: Goal, label: str | None) -> tuple[Cohort, NDArray[np.int64]]:
    """Cut stays to their first 48 hours, and give each of them one label.

    A shorter stay is filled up with cells that are not measured, which hold the last measurement. The label
    of a stay is the attacked label; of an hourly task, whether any hour has it, or whether half of the hours
    are of the class. Stays for which the attacked label is not predicted are left out.

    Args:
        cohort: the N stays.
        goal: says which label is attacked.
        label: name of this label; None if an example has one.

    Returns:
        The stays, and their indices in `cohort`: int64 [K].
    """
    kept, labels = stay_labels(cohort, goal)
    some, bins = cohort.take(kept), bin_count(HOURS, cohort.timestep)
    number = np.arange(bins)
    rows = (some.starts[:-1, None] + np.minimum(number, some.lengths[:, None] - 1)).ravel()
    inside = (number < some.lengths[:, None]).ravel()
    order = np.arange(len(some), dtype=np.int32)
    stays = replace(
        some,
        task=_task_of_stays(cohort.task, goal, label),
        starts=np.arange(len(some) + 1, dtype=np.int64) * bins,
        values=some.values[rows],
        mask=some.mask[rows] & inside[:, None],
        filled=some.filled and some.filled.take(rows),
        examples=Examples(order, np.full(len(some), bins, np.int16), labels.astype(np.int8)),
        period=HOURS,
    )
    return stays, kept


def stay_labels(cohort: Cohort, goal: Goal) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the stays for which the attacked label is predicted, int64 [K], and their labels [K]."""
    own, stay = goal.of(cohort.labels), cohort.examples.stay
    asked, has = (np.bincount(stay[flags], minlength=len(cohort)) for flags in (own >= 0, own == 1))
    kept = np.flatnonzero(asked)
    labels = has[kept] > 0 if goal.classes is None else 2 * has[kept] >= asked[kept]
    return kept, labels.astype(np.int64)


def stay_risks(cohort: Cohort, goal: Goal, risks: NDArray[np.floating]) -> NDArray[np.float64]:
    """Make one risk of each stay, so that it is above a threshold where `stay_labels` would say 1.

    Args:
        cohort: the N stays; the attacked label is predicted for each of them.
        goal: says which label is attacked.
        risks: probability of the attacked label of every example [E].

    Returns:
        The largest risk of each stay, or that which half of the hours reach if the label is a class: [N].
    """
    asked = np.flatnonzero(goal.asked(cohort.labels))
    stay = cohort.examples.stay[asked]
    descending = asked[np.lexsort((-risks[asked], stay))]
    hours = np.bincount(stay, minlength=len(cohort))
    place = np.zeros_like(hours) if goal.classes is None else (hours + 1) // 2 - 1
    return np.asarray(risks[descending[np.cumsum(hours) - hours + place]], np.float64)


def held(grids: NDArray[np.float32], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
    """Let the bins after the end of each stay, of grids [N, T, C], hold its last bin."""
    last = np.minimum(np.arange(grids.shape[1]), lengths[:, None] - 1)
    return np.take_along_axis(grids, last[:, :, None], axis=1)


def _task_of_stays(task: Task, goal: Goal, label: str | None) -> Task:
    """Return the task with one label of a whole stay, and words that name this label."""
    without, having = "stays without hours before a death", "stays with hours before a death"
    if goal.classes is not None:
        without, having = f"stays of other classes than '{label}'", f"stays of the class '{label}'"
    elif label is not None:
        without, having = f"stays without '{label}'", f"stays with '{label}'"
    rest = tuple(group.removeprefix("stays ") for group in (without, having))
    words = Words(
        group=(without, having),
        one=(f"stay {rest[0]}", f"stay {rest[1]}"),
        happened=(f"is {rest[0]}", f"is {rest[1]}"),
        predicted=(f"predicted to be {rest[0]}", f"predicted to be {rest[1]}"),
        outcome=rest[1],
    )
    return replace(task, targets=Binary(), period=HOURS, words=words, hourly=False)
