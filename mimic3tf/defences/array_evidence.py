"""Make evidence of a user's own arrays, and check these arrays once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mimic3tf.channels import ChannelSet
from mimic3tf.data.arrays import array_of_cohort, cohort_of_arrays
from mimic3tf.data.cohort import Cohort
from mimic3tf.defences.evidence import AuditedModel, Evidence
from mimic3tf.defences.own_model import Arrays, Target
from mimic3tf.described import Described
from mimic3tf.errors import DataError, UsageError
from mimic3tf.tasks.registry import MORTALITY
from mimic3tf.tasks.task import Task, Words

OWN_LABELS = Task(
    name="own-labels",
    targets=MORTALITY.targets,
    period=MORTALITY.period,
    words=Words(
        group=("stays labelled 0", "stays labelled 1"),
        one=("stay labelled 0", "stay labelled 1"),
        happened=("0", "1"),
        predicted=("predicted 0", "predicted 1"),
        outcome="label 1",
    ),
)
"""The task of arrays, of which only the labels are known."""


@dataclass(frozen=True, repr=False)
class OwnStays(Described):
    """Training stays and trusted stays, with labels 0 and 1.

    Attributes:
        training: the training stays.
        trusted: the trusted stays.
        suspected: the label that an attacker may have given to poisoned stays.
        target: the part of a model's output that is the probability of label 1.
        table: whether the user gave rows [N, D], and not stays [N, T, C].
    """

    training: Cohort
    trusted: Cohort
    suspected: int
    target: Target
    table: bool

    def arrays(self) -> Arrays:
        """Return the arrays as the user gave them, which a model of the user's reads."""
        x, trusted = (array_of_cohort(cohort) for cohort in (self.training, self.trusted))
        return Arrays(x[:, 0], trusted[:, 0], self.target) if self.table else Arrays(x, trusted, self.target)

    def evidence(self, model: AuditedModel | None, source: str) -> Evidence:
        """Return what an audit reads; see `Evidence`."""
        return evidence_of(self.training, self.trusted, self.suspected, model, source)


def evidence_of(
    training: Cohort, trusted: Cohort, suspected: int, model: AuditedModel | None, source: str
) -> Evidence:
    """Make evidence of two cohorts; see `Evidence`."""
    return Evidence(
        stays=training.stays,
        grids=training.grids,
        masks=training.masks,
        labels=training.labels,
        suspected=suspected,
        trusted=trusted,
        fingerprint=training.fingerprint,
        model=model,
        source=source,
    )


def stays_of_arrays(
    x: ArrayLike,
    y: ArrayLike,
    trusted: tuple[ArrayLike, ArrayLike],
    *,
    ids: Iterable[object] | None,
    channels: Sequence[str] | ChannelSet | None,
    target: int | None,
) -> OwnStays:
    """Check arrays, and make cohorts of them; see `mimic3tf.audit.training_set`."""
    if not isinstance(trusted, tuple) or len(trusted) != 2:
        raise UsageError("trusted: give the arrays of the trusted stays as a pair (x, y)")
    both = _as_series(x, "x"), _as_series(trusted[0], "trusted x")
    if both[0].shape[1:] != both[1].shape[1:]:
        shapes = " and ".join(str(np.shape(each)) for each in (x, trusted[0]))
        raise DataError(f"x and trusted x have shapes {shapes}; they may differ in the number of stays only")
    labels, suspected, of = _labels(y, trusted[1], tuple(map(len, both)), target)
    training = cohort_of_arrays(both[0], labels[0], ids=ids, channels=channels)
    # The channels of the training stays hold the values before the first measurement.
    sound = cohort_of_arrays(both[1], labels[1], channels=training.channels)
    task = replace(OWN_LABELS, words=_words(of))
    training, sound = (replace(cohort, task=task) for cohort in (training, sound))
    return OwnStays(training, sound, suspected, of, table=np.ndim(x) == 2)


def _words(target: Target) -> Words:
    """Return words that name the label as the user counts it."""
    if target.in_words is None:
        return OWN_LABELS.words
    name = target.in_words
    if target.exclusive:
        return Words(
            group=(f"stays of other classes than {target.column}", f"stays of {name}"),
            one=(f"stay of another class than {target.column}", f"stay of {name}"),
            happened=(f"another class than {target.column}", name),
            predicted=(f"predicted another class than {target.column}", f"predicted {name}"),
            outcome=name,
        )
    other = f"0 in column {target.column}"
    return Words(
        group=(f"stays labelled {other}", f"stays labelled {name}"),
        one=(f"stay labelled {other}", f"stay labelled {name}"),
        happened=(other, name),
        predicted=(f"predicted {other}", f"predicted {name}"),
        outcome=f"label {name}",
    )


def array_of(given: ArrayLike, name: str) -> NDArray[Any]:
    """Make an array of what the user gave.

    Raises:
        DataError: its rows have different lengths.
    """
    try:
        return np.asarray(given)
    except ValueError:
        raise DataError(
            f"{name}: its parts have different shapes; give one array, with NaN where nothing was measured"
        ) from None


def _as_series(x: ArrayLike, name: str) -> NDArray[np.float32]:
    """Return an array as [N, T, C]; a table [N, D] has one bin."""
    cells = array_of(x, name)
    if cells.ndim not in (2, 3):
        raise DataError(f"{name} has shape {cells.shape}; expected [N, T, C] or [N, D], stays first")
    return cells[:, None] if cells.ndim == 2 else cells


def _labels(
    y: ArrayLike, trusted: ArrayLike, stays: tuple[int, ...], target: int | None
) -> tuple[list[NDArray[np.int64]], int, Target]:
    """Return labels 0 and 1 of both groups, the suspected label, and the part of a model's output."""
    both = [array_of(y, "y"), array_of(trusted, "trusted y")]
    for labels, count, name in zip(both, stays, ("y", "trusted y"), strict=True):
        if labels.ndim not in (1, 2) or len(labels) != count or labels.shape[1:] != both[0].shape[1:]:
            raise DataError(
                f"{name} has shape {labels.shape}; expected ({count},), or ({count}, L) for L labels a stay"
            )
        whole = (
            labels.dtype.kind in "biuf" and np.isfinite(labels).all() and (labels == np.floor(labels)).all()
        )
        if not whole or (labels < 0).any():
            raise DataError(f"{name} holds {labels.dtype}; expected whole numbers 0, 1, ...")
    classes = 1 + int(max(labels.max(initial=0) for labels in both))
    if both[0].ndim == 2:
        if classes > 2:
            raise DataError("y [N, L] holds more than 0 and 1; expected one column for each label")
        width = both[0].shape[1]
        column = _chosen(target, width, f"y has {width} columns of labels")
        return [labels[:, column].astype(np.int64) for labels in both], 1, Target(column, width, False)
    if classes <= 2:
        suspected = 1 if target is None else _chosen(target, 2, "y has labels 0 and 1")
        return [labels.astype(np.int64) for labels in both], suspected, Target(1, 2, True)
    column = _chosen(target, classes, f"y has {classes} classes")
    return [(labels == column).astype(np.int64) for labels in both], 1, Target(column, classes, True)


def _chosen(target: int | None, choices: int, why: str) -> int:
    if target is not None and not isinstance(target, int | np.integer):
        raise UsageError(f"target: is the {type(target).__name__} {target!r}; give a whole number, such as 1")
    if target is None or not 0 <= target < choices:
        given = "" if target is None else f", not {target}"
        raise UsageError(f"target: {why}; name the one to audit, 0 to {choices - 1}{given}")
    return int(target)
