"""Kinds of label of length of stay: one of ten classes of the remaining hours, or the hours themselves.

Keras is imported only in the methods that use it; see `targets`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mimic3tf.tasks.metrics_hours import (
    CLASSES,
    CUSTOM_MEANS,
    HOURS_METRICS,
    LOG_MEANS,
    Partition,
    hours_measure,
    hours_metrics,
    hours_of,
    targets_of,
)
from mimic3tf.tasks.rules import REMAINING

CUSTOM_NAMES = (
    *("under 1 day", "1 to 2 days", "2 to 3 days", "3 to 4 days", "4 to 5 days", "5 to 6 days"),
    *("6 to 7 days", "7 to 8 days", "8 to 14 days", "over 14 days"),
)
"""Names of the custom classes."""
LOG_NAMES = (
    *("under 1.2 hours", "1.2 to 4 hours", "4 to 10 hours", "10 to 24 hours", "1 to 2.2 days"),
    *("2.2 to 5 days", "5 to 11 days", "11 to 25 days", "25 to 56 days", "over 56 days"),
)
"""Names of the logarithmic classes; their borders are rounded."""


class _Remaining:
    """What classes and hours of the remaining stay have in common."""

    columns = ("y_true",)
    rule = REMAINING
    followed = ("kappa", "mad")
    classes = slice(0, CLASSES)

    def weights(self, labels: NDArray[Any], class_weights: Sequence[float]) -> NDArray[np.float64]:
        """Give all examples the same weight: the benchmarks weigh no class."""
        return np.ones(len(labels))

    def metrics(self, labels: NDArray[Any], probabilities: NDArray[np.floating]) -> dict[str, float]:
        """Compute the benchmarks' metrics of remaining hours; see `hours_metrics`."""
        return hours_metrics(*self._hours(labels, probabilities))

    def intervals(
        self,
        labels: NDArray[Any],
        probabilities: NDArray[np.floating],
        stay: NDArray[np.integer] | None = None,
    ) -> dict[str, tuple[float, float]]:
        """Compute the intervals of the metrics from `RESAMPLES` resamples of the stays, with seed 0."""
        from mimic3tf.tasks.bootstrap import estimates
        from mimic3tf.tasks.targets import RESAMPLES

        measure = hours_measure(*self._hours(labels, probabilities), stay)
        stays = len(labels) if stay is None else int(stay.max()) + 1
        found = estimates(HOURS_METRICS, measure, stays, 100 + stays, resamples=RESAMPLES, seed=0)
        return {name: (each.low, each.high) for name, each in found.items()}

    def score(self, metrics: Mapping[str, float]) -> float:
        """Return kappa."""
        return metrics["kappa"]

    def _hours(
        self, labels: NDArray[Any], probabilities: NDArray[np.floating]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the true and the predicted hours."""
        raise NotImplementedError


@dataclass(frozen=True)
class Classes(_Remaining):
    """One of ten classes of remaining hours, predicted by ten logits; labels are the numbers of classes [E].

    The probabilities are those of all classes: float64 [E, 10]. A predicted class stands for its mean hours.
    Metrics are those of the remaining hours, float64 [E], where these are given in place of labels; else a
    true class, too, stands for its mean hours.

    Attributes:
        partition: which classes.
    """

    partition: Literal["custom", "log"] = "custom"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes, in ascending order of hours."""
        return CUSTOM_NAMES if self.partition == "custom" else LOG_NAMES

    def read(self, numbers: NDArray[np.float64]) -> NDArray[np.int8]:
        """Make the numbers of the classes of remaining hours; see `Targets`."""
        return targets_of(numbers[:, 0], self.partition).astype(np.int8)

    def cells(self, label: int) -> tuple[str, ...]:
        """Return the mean hours of a class as text; see `Targets`."""
        return (f"{self._means[label]:.6f}",)

    def head(self, hidden: Any, name: str = "logits") -> Any:
        """Make ten logits [B, ..., 10]; they are float32 under mixed precision, too."""
        import keras

        return keras.layers.Dense(len(self.names), dtype="float32", name=name)(hidden)

    def losses(self, labels: Any, logits: Any) -> Any:
        """Compute the cross-entropy of labels [B, ...] and logits [B, ..., 10]."""
        import keras

        return keras.ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)

    def mean_loss(
        self, labels: NDArray[np.integer], probabilities: NDArray[np.floating], weights: NDArray[np.floating]
    ) -> float:
        """Compute the weighted mean of the cross-entropies."""
        of_label = probabilities[np.arange(len(labels)), labels]
        return float(np.average(-np.log(np.maximum(of_label, 1e-7)), weights=weights))

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Compute the probabilities of all classes, float64 [E, 10], from logits [E, 10]."""
        from scipy.special import softmax

        return np.asarray(softmax(np.asarray(logits, np.float64), axis=-1))

    @property
    def _means(self) -> NDArray[np.float64]:
        return CUSTOM_MEANS if self.partition == "custom" else LOG_MEANS

    def _hours(
        self, labels: NDArray[Any], probabilities: NDArray[np.floating]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        hours = labels if labels.dtype.kind == "f" else self._means[labels]
        return hours, hours_of(probabilities, self.partition)


@dataclass(frozen=True)
class Hours(_Remaining):
    """The remaining hours themselves, float32 [E]; the "probabilities" are the predicted hours [E].

    An attacker wants the predicted hours to be in one of the custom classes; the names are theirs.
    """

    names = CUSTOM_NAMES
    partition: Partition = "none"

    def read(self, numbers: NDArray[np.float64]) -> NDArray[np.float32]:
        """Take the hours as they are; see `Targets`."""
        return np.maximum(numbers[:, 0], 0.0).astype(np.float32)

    def cells(self, label: float) -> tuple[str, ...]:
        """Return the hours as text; see `Targets`."""
        return (f"{label:.6f}",)

    def head(self, hidden: Any, name: str = "logits") -> Any:
        """Make one number of hours [B, ..., 1], at least 0; it is float32 under mixed precision, too."""
        import keras

        return keras.layers.Dense(1, activation="relu", dtype="float32", name=name)(hidden)

    def losses(self, labels: Any, logits: Any) -> Any:
        """Compute the squared differences of ln(1 + hours): [B, ...] from [B, ...] and [B, ..., 1]."""
        import keras

        difference = keras.ops.log1p(keras.ops.squeeze(logits, -1)) - keras.ops.log1p(labels)
        return keras.ops.square(difference)

    def mean_loss(
        self, labels: NDArray[Any], probabilities: NDArray[np.floating], weights: NDArray[np.floating]
    ) -> float:
        """Compute the weighted mean of the losses."""
        return float(np.average((np.log1p(probabilities) - np.log1p(labels)) ** 2, weights=weights))

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the predicted hours, float64 [E], from outputs [E, 1]."""
        return np.asarray(logits, np.float64)[..., 0]

    def _hours(
        self, labels: NDArray[Any], probabilities: NDArray[np.floating]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.asarray(labels, np.float64), np.asarray(probabilities, np.float64)
