"""The embedded, out-of-core database that all sources with large tables are read with.

The engine is DuckDB. It was compared with Polars' streaming engine on CHARTEVENTS of the MIMIC-III demo,
replicated 20 times (15 million rows, 1.7 GB; two shared cores). Filtering the items of the channels and
grouping them by patient and instant took DuckDB 8.5 to 9.4 s and 0.56 GB, Polars 5.1 to 8.8 s and 0.60 GB.
But only DuckDB accepts a memory limit, which it keeps by writing to disk, and names the line of a malformed
row. Parquet files have no lines, and Polars reads some columns of some of their rows in two thirds of the
processor time; so MEDS shards go through Polars into DuckDB, a few row groups at a time (see `add_stream`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import polars as pl
from rich.console import Console
from rich.progress import Progress

from mimic3tf.errors import DataError, UsageError, private
from mimic3tf.sources.cleaning import quoted

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT])(i?)B", re.IGNORECASE)
_MEGABYTE = 10**6
SMALLEST_LIMIT = 512 * _MEGABYTE
# Memory of the process outside the engine's limit: Python, its libraries, the engine's code and read buffers.
_OVERHEAD = 300 * _MEGABYTE


def parse_size(text: str) -> int:
    """Convert a size such as 4GB, 512MB or 1.5GiB to bytes.

    Raises:
        UsageError: the text is no size, or the size is smaller than `SMALLEST_LIMIT`.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"memory limit is '{text}'; expected a size such as 4GB or 800MB")
    number, prefix, binary = match.groups()
    size = int(float(number) * (1024 if binary else 1000) ** (1 + "KMGT".index(prefix.upper())))
    if size < SMALLEST_LIMIT:
        raise UsageError(f"memory limit is '{text}'; at least {SMALLEST_LIMIT // _MEGABYTE}MB are needed")
    return size


class Database:
    """An empty database in memory; what does not fit is kept on disk. It is closed at the end of `with`."""

    def __init__(self, scratch: Path, memory_limit: int) -> None:
        """Start the database.

        Args:
            scratch: existing directory for data that does not fit into memory; the caller removes it.
            memory_limit: bytes that the whole process may use.
        """
        self.scratch = scratch
        self._files: list[Path] = []
        engine = memory_limit - _OVERHEAD
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{engine // _MEGABYTE}MB",
            "temp_directory": str(scratch),
            # A thread that reads CSV takes about 100 MB.
            "threads": max(1, min(os.cpu_count() or 1, engine // (100 * _MEGABYTE))),
            "preserve_insertion_order": False,
            # Every table is read once, so a cache of its file would only take memory from other things.
            "enable_external_file_cache": False,
        }
        with self._explained():
            # In memory, because the engine must lock a database file and some file systems have no locks.
            self._connection = duckdb.connect(":memory:", config=settings)
        # The engine reports its progress only if its progress bar is enabled; the bar need not be shown.
        # In a notebook without ipywidgets, the bar cannot be enabled.
        with suppress(duckdb.InvalidInputException):
            self._connection.execute("SET enable_progress_bar = true")
            self._connection.execute("SET enable_progress_bar_print = false")
        # The engine cannot tell the number of rows from the size of a CSV file. Its optimizers might put
        # all events into a hash table to look up the stays. Without them, joins run as the SQL is
        # written: with the smaller table second.
        self._connection.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def add_view(self, name: str, select: str, files: Sequence[Path]) -> None:
        """Add a view, and remember the files that it reads, so that errors can name them.

        Args:
            name: name of the view.
            select: SQL of the view.
            files: the files that the SQL names.
        """
        self._files += files
        self.run(f"CREATE TEMP VIEW {name} AS {select}")

    def add_stream(self, name: str, rows: pl.LazyFrame) -> None:
        """Add a table that one statement can read once; Polars makes its rows meanwhile, some at a time."""
        self._connection.register(name, rows.collect_batches(maintain_order=False))

    def run(self, sql: str, progress: Progress | None = None, what: str = "") -> list[tuple[object, ...]]:
        """Run one statement and return its rows; `progress` shows a bar labelled `what` meanwhile.

        Raises:
            DataError: a table cannot be read; names file, line and column.
            UsageError: the memory limit is too small.
        """
        with self._explained(), ThreadPoolExecutor(1) as pool:
            work = pool.submit(lambda: self._connection.execute(sql).fetchall())
            task = progress.add_task(what, total=100) if progress else None
            try:
                while not wait_for([work], timeout=0.1).done:
                    done = self._connection.query_progress()
                    if progress and task is not None and done > 0:
                        progress.update(task, completed=done)
            except BaseException:
                self._connection.interrupt()
                raise
            if progress and task is not None:
                progress.update(task, completed=100)
            return work.result()

    def frame(self, sql: str) -> pl.DataFrame:
        """Run one statement and return its rows as a data frame.

        Raises:
            UsageError: the memory limit is too small.
        """
        with self._explained():
            return pl.DataFrame(self._connection.sql(sql))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn errors of the engine into errors of one line."""
        try:
            yield
        except duckdb.OutOfMemoryException:
            raise UsageError("the memory limit is too small for these tables; raise --memory-limit") from None
        except duckdb.Error as error:
            raise DataError(self._explain(error)) from None

    def _damaged_parquet(self) -> Path | None:
        """Find a Parquet file that cannot be read; not every error of the engine names the file."""
        for path in self._files:
            if path.suffix.lower() == ".parquet":
                try:
                    self._connection.execute(
                        f"SELECT count(COLUMNS(*)) FROM read_parquet({quoted(literal_path(path))})"
                    ).fetchall()
                except duckdb.Error:
                    return path
        return None

    def _explain(self, error: duckdb.Error) -> str:
        # The type of the error gives only its kind; all else is in its text. The text also contains paths and
        # cells, but never at the start of a line, so the searches below match at the start of a line.
        message = str(error)
        file = next((path for path in self._files if str(path) in message), None) or self._damaged_parquet()
        first, *others = message.split("\n")
        line = re.match(r"[\w ]+: CSV Error on Line: (\d+)$", first)
        if file is None:
            return "the database stopped: " + private(first)
        if isinstance(error, duckdb.IOException) and file.suffix.lower() == ".gz":
            return f"{file}: is cut short or damaged; download it again ({private(first)})"
        if file.suffix.lower() == ".parquet":
            # The path may stand anywhere in the text, between quotes or not.
            reason = first.rpartition(str(file))[2].strip(" '\":")
            return f"{file}: is cut short or damaged; copy it again ({private(reason or first)})"
        place = f"{file}, line {line.group(1)}" if line else str(file)
        converted = re.search(
            r'^Error when converting column "(.+?)"\. Could not convert string "(.*?)" to \'(\w+)\'',
            message,
            re.MULTILINE,
        )
        if converted:
            column, text, kind = converted.groups()
            what = {"TIMESTAMP": "date and time", "DOUBLE": "number"}.get(kind, "whole number")
            return f"{place}: {column} is '{private(text[:60])}', not a {what}"
        cells = re.search(r"^Expected Number of Columns: (\d+) Found: (\d+)", message, re.MULTILINE)
        if cells:
            return f"{place}: {cells.group(2)} cells where the header names {cells.group(1)}"
        reasons = [text for text in others if text and not text.startswith("Original Line")]
        if line and reasons and reasons[0].startswith("Invalid unicode"):
            return f"{place}: is not text in UTF-8"
        return f"{place}: {private(reasons[0] if line and reasons else first)}"


def literal_path(path: Path) -> str:
    """Write a path so that the engine does not read characters of its name as a pattern."""
    return re.sub(r"([*?\[])", r"[\1]", str(path))


def progress_bar() -> Progress:
    """Make a progress bar on standard error, if that is a terminal; the bar disappears at the end."""
    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)
