"""What a report shows: a table or a figure, with the words that go with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl
from matplotlib.figure import Figure

BAND = (
    "The line is the mean over seeds, the band its 95% interval (Student's t; none is drawn below three "
    "seeds)."
)


@dataclass(frozen=True)
class Exhibit:
    """A table, and the figure drawn from it.

    Attributes:
        name: of its files.
        title: heading.
        caption: what to see in it.
        table: the numbers behind it.
        draw: draws the figure within `figures.STYLE`; None for a table alone.
        alt: what the figure shows, for those who cannot see it.
    """

    name: str
    title: str
    caption: str
    table: pl.DataFrame
    draw: Callable[[], Figure] | None = None
    alt: str = ""


@dataclass(frozen=True)
class Absent:
    """A figure that these results cannot give.

    Attributes:
        title: heading.
        reason: why, and what would give it.
    """

    title: str
    reason: str
