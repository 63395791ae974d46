"""Texts and p-values as cells of tables in the terminal."""

from __future__ import annotations

from rich.markup import escape

from mimic3tf.errors import printable


def as_cell(text: str) -> str:
    """Escape a text so that a table shows it as written, without markup and terminal control codes."""
    return escape(printable(text))


def p_in_words(p_value: float) -> str:
    """Write a p-value with one digit; values below 1e-9 are not told apart."""
    return "<1e-9" if p_value < 1e-9 else f"{p_value:.1g}"
