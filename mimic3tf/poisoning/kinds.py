"""The choices an attacker has, as settings and files spell them."""

from __future__ import annotations

from typing import Literal

ShiftKind = Literal["temporal", "gaussian", "covariance"]
TriggerKind = Literal[ShiftKind, "missing"]
"""What can be drawn from a cohort."""
PoisonImputed = Literal["notimputed", "all"]
PoisonedLabels = Literal["flipped", "clean"]
