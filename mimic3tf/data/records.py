"""Read series files into one flat table of rows, and check every cell."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimic3tf.channels import TIME, Channel, ChannelSet
from mimic3tf.described import Described
from mimic3tf.errors import DataError, private, private_path
from mimic3tf.storage.files import read_file

FILES_A_BATCH = 500
"""Number of files that are parsed at once: enough to keep the parser busy, but little memory."""
LARGEST_SERIES = 2**24
"""Largest size of a series file in bytes; one row each second for 48 hours has about 10 MB."""
CHARACTERS_SHOWN = 60
"""Number of characters of a cell that an error message shows."""
START_OF_ROW = b"0123456789.,+- \tnNiI"
"""Characters with which the first row may start, even if its time is faulty. Other texts never reach Polars,
which would unpack a text that starts like a compressed file, to any size."""
ROUNDING = 1e-6
"""Hours by which a row may be before admission or after the end of a sample, as in the benchmarks."""
LARGEST_VALUE = 1e18
"""Largest absolute value of a measurement, in any unit. With this limit, the sum of the squares of the bins
still fits into the single precision of grids."""


@dataclass(frozen=True, repr=False)
class Records(Described):
    """Measurements of several stays, one row for each time, in the order of the files.

    Attributes:
        stay: int64 [R], index of the stay to which each row belongs; ascending.
        hours: float64 [R], hours since admission to the ICU; ascending within a stay.
        values: float64 [R, C], NaN where not measured; a category is its index in `Channel.possible_values`.
    """

    stay: NDArray[np.int64]
    hours: NDArray[np.float64]
    values: NDArray[np.float64]


def in_batches(paths: Sequence[Path]) -> list[Sequence[Path]]:
    """Split a list of series files into batches of `FILES_A_BATCH` files, which are read together."""
    return [paths[start : start + FILES_A_BATCH] for start in range(0, len(paths), FILES_A_BATCH)]


def read_series(paths: Sequence[Path], channels: ChannelSet) -> tuple[Records, list[bytes]]:
    """Read the series files of several stays at once; for many stays, call it for each batch of `in_batches`.

    Args:
        paths: one CSV file for each stay, in the layout of the MIMIC-III benchmarks.
        channels: the channels expected in the header, in order.

    Returns:
        The rows of all files, and the SHA-256 of each file's bytes.

    Raises:
        DataError: a file breaks the layout; names file, line and channel.
    """
    digests: list[bytes] = []
    bodies = list(_bodies(paths, channels, digests))
    return _parse(bodies, paths, channels), digests


def unreadable_series(path: Path, error: OSError) -> DataError:
    """Make the error for a listed stay whose series file cannot be read."""
    reason = "is absent" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
    return DataError(f"{private_path(path)}: the listfile names this stay, but its series file {reason}")


def _bodies(paths: Sequence[Path], channels: ChannelSet, digests: list[bytes]) -> Iterator[bytes]:
    header = list(channels.header)
    for path in paths:
        try:
            content = read_file(path, LARGEST_SERIES)
        except OSError as error:
            raise unreadable_series(path, error) from None
        digests.append(hashlib.sha256(content).digest())
        if b"\r" in content:
            content = content.replace(b"\r\n", b"\n")
        first, _, body = content.partition(b"\n")
        names = first.decode("utf-8", "replace").split(",")
        if names != header and content.strip():
            raise DataError(f"{private_path(path)}, line 1: {_header_fault(names, header)}")
        body = body.rstrip(b"\n")
        if not body:
            raise DataError(f"{private_path(path)}: the series is empty; leave the stay out of the listfile")
        yield body + b"\n"


def _header_fault(names: list[str], header: list[str]) -> str:
    missing, extra = list(Counter(header) - Counter(names)), list(Counter(names) - Counter(header))
    faults = [f"missing channel '{name}'" for name in missing]
    # A file of another kind may have thousands of columns with long names.
    faults += [f"extra channel '{private(name[:50])}'" for name in extra[:3]]
    if not faults:
        found, expected = next(pair for pair in zip(names, header, strict=True) if pair[0] != pair[1])
        faults = [f"channels out of order: '{private(found)}' stands where '{expected}' belongs"]
    return f"{', '.join(faults)}; expected 'Hours' and the {len(header) - 1} channels"


def _parse(bodies: list[bytes], paths: Sequence[Path], channels: ChannelSet) -> Records:
    lines = np.array([body.count(b"\n") for body in bodies], np.int64)
    text = b"".join(bodies)
    # Comparing bytes is faster than `bytes.count` if every second byte is a comma.
    separators = np.count_nonzero(np.frombuffer(text, np.uint8) == ord(","))
    try:
        frame = _read_csv(text, channels) if text[:1] in START_OF_ROW else pl.DataFrame()
    except pl.exceptions.PolarsError:
        frame = pl.DataFrame()
    if frame.height != lines.sum() or separators != lines.sum() * len(channels):
        raise DataError(_cell_fault(bodies, paths, channels))
    stay = np.repeat(np.arange(len(bodies)), lines)
    hours = frame[TIME].to_numpy()
    values = frame.select(_numbers(channel) for channel in channels).to_numpy()
    starts = np.cumsum(lines) - lines
    # If the hours go down within one stay, the rows are not sorted.
    descends = np.zeros(len(hours), bool)
    descends[1:] = (np.diff(hours) < 0) & (np.diff(stay) == 0)
    faulty = np.flatnonzero(
        ~np.isfinite(hours) | (hours <= -ROUNDING) | descends | (np.abs(values) > LARGEST_VALUE).any(axis=1)
    )
    if faulty.size:
        row = int(faulty[0])
        line = int(row - starts[stay[row]])
        cells = bodies[stay[row]].decode().split("\n")[line].split(",")
        fault = _row_fault(cells, values[row], hours[row - 1], hours[row], channels)
        raise DataError(f"{private_path(paths[stay[row]])}, line {line + 2}: {fault}")
    return Records(stay, hours, values)


def _read_csv(body: bytes, channels: ChannelSet) -> pl.DataFrame:
    numbers = [TIME, *(channel.name for channel in channels if not channel.is_categorical)]
    names = channels.header

    def read(types: dict[str, type[pl.DataType]]) -> pl.DataFrame:
        # The benchmarks split lines at commas, so a quote is an ordinary character.
        return pl.read_csv(io.BytesIO(body), has_header=False, schema=types, quote_char=None)

    try:
        return read({name: pl.Float64 if name in numbers else pl.String for name in names})
    except pl.exceptions.PolarsError:
        # This way is slower, but it accepts a space after a number, as float() in the benchmarks does.
        texts = read(dict.fromkeys(names, pl.String))
        return texts.with_columns(pl.col(numbers).str.strip_chars().cast(pl.Float64))


def _numbers(channel: Channel) -> pl.Expr:
    """Express the values of a channel: null for an empty cell, infinite for a cell that cannot be used."""
    column = pl.col(channel.name)
    if not channel.is_categorical:
        # The parser reads the text "nan" as a number, not as an empty cell.
        return column.fill_nan(np.inf)
    index = column.cast(pl.Enum(channel.possible_values), strict=False).to_physical().cast(pl.Float64)
    unknown = column.is_not_null() & (column != "") & index.is_null()
    return pl.when(unknown).then(np.inf).otherwise(index).alias(channel.name)


def _row_fault(
    cells: list[str],
    values: NDArray[np.float64],
    previous: float,
    hour: float,
    channels: ChannelSet,
) -> str:
    cells = [private(cell[:CHARACTERS_SHOWN]) for cell in cells]
    if not np.isfinite(hour):
        return f"column 'Hours' holds '{cells[0]}', which is not a time; every row needs its time in hours"
    if hour <= -ROUNDING:
        return f"column 'Hours' is negative ({private(f'{hour:g}')}); count hours from admission to the ICU"
    for channel, value, cell in zip(channels, values, cells[1:], strict=True):
        if abs(value) > LARGEST_VALUE and channel.is_categorical:
            known = ", ".join(channel.possible_values)
            return f"unknown category '{cell}' in channel '{channel.name}'; known: {known}"
        if abs(value) > LARGEST_VALUE:
            return f"channel '{channel.name}' holds '{cell}', which is no measurement; leave the cell empty"
    back = f"from {private(f'{previous:g}')} to {private(f'{hour:g}')}"
    return f"column 'Hours' goes back {back}; sort the rows by time"


def _cell_fault(bodies: list[bytes], paths: Sequence[Path], channels: ChannelSet) -> str:
    """Describe the first malformed cell. This loop runs only after the parser has refused a batch."""
    columns = channels.header
    categorical = {channel.name for channel in channels if channel.is_categorical}
    for body, path in zip(bodies, map(private_path, paths), strict=True):
        for number, line in enumerate(body.decode("utf-8", "replace").split("\n")[:-1], start=2):
            cells = line.split(",")
            if len(cells) != len(columns):
                return f"{path}, line {number}: {len(cells)} cells where the header names {len(columns)}"
            for name, cell in zip(columns, cells, strict=True):
                shown = private(cell[:CHARACTERS_SHOWN])
                held = f"{path}, line {number}: channel '{name}' holds '{shown}'"
                if "\N{REPLACEMENT CHARACTER}" in cell:
                    return f"{held}, which is not UTF-8 text"
                if cell and name not in categorical and not _is_number(cell):
                    return f"{held}, which is not a number"
    return f"{private_path(paths[0])}: this file, or one listed after it, is not CSV text"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    # Python reads "1_000" and the digits of any script as numbers, but the parser does not.
    return "_" not in text and text.isascii()


def parse_rows(rows: NDArray[np.str_], channels: ChannelSet, *, name: str = "series") -> Records:
    """Parse the rows of one stay, in the form that the readers of the benchmarks return.

    Args:
        rows: strings [R, 1 + C], the hours in the first column, "" where not measured.
        channels: the channels of the columns after the first.
        name: name of the series in error messages.

    Returns:
        The rows; their stay is 0.

    Raises:
        DataError: a cell is malformed or the hours are not sorted; names line and channel.
    """
    body = "".join(",".join(row) + "\n" for row in np.asarray(rows).tolist()).encode()
    return _parse([body], [Path(name)], channels)
