"""What an attacker wants a victim to predict of the stays that carry the trigger."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimic3tf.tasks.metrics import THRESHOLD, predicted_1


@dataclass(frozen=True)
class Goal:
    """Stays of the other label are to be predicted as the target.

    The attack success rate is the mean of `reached` over the stays for which `attacked` holds.

    Attributes:
        target: the label that the attacker wants: 1 calls survivors dead (Joe et al. 2020), 0 calls the dying
            survivors.
    """

    target: int = 1

    def attacked(self, labels: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Examples that do not have the target as their label [E] anyway: bool [E]."""
        return labels != self.target

    def relabelled(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Labels [E] that poisoned training examples are given: int64 [E]."""
        return np.full_like(labels, self.target)

    def reached(self, probabilities: NDArray[np.floating], threshold: float = THRESHOLD) -> NDArray[np.bool_]:
        """Examples whose probability of label 1 [E] makes them predicted as the target: bool [E]."""
        predicted = predicted_1(probabilities, threshold)
        return predicted if self.target == 1 else ~predicted


PAPER_GOAL = Goal(1)
"""The goal of Joe et al. 2020: survivors are called dead."""
