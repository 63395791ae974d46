"""What the labels in a listfile must be."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

Rule = tuple[Callable[["pl.Series"], "pl.Series"], str]
"""What the numbers of a column must be, and how an error says it."""
LABEL: Rule = (lambda numbers: numbers.is_in([0.0, 1.0]), "labels are 0 or 1")
REMAINING: Rule = (
    lambda numbers: numbers.is_finite() & (numbers >= 0),
    "remaining hours are a number of at least 0",
)
