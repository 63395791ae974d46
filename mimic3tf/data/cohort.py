"""Stays as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimic3tf.channels import MIMIC3, ChannelSet
from mimic3tf.data import grid as binning
from mimic3tf.described import Described
from mimic3tf.errors import DataError
from mimic3tf.tasks.registry import MORTALITY
from mimic3tf.tasks.task import Task

TIMESTEP = 1.0
"""Hours of a bin, unless told otherwise."""


@dataclass(frozen=True, repr=False)
class Examples(Described):
    """What is predicted of a cohort's stays: E examples, for mortality one of each stay.

    Attributes:
        stay: int32 [E], the stay of an example.
        end: int16 [E], the number of its stay's bins that an example reads.
        y: int8 [E], labels.
    """

    stay: NDArray[np.int32]
    end: NDArray[np.int16]
    y: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, repr=False)
class Cohort:
    """What was measured in N stays, R bins in all, of C channels.

    The bins of all stays lie one behind the other: stay i has the rows `starts[i]` to `starts[i + 1] - 1`.
    Nothing is padded.

    Attributes:
        channels: the channels.
        task: what is predicted.
        stays: series file names [N], in listfile order.
        starts: int64 [N + 1], first row of every stay, and R.
        values: float32 [R, C] in channel units, category indices in categorical channels; empty bins carry
            the last measurement forward, or the normal value.
        mask: bool [R, C], where measured.
        filled: the other grid, from which features are extracted, with rows as here; None if the stays came
            as grids.
        examples: what is predicted of which stay.
        period: hours of a stay that were read.
        timestep: hours of a bin.
        fingerprint: SHA-256 (hex) of the listfile and series the arrays were made from.
    """

    channels: ChannelSet
    task: Task
    stays: NDArray[np.str_]
    starts: NDArray[np.int64]
    values: NDArray[np.float32]
    mask: NDArray[np.bool_]
    filled: binning.FilledGrid | None
    examples: Examples
    period: float
    timestep: float
    fingerprint: str

    def __len__(self) -> int:
        return len(self.stays)

    def __repr__(self) -> str:
        return (
            f"<Cohort: {len(self)} stays of {self.period:g} h, bins of {self.timestep:g} h, "
            f"{len(self.channels)} channels, {len(self.examples)} examples of {self.task.name}>"
        )

    @property
    def labels(self) -> NDArray[np.int64]:
        """Labels of the examples: int64 [E], which is [N] where every stay is one example."""
        return self.examples.y.astype(np.int64)

    @property
    def bins(self) -> int:
        """Bins T of every stay.

        Raises:
            ValueError: the stays differ in length.
        """
        lengths = np.diff(self.starts)
        if not len(lengths) or (lengths != lengths[0]).any():
            raise ValueError("stays of different lengths have no common number of bins")
        return int(lengths[0])

    @property
    def grids(self) -> NDArray[np.float32]:
        """Values of stays of equal length: a view [N, T, C]."""
        return self.values.reshape(len(self), self.bins, len(self.channels))

    @property
    def masks(self) -> NDArray[np.bool_]:
        """Mask of stays of equal length: a view [N, T, C]."""
        return self.mask.reshape(len(self), self.bins, len(self.channels))

    @property
    def filled_grids(self) -> binning.FilledGrid:
        """The filled grid of stays of equal length: views [N, T, C] and [N, T].

        Raises:
            DataError: the stays came as grids.
        """
        if self.filled is None:
            raise DataError("this cohort came as grids; features need the records (use load_cohort)")
        return self.filled.reshape(len(self), self.bins)

    def with_grids(
        self,
        values: NDArray[np.floating],
        *,
        mask: NDArray[np.bool_] | None = None,
        filled: binning.FilledGrid | None = None,
        labels: NDArray[np.integer] | None = None,
    ) -> Cohort:
        """The same stays with other contents.

        Args:
            values: [N, T, C].
            mask: [N, T, C]; the cohort's own if not given.
            filled: [N, T, C] and [N, T]; the cohort's own if not given.
            labels: [E]; the cohort's own if not given.
        """
        rows = len(self.values)
        return replace(
            self,
            values=values.reshape(rows, -1).astype(np.float32, copy=False),
            mask=self.mask if mask is None else mask.reshape(rows, -1),
            filled=self.filled if filled is None else filled.reshape(rows),
            examples=self.examples
            if labels is None
            else replace(self.examples, y=np.asarray(labels, np.int8)),
        )

    def take(self, stays: NDArray[Any]) -> Cohort:
        """The cohort of some of the stays and their examples, by index or boolean mask [N].

        Args:
            stays: each at most once.
        """
        chosen = np.arange(len(self))[stays]
        lengths = np.diff(self.starts)[chosen]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        rows = np.repeat(self.starts[chosen] - starts[:-1], lengths) + np.arange(starts[-1])
        place = np.full(len(self), -1, np.int32)
        place[chosen] = np.arange(len(chosen))
        stay = place[self.examples.stay]
        # Examples follow their stays, in the order that was asked for.
        kept = np.argsort(stay, kind="stable")[(stay < 0).sum() :]
        return replace(
            self,
            stays=self.stays[chosen],
            starts=starts,
            values=self.values[rows],
            mask=self.mask[rows],
            filled=self.filled and self.filled.take(rows),
            examples=Examples(stay[kept], self.examples.end[kept], self.examples.y[kept]),
        )


def cohort_of(
    stays: Sequence[str] | NDArray[np.str_],
    labels: Iterable[int],
    values: NDArray[np.floating],
    mask: NDArray[np.bool_],
    *,
    filled: binning.FilledGrid | None = None,
    channels: ChannelSet = MIMIC3,
    task: Task = MORTALITY,
    timestep: float = TIMESTEP,
    period: float | None = None,
    fingerprint: str = "",
) -> Cohort:
    """Put grids of equal length together as a cohort with one example a stay.

    Args:
        stays: names [N].
        labels: [N].
        values: [N, T, C] in channel units, category indices in categorical channels, imputed.
        mask: [N, T, C], where measured.
        filled: the other grid, [N, T, C] and [N, T].
        channels: the channels of the last axis.
        task: what is predicted.
        timestep: hours of a bin.
        period: hours of a stay; all bins' hours if not given.
        fingerprint: of what the arrays were made from.
    """
    count, bins, _ = values.shape
    examples = Examples(
        np.arange(count, dtype=np.int32),
        np.full(count, bins, np.int16),
        np.asarray(list(labels), np.int8),
    )
    return Cohort(
        channels,
        task,
        np.array(stays),
        np.arange(count + 1, dtype=np.int64) * bins,
        np.ascontiguousarray(values, np.float32).reshape(count * bins, -1),
        np.ascontiguousarray(mask).reshape(count * bins, -1),
        filled and filled.reshape(count * bins),
        examples,
        bins * timestep if period is None else period,
        timestep,
        fingerprint,
    )
