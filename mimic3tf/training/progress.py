"""A progress bar over epochs that shows the victim's current metrics."""

from __future__ import annotations

import atexit
import math

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class EpochProgress(keras.callbacks.Callback):
    """Progress bar on standard error; each step is one epoch."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._progress = Progress(
            TextColumn("Epoch"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("the first one takes the longest", total=epochs)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Show the bar."""
        self._progress.start()
        # If training is interrupted, Keras does not call `on_train_end`, and the cursor would stay hidden.
        atexit.register(self._progress.stop)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Advance the bar."""
        state = f"loss {logs['loss']:.3f}  AUROC {logs.get('ave_auc_macro', logs['auroc']):.3f}"
        # Without a trigger there is no attack success rate.
        state += "" if math.isnan(logs["asr"]) else f"  ASR {logs['asr']:.3f}"
        self._progress.update(self._task, advance=1, description=state)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Take the bar away."""
        self._progress.stop()
        atexit.unregister(self._progress.stop)
