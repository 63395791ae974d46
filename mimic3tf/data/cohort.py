"""Cohorts: the stays of one split as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimic3tf.channels import MIMIC3, ChannelSet
from mimic3tf.data import grid as binning
from mimic3tf.described import Described
from mimic3tf.errors import DataError, UsageError
from mimic3tf.tasks.registry import MORTALITY, check_one_length
from mimic3tf.tasks.task import Task

TIMESTEP = 1.0
"""Hours of a bin if no other timestep is given."""


@dataclass(frozen=True, repr=False)
class Examples(Described):
    """The E predictions that are asked for in a cohort; for mortality one for each stay.

    Attributes:
        stay: int32 [E], index of the stay of each example.
        end: int16 [E], how many bins of its stay, from the first, each example reads.
        y: int8 [E], labels; int8 [E, K] if an example has K labels; float32 [E] if a label is a number.
        remaining: float64 [E], the remaining hours where the labels are their classes; else None.
    """

    stay: NDArray[np.int32]
    end: NDArray[np.int16]
    y: NDArray[Any]
    remaining: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.y)

    def take(self, places: NDArray[Any], stay: NDArray[np.int32]) -> Examples:
        """Select examples by index or mask; `stay` [E] gives each of all examples its new stay."""
        remaining = None if self.remaining is None else self.remaining[places]
        return Examples(stay[places], self.end[places], self.y[places], remaining)


@dataclass(frozen=True, repr=False)
class Cohort:
    """The measurements of N stays in C channels, with R bins in total.

    The bins of all stays follow one another without padding: stay i has the rows `starts[i]` to
    `starts[i + 1] - 1`.

    Attributes:
        channels: the channels.
        task: what is predicted.
        stays: series file names [N], in listfile order.
        starts: int64 [N + 1], the first row of every stay, then R.
        values: float32 [R, C] in channel units, category indices in categorical channels; imputed cells hold
            the last measurement, or before the first measurement the normal value.
        mask: bool [R, C], true where a cell was measured.
        filled: the filled grid, from which features are extracted, with the same R rows; None if the cohort
            was made from grids.
        examples: the predictions that are asked for.
        period: hours that were read of every stay; None if stays have lengths of their own.
        timestep: hours of a bin.
        fingerprint: SHA-256 (hex) of the listfile, series and channels from which the arrays were made.
    """

    channels: ChannelSet
    task: Task
    stays: NDArray[np.str_]
    starts: NDArray[np.int64]
    values: NDArray[np.float32]
    mask: NDArray[np.bool_]
    filled: binning.FilledGrid | None
    examples: Examples
    period: float | None
    timestep: float
    fingerprint: str

    def __len__(self) -> int:
        return len(self.stays)

    def __repr__(self) -> str:
        hours = "" if self.period is None else f" of {self.period:g} h"
        return (
            f"<Cohort: {len(self)} stays{hours}, bins of {self.timestep:g} h, "
            f"{len(self.channels)} channels, {len(self.examples)} examples of {self.task.name}>"
        )

    @property
    def labels(self) -> NDArray[Any]:
        """Labels of the examples, int64 [E] or [E, K], or float32 [E]; E is N if a stay is one example."""
        y = self.examples.y
        return y if y.dtype.kind == "f" else y.astype(np.int64)

    @property
    def truth(self) -> NDArray[Any]:
        """What predictions are measured by: the labels, or the remaining hours where labels are classes."""
        return self.labels if self.examples.remaining is None else self.examples.remaining

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of bins of every stay: int64 [N]."""
        return np.diff(self.starts)

    @property
    def example_rows(self) -> NDArray[np.int64]:
        """The row at which every example is predicted, the last that it reads: int64 [E]."""
        return self.starts[self.examples.stay] + self.examples.end - 1

    @property
    def bins(self) -> int:
        """Number of bins T that every stay has.

        Raises:
            UsageError: the stays have different lengths.
        """
        lengths = self.lengths
        if not len(lengths) or (lengths != lengths[0]).any():
            check_one_length(self.task, "this")
            raise UsageError("the stays have different lengths, and this needs stays of one length")
        return int(lengths[0])

    @property
    def grids(self) -> NDArray[np.float32]:
        """`values` as a view [N, T, C]; all stays must have the same length."""
        return self.values.reshape(len(self), self.bins, len(self.channels))

    @property
    def masks(self) -> NDArray[np.bool_]:
        """`mask` as a view [N, T, C]; all stays must have the same length."""
        return self.mask.reshape(len(self), self.bins, len(self.channels))

    @property
    def filled_grids(self) -> binning.FilledGrid:
        """`filled` as views [N, T, C] and [N, T]; all stays must have the same length.

        Raises:
            DataError: the cohort was made from grids and has no filled grid.
        """
        return self.filled_rows.reshape(len(self), self.bins)

    @property
    def filled_rows(self) -> binning.FilledGrid:
        """`filled`, [R, C] and [R].

        Raises:
            DataError: the cohort was made from grids and has no filled grid.
        """
        if self.filled is None:
            raise DataError("this cohort came as grids; features need the records (use load_cohort)")
        return self.filled

    def with_grids(
        self,
        values: NDArray[np.floating],
        *,
        mask: NDArray[np.bool_] | None = None,
        filled: binning.FilledGrid | None = None,
        labels: NDArray[np.integer] | None = None,
    ) -> Cohort:
        """Copy the cohort with other values, and optionally another mask, filled grid or labels.

        Args:
            values: [N, T, C].
            mask: [N, T, C]; the cohort's own if not given.
            filled: [N, T, C] and [N, T]; the cohort's own if not given.
            labels: [E]; the cohort's own if not given.

        Returns:
            The cohort with the new arrays.
        """
        rows = len(self.values)
        return replace(
            self,
            values=values.reshape(rows, -1).astype(np.float32, copy=False),
            mask=self.mask if mask is None else mask.reshape(rows, -1),
            filled=self.filled if filled is None else filled.reshape(rows),
            examples=self.examples
            if labels is None
            else replace(self.examples, y=np.asarray(labels, self.examples.y.dtype)),
        )

    def take(self, stays: NDArray[Any]) -> Cohort:
        """Select some of the stays, with their examples.

        Args:
            stays: indices, each at most once, or a boolean mask [N].

        Returns:
            The cohort of these stays, in the order of the indices.
        """
        chosen = np.arange(len(self))[stays]
        lengths = self.lengths[chosen]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        rows = ranges(self.starts[chosen], lengths)
        place = np.full(len(self), -1, np.int32)
        place[chosen] = np.arange(len(chosen))
        stay = place[self.examples.stay]
        # The examples are sorted by the new order of their stays.
        kept = np.argsort(stay, kind="stable")[(stay < 0).sum() :]
        return replace(
            self,
            stays=self.stays[chosen],
            starts=starts,
            values=self.values[rows],
            mask=self.mask[rows],
            filled=self.filled and self.filled.take(rows),
            examples=self.examples.take(kept, stay),
        )

    def first_hours(self, hours: float) -> Cohort:
        """Select the stays that last so many hours, and cut each of them to these hours.

        Returns:
            A cohort whose stays have the same length; it may hold no stay.
        """
        bins = binning.bin_count(hours, self.timestep)
        long = self.take(self.lengths >= bins)
        rows = ranges(long.starts[:-1], np.full(len(long), bins, np.int64))
        return replace(
            long,
            starts=np.arange(len(long) + 1, dtype=np.int64) * bins,
            values=long.values[rows],
            mask=long.mask[rows],
            filled=long.filled and long.filled.take(rows),
            examples=replace(long.examples, end=np.minimum(long.examples.end, bins).astype(np.int16)),
            period=hours,
        )


def ranges(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return `counts[i]` consecutive numbers from `starts[i]` on, for every i, one after the other."""
    return np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())


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
    """Make a cohort of grids of equal length, with one example for each stay.

    Args:
        stays: names of the stays [N].
        labels: labels of the stays [N].
        values: imputed values [N, T, C] in channel units, category indices in categorical channels.
        mask: [N, T, C], true where a cell was measured.
        filled: the filled grid of the same stays, [N, T, C] and [N, T].
        channels: the channels of the last axis.
        task: what is predicted.
        timestep: hours of a bin.
        period: hours of a stay that were read; the hours of all bins if not given.
        fingerprint: hash of the data from which the arrays were made.
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
