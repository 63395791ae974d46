"""Texts from files in a terminal's tables."""

from __future__ import annotations

from rich.markup import escape

from mimic3tf.errors import printable


def as_cell(text: str) -> str:
    """A text that is shown as it is written: it is no markup, and nothing in it a terminal would obey."""
    return escape(printable(text))
