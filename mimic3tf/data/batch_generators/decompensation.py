"""Batches of hours for decompensation; the labels are 0 or 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mimic3tf.data.batch_generators.hours import HourSamples, HoursOfStays, save_hours
from mimic3tf.data.deep_supervision import DeepSupervisionDataLoader
from mimic3tf.data.readers import Reader
from mimic3tf.storage.files import PathText


class BatchGen(HourSamples):
    """One sample an hour, with the arguments of mimic3-benchmarks' generator; see `HourSamples`."""

    def __init__(
        self,
        reader: Reader,
        discretizer: Any,
        normalizer: Any | None,
        batch_size: int,
        steps: int | None,
        shuffle: bool,
        return_names: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            reader, "none", discretizer, normalizer, batch_size, steps, shuffle, return_names, seed
        )


class BatchGenDeepSupervision(HoursOfStays):
    """All hours of a stay at once, with the arguments of mimic3-benchmarks' generator; see `HoursOfStays`."""

    _label_type = np.int64

    def __init__(
        self,
        dataloader: DeepSupervisionDataLoader,
        discretizer: Any,
        normalizer: Any | None,
        batch_size: int,
        shuffle: bool,
        return_names: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(dataloader, "none", discretizer, normalizer, batch_size, shuffle, return_names, seed)


def save_results(names: Sequence[str], ts: Any, pred: Any, y_true: Any, path: PathText) -> None:
    """Write predictions [E] and labels [E], 0 or 1; see `save_hours`."""
    save_hours(names, ts, pred, y_true, path, decimals=0)
