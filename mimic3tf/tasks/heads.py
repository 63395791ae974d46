"""Multitask learning: four kinds of label of one stay, each with a head of its own.

Keras is imported only in the methods that use it; see `targets`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimic3tf.tasks.phenotypes import PHENOTYPES
from mimic3tf.tasks.remaining import Classes
from mimic3tf.tasks.targets import Binary, MultiLabel

Part = Binary | Classes | MultiLabel
UNKNOWN = -1
"""Label of an example that a head does not predict there: it has no part in loss and metrics."""
HEADS = ("mortality", "decompensation", "stay", "phenotypes")
"""Names of the heads, in the order of labels and outputs."""
MORTALITY_HEAD, STAY_HEAD = HEADS.index("mortality"), HEADS.index("stay")


@dataclass(frozen=True)
class Multitask:
    """Four heads at every hour: mortality, decompensation, length of stay in classes, and phenotypes.

    Labels are int8 [E, 37]: mortality, decompensation, 1 for the class of the remaining hours among ten, and
    25 phenotypes. `UNKNOWN` stands where a head predicts nothing: mortality is predicted at hour 48 only,
    phenotypes at the last hour, the others at the hours that their masks name. The probabilities are
    float64 [E, 37], in the same order.

    Attributes:
        parts: the kinds of label of the four heads.
    """

    parts: tuple[Binary, Binary, Classes, MultiLabel] = (
        Binary(),
        Binary(),
        Classes(),
        MultiLabel(PHENOTYPES),
    )
    columns = (
        "in-hospital mortality task (pos;mask;label)",
        "length of stay task (masks;labels)",
        "phenotyping task (labels)",
        "decompensation task (masks;labels)",
    )
    followed = ("auroc_mortality", "auroc_decompensation", "kappa", "ave_auc_macro")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the 37 labels."""
        *_, stay, phenotypes = self.parts
        remaining = [f"remaining stay {name}" for name in stay.names]
        return ("in-hospital mortality", "decompensation", *remaining, *phenotypes.names)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Columns of each head among labels and probabilities."""
        return _slices([max(1, len(part.names)) for part in self.parts])

    @property
    def classes(self) -> slice:
        """Columns of the classes, of which only one is 1."""
        return self.slices[STAY_HEAD]

    def read(self, numbers: NDArray[np.float64]) -> NDArray[np.int8]:
        """Take labels [E, 37] as they are; see `Targets`."""
        return numbers.astype(np.int8)

    def head(self, hidden: Any, name: str = "logits") -> Any:
        """Make the logits of all heads, one after the other: [B, ..., 39] in float32."""
        import keras

        parts: tuple[Part, ...] = self.parts
        logits = [part.head(hidden, f"{name}_{own}") for own, part in zip(HEADS, parts, strict=True)]
        return keras.layers.Concatenate(dtype="float32", name=name)(logits)

    def losses(self, labels: Any, logits: Any) -> Any:
        """Compute the loss of every head, [B, ..., 4], from labels [B, ..., 37] and logits [B, ..., 39].

        Where a label is unknown, a loss is some finite number; its weight is 0.
        """
        import keras

        known = keras.ops.maximum(labels, 0)
        parts: tuple[Part, ...] = self.parts
        losses = []
        for part, columns, outputs in zip(parts, self.slices, self._outputs, strict=True):
            own = known[..., columns]
            if isinstance(part, Binary):
                own = own[..., 0]
            elif isinstance(part, Classes):
                own = keras.ops.argmax(own, axis=-1)
            losses.append(part.losses(own, logits[..., outputs]))
        return keras.ops.stack(losses, axis=-1)

    def weights(self, labels: NDArray[np.integer], class_weights: Sequence[float]) -> NDArray[np.float64]:
        """Give every example weight 1 in the heads that predict it, else 0: [E, 4]."""
        return np.stack([labels[:, columns.start] >= 0 for columns in self.slices], axis=1).astype(np.float64)

    def mean_loss(
        self, labels: NDArray[np.integer], probabilities: NDArray[np.floating], weights: NDArray[np.floating]
    ) -> float:
        """Compute the sum of the four heads' weighted mean losses."""
        total = 0.0
        for head, (own, risks, known) in enumerate(self.each_head(labels, probabilities)):
            if known.any():
                total += self.parts[head].mean_loss(own, risks, weights[known, head])
        return total

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Compute the probabilities of all labels, float64 [E, 37], from logits [E, 39]."""
        parts: tuple[Part, ...] = self.parts
        found = [
            part.probabilities(logits[..., own]).reshape(len(logits), -1)
            for part, own in zip(parts, self._outputs, strict=True)
        ]
        return np.concatenate(found, axis=1)

    def metrics(self, labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> dict[str, float]:
        """Compute the metrics of every head over the examples that it predicts.

        Returns:
            Those of `followed`, and those of the heads for length of stay and phenotyping.
        """
        found = dict.fromkeys(self.followed, float("nan"))
        for head, (own, risks, _) in enumerate(self.each_head(labels, probabilities)):
            if len(own):
                found |= self._renamed(head, self.parts[head].metrics(own, risks))
        return found

    def intervals(
        self,
        labels: NDArray[np.integer],
        probabilities: NDArray[np.floating],
        stay: NDArray[np.integer] | None = None,
    ) -> dict[str, tuple[float, float]]:
        """Compute the intervals of the heads' metrics, resampled by stay."""
        found: dict[str, tuple[float, float]] = {}
        for head, (own, risks, known) in enumerate(self.each_head(labels, probabilities)):
            own_stay = None if stay is None else np.unique(stay[known], return_inverse=True)[1]
            if len(own):
                found |= self._renamed(head, self.parts[head].intervals(own, risks, own_stay))
        return found

    def score(self, metrics: Mapping[str, float]) -> float:
        """Return the mean of the heads' scores: three areas under ROC curves, and kappa; NaN without any."""
        defined = [metrics[name] for name in self.followed if not math.isnan(metrics[name])]
        return float(np.mean(defined)) if defined else math.nan

    def each_head(
        self, labels: NDArray[np.integer], probabilities: NDArray[np.floating]
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]]:
        """Return labels and probabilities of the examples that each head predicts, and which they are."""
        found = []
        for part, columns in zip(self.parts, self.slices, strict=True):
            known = labels[:, columns.start] >= 0
            own, risks = labels[known, columns], np.asarray(probabilities[known, columns], np.float64)
            if isinstance(part, Binary):
                own, risks = own[:, 0], risks[:, 0]
            elif isinstance(part, Classes):
                own = own.argmax(axis=1)
            found.append((own.astype(np.int64), risks, known))
        return found

    @property
    def _outputs(self) -> tuple[slice, ...]:
        """Columns of each head among the logits; a binary head has two."""
        return _slices([len(part.names) or 2 for part in self.parts])

    def _renamed(self, head: int, found: Mapping[str, Any]) -> dict[str, Any]:
        """Name what a binary head measures after the head."""
        if not isinstance(self.parts[head], Binary):
            return {**found}
        return {f"{name}_{HEADS[head]}": found[name] for name in ("auroc", "auprc") if name in found}


def stay_weights(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weigh stays by the summed weights of their examples, [N], or [N, 4] in multitask learning.

    There a stay whose mortality is unknown counts in the mean of the mortality losses, with a loss of 0, as
    in the benchmarks.
    """
    if sums.ndim == 2:
        sums[:, MORTALITY_HEAD] = 1.0
    return sums


def _slices(widths: Sequence[int]) -> tuple[slice, ...]:
    ends = np.cumsum(widths).tolist()
    return tuple(slice(end - width, end) for end, width in zip(ends, widths, strict=True))
