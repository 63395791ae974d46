"""Kinds of label: how a label is read from a listfile, predicted by a victim's head, and scored.

Those of length of stay are in `remaining.py`, that of multitask learning is in `heads.py`.

Keras and scikit-learn are imported only in the methods that use them, so that other modules can import the
tasks without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from mimic3tf.tasks.rules import LABEL, Rule

RESAMPLES = 2000
"""Number of bootstrap resamples for the intervals of a run: few enough for the many runs of a sweep."""


class Head(Protocol):
    """Makes the last layer of a victim.

    Attributes:
        every_bin: whether the victim predicts at every bin, so that its hidden values are [B, T, H] and it
            reads no later bin.
    """

    @property
    def every_bin(self) -> bool:
        """Whether the victim predicts at every bin."""

    def __call__(self, hidden: Any, name: str = "logits") -> Any:
        """Map hidden values [B, H] to logits [B, ...] in float32."""


class Targets(Protocol):
    """One kind of label, and everything that depends on the kind.

    Labels are [E], or [E, K] if an example has K labels.

    Attributes:
        columns: columns of the listfile that hold a stay's label.
        names: names of the K labels of an example, or of the K classes of its label; empty if it has one
            label, 0 or 1.
        followed: metrics that are measured in every epoch, beside those of the label that is attacked.
        classes: which of the `names` are classes, of which an example has one; None without classes.
    """

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the listfile that hold a stay's label."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the K labels of an example; empty if it has one label."""

    @property
    def followed(self) -> tuple[str, ...]:
        """Metrics that are measured in every epoch, beside those of the label that is attacked."""

    @property
    def classes(self) -> slice | None:
        """Which of the `names` are classes."""

    def read(self, numbers: NDArray[np.float64]) -> NDArray[Any]:
        """Make labels [E] or [E, K] of the numbers in `columns`, float64 [E, C]: int8, or float32 hours."""

    def head(self, hidden: Any, name: str = "logits") -> Any:
        """Make the last layer of a victim; see `Head`."""

    def losses(self, labels: Any, logits: Any) -> Any:
        """Compute the loss [B] of every example from labels [B, ...] and logits [B, ...]."""

    def weights(self, labels: NDArray[np.integer], class_weights: Sequence[float]) -> NDArray[np.float64]:
        """Give every example [E] its weight in the loss; or [E, H] if it has a loss for each of H heads."""

    def mean_loss(
        self,
        labels: NDArray[np.integer],
        probabilities: NDArray[np.floating],
        weights: NDArray[np.floating],
    ) -> float:
        """Compute the weighted mean of the losses of all examples from their probabilities."""

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Compute the probabilities that logits [E, ...] stand for: float64."""

    def metrics(self, labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> dict[str, float]:
        """Compute the metrics of this kind of label; an undefined metric is NaN."""

    def intervals(
        self,
        labels: NDArray[np.integer],
        probabilities: NDArray[np.floating],
        stay: NDArray[np.integer] | None = None,
    ) -> dict[str, tuple[float, float]]:
        """Compute 95% bootstrap intervals of some of the metrics; both ends are NaN where undefined.

        Args:
            labels: [E, ...].
            probabilities: [E, ...].
            stay: int [E], number of the stay of each example; one stay each if not given.
        """

    def score(self, metrics: Mapping[str, float]) -> float:
        """Return the number that decides which epoch is kept; higher is better."""


class RowTargets(Targets, Protocol):
    """A kind of label of which each row of a listfile holds one; so all but multitask learning."""

    @property
    def rule(self) -> Rule:
        """What the numbers in `columns` must be."""

    def cells(self, label: Any) -> tuple[str, ...]:
        """Return the cells of a listfile's row that are read as this label."""


class Binary:
    """One label, 0 or 1, predicted by two logits as in Joe et al. 2020.

    The probabilities are those of label 1: float64 [E].
    """

    columns = ("y_true",)
    rule = LABEL
    names: tuple[str, ...] = ()
    followed: tuple[str, ...] = ()
    classes: slice | None = None

    def read(self, numbers: NDArray[np.float64]) -> NDArray[np.int8]:
        """Make labels 0 and 1; see `Targets`."""
        return numbers[:, 0].astype(np.int8)

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

    def weights(self, labels: NDArray[np.integer], class_weights: Sequence[float]) -> NDArray[np.float64]:
        """Give every example the weight of its label."""
        return np.array(class_weights, np.float64)[labels]

    def mean_loss(
        self,
        labels: NDArray[np.integer],
        probabilities: NDArray[np.floating],
        weights: NDArray[np.floating],
    ) -> float:
        """Compute the weighted mean of the cross-entropies."""
        from sklearn.metrics import log_loss

        # A head of several may have examples of one label only.
        return float(log_loss(labels, probabilities, sample_weight=weights, labels=[0, 1]))

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
        self,
        labels: NDArray[np.integer],
        probabilities: NDArray[np.floating],
        stay: NDArray[np.integer] | None = None,
    ) -> dict[str, tuple[float, float]]:
        """Compute the intervals of AUROC and AUPRC from `RESAMPLES` resamples of the stays, with seed 0.

        Args:
            labels: [E].
            probabilities: [E].
            stay: int [E], number of the stay of each example; one stay each if not given.
        """
        from mimic3tf.tasks.bootstrap import bootstrap

        found = bootstrap(labels, probabilities, stay=stay, resamples=RESAMPLES)
        return {name: (found[name].low, found[name].high) for name in ("auroc", "auprc")}

    def score(self, metrics: Mapping[str, float]) -> float:
        """Return the area under the ROC curve."""
        return metrics["auroc"]


@dataclass(frozen=True)
class MultiLabel:
    """Several labels of every example, each 0 or 1, predicted by one logit each.

    The probabilities are those of 1 in each label: float64 [E, K].

    Attributes:
        names: names of the K labels; they are the columns of the listfile.
    """

    names: tuple[str, ...]
    rule = LABEL
    followed = ("ave_auc_macro", "ave_auc_micro", "ave_auc_weighted")
    classes: ClassVar[slice | None] = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the labels; see `Targets`."""
        return self.names

    def read(self, numbers: NDArray[np.float64]) -> NDArray[np.int8]:
        """Make K labels 0 and 1; see `Targets`."""
        return numbers.astype(np.int8)

    def cells(self, label: Sequence[int]) -> tuple[str, ...]:
        """Return the labels as texts; see `Targets`."""
        return tuple(map(str, label))

    def head(self, hidden: Any, name: str = "logits") -> Any:
        """Make K logits [B, K]; they are float32 under mixed precision, too."""
        import keras

        return keras.layers.Dense(len(self.names), dtype="float32", name=name)(hidden)

    def losses(self, labels: Any, logits: Any) -> Any:
        """Compute the mean of the K cross-entropies of every example: [B] from [B, K] and [B, K]."""
        import keras

        labels = keras.ops.cast(labels, "float32")
        return keras.ops.mean(keras.ops.binary_crossentropy(labels, logits, from_logits=True), axis=-1)

    def weights(self, labels: NDArray[np.integer], class_weights: Sequence[float]) -> NDArray[np.float64]:
        """Give all examples the same weight: the benchmarks weigh no label."""
        return np.ones(len(labels))

    def mean_loss(
        self,
        labels: NDArray[np.integer],
        probabilities: NDArray[np.floating],
        weights: NDArray[np.floating],
    ) -> float:
        """Compute the weighted mean of the losses; a probability of 0 or 1 counts as almost 0 or 1."""
        kept = np.clip(probabilities, 1e-7, 1 - 1e-7)
        losses = -np.where(labels == 1, np.log(kept), np.log1p(-kept)).mean(axis=1)
        return float(np.average(losses, weights=weights))

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Compute the probability of 1 in every label, float64 [E, K], from logits [E, K]."""
        return 1.0 / (1.0 + np.exp(np.clip(-np.asarray(logits, np.float64), -500, 500)))

    def metrics(self, labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> dict[str, float]:
        """Compute the benchmarks' three averages of the areas under the ROC curves.

        A label that all examples have, or none, has no ROC curve. The benchmarks refuse it; here the averages
        leave it out, because small cohorts hold such labels.
        """
        from mimic3tf.tasks.metrics_multilabel import multilabel_metrics

        measured: dict[str, Any] = multilabel_metrics(labels, probabilities)
        return {name: measured[name] for name in self.followed}

    def intervals(
        self,
        labels: NDArray[np.integer],
        probabilities: NDArray[np.floating],
        stay: NDArray[np.integer] | None = None,
    ) -> dict[str, tuple[float, float]]:
        """Compute the intervals of the averages from `RESAMPLES` resamples of the stays, with seed 0."""
        from mimic3tf.tasks.bootstrap import estimates
        from mimic3tf.tasks.metrics_multilabel import AVERAGES, multilabel_measure

        measure = multilabel_measure(labels, probabilities, stay)
        names = [*AVERAGES, *self.names]
        stays = len(labels) if stay is None else int(stay.max()) + 1
        found = estimates(names, measure, stays, labels.size, resamples=RESAMPLES, seed=0)
        return {name: (found[name].low, found[name].high) for name in self.followed}

    def score(self, metrics: Mapping[str, float]) -> float:
        """Return the macro average of the areas under the ROC curves."""
        return metrics["ave_auc_macro"]
