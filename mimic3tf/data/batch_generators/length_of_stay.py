"""Batches of hours for length of stay; the labels are classes of remaining hours, or the hours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mimic3tf.data.batch_generators.hours import HourSamples, HoursOfStays, save_hours
from mimic3tf.storage.files import PathText


class BatchGen(HourSamples):
    """One sample an hour, as mimic3-benchmarks' generator makes them; see `HourSamples`."""

    def next(self, return_y_true: bool = False) -> Any:
        """Return the next batch; with `return_y_true`, its data are (X, y, remaining hours [B])."""
        return self._next(return_y_true)


class BatchGenDeepSupervision(HoursOfStays):
    """All hours of a stay at once, as mimic3-benchmarks' generator gives them; see `HoursOfStays`."""

    def next(self, return_y_true: bool = False) -> Any:
        """Return the next batch; with `return_y_true`, its data are ((X, M), y, hours [B, T, 1])."""
        return self._next(return_y_true)


def save_results(names: Sequence[str], ts: Any, pred: Any, y_true: Any, path: PathText) -> None:
    """Write predictions [E] and labels [E], remaining hours; see `save_hours`."""
    save_hours(names, ts, pred, y_true, path, decimals=6)
