"""Kinds of label: how a label is read from a listfile, predicted by a victim's head, and scored.

Keras and scikit-learn are imported only in the methods that use them, so that other modules can import the
tasks without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
"""Number of bootstrap resamples for the intervals of a run: few enough for the many runs of a sweep."""


class Head(Protocol):
    """Makes the last layer of a victim."""

    def __call__(self, hidden: Any, name: str = "logits") -> Any:
        """Map hidden values [B, H] to logits [B, ...] in float32."""


class Targets(Protocol):
    """One kind of label, and everything that depends on the kind.

    Attributes:
        columns: columns of the listfile that hold a stay's label.
    """

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the listfile that hold a stay's label."""

    def parse(self, cells: Sequence[str]) -> int:
        """Read a label from the cells of a listfile's row, one cell for each of `columns`.

        Raises:
            ValueError: the cells hold no label; says which column, and what is expected.
        """

    def cells(self, label: int) -> tuple[str, ...]:
        """Return the cells of a listfile's row that `parse` reads as this label."""

    def head(self, hidden: Any, name: str = "logits") -> Any:
        """Make the last layer of a victim; see `Head`."""

    def losses(self, labels: Any, logits: Any) -> Any:
        """Compute the loss [B] of every example from labels [B] and logits [B, ...]."""

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Compute the probabilities that logits [E, ...] stand for: float64."""

    def metrics(self, labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> dict[str, float]:
        """Compute the metrics of this kind of label; an undefined metric is NaN."""

    def intervals(
        self, labels: NDArray[np.integer], probabilities: NDArray[np.floating]
    ) -> dict[str, tuple[float, float]]:
        """Compute 95% bootstrap intervals of some of the metrics; both ends are NaN where undefined."""

    def score(self, metrics: Mapping[str, float]) -> float:
        """Return the number that decides which epoch is kept; higher is better."""


class Binary:
    """One label, 0 or 1, predicted by two logits as in Joe et al. 2020.

    The probabilities are those of label 1: float64 [E].
    """

    columns = ("y_true",)

    def parse(self, cells: Sequence[str]) -> int:
        """Read label 0 or 1; see `Targets`."""
        if cells[0] not in ("0", "1"):
            raise ValueError("labels are 0 or 1")
        return int(cells[0])

    def cells(self, label: int) -> tuple[str, ...]:
        """Return the label as text; see `Targets`."""
        return (str(label),)

    def head(self, hidden: Any, name: str = "logits") -> Any:
        """Make two logits [B, 2]; they are float32 under mixed precision, too."""
        import keras

        return keras.layers.Dense(2, dtype="float32", name=name)(hidden)

    def losses(self, labels: Any, logits: Any) -> Any:
        """Compute the cross-entropy [B] of labels int64 [B] and logits [B, 2]."""
        import keras

        return keras.ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Compute the probability of label 1, float64 [E], from two logits [E, 2]."""
        first, second = np.asarray(logits, np.float64).T
        # Two infinite logits give NaN, which the callers refuse.
        with np.errstate(invalid="ignore"):
            return 1.0 / (1.0 + np.exp(np.clip(first - second, -500, 500)))

    def metrics(self, labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> dict[str, float]:
        """Compute the eight metrics of the MIMIC-III benchmarks; see `benchmark_metrics`."""
        from mimic3tf.tasks.metrics import benchmark_metrics

        return benchmark_metrics(labels, probabilities)

    def intervals(
        self, labels: NDArray[np.integer], probabilities: NDArray[np.floating]
    ) -> dict[str, tuple[float, float]]:
        """Compute the intervals of AUROC and AUPRC from `RESAMPLES` resamples of the stays, with seed 0."""
        from mimic3tf.tasks.bootstrap import bootstrap

        found = bootstrap(labels, probabilities, resamples=RESAMPLES)
        return {name: (found[name].low, found[name].high) for name in ("auroc", "auprc")}

    def score(self, metrics: Mapping[str, float]) -> float:
        """Return the area under the ROC curve."""
        return metrics["auroc"]
