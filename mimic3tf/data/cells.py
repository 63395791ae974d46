"""Series files as the texts of their cells, from which the files can be written again byte for byte."""

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
    """The texts of the series files of several stays, with R rows in total.

    Attributes:
        stay: int64 [R], index of the stay to which each row belongs; ascending.
        texts: R rows, with the columns of `ChannelSet.header` as strings; null where a cell is empty.
        heads: the header line of every stay's file.
        tails: the line ends after the last row of every stay's file.
        carriage: bool [R], whether a row has a carriage return before its newline.
    """

    stay: NDArray[np.int64]
    texts: pl.DataFrame
    heads: list[bytes]
    tails: list[bytes]
    carriage: NDArray[np.bool_]


def series_content(path: Path) -> bytes:
    """Read the bytes of the series file of a listed stay.

    Raises:
        DataError: the file is absent or cannot be read.
    """
    try:
        return read_file(path, LARGEST_SERIES)
    except OSError as error:
        raise unreadable_series(path, error) from None


def read_cells(paths: Sequence[Path], channels: ChannelSet) -> Cells:
    """Read the cells of series files as texts; the files must be valid for `read_series`.

    Args:
        paths: one CSV file for each stay, at least one, in the layout of the MIMIC-III benchmarks.
        channels: the channels in the header of the files.

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
    """Return the contents of every stay's file. All rows are written at once, then cut at the line ends."""
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
