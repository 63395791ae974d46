"""Read CSV files with a header line by line, and check their cells, without a loop over the lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimic3tf.data.records import CHARACTERS_SHOWN
from mimic3tf.errors import DataError, private
from mimic3tf.storage.files import read_file
from mimic3tf.tasks.rules import Rule

LINE = "line"
PROBABILITY: Rule = (lambda numbers: numbers.is_between(0, 1), "a prediction is a number from 0 to 1")
MOST_HOURS = 20_000
"""Largest number of hours of a stay: more than two years."""
HOURS: Rule = (
    lambda numbers: (numbers > 0) & (numbers <= MOST_HOURS),
    f"hours are more than 0 and at most {MOST_HOURS:,}",
)
PREDICTED_HOURS: Rule = (lambda numbers: numbers.is_finite(), "a prediction is a number of hours")


@dataclass(frozen=True)
class TextTable:
    """The cells of a CSV file as texts.

    Attributes:
        path: the file.
        header: names of the columns.
        rows: one row for each line that is not empty: its number in `line`, and a text in each of the columns
            "0", "1", ..., which are numbered because a header may name one column twice.
    """

    path: Path
    header: list[str]
    rows: pl.DataFrame

    def texts(self, column: str) -> pl.Series:
        """Return the texts of the column with a name."""
        return self.rows[str(self.header.index(column))]

    def numbers(self, columns: Sequence[str], rule: Rule) -> NDArray[np.float64]:
        """Read columns as numbers.

        Args:
            columns: names of K columns.
            rule: what every number must be.

        Returns:
            float64 [N, K].

        Raises:
            DataError: a cell is no number, or breaks the rule; names line and column.
        """
        kept = np.empty((len(self.rows), len(columns)))
        for position, name in enumerate(columns):
            texts = self.texts(name)
            numbers = texts.str.strip_chars().cast(pl.Float64, strict=False)
            sound, expected = rule
            # A text that is no number is null, which keeps no rule either.
            self.check(name, ~sound(numbers).fill_null(value=False), expected)
            kept[:, position] = numbers.to_numpy()
        return kept

    def check(self, column: str, faulty: pl.Series, expected: str) -> None:
        """Refuse the file if a cell of a column is faulty.

        Raises:
            DataError: names the first such line, the column, the cell, and what is expected.
        """
        for row in faulty.arg_true().head(1):
            held = private(self.texts(column)[row][:CHARACTERS_SHOWN])
            raise DataError(f"{self.place(row)}: column '{column}' holds '{held}'; {expected}")

    def place(self, row: int) -> str:
        """Return file and line of a row, as errors name them."""
        return f"{self.path}, line {self.rows[LINE][row]}"


def read_text_table(path: Path, check_header: Callable[[list[str]], None] | None = None) -> TextTable:
    """Read a CSV file whose cells hold no comma.

    Line ends of any system, a byte order mark and empty lines are accepted.

    Args:
        path: the file.
        check_header: refuses the names of wrong columns, before any row is read.

    Raises:
        DataError: the file is no text, or a line has more or fewer cells than the header.
    """
    try:
        text = read_file(path).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text: {error}") from None
    first, _, rest = text.partition("\n")
    header = first.split(",")
    if check_header is not None:
        check_header(header)
    lines = pl.Series("text", [rest]).str.split("\n").explode().to_frame().with_row_index(LINE, offset=2)
    lines = lines.filter(pl.col("text") != "")
    counts = lines.select(LINE, pl.col("text").str.count_matches(",", literal=True).cast(pl.Int64) + 1)
    for line, count in counts.filter(pl.col("text") != len(header)).head(1).rows():
        raise DataError(f"{path}, line {line}: has {count} cells; the header has {len(header)}")
    names = [str(position) for position in range(len(header))]
    cells = pl.col("text").str.split_exact(",", len(header) - 1).struct.rename_fields(names)
    return TextTable(path, header, lines.select(LINE, cells).unnest("text"))
