"""Batches of the hourly tasks: one sample an hour, or all hours of a stay at once (deep supervision)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mimic3tf.data.batch_generators.batches import Batches, padded, select, sorted_by_length
from mimic3tf.data.batch_generators.stays import StayBatches
from mimic3tf.data.deep_supervision import DeepSupervisionDataLoader
from mimic3tf.data.grid import EPSILON, bins_of
from mimic3tf.data.readers import Reader, preparation, write_results
from mimic3tf.storage.files import PathText
from mimic3tf.tasks.metrics_hours import Partition, check_partition, targets_of

LARGEST_CHUNK = 1024
"""Largest number of batches of which the samples are sorted by length together."""


class HourSamples(Batches):
    """Batches of a reader's samples, one for each hour: X [B, T, D] and y [B].

    Grids are made when their batch is asked for, so that memory holds one batch.

    Args:
        reader: any object with the methods of the task's reader.
        partition: how y tells the label: see `targets_of`.
        discretizer: any object with the benchmarks' `transform(X, end=hours)`.
        normalizer: any object with the benchmarks' `transform(X)`, or None.
        batch_size: samples in a batch; the last batch of an epoch may be smaller.
        steps: batches in an epoch; the next epoch goes on with the next samples. All samples once if None.
        shuffle: draw a new order of all samples each epoch. With and without, the samples of a batch have
            similar lengths, and the order of the batches is random.
        return_names: `next` gives `{"data": (X, y), "names": [...], "ts": [...]}` instead of `(X, y)`; "ts"
            are the hours of the samples. Keras always gets `(X, y)`.
        seed: fixes the order of the epochs.
    """

    def __init__(
        self,
        reader: Reader,
        partition: Partition,
        discretizer: Any,
        normalizer: Any | None,
        batch_size: int,
        steps: int | None,
        shuffle: bool,
        return_names: bool = False,
        seed: int = 0,
    ) -> None:
        check_partition(partition)
        self.partition = partition
        self._reader, self._prepare = reader, preparation(discretizer, normalizer)
        samples = reader.get_number_of_examples()
        self._drawn = samples if steps is None else steps * batch_size
        hours = getattr(reader, "hours", None)
        if hours is None:
            hours = np.array([reader.read_example(index)["t"] for index in range(samples)])
        lengths = (hours / discretizer._timestep + 1.0 - EPSILON).astype(np.int64)
        super().__init__(lengths, steps or -(-samples // batch_size), batch_size, shuffle, return_names, seed)

    def _epochs(self, seed: int) -> Iterator[list[list[int]]]:
        draws = random.Random(seed)
        order, next_one = list(range(len(self._lengths))), 0
        while True:
            if self.shuffle:
                draws.shuffle(order)
            batches: list[list[int]] = []
            chunk = min(LARGEST_CHUNK, self.steps) * self.batch_size
            for start in range(0, self._drawn, chunk):
                count = min(chunk, self._drawn - start)
                taken = [order[(next_one + place) % len(order)] for place in range(count)]
                next_one = (next_one + count) % len(order)
                batches += sorted_by_length(taken, self._lengths, self.batch_size, draws)
            yield batches

    def _batch(self, examples: list[int], min_length: int) -> dict[str, Any]:
        read = [self._reader.read_example(example) for example in examples]
        x = padded([self._prepare(each["X"], each["t"]) for each in read], min_length)
        labels = np.array([each["y"] for each in read])
        names, hours = ([each[key] for each in read] for key in ("name", "t"))
        return {"data": (x, targets_of(labels, self.partition), labels), "names": names, "ts": hours}


class HoursOfStays(StayBatches):
    """Batches of stays with the labels of all their hours: (X [B, T, D], M [B, T]) and y [B, T, 1].

    M is 1 in the bins that have a label, else 0; y is 0 there. The grid of a stay ends with its last hour.

    Args:
        dataloader: any object with the `_data` of `DeepSupervisionDataLoader`.
        partition: how y tells the label: see `targets_of`.
        discretizer: any object with the benchmarks' `transform(X, end=hours)` and `_timestep`.
        normalizer: any object with the benchmarks' `transform(X)`, or None.
        batch_size: stays in a batch; the last batch of an epoch may be smaller.
        shuffle: draw a new order each epoch; otherwise the stays of a batch have similar lengths.
        return_names: `next` gives `{"data": ((X, M), y), "names": [...], "ts": [...]}`; "ts" lists the hours
            of every stay. Keras always gets `((X, M), y)`.
        seed: fixes the order of the epochs.
    """

    _label_type: type[np.generic] = np.float64

    def __init__(
        self,
        dataloader: DeepSupervisionDataLoader,
        partition: Partition,
        discretizer: Any,
        normalizer: Any | None,
        batch_size: int,
        shuffle: bool,
        return_names: bool = False,
        seed: int = 0,
    ) -> None:
        check_partition(partition)
        self.partition = partition
        data, prepare = dataloader._data, preparation(discretizer, normalizer)
        self._names, self._hours = data["name"], data["ts"]
        self._grids, self._masks, self._labels = [], [], []
        for rows, hours, texts in zip(data["X"], data["ts"], data["ys"], strict=True):
            grid = prepare(rows, max(hours))
            bins = bins_of(np.array(hours), discretizer._timestep, len(grid))
            mask, labels = np.zeros(len(grid), np.int64), np.zeros(len(grid), self._label_type)
            mask[bins], labels[bins] = 1, np.array(texts, np.float64)
            self._grids.append(grid)
            self._masks.append(mask)
            self._labels.append(labels)
        super().__init__(self._grids, batch_size, shuffle, return_names, seed)

    def _batch(self, examples: list[int], min_length: int) -> dict[str, Any]:
        x, mask, labels = (
            padded(select(listed, examples), min_length)
            for listed in (self._grids, self._masks, self._labels)
        )
        hours = labels[..., None]
        data = ((x, mask), targets_of(hours, self.partition), hours)
        return {"data": data, "names": select(self._names, examples), "ts": select(self._hours, examples)}


def save_hours(names: Sequence[str], ts: Any, pred: Any, y_true: Any, path: PathText, decimals: int) -> None:
    """Write predictions as CSV with the columns `stay,period_length,prediction,y_true`.

    Args:
        names: names [E] of the stays.
        ts: hours [E].
        pred: predictions [E].
        y_true: labels [E].
        path: file to write; its folder is made if needed.
        decimals: digits after the point of the labels.
    """
    lines = (
        f"{name},{t:.6f},{p:.6f},{y:.{decimals}f}"
        for name, t, p, y in zip(names, ts, pred, y_true, strict=True)
    )
    write_results("stay,period_length,prediction,y_true", lines, path)
