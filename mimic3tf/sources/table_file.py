"""A table in a file of its own, CSV (plain or .gz) or Parquet, that people bring in many forms."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from mimic3tf.errors import DataError, near, private
from mimic3tf.sources.cleaning import name_sql, quoted
from mimic3tf.sources.csv_tables import read_header, select_csv
from mimic3tf.sources.database import Database, literal_path

MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null")
"""Cells of a CSV file that hold nothing. "None" is not among them: it is a category of the eye opening."""
FAULTS_SOUGHT = 1000
"""Number of different faulty rows of a CSV file among which the first one is looked for."""
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True)
class TableFile:
    """A file, and the columns of it that are read.

    Attributes:
        path: the file.
        kinds: column as the file spells it -> its type; of a CSV file, all are text.
        is_parquet: whether it is Parquet.
    """

    path: Path
    kinds: Mapping[str, pl.DataType]
    is_parquet: bool

    def find(self, names: Iterable[str]) -> str | None:
        """Return the first of some names that is a column, as the file spells it; case does not matter."""
        spelled = {column.casefold(): column for column in self.kinds}
        return next((spelled[name.casefold()] for name in names if name.casefold() in spelled), None)

    def column(self, *names: str) -> str:
        """Return the first of some names that is a column, as the file spells it.

        Raises:
            DataError: none of them is.
        """
        found = self.find(names)
        if found is None:
            place = self.path if self.is_parquet else f"{self.path}, line 1"
            raise DataError(
                f"{place}: lacks the column '{names[0]}'; it has {', '.join(self.kinds)}"
                f"{near(names[0], self.kinds)}"
            )
        return found

    def add_view(self, database: Database, name: str, columns: Mapping[str, str]) -> None:
        """Add a view of some columns.

        Args:
            database: the database that gets the view.
            name: name of the view.
            columns: name in the view -> column as the file spells it.

        Raises:
            DataError: a column of a Parquet file holds no plain values, or the header repeats one.
        """
        chosen = ", ".join(f"{name_sql(column)} AS {name_sql(new)}" for new, column in columns.items())
        if self.is_parquet:
            for column in columns.values():
                kind = self.kinds[column]
                if kind.is_nested() or isinstance(kind, (pl.Binary, pl.Object)):
                    raise DataError(f"{self.path}: column '{column}' is of type {kind}, not text or numbers")
            source = f"read_parquet({quoted(literal_path(self.path))}, file_row_number = true)"
            select = f"SELECT {chosen}, file_row_number AS file_row FROM {source}"
        else:
            kinds = dict.fromkeys(columns.values(), "VARCHAR")
            select = f"SELECT {chosen} FROM ({select_csv(self.path, kinds, MISSING)})"
        database.add_view(name, select, [self.path])

    def first(
        self, database: Database, view: str, columns: Mapping[str, str], condition: str, most: int = 1
    ) -> list[tuple[str, dict[str, object]]]:
        """Find the first rows of a view that fulfil a condition.

        Args:
            database: the database.
            view: name of the view, from `add_view`.
            columns: the columns of the view, as given to `add_view`.
            condition: SQL on the columns of the view.
            most: number of rows to find.

        Returns:
            For each row its place, such as "FILE, line 7" or "FILE, row 6", and column -> cell.
        """
        names = ", ".join(map(name_sql, columns))
        if self.is_parquet:
            sql = f"SELECT file_row, {names} FROM {view} WHERE {condition} ORDER BY file_row LIMIT {most}"
            return [
                (f"{self.path}, row {int(str(row)) + 1}", dict(zip(columns, cells, strict=True)))
                for row, *cells in database.run(sql)
            ]
        # The engine does not number the lines of a CSV file.
        faulty = {
            *database.run(f"SELECT DISTINCT {names} FROM {view} WHERE {condition} LIMIT {FAULTS_SOUGHT}")
        }
        found = []
        for line, cells in self._lines([*columns.values()]) if faulty else ():
            if cells in faulty:
                found.append((f"{self.path}, line {line}", dict(zip(columns, cells, strict=True))))
                if len(found) == most:
                    break
        # A line that only the engine can read has no number.
        return found or [(str(self.path), dict(zip(columns, cells, strict=True))) for cells in [*faulty][:1]]

    def _lines(self, columns: list[str]) -> Iterator[tuple[int, tuple[object, ...]]]:
        header = read_header(self.path)
        positions = [header.index(column) for column in columns]
        opened = gzip.open if self.path.suffix.lower() == ".gz" else open
        with opened(self.path, "rt", encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            next(reader, None)
            line = reader.line_num + 1
            for cells in reader:
                if len(cells) == len(header):
                    chosen = (cells[position] for position in positions)
                    yield line, tuple(None if cell in MISSING else cell for cell in chosen)
                line = reader.line_num + 1


def open_table(path: Path) -> TableFile:
    """Read the names and types of a file's columns.

    Args:
        path: the file; Parquet by the ending .parquet or .pq, else CSV.

    Raises:
        DataError: the file does not exist, is empty, damaged, or no such table.
    """
    if path.suffix.lower() in (".parquet", ".pq"):
        with readable(path):
            schema = pl.scan_parquet(path, glob=False).collect_schema()
        named = Counter(map(str.casefold, schema))
        if repeated := [column for column in schema if named[column.casefold()] > 1]:
            raise DataError(f"{path}: names columns that differ in case only: {', '.join(repeated)}")
        return TableFile(path, dict(schema), True)
    header = read_header(path)
    if not any(header):
        raise DataError(f"{path}: is empty; its first line must name the columns")
    for sign, name in SEPARATORS.items():
        if len(header) == 1 and sign in header[0]:
            raise DataError(
                f"{path}, line 1: the cells are separated by {name}; save the file with commas between the "
                "cells, and with decimal points"
            )
    return TableFile(path, dict.fromkeys(header, pl.String()), False)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn errors of reading a Parquet file into a `DataError` of one line that names it."""
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path}: is empty; copy it again")
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except PolarsError as error:
        reason = private(str(error).split("\n")[0])
        raise DataError(f"{path}: is cut short or damaged; copy it again ({reason})") from None


def id_sql(column: str) -> str:
    """Write the SQL of an id as text: a whole number is written without decimals."""
    return f"regexp_replace(trim({column}::VARCHAR), '^([0-9]+)[.]0+$', '\\1')"


def number_of(column: str) -> str:
    """Write the SQL of a number (DOUBLE): null where the cell holds none, or one that is not finite."""
    number = f"TRY_CAST({column} AS DOUBLE)"
    return f"CASE WHEN isfinite({number}) THEN {number} END"
