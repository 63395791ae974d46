"""Batches of stays for in-hospital mortality."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mimic3tf.data.batch_generators.batches import cut
from mimic3tf.data.batch_generators.stays import LabelledStays


class BatchGen(LabelledStays):
    """Batches of stays, with the arguments of mimic3-benchmarks' generators: X [B, T, D] and y [B].

    Without `shuffle`, the order is that of the reader.
    """

    _label_type = np.int64

    def _epochs(self, seed: int) -> Iterator[list[list[int]]]:
        random, stays = np.random.default_rng(seed), len(self._labels)
        while True:
            order = random.permutation(stays) if self.shuffle else np.arange(stays)
            yield cut(order.tolist(), self.batch_size)
