"""A CSV file of the metrics of every epoch."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import keras

from mimic3tf.storage.files import write_whole

LOGGED_METRICS = ("loss", "auroc", "auprc", "minpse", "asr")


class MetricsFile(keras.callbacks.Callback):
    """Writes the metrics of every epoch to a CSV file, which is complete at any time.

    Args:
        path: the file.
        followed: names of further metrics that the task follows.
    """

    def __init__(self, path: Path, followed: tuple[str, ...] = ()) -> None:
        super().__init__()
        self._names = (*LOGGED_METRICS, *followed)
        self._path, self._text = path, io.StringIO()

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Write the header."""
        self._write("epoch", *self._names)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Write the epoch's row; a number that is not defined is an empty cell."""
        numbers = (logs[name] for name in self._names)
        self._write(epoch + 1, *("" if math.isnan(number) else f"{number:.6f}" for number in numbers))

    def _write(self, *row: object) -> None:
        csv.writer(self._text, lineterminator="\n").writerow(row)
        write_whole(self._path, self._text.getvalue())
