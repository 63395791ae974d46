"""Batches of stays for phenotyping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mimic3tf.data.batch_generators.stays import LabelledStays
from mimic3tf.data.readers import write_results
from mimic3tf.storage.files import PathText


class BatchGen(LabelledStays):
    """Batches of stays, as mimic3-benchmarks' generator makes them: X [B, T, D] and y int32 [B, 25].

    Without `shuffle`, the stays of a batch have similar lengths, and the order of the batches is random.
    """


def save_results(names: Sequence[str], ts: Any, predictions: Any, labels: Any, path: PathText) -> None:
    """Write predictions [N, K] and labels [N, K] of stays; make the folder if needed.

    The columns are `stay,period_length`, `pred_1`, `pred_2`, ..., and `label_1`, `label_2`, ...
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    numbers = range(1, labels.shape[1] + 1)
    header = ["stay", "period_length", *(f"{name}_{k}" for name in ("pred", "label") for k in numbers)]
    lines = (
        ",".join([name, f"{t:.6f}", *(f"{p:.6f}" for p in pred), *(str(int(label)) for label in known)])
        for name, t, pred, known in zip(names, ts, predictions, labels, strict=True)
    )
    write_results(",".join(header), lines, path)
