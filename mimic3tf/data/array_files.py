"""Read files of a user's own arrays: `.npz` of NumPy, or tables as `.parquet` or `.csv`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from numpy.typing import NDArray

from mimic3tf.described import Described
from mimic3tf.errors import DataError, UsageError, near
from mimic3tf.storage.stored_zip import read_arrays

NAMES = ("x", "y", "ids", "channels")
"""Arrays of an `.npz` file; the last two may be missing."""


@dataclass(frozen=True, repr=False)
class OwnArrays(Described):
    """The contents of a file.

    Attributes:
        x: numbers [N, T, C] or [N, D]; NaN where nothing was measured.
        y: labels [N] or [N, L].
        ids: names of the stays [N]; None if the file has none.
        channels: names of the channels or columns; None if the file has none.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    ids: list[str] | None
    channels: list[str] | None


def read_own_arrays(path: Path, label: str, id_column: str | None) -> OwnArrays:
    """Read a file of arrays; its ending says which kind it is. Nothing in it is executed.

    Args:
        path: the file.
        label: column of a table that holds the labels.
        id_column: column of a table that holds the names of the stays; None if it has none.

    Raises:
        UsageError: the file has another ending, or lacks the columns.
        DataError: the file is damaged, lacks an array, or holds a column that is no number.
    """
    if path.suffix == ".npz":
        return _from_npz(path)
    if path.suffix in (".parquet", ".csv"):
        return _from_table(path, label, id_column)
    raise UsageError(f"{path}: expected a file that ends in .npz, .parquet or .csv")


def _from_npz(path: Path) -> OwnArrays:
    try:
        arrays = read_arrays(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise DataError(
            f"{path}: {error}; write it with numpy.savez (not savez_compressed), without objects"
        ) from None
    missing = [name for name in NAMES[:2] if name not in arrays]
    if missing:
        held = ", ".join(arrays) or "none"
        raise DataError(f"{path}: lacks the array '{missing[0]}'; it holds: {held}")
    ids, channels = (
        [str(name) for name in arrays[name].tolist()] if name in arrays else None for name in NAMES[2:]
    )
    return OwnArrays(arrays["x"], arrays["y"], ids, channels)


def _from_table(path: Path, label: str, id_column: str | None) -> OwnArrays:
    try:
        if path.suffix == ".parquet":
            table = pl.read_parquet(path)
        else:
            table = pl.read_csv(path, infer_schema_length=None)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: cannot be read: {reason}") from None
    for option, name in (("--label", label), ("--id", id_column)):
        if name is not None and name not in table.columns:
            columns = ", ".join(table.columns[:20])
            raise UsageError(
                f"{option} {name}: {path} has no such column; it has: {columns}{near(name, table.columns)}"
            )
    cells = table.drop([label, *([id_column] if id_column else [])])
    for column in cells:
        if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
            raise DataError(
                f"{path}: column '{column.name}' holds {column.dtype}, not numbers; drop it, or name it as "
                "--id"
            )
    if table[label].null_count():
        row = int(table[label].is_null().arg_max() or 0)
        raise DataError(f"{path}, row {row + 1}: column '{label}' is empty; every stay needs a label")
    # An empty cell becomes NaN.
    x = cells.select(pl.all().cast(pl.Float64)).to_numpy()
    ids = None if id_column is None else [str(name) for name in table[id_column].to_list()]
    return OwnArrays(x, table[label].to_numpy(), ids, cells.columns)
