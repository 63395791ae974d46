"""Raw tables in CSV files as typed views of the database."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mimic3tf.errors import DataError, private
from mimic3tf.sources.cleaning import name_sql, quoted
from mimic3tf.sources.database import Database, literal_path

_ZONE = re.compile(r"\d\d:\d\d(:\d\d(\.\d+)?)?\s*(Z|UTC|[+-]\d\d(:?\d\d)?)$")


@dataclass(frozen=True)
class Table:
    """What is read of a table.

    Attributes:
        columns: column -> its type in SQL; all other columns are skipped.
        key: the column whose values must not repeat, if there is one.
        folder: folder of the data set in which the table lies; a table is also found outside of it.
    """

    columns: Mapping[str, str]
    key: str | None = None
    folder: str = ""


def open_tables(database: Database, directory: Path, tables: Mapping[str, Table], origin: str) -> None:
    """Find the tables, check their headers and keys, and add a view of each under its name.

    Args:
        database: the database that gets the views.
        directory: directory of `<TABLE>.csv` or `<TABLE>.csv.gz`, in upper or lower case.
        tables: name -> table.
        origin: the data set that the tables belong to; an error about a missing table names it.

    Raises:
        DataError: a table or a column is missing, or a key repeats.
    """
    needed = f"{origin}; needed are {', '.join(tables)}"
    paths = {name: _find(directory, name, table.folder, needed) for name, table in tables.items()}
    for name, table in tables.items():
        path = paths[name]
        database.add_view(name, select_csv(path, table.columns), [path])
        if table.key is not None:
            repeated = (
                f"SELECT {table.key} FROM {name} WHERE {table.key} IS NOT NULL GROUP BY ALL "
                "HAVING count(*) > 1"
            )
            for (value,) in database.run(f"{repeated} ORDER BY 1 LIMIT 1"):
                raise DataError(f"{path}: {table.key} {private(value)} is on several lines")


def _find(directory: Path, table: str, folder: str, origin: str) -> Path:
    names = (f"{table}.csv", f"{table}.csv.gz")
    if not directory.is_dir():
        raise DataError(f"{directory}: no such directory")
    inner = directory / folder if folder and (directory / folder).is_dir() else directory
    found = [path for path in sorted(inner.iterdir()) if path.name.lower() in map(str.lower, names)]
    if len(found) > 1:
        raise DataError(
            f"{inner}: holds {' and '.join(path.name for path in found)}; one of them may be cut short: "
            "remove the one that is not to be read"
        )
    if found:
        return found[0]
    raise DataError(
        f"{inner}: holds neither {names[0]} nor {names[1]}; copy it there from your download of {origin}"
    )


def select_csv(path: Path, columns: Mapping[str, str], missing: Sequence[str] = ("",)) -> str:
    """Write the SQL that reads some columns of a file; the case of names in the header does not matter.

    Args:
        path: the file.
        columns: column -> its type in SQL.
        missing: cells that are null.

    Raises:
        DataError: the header lacks a column, or repeats it; or a time of the first row has a time zone.
    """
    names, first = _first_lines(path)
    header = [name.upper() for name in names]
    named = {column.upper(): column for column in columns}
    for upper, column in named.items():
        if header.count(upper) != 1:
            fault = "misses the column" if upper not in header else "repeats the column"
            raise DataError(f"{path}, line 1: the header {fault} {column}")
    for upper, cell in zip(header, first, strict=False):
        # The engine would convert such a time to UTC, but leave times without a zone as they are.
        if columns.get(named.get(upper, "")) == "TIMESTAMP" and _ZONE.search(cell):
            raise DataError(
                f"{path}, line 2: {named[upper]} has a time zone; write all times without one, in local time"
            )
    types = ", ".join(
        f"{quoted(named.get(name, name) or f'column {place}')}: "
        f"'{columns[named[name]] if name in named else 'VARCHAR'}'"
        for place, name in enumerate(header)
    )
    return (
        f"SELECT {', '.join(map(name_sql, columns))} "
        f"FROM read_csv({quoted(literal_path(path))}, columns = {{{types}}}, "
        "auto_detect = false, header = true, delim = ',', quote = '\"', escape = '\"', "
        f"nullstr = [{', '.join(map(quoted, missing))}])"
    )


def read_header(path: Path) -> list[str]:
    """Read the names in the first line of a file.

    Raises:
        DataError: the file cannot be read, or is no text.
    """
    return _first_lines(path)[0]


def _first_lines(path: Path) -> tuple[list[str], list[str]]:
    """Read the names in the header, and the first row."""
    try:
        with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rt", encoding="utf-8-sig") as file:
            lines = [file.readline(100_000) for _ in range(2)]
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: is cut short or damaged; download it again ({error})") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not text in UTF-8; save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    header, row = (next(csv.reader([line]), []) for line in lines)
    return [name.strip() for name in header], row
