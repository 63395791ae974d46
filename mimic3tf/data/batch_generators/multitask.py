"""Batches of stays for the four tasks at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from mimic3tf.data.batch_generators.batches import padded, select
from mimic3tf.data.batch_generators.stays import StayBatches, repeated
from mimic3tf.data.grid import bins_of
from mimic3tf.data.readers import Reader, read_grids
from mimic3tf.tasks.metrics_hours import Partition, check_partition, targets_of


class BatchGen(StayBatches):
    """Batches of a reader's stays, with the interface of mimic3-benchmarks' generator.

    Inputs are (X [B, T, D], ihm_M [B, 1], decomp_M [B, T], los_M [B, T]); masks are 1 where there is a
    label. Labels are (ihm [B, 1], decomp [B, T, 1], los [B, T, 1], pheno [B, 25]). The label of in-hospital
    mortality is 0 where its mask is 0.

    Args:
        reader: any object with the methods of `MultitaskReader`.
        discretizer: any object with the benchmarks' `transform(X, end=hours)` and `_timestep`.
        normalizer: any object with the benchmarks' `transform(X)`, or None.
        ihm_pos: bin at which in-hospital mortality is predicted; grids are padded to at least one bin more.
        partition: how "los" tells the remaining hours: see `targets_of`.
        target_repl: give the labels as (ihm, ihm repeated [B, T, 1], decomp, los, pheno, pheno repeated
            [B, T, 25]).
        batch_size: stays in a batch; the last batch of an epoch may be smaller.
        small_part: use the first 1000 stays only.
        shuffle: draw a new order each epoch; otherwise the stays of a batch have similar lengths, and the
            order of the batches is random.
        return_names: `next` gives `{"data": (inputs, labels), "names": [...], "decomp_ts": [...],
            "los_ts": [...], "pheno_ts": [...]}`: the hours with a label of every stay, and the lengths of the
            stays. Keras always gets `(inputs, labels)`.
        seed: fixes the order of the epochs.
    """

    def __init__(
        self,
        reader: Reader,
        discretizer: Any,
        normalizer: Any | None,
        ihm_pos: int,
        partition: Partition,
        target_repl: bool,
        batch_size: int,
        small_part: bool,
        shuffle: bool,
        return_names: bool = False,
        seed: int = 0,
    ) -> None:
        check_partition(partition)
        self.ihm_pos, self.partition, self.target_repl = ihm_pos, partition, target_repl
        self._min_length = ihm_pos + 1
        self._read = read_grids(reader, discretizer, normalizer, small_part)
        _, mask, label = np.array(self._read["ihm"], np.int32).T
        self._mortality = {"mask": mask[:, None], "label": (mask * label)[:, None]}
        self._phenotypes = np.array(self._read["pheno"], np.int32)
        self._hourly: dict[str, list[Any]] = {}
        for task, kind in (("decomp", np.int32), ("los", np.float32)):
            filled = [
                _in_bins(each, len(grid), discretizer._timestep, kind)
                for each, grid in zip(self._read[task], self._read["X"], strict=True)
            ]
            self._hourly[f"{task}_M"], self._hourly[task] = (list(each) for each in zip(*filled, strict=True))
            self._hourly[f"{task}_ts"] = [np.flatnonzero(masks).tolist() for masks, _ in self._read[task]]
        super().__init__(self._read["X"], batch_size, shuffle, return_names, seed)

    def _batch(self, examples: list[int], min_length: int) -> dict[str, Any]:
        x = padded(select(self._read["X"], examples), min_length)
        decomp_mask, los_mask, decomp, remaining = (
            padded(select(self._hourly[key], examples), min_length)
            for key in ("decomp_M", "los_M", "decomp", "los")
        )
        ihm, pheno = self._mortality["label"][examples], self._phenotypes[examples]
        bins = x.shape[1]
        mortality = (ihm, repeated(ihm, bins)) if self.target_repl else (ihm,)
        phenotypes = (pheno, repeated(pheno, bins)) if self.target_repl else (pheno,)
        los = targets_of(remaining[..., None], self.partition)
        inputs = (x, self._mortality["mask"][examples], decomp_mask, los_mask)
        return {
            "data": (inputs, (*mortality, decomp[..., None], los, *phenotypes), remaining),
            "names": select(self._read["name"], examples),
            "decomp_ts": select(self._hourly["decomp_ts"], examples),
            "los_ts": select(self._hourly["los_ts"], examples),
            "pheno_ts": select(self._read["t"], examples),
        }

    def next(self, return_y_true: bool = False) -> Any:
        """Return the next batch; with `return_y_true`, its data also hold the remaining hours [B, T]."""
        return self._next(return_y_true)


def _in_bins(
    hours: tuple[list[int], list[float]], count: int, timestep: float, kind: type[np.number]
) -> tuple[Any, Any]:
    """Put masks and labels of the hours 0, 1, 2, ... into their bins; the last hour of a bin counts."""
    masks, labels = hours
    bins = bins_of(np.arange(len(masks), dtype=np.float64), timestep, count)
    mask, label = np.zeros(count, np.int32), np.zeros(count, kind)
    mask[bins], label[bins] = masks, labels
    return mask, label
