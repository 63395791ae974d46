"""What a listfile says of a stay, what a victim's head gives, and how both are compared.

Keras and scikit-learn are imported only where they are used, so that tasks are known without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Head(Protocol):
    """Makes the last layer of a victim."""

    def __call__(self, hidden: Any, name: str = "logits") -> Any:
        """Logits [B, ...] in float32 from hidden values [B, H]."""


class Targets(Protocol):
    """One kind of label, and all that depends on it.

    Attributes:
        columns: columns of the listfile that hold a stay's label.
    """

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the listfile that hold a stay's label."""

    def parse(self, cells: Sequence[str]) -> int:
        """Label of a listfile's cells, one for each of `columns`.

        Raises:
            ValueError: they hold no label; says which column, and what is expected.
        """

    def cells(self, label: int) -> tuple[str, ...]:
        """Cells of a listfile that `parse` reads as a label."""

    def head(self, hidden: Any, name: str = "logits") -> Any:
        """Last layer of a victim: see `Head`."""

    def losses(self, labels: Any, logits: Any) -> Any:
        """Loss of every example: [B]."""

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Probabilities of logits [E, ...]."""

    def metrics(self, labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> dict[str, float]:
        """The task's metrics; NaN where one is undefined."""

    def score(self, metrics: Mapping[str, float]) -> float:
        """The number by which an epoch is kept; higher is better."""


class Binary:
    """One label, 0 or 1, predicted by two logits as in Joe et al. 2020.

    Probabilities are those of label 1: float64 [E].
    """

    columns = ("y_true",)

    def parse(self, cells: Sequence[str]) -> int:
        """Label 0 or 1; see `Targets`."""
        if cells[0] not in ("0", "1"):
            raise ValueError("labels are 0 or 1")
        return int(cells[0])

    def cells(self, label: int) -> tuple[str, ...]:
        """The label as text; see `Targets`."""
        return (str(label),)

    def head(self, hidden: Any, name: str = "logits") -> Any:
        """Two logits in float32, also under mixed precision: [B, 2]."""
        import keras

        return keras.layers.Dense(2, dtype="float32", name=name)(hidden)

    def losses(self, labels: Any, logits: Any) -> Any:
        """Cross-entropy of labels int64 [B] and logits [B, 2]: [B]."""
        import keras

        return keras.ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Probability of label 1 from two logits [E, 2]: float64 [E]."""
        first, second = np.asarray(logits, np.float64).T
        # Two infinite logits give no number, which callers refuse.
        with np.errstate(invalid="ignore"):
            return 1.0 / (1.0 + np.exp(np.clip(first - second, -500, 500)))

    def metrics(self, labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> dict[str, float]:
        """The eight metrics of the MIMIC-III benchmarks; see `benchmark_metrics`."""
        from mimic3tf.tasks.metrics import benchmark_metrics

        return benchmark_metrics(labels, probabilities)

    def score(self, metrics: Mapping[str, float]) -> float:
        """The area under the ROC curve."""
        return metrics["auroc"]
