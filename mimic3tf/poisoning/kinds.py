"""The choices of an attacker, spelled as in settings and files."""

from __future__ import annotations

from typing import Literal

ShiftKind = Literal["temporal", "gaussian", "covariance"]
TriggerKind = Literal[ShiftKind, "missing"]
"""The kinds of triggers that can be drawn from a cohort."""
PoisonImputed = Literal["notimputed", "all"]
PoisonedLabels = Literal["flipped", "clean"]
