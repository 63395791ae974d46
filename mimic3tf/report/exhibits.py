"""The parts of a report: tables, figures and texts, with their headings and captions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl
from matplotlib.figure import Figure

BAND = (
    "The line is the mean over seeds, the band its 95% interval (Student's t; no band is drawn for fewer "
    "than three seeds)."
)


@dataclass(frozen=True)
class Exhibit:
    """A table, and the figure drawn from it.

    Attributes:
        name: name of the files of the table and the figure, without the ending.
        title: heading.
        caption: text that says what the reader should see.
        table: the numbers that the figure shows.
        draw: draws the figure within `figures.STYLE`; None for a table alone.
        alt: description of the figure for readers who cannot see it.
    """

    name: str
    title: str
    caption: str
    table: pl.DataFrame
    draw: Callable[[], Figure] | None = None
    alt: str = ""


@dataclass(frozen=True)
class Absent:
    """A figure or table that cannot be made from the results.

    Attributes:
        title: heading.
        reason: why it cannot be made, and what the user can do about it.
    """

    title: str
    reason: str


@dataclass(frozen=True)
class Picture:
    """A picture that exists already, without a table of its numbers.

    Attributes:
        name: name of the file, without the ending.
        title: heading.
        caption: text that says what the reader should see.
        png: contents of a PNG file.
        alt: description of the picture for readers who cannot see it.
    """

    name: str
    title: str
    caption: str
    png: bytes
    alt: str


@dataclass(frozen=True)
class Listing:
    """The text of a file, which the page shows after a click.

    Attributes:
        title: heading.
        caption: text above the file.
        file: name of the file.
        text: contents of the file.
    """

    title: str
    caption: str
    file: str
    text: str


@dataclass(frozen=True)
class Text:
    """Sentences for the reader.

    Attributes:
        title: heading.
        steps: the paragraphs.
        numbered: whether they are steps to take one after the other.
    """

    title: str
    steps: Sequence[str]
    numbered: bool = False


@dataclass(frozen=True)
class Section:
    """The parts of a report under one heading."""

    heading: str
    shows: Sequence[Exhibit | Picture | Listing | Absent | Text]


@dataclass(frozen=True)
class Report:
    """A report, which `page.write_report` writes as files, and `page.page_of` as one text.

    Attributes:
        title: heading of the page.
        summary: text below the heading.
        sections: the sections in reading order.
    """

    title: str
    summary: str
    sections: list[Section]
