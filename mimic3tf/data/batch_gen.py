"""Batches of the stays of a benchmark directory, for Keras and for code that calls `next` itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from mimic3tf.data.readers import InHospitalMortalityReader, preparation, read_chunk


class BatchGen(keras.utils.PyDataset):
    """Batches of a reader's stays, with the interface of mimic3-benchmarks' Keras generators.

    Keras accepts the object directly: `model.fit(batches, validation_data=others)`, `model.evaluate(others)`,
    `model.predict(others)`. `next(batches)` and `for batch in batches` give the same batches without end.
    Give `shuffle=False` if predictions must be in the order of the reader.

    Args:
        reader: any object with the methods of `InHospitalMortalityReader`.
        discretizer: any object with the benchmarks' `transform(X, end=hours)`.
        normalizer: any object with the benchmarks' `transform(X)`, or None.
        batch_size: stays in a batch; the last batch of an epoch may be smaller.
        small_part: use the first 1000 stays only.
        target_repl: give the labels as `(y, y_repeated)`, where `y_repeated` [B, T, 1] repeats the label at
            every bin, for a model with two outputs [B, 1] and [B, T, 1].
        shuffle: draw a new order each epoch.
        return_names: `next` gives `{"data": (X, y), "names": [...], "ts": [...]}` instead of `(X, y)`; Keras
            always gets `(X, y)`, because it can use neither names nor hours.
        seed: fixes the order of the epochs.

    Attributes:
        steps: number of batches in an epoch.
    """

    def __init__(
        self,
        reader: InHospitalMortalityReader,
        discretizer: Any,
        normalizer: Any | None,
        batch_size: int,
        small_part: bool,
        target_repl: bool,
        shuffle: bool,
        return_names: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        stays = reader.get_number_of_examples()
        chunk = read_chunk(reader, min(1000, stays) if small_part else stays)
        steps = preparation(discretizer, normalizer)
        self._data = [steps(rows, hours) for rows, hours in zip(chunk["X"], chunk["t"], strict=True)]
        self._labels = np.array(chunk["y"])
        self._names: list[str] = chunk["name"]
        self._hours: list[float] = chunk["t"]
        self._target_repl, self._shuffle, self._return_names = target_repl, shuffle, return_names
        self.batch_size = batch_size
        self.steps = -(-len(self._data) // batch_size)
        # Keras may ask for batches while other code calls `next`: each of the two has its own epochs.
        self._orders = self._epochs(seed)
        self._order = next(self._orders)
        self._batches = self._generate(seed)

    def _epochs(self, seed: int) -> Iterator[NDArray[np.int64]]:
        """Yield the order of the stays [N] for each epoch, without end."""
        random, stays = np.random.default_rng(seed), len(self._data)
        while True:
            yield random.permutation(stays) if self._shuffle else np.arange(stays)

    def _generate(self, seed: int) -> Iterator[Any]:
        for order in self._epochs(seed):
            for index in range(self.steps):
                stays, data = self._batch(order, index)
                if self._return_names:
                    names, hours = ([given[stay] for stay in stays] for given in (self._names, self._hours))
                    yield {"data": data, "names": names, "ts": hours}
                else:
                    yield data

    def _batch(self, order: NDArray[np.int64], index: int) -> tuple[NDArray[np.int64], tuple[Any, Any]]:
        """Return the stays [B] of batch `index` of an epoch, and the grids and labels of these stays."""
        stays = order[index * self.batch_size : (index + 1) * self.batch_size]
        x, y = np.stack([self._data[stay] for stay in stays]), self._labels[stays]
        # A tuple, because Keras accepts no list of labels.
        return stays, (x, (y, np.repeat(y[:, None, None], x.shape[1], axis=1)) if self._target_repl else y)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return batch `index` (0 to `steps` - 1) of Keras' epoch: grids [B, T, D] and labels [B]."""
        return self._batch(self._order, index)[1]

    def on_epoch_end(self) -> None:
        """Draw the order of Keras' next epoch."""
        self._order = next(self._orders)

    def __iter__(self) -> Iterator[Any]:
        return self._batches

    def __next__(self) -> Any:
        return next(self._batches)

    def next(self) -> Any:
        """Return the next batch; after the last batch of an epoch, the first batch of the next epoch."""
        return next(self._batches)
