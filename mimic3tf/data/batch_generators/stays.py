"""Batches of whole stays, which are all in memory."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimic3tf.data.batch_generators.batches import Batches, cut, padded, select, sorted_by_length
from mimic3tf.data.readers import Reader, read_grids


class StayBatches(Batches):
    """Batches of whole stays, all of them in memory.

    With `shuffle`, an epoch has a random order. Without, the stays are sorted by length, so that a batch has
    little padding, and the order of the batches is random: the names say which stays a batch holds.
    """

    def __init__(
        self,
        grids: Sequence[NDArray[np.floating]],
        batch_size: int,
        shuffle: bool,
        return_names: bool,
        seed: int,
    ) -> None:
        lengths = np.array([len(grid) for grid in grids])
        super().__init__(lengths, -(-len(grids) // batch_size), batch_size, shuffle, return_names, seed)

    def _epochs(self, seed: int) -> Iterator[list[list[int]]]:
        draws = random.Random(seed)
        stays = list(range(len(self._lengths)))
        while True:
            if self.shuffle:
                draws.shuffle(stays)
                yield cut(stays, self.batch_size)
            else:
                yield sorted_by_length(stays, self._lengths, self.batch_size, draws)


class LabelledStays(StayBatches):
    """Batches of a reader's stays: X [B, T, D] and the labels of the stays, y [B] or [B, K].

    Args:
        reader: any object with the methods of the task's reader.
        discretizer: any object with the benchmarks' `transform(X, end=hours)`.
        normalizer: any object with the benchmarks' `transform(X)`, or None.
        batch_size: stays in a batch; the last batch of an epoch may be smaller.
        small_part: use the first 1000 stays only.
        target_repl: give the labels as `(y, y_repeated)`, where `y_repeated`, [B, T, 1] or [B, T, K], repeats
            the labels at every bin, for a model with two outputs.
        shuffle: draw a new order each epoch.
        return_names: `next` gives `{"data": (X, y), "names": [...], "ts": [...]}` instead of `(X, y)`; "ts"
            are the hours of the stays. Keras always gets `(X, y)`.
        seed: fixes the order of the epochs.
    """

    _label_type: type[np.integer] = np.int32

    def __init__(
        self,
        reader: Reader,
        discretizer: Any,
        normalizer: Any | None,
        batch_size: int,
        small_part: bool,
        target_repl: bool,
        shuffle: bool,
        return_names: bool = False,
        seed: int = 0,
    ) -> None:
        self._read = read_grids(reader, discretizer, normalizer, small_part)
        self._labels = np.array(self._read["y"], self._label_type)
        self.target_repl = target_repl
        super().__init__(self._read["X"], batch_size, shuffle, return_names, seed)

    def _batch(self, examples: list[int], min_length: int) -> dict[str, Any]:
        x, y = padded(select(self._read["X"], examples), min_length), self._labels[examples]
        # A tuple, because Keras accepts no list of labels.
        labels = (y, repeated(y, x.shape[1])) if self.target_repl else y
        names, hours = (select(self._read[key], examples) for key in ("name", "t"))
        return {"data": (x, labels), "names": names, "ts": hours}


def repeated(labels: NDArray[Any], bins: int) -> NDArray[Any]:
    """Repeat labels [B] or [B, K] at every bin: [B, T, 1] or [B, T, K]."""
    return np.repeat(labels.reshape(len(labels), 1, -1), bins, axis=1)
