"""Texts from files in a terminal's tables."""

from __future__ import annotations

from rich.markup import escape

from mimic3tf.errors import printable


def as_cell(text: str) -> str:
    """A text that is shown as it is written: it is no markup, and nothing in it a terminal would obey."""
    return escape(printable(text))


def p_in_words(p_value: float) -> str:
    """A p-value with one digit; far out in the tail its order of magnitude is all there is to read."""
    return "<1e-9" if p_value < 1e-9 else f"{p_value:.1g}"
