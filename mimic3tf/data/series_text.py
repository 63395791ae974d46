"""Series files as the readers of mimic3-benchmarks return them: rows of texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mimic3tf.data.directory import FOLDERS
from mimic3tf.data.links import check_link
from mimic3tf.data.records import CHARACTERS_SHOWN, LARGEST_SERIES, ROUNDING, unreadable_series
from mimic3tf.errors import DataError, private, private_path
from mimic3tf.storage.files import read_file


class SeriesText:
    """The series files of a folder.

    Args:
        folder: the folder.
        listfile: the listfile that names the files.
        follow_links: read links that lead out of the benchmark directory, too.
    """

    def __init__(self, folder: Path, listfile: Path, *, follow_links: bool) -> None:
        self._folder = folder
        # In a benchmark directory, a link may lead to any place in the whole directory.
        whole = folder.name in FOLDERS and listfile.parent == folder.parent
        self._root = listfile.parent if whole else folder
        self._follow_links = follow_links

    def rows(self, name: str, until: float = np.inf) -> tuple[NDArray[np.str_], list[str]]:
        """Read the rows of a series up to an hour.

        Args:
            name: name of the file.
            until: the hour; the first later row ends the series.

        Returns:
            Strings [R, 1 + C], the hours in the first column, and the header.

        Raises:
            DataError: the file is absent, cannot be read, or has no rows up to the hour.
        """
        path = self._folder / name
        check_link(path, self._root, follow_links=self._follow_links)
        try:
            text = read_file(path, LARGEST_SERIES).decode()
        except OSError as error:
            raise unreadable_series(path, error) from None
        except UnicodeDecodeError:
            raise DataError(f"{private_path(path)}: the series is not UTF-8 text") from None
        lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
        if len(lines) < 2:
            raise DataError(f"{private_path(path)}: the series is empty; leave the stay out of the listfile")
        header, *rows = (line.split(",") for line in lines)
        for number, row in enumerate(rows, start=2):
            if len(row) != len(header):
                cells = f"{len(row)} cells where the header names {len(header)}"
                raise DataError(f"{private_path(path)}, line {number}: {cells}")
        table = np.array(rows)
        return (table if until == np.inf else table[: _rows_up_to(until, table[:, 0], path)]), header


def _rows_up_to(until: float, times: NDArray[np.str_], path: Path) -> int:
    """Count the rows before the first one that is later than an hour."""
    try:
        later = np.flatnonzero(times.astype(np.float64) > until + ROUNDING)
    except ValueError:
        raise _no_time(times, path) from None
    if later.size and later[0] == 0:
        raise DataError(
            f"{private_path(path)}: has no row up to hour {until:g}; leave this hour out of the listfile"
        )
    return int(later[0]) if later.size else len(times)


def _no_time(times: NDArray[np.str_], path: Path) -> DataError:
    """Make the error for the first text that is not a number."""
    for line, time in enumerate(times.tolist(), start=2):
        try:
            float(time)
        except ValueError:
            held = f"column 'Hours' holds '{private(time[:CHARACTERS_SHOWN])}', which is not a time"
            return DataError(f"{private_path(path)}, line {line}: {held}")
    return DataError(f"{private_path(path)}: column 'Hours' holds a text that is not a time")
