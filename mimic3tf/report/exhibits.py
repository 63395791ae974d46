"""What a report shows: tables, figures and texts, with the words that go with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


@dataclass(frozen=True)
class Picture:
    """A picture that was drawn before, without a table behind it.

    Attributes:
        name: of its file.
        title: heading.
        caption: what to see in it.
        png: contents of a PNG file.
        alt: what the picture shows, for those who cannot see it.
    """

    name: str
    title: str
    caption: str
    png: bytes
    alt: str


@dataclass(frozen=True)
class Listing:
    """A text of a file, folded until somebody asks for it.

    Attributes:
        title: heading.
        caption: what to know about it.
        file: name of the file.
        text: its contents.
    """

    title: str
    caption: str
    file: str
    text: str


@dataclass(frozen=True)
class Section:
    """What stands under one heading."""

    heading: str
    shows: Sequence[Exhibit | Picture | Listing | Absent]


@dataclass(frozen=True)
class Report:
    """A page.

    Attributes:
        title: heading of the page.
        summary: the sentence below it.
        sections: in reading order.
    """

    title: str
    summary: str
    sections: list[Section]
