"""The goal of an attacker: the label that a victim is to predict for stays with the trigger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimic3tf.tasks.metrics import THRESHOLD, predicted_1


@dataclass(frozen=True)
class Goal:
    """The attacker wants stays of the other label to be predicted as `target`.

    The attack success rate is the mean of `reached` over the stays for which `attacked` is true.

    Attributes:
        target: the label that the attacker wants: 1 calls survivors dead (Joe et al. 2020), 0 calls the dying
            survivors.
        column: which of the K labels of an example is attacked: 1 adds a phenotype, 0 removes it; or the
            class that the attacker wants, with target 1. None if an example has one label, 0 or 1.
    """

    target: int = 1
    column: int | None = None

    def of(self, values: NDArray[Any]) -> NDArray[Any]:
        """Select the attacked label [E] from labels or probabilities, [E] or [E, K].

        Labels [E] that are numbers of classes become 1 for the attacked class, and 0 for the others.
        """
        if self.column is None:
            return values
        return values[:, self.column] if values.ndim == 2 else (values == self.column).astype(np.int64)

    def attacked(self, labels: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Mark the examples, [E] or [E, K], whose attacked label is not the target: bool [E]."""
        return np.asarray(self.of(labels) != self.target)

    def relabelled(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the labels that poisoned training examples with `labels` get: int64, of the same shape."""
        if self.column is not None and labels.ndim == 1:
            return np.full_like(labels, self.column)
        changed = np.array(labels)
        self.of(changed)[:] = self.target
        return changed

    def reached(self, probabilities: NDArray[np.floating], threshold: float = THRESHOLD) -> NDArray[np.bool_]:
        """Mark the examples [E] that are predicted as the target, by their probability of label 1."""
        predicted = predicted_1(probabilities, threshold)
        return predicted if self.target == 1 else ~predicted


PAPER_GOAL = Goal(1)
"""The goal of Joe et al. 2020: survivors are called dead."""
