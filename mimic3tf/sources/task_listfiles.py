"""The listfiles of tasks that read whole stays, by the rules of the benchmarks (Harutyunyan et al. 2019).

The hours of the hourly tasks are whole: 0, 1, 2, ... up to the end of the stay; decompensation ends with the
death, if this is earlier. An hour is a sample if it is later than 4 and later than the stay's first row. A
microhour counts as nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimic3tf.data.directory import SPLITS, Split
from mimic3tf.described import Described
from mimic3tf.sources.cohort_rules import EPSILON
from mimic3tf.sources.layout import Samples, batches
from mimic3tf.tasks.phenotypes import PHENOTYPES
from mimic3tf.tasks.registry import DECOMPENSATION, MORTALITY_HOURS, MULTITASK, PHENOTYPING
from mimic3tf.tasks.task import Task

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

LAST_HOUR_WITHOUT = 4.0
"""Last hour of a stay at which no hourly task asks for a prediction."""
HORIZON = 24.0
"""Hours within which a death makes the label of decompensation 1."""
HOURS_A_BATCH = 200_000
"""Number of hours whose rows are in memory at once."""


@dataclass(frozen=True, repr=False)
class WholeStays(Described):
    """What the listfiles of all tasks are made of.

    Attributes:
        hours: float64 [N], length of each stay.
        first: float64 [N], hour of its first row.
        lived: float64 [N], hours from the start of the stay to the death; infinite if its time is not known.
        died: int64 [N], 1 where the patient died in hospital.
        phenotypes: int8 [N, 25], 1 where the admission has the phenotype; None if the task needs none.
    """

    hours: Floats
    first: Floats
    lived: Floats
    died: Integers
    phenotypes: NDArray[np.int8] | None = None

    def take(self, stays: Integers) -> WholeStays:
        """Return some of the stays, in the order of their indices."""
        phenotypes = None if self.phenotypes is None else self.phenotypes[stays]
        return WholeStays(
            self.hours[stays], self.first[stays], self.lived[stays], self.died[stays], phenotypes
        )


def samples_of(
    stays: WholeStays, names: Sequence[str], splits: Mapping[str, Integers], task: Task
) -> dict[Split, Iterator[Samples]]:
    """Make the rows of each split's listfile, some stays at a time.

    Args:
        stays: the stays [N].
        names: their file names [N].
        splits: split -> indices of its stays, in the order of the listfile.
        task: a task that reads whole stays.
    """
    listed = pl.Series("stay", names, pl.String)

    def of_split(indices: Integers) -> Iterator[Samples]:
        counts = _counts(stays.hours[indices]) if task.hourly else np.ones(len(indices), np.int64)
        for start, end in batches(counts, HOURS_A_BATCH) if len(indices) else ():
            part = indices[start:end]
            yield _samples(stays.take(part), listed.gather(part), task)

    return {split: of_split(splits[split]) for split in SPLITS}


def _samples(stays: WholeStays, names: pl.Series, task: Task) -> Samples:
    if task == MULTITASK:
        return _multitask(stays, names)
    if task == PHENOTYPING:
        phenotypes = _phenotypes(stays)
        return Samples(pl.DataFrame({"stay": names, "period_length": stays.hours, **phenotypes}), phenotypes)
    if task == DECOMPENSATION:
        stay, hour, asked = _hours_of(stays, stays.lived)
        labels = _decompensates(stays, stay, hour)[asked]
        return Samples(_hourly(names, stay[asked], hour[asked], labels), {"y_true": labels})
    stay, hour, asked = _hours_of(stays)
    remaining = _remaining(stays, stay, hour)[asked]
    return Samples(_hourly(names, stay[asked], hour[asked], remaining), {})


def _hourly(names: pl.Series, stay: Integers, hour: Floats, label: Integers | Floats) -> pl.DataFrame:
    return pl.DataFrame({"stay": names.gather(stay), "period_length": hour, "y_true": label})


def _phenotypes(stays: WholeStays) -> dict[str, NDArray[np.int8]]:
    if stays.phenotypes is None:
        raise ValueError("phenotypes are not known")
    return dict(zip(PHENOTYPES, stays.phenotypes.T, strict=True))


def _counts(ends: Floats) -> Integers:
    """Count the whole hours 0, 1, 2, ... up to each end."""
    return np.maximum(np.ceil(ends + EPSILON), 0).astype(np.int64)


def _hours_of(stays: WholeStays, until: Floats | None = None) -> tuple[Integers, Floats, NDArray[np.bool_]]:
    """List the whole hours of all stays, up to `until` if that is earlier than the end of the stay.

    Returns:
        Stay and hour of each, in order; and whether it is a sample.
    """
    counts = _counts(stays.hours if until is None else np.minimum(stays.hours, until))
    stay = np.repeat(np.arange(len(counts)), counts)
    hour = (np.arange(len(stay)) - np.repeat(np.cumsum(counts) - counts, counts)).astype(np.float64)
    return stay, hour, (hour > LAST_HOUR_WITHOUT) & (hour > stays.first[stay])


def _decompensates(stays: WholeStays, stay: Integers, hour: Floats) -> Integers:
    """Label of each hour: 1 if the patient dies in hospital, and in less than 24 hours."""
    return ((stays.died[stay] == 1) & (stays.lived[stay] - hour < HORIZON)).astype(np.int64)


def _remaining(stays: WholeStays, stay: Integers, hour: Floats) -> Floats:
    """Hours from each hour to the end of the stay; at least 0, where the benchmarks may write -0.000000."""
    return np.maximum(stays.hours[stay] - hour, 0.0) + 0.0


def _multitask(stays: WholeStays, names: pl.Series) -> Samples:
    known = (stays.hours >= MORTALITY_HOURS - EPSILON) & (stays.first <= MORTALITY_HOURS + EPSILON)
    mortality = pl.DataFrame({"position": 47 * known, "mask": known.astype(int), "label": stays.died})
    stay, hour, asked = _hours_of(stays)
    alive_stay, alive, alive_asked = _hours_of(stays, stays.lived)
    decompensates = _decompensates(stays, alive_stay, alive)
    phenotypes = _phenotypes(stays)
    columns = (
        names,
        _decimals(stays.hours),
        mortality.select(pl.concat_str(pl.all(), separator=";")).to_series(),
        _lists(len(names), stay, asked, _decimals(_remaining(stays, stay, hour))),
        pl.DataFrame(phenotypes).select(pl.concat_str(pl.all(), separator=";")).to_series(),
        _lists(len(names), alive_stay, alive_asked, pl.Series(decompensates).cast(pl.String)),
    )
    rows = pl.DataFrame(dict(zip(MULTITASK.header.split(","), columns, strict=True)))
    heads = {"in-hospital mortality": stays.died[known], "decompensation": decompensates[alive_asked]}
    return Samples(rows, {**heads, **phenotypes})


def _decimals(numbers: Floats) -> pl.Series:
    """Write numbers with six decimals."""
    text = pl.DataFrame({"number": numbers}).write_csv(include_header=False, float_precision=6)
    return pl.Series([text.removesuffix("\n")]).str.split("\n").explode().head(len(numbers))


def _lists(count: int, stay: Integers, masks: NDArray[np.bool_], labels: pl.Series) -> pl.Series:
    """Write the masks and then the labels of the hours of each of `count` stays, joined by semicolons."""
    joined = (
        pl.DataFrame({"stay": stay, "mask": masks.astype(np.int8), "label": labels})
        .group_by("stay")
        .agg(pl.col("mask").cast(pl.String).str.join(";"), pl.col("label").str.join(";"))
    )
    return (
        pl.DataFrame({"stay": np.arange(count)})
        .join(joined, on="stay", how="left", maintain_order="left")
        .select(pl.concat_str(pl.col("mask", "label").fill_null(""), separator=";"))
        .to_series()
    )
