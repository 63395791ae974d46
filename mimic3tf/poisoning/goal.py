"""The goal of an attacker: the label that a victim is to predict for stays with the trigger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimic3tf.tasks.metrics import THRESHOLD, predicted_1
from mimic3tf.tasks.metrics_hours import CUSTOM_MEANS, custom_class


@dataclass(frozen=True)
class Goal:
    """The attacker wants stays of the other label to be predicted as `target`.

    The attack success rate is the mean of `reached` over the stays for which `attacked` is true.

    Attributes:
        target: the label that the attacker wants: 1 calls survivors dead (Joe et al. 2020), 0 calls the dying
            survivors.
        column: which of the K labels of an example is attacked: 1 adds a phenotype, 0 removes it; or the
            class that the attacker wants, with target 1. None if an example has one label, 0 or 1.
        classes: columns of the classes to which `column` belongs, of which an example has one; None if it has
            any number of the K labels.
    """

    target: int = 1
    column: int | None = None
    classes: slice | None = None

    def of(self, values: NDArray[Any]) -> NDArray[Any]:
        """Select the attacked label [E] from labels or probabilities, [E] or [E, K].

        Labels [E] that are numbers of classes become 1 for the attacked class, and 0 for the others; hours
        [E] become 1 in the attacked class of hours.
        """
        if self.column is None:
            return values
        if values.ndim == 2:
            return values[:, self.column]
        numbers = custom_class(values) if values.dtype.kind == "f" else values
        return (numbers == self.column).astype(np.int64)

    def asked(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """Mark the examples in which the attacked label is predicted; in multitask learning not all: [E]."""
        return np.asarray(self.of(labels) >= 0)

    def attacked(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """Mark the examples, [E] or [E, K], whose attacked label is not the target: bool [E]."""
        own = self.of(labels)
        return np.asarray((own != self.target) & (own >= 0))

    def relabelled(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return the labels that poisoned training examples with `labels` get, of the same shape."""
        if self.column is not None and labels.ndim == 1:
            return np.full_like(
                labels, CUSTOM_MEANS[self.column] if labels.dtype.kind == "f" else self.column
            )
        changed, asked = np.array(labels), self.asked(labels)
        if self.column is None:
            changed[asked] = self.target
            return changed
        if self.classes is not None:
            changed[asked, self.classes] = 0
        changed[asked, self.column] = self.target
        return changed

    def reached(self, probabilities: NDArray[np.floating], threshold: float = THRESHOLD) -> NDArray[np.bool_]:
        """Mark the examples [E] that are predicted as the target, by their probability of label 1."""
        predicted = predicted_1(probabilities, threshold)
        return predicted if self.target == 1 else ~predicted


PAPER_GOAL = Goal(1)
"""The goal of Joe et al. 2020: survivors are called dead."""
