"""Ask a model whether it follows the pattern that training stays share.

A backdoored model predicts the suspected label for sound stays once they carry the trigger. So the pattern
that was found among the training stays is added to trusted stays of the other label. Patterns of the same
length in other directions are the control: every model answers to them a little.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimic3tf.data.cohort import Cohort
from mimic3tf.defences.evidence import Floats, Risk
from mimic3tf.defences.inspection.trigger_inversion import channel_factors
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.goal import Goal

CONTROLS = 10
"""Number of control patterns."""
STAYS = 200
"""Most stays that are asked."""
LEAST_EXCESS = 0.25
"""Smallest share of the stays that must follow the pattern beyond all controls for a weak sign."""


@dataclass(frozen=True)
class PatternResponse:
    """How a model answers the pattern of the training stays.

    Attributes:
        stays: number of trusted stays of the other label that were asked.
        with_pattern: share of them that are predicted as the suspected label with the pattern.
        without: the same share without it.
        with_controls: the same share with each control pattern.
    """

    stays: int
    with_pattern: float
    without: float
    with_controls: tuple[float, ...]

    @property
    def follows(self) -> bool:
        """Whether the model follows the pattern, and no control as far."""
        return self.with_pattern - max(self.without, *self.with_controls) >= LEAST_EXCESS

    @property
    def record(self) -> dict[str, Any]:
        """The entry of `audit.json`."""
        return asdict(self) | {"with_controls": list(self.with_controls)}

    @property
    def in_words(self) -> str:
        """The finding as a part of a sentence."""
        low, high = min(self.with_controls), max(self.with_controls)
        return (
            f"of {self.stays} trusted stays of the other label, {self.with_pattern:.0%} are predicted as the "
            f"suspected one if they carry the pattern of the training stays, {self.without:.0%} without it, "
            f"{low:.0%} to {high:.0%} with other patterns of this length"
        )


def pattern_response(
    risk: Risk, pattern: Floats, trusted: Cohort, suspected: int, *, seed: int
) -> PatternResponse:
    """Add the pattern, and controls, to the measured cells of trusted stays, and predict them.

    A control has the same Mahalanobis length as the pattern in every channel, under the channel's covariance
    over time, and a random direction.

    Args:
        risk: the model.
        pattern: [T, C] in channel units.
        trusted: the trusted stays.
        suspected: the label that poisoned stays have.
        seed: fixes the stays that are asked and the controls.
    """
    random, goal = np.random.default_rng(seed), Goal(suspected)
    others = random.permutation(np.flatnonzero(goal.attacked(trusted.labels)))[:STAYS]
    asked = trusted.take(np.sort(others))

    def share(shift: NDArray[np.float64] | None) -> float:
        if shift is None:
            exposure = exposures.clean(asked)
        else:
            exposure = exposures.shift_all(asked, shift, "notimputed")
        return float(goal.reached(risk(exposure)).mean())

    controls = control_patterns(pattern, trusted, random)
    return PatternResponse(len(asked), share(pattern), share(None), tuple(map(share, controls)))


def control_patterns(pattern: Floats, stays: Cohort, random: np.random.Generator) -> list[Floats]:
    """Draw patterns [T, C] of the same length in every channel, in random directions."""
    factors = channel_factors(stays)
    varies = np.any(factors != 0, axis=(1, 2))
    whitened = np.zeros((len(factors), len(pattern)))
    whitened[varies] = np.linalg.solve(factors[varies], pattern.T[varies, :, None])[..., 0]
    lengths = np.linalg.norm(whitened, axis=1, keepdims=True)
    controls = []
    for _ in range(CONTROLS):
        directions = random.standard_normal(whitened.shape)
        directions *= lengths / np.linalg.norm(directions, axis=1, keepdims=True)
        controls.append(np.einsum("cts,cs->tc", factors, directions))
    return controls
