"""What the batch generators of all tasks have in common: order, padding, and how Keras takes them."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray


class Batches(keras.utils.PyDataset):
    """Batches without end, with the interface of mimic3-benchmarks' generators.

    `next(batches)` and `for batch in batches` give `(x, y)`; with `return_names` a dictionary with `(x, y)`
    as "data", "names" of the stays, and hours. Keras takes the object as it is: `model.fit(batches)`,
    `model.evaluate(batches)`, `model.predict(batches)`; it always gets `(x, y)`. Grids of different lengths
    are padded with zeros at the end.

    A class for one task says what an epoch is (`_epochs`), and makes the batches (`_batch`).

    Attributes:
        steps: number of batches in an epoch.
        batch_size: examples in a batch; the last batch of an epoch may be smaller.
        shuffle: whether an epoch has a random order.
        return_names: whether names and hours are given.
    """

    _min_length = 0
    """Bins that every batch has at least."""

    def __init__(
        self,
        lengths: NDArray[np.int64],
        steps: int,
        batch_size: int,
        shuffle: bool,
        return_names: bool,
        seed: int,
    ) -> None:
        super().__init__()
        self._lengths = lengths
        self.steps, self.batch_size = steps, batch_size
        self.shuffle, self.return_names = shuffle, return_names
        # Keras may ask for batches while other code calls `next`: each of the two has its own epochs.
        self._orders = self._epochs(seed)
        self._order = next(self._orders)
        self._stream = (batch for epoch in self._epochs(seed) for batch in epoch)
        self._lock = threading.Lock()

    def _epochs(self, seed: int) -> Iterator[list[list[int]]]:
        """Yield the examples of every batch of an epoch, epoch after epoch, without end."""
        raise NotImplementedError

    def _batch(self, examples: list[int], min_length: int) -> dict[str, Any]:
        """Make a batch of some examples, whose grids get at least `min_length` bins.

        Returns:
            "data": (x, y), or (x, y, hours) where the class can give true hours, too; "names"; and hours.
        """
        raise NotImplementedError

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return `(x, y)` of batch `index` (0 to `steps` - 1) of Keras' epoch."""
        first, examples = self._order[0], self._order[index]
        bins, own = (max(self._lengths[rows].max(), self._min_length) for rows in (first, examples))
        # Keras looks at the first two batches. If their lengths are equal, it refuses all other lengths.
        refuses = index == 1 and own == bins < self._lengths.max()
        x, y, *_ = self._batch(examples, bins + 1 if refuses else self._min_length)["data"]
        return x, y

    def on_epoch_end(self) -> None:
        """Draw the order of Keras' next epoch."""
        self._order = next(self._orders)

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield self._next()

    def __next__(self) -> Any:
        return self._next()

    def next(self) -> Any:
        """Return the next batch; after the last batch of an epoch, the first batch of the next epoch."""
        return self._next()

    def _next(self, return_y_true: bool = False) -> Any:
        with self._lock:
            examples = next(self._stream)
        batch = self._batch(examples, self._min_length)
        batch["data"] = batch["data"] if return_y_true else batch["data"][:2]
        return batch if self.return_names else batch["data"]


def cut(examples: list[int], batch_size: int) -> list[list[int]]:
    """Cut a list of examples into batches; the last one may be smaller."""
    return [examples[start : start + batch_size] for start in range(0, len(examples), batch_size)]


def sorted_by_length(
    examples: list[int], lengths: NDArray[np.int64], batch_size: int, draws: random.Random
) -> list[list[int]]:
    """Make batches of examples of similar lengths, in random order; examples left over form the last batch.

    The batches are those of `sort_and_shuffle` in mimic3-benchmarks after `random.seed`.
    """
    drawn = list(examples)
    draws.shuffle(drawn)
    whole = len(drawn) - len(drawn) % batch_size
    batches = cut(sorted(drawn[:whole], key=lengths.__getitem__), batch_size)
    draws.shuffle(batches)
    return batches + cut(drawn[whole:], batch_size)


def padded(arrays: Sequence[NDArray[Any]], min_length: int = 0) -> NDArray[Any]:
    """Stack arrays [T_i, ...] into one [B, T, ...] with zeros at the end.

    T is the largest T_i, or `min_length` if that is larger.
    """
    lengths = np.array([len(array) for array in arrays])
    stacked = np.zeros((len(arrays), max(lengths.max(), min_length), *arrays[0].shape[1:]), arrays[0].dtype)
    stacked[np.arange(stacked.shape[1]) < lengths[:, None]] = np.concatenate(arrays)
    return stacked


def select(listed: Sequence[Any], examples: list[int]) -> list[Any]:
    """Return the elements of a list for some examples."""
    return [listed[example] for example in examples]
