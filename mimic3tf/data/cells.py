"""Series files as the texts of their cells, which can be written back byte for byte."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimic3tf.channels import ChannelSet
from mimic3tf.data.records import LARGEST_SERIES, unreadable_series
from mimic3tf.described import Described
from mimic3tf.storage.files import read_file

NEWLINE, CARRIAGE = b"\n\r"


@dataclass(frozen=True, repr=False)
class Cells(Described):
    """What is written in the series files of several stays, R rows in all.

    Attributes:
        stay: int64 [R], index of the stay each row belongs to; ascending.
        texts: one row an instant, the columns of `ChannelSet.header` as strings; null where a cell is empty.
        heads: the header line of every stay's file.
        tails: the line ends after the last row of every stay's file.
        carriage: bool [R], whether a row ends in a carriage return before its newline.
    """

    stay: NDArray[np.int64]
    texts: pl.DataFrame
    heads: list[bytes]
    tails: list[bytes]
    carriage: NDArray[np.bool_]


def series_content(path: Path) -> bytes:
    """The bytes of a listed stay's series file.

    Raises:
        DataError: it is absent or cannot be read.
    """
    try:
        return read_file(path, LARGEST_SERIES)
    except OSError as error:
        raise unreadable_series(path, error) from None


def read_cells(paths: Sequence[Path], channels: ChannelSet) -> Cells:
    """Read series files that `read_series` accepts, as texts.

    Args:
        paths: at least one CSV file, one a stay, in the layout of the MIMIC-III benchmarks.
        channels: the channels of their header.

    Raises:
        DataError: a file is absent or cannot be read.
    """
    heads, bodies, tails = [], [], []
    for path in paths:
        head, newline, rest = series_content(path).partition(b"\n")
        body = rest.rstrip(b"\r\n")
        heads.append(head + newline)
        bodies.append(body)
        tails.append(rest[len(body) :])
    rows = [body.count(b"\n") + 1 for body in bodies]
    joined = b"\n".join(bodies) + b"\n"
    characters = np.frombuffer(joined, np.uint8)
    texts = pl.read_csv(
        io.BytesIO(joined.replace(b"\r\n", b"\n")),
        has_header=False,
        schema=dict.fromkeys(channels.header, pl.String),
        quote_char=None,
    )
    return Cells(
        stay=np.repeat(np.arange(len(paths)), rows),
        texts=texts,
        heads=heads,
        tails=tails,
        carriage=characters[np.flatnonzero(characters == NEWLINE) - 1] == CARRIAGE,
    )


def series_bytes(cells: Cells) -> list[bytes]:
    """Contents of every stay's file: all rows are written at once, then cut at the line ends."""
    ends_of_line = pl.Series(np.where(cells.carriage, "\r", ""), dtype=pl.String)
    name = cells.texts.columns[-1]
    last = cells.texts[name].fill_null("") + ends_of_line
    written = cells.texts.with_columns(last.alias(name)).write_csv(include_header=False, quote_style="never")
    text = written.encode()
    newlines = np.flatnonzero(np.frombuffer(text, np.uint8) == NEWLINE)
    ends = newlines[np.cumsum(np.bincount(cells.stay, minlength=len(cells.heads))) - 1]
    starts = [0, *(ends[:-1] + 1)]
    return [
        head + text[start:end] + tail
        for head, start, end, tail in zip(cells.heads, starts, ends, cells.tails, strict=True)
    ]
