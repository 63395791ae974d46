"""The files of a MEDS data set (0.3.3 to 0.4): shards of events, the splits of subjects, names of codes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from glob import glob
from pathlib import Path

import polars as pl
from polars.datatypes import DataTypeClass
from polars.exceptions import PolarsError

from mimic3tf.data.directory import Split
from mimic3tf.errors import DataError, private
from mimic3tf.sources.cleaning import quoted
from mimic3tf.sources.database import Database, literal_path
from mimic3tf.sources.meds_mapping import Stays

SPLIT_NAMES: Mapping[str, Split] = {"train": "train", "tuning": "val", "held_out": "test"}
"""Split in MEDS -> split of the benchmarks."""


def _is_text(kind: pl.DataType) -> bool:
    return isinstance(kind, (pl.String, pl.Categorical, pl.Enum))


def _is_time(kind: pl.DataType) -> bool:
    return isinstance(kind, pl.Datetime) and kind.time_zone is None


def _is_id(kind: pl.DataType) -> bool:
    return kind.is_numeric() or _is_text(kind)


_NUMBER = (lambda kind: kind.is_float() or kind.is_integer(), "numbers (float32)")
_EVENT: Mapping[str, tuple[Callable[[pl.DataType], bool], str]] = {
    "subject_id": (lambda kind: kind.is_integer(), "whole numbers (int64)"),
    "time": (_is_time, "times without a time zone (timestamp[us])"),
    "code": (_is_text, "text"),
}
VALUES = {"numeric_value": _NUMBER, "text_value": (_is_text, "text")}
Schema = tuple[tuple[str, pl.DataType], ...]


@dataclass(frozen=True)
class Shards:
    """The files with events of a data set.

    Attributes:
        data: directory of the data set.
        files: the files that hold events.
        columns: column -> whether it holds whole numbers in all of them; has every column of any file.
        schemas: columns of a file and their types -> the files that have them.
    """

    data: Path
    files: tuple[Path, ...]
    columns: Mapping[str, bool]
    schemas: Mapping[Schema, list[Path]]


def find_shards(data: Path) -> Shards:
    """Find the files with events, and check their columns.

    Raises:
        DataError: there are none, or one is damaged, lacks a column, or has one of a wrong type.
    """
    if not data.is_dir():
        raise DataError(f"{data}: no such directory")
    folder = data / "data"
    if not folder.is_dir():
        raise DataError(f"{data}: holds no folder 'data'; name the folder of a MEDS data set, which holds it")
    # `Path.rglob` passes over folders that are links. A file that several links lead to is read once.
    paths = sorted(glob("**/*.parquet", root_dir=folder, recursive=True))  # noqa: PTH207
    found = sorted({(folder / path).resolve(): folder / path for path in paths}.values())
    if not found:
        raise DataError(f"{folder}: holds no .parquet file")
    files: list[Path] = []
    columns: dict[str, bool] = {}
    schemas: dict[Schema, list[Path]] = {}
    for file in found:
        schema, rows = _footer(file)
        if not rows:
            continue  # a split without subjects; its columns may have any type
        _check_columns(file, schema)
        files.append(file)
        schemas.setdefault(tuple(schema.items()), []).append(file)
        for name, kind in schema.items():
            whole = kind.is_integer() or isinstance(kind, pl.Null)
            columns[name] = columns.get(name, True) and whole
    if not files:
        raise DataError(f"{folder}: its .parquet files hold no event")
    if not columns.keys() & VALUES:
        raise DataError(
            f"{files[0]}: lacks the column {' and the column '.join(VALUES)}; no event has a value"
        )
    return Shards(data, tuple(files), columns, schemas)


def add_views(database: Database, shards: Shards) -> None:
    """Add the view `shard` of all events, as they are in the files."""
    paths = ", ".join(quoted(literal_path(file)) for file in shards.files)
    database.add_view("shard", f"SELECT * FROM read_parquet([{paths}], union_by_name = true)", shards.files)


def scan_events(shards: Shards, stays: Stays, codes: Collection[str]) -> pl.LazyFrame:
    """Scan the events of some codes: subject, time, code, number, text, icustay and hadm.

    An id is a whole number if it is one in all files, else text, and null if no file has its column.
    """
    ids = {"icustay": stays.icu_stay_id, "hadm": stays.admission_id}
    parts = []
    for schema, files in shards.schemas.items():
        names = {name for name, _ in schema}

        def column(
            name: str | None, kind: pl.DataType | DataTypeClass | None, names: Set[str] = names
        ) -> pl.Expr:
            value = pl.col(name) if name is not None and name in names else pl.lit(None)
            return value.cast(kind) if kind else value

        # A float that is no number stands for a missing one.
        number = column("numeric_value", pl.Float64 if shards.columns.get("numeric_value", True) else None)
        wanted = {
            "subject": column("subject_id", pl.Int64),
            "time": column("time", pl.Datetime("us")),
            "code": column("code", pl.String),
            "number": number.fill_nan(None),
            "text": column("text_value", pl.String),
            **{
                key: column(name, pl.Int64)
                if shards.columns.get(name or "", True)
                else _id_text(column(name, None), dict(schema).get(name or ""))
                for key, name in ids.items()
            },
        }
        scan = pl.scan_parquet(files, glob=False, extra_columns="ignore")
        parts.append(scan.filter(wanted["code"].is_in(codes)).select(**wanted))
    return pl.concat(parts, how="vertical_relaxed")


def _id_text(value: pl.Expr, kind: pl.DataType | None) -> pl.Expr:
    """Return ids as texts; a number is written without decimals, and one that is none is missing."""
    if kind is None or not kind.is_float():
        return value.cast(pl.String)
    whole = value.cast(pl.Int64, strict=False)
    return pl.when(whole == value).then(whole.cast(pl.String)).otherwise(value.fill_nan(None).cast(pl.String))


def read_splits(data: Path) -> dict[int, Split] | None:
    """Read the split of each subject; None if the data set has no file of splits.

    Raises:
        DataError: the file is damaged, or gives a subject no split, an unknown one, or two; names the row.
    """
    file = splits_file(data)
    if not file.exists():
        return None
    schema, _ = _footer(file)
    for name, (right, wanted) in {
        "subject_id": _EVENT["subject_id"],
        "split": (_is_text, "text"),
    }.items():
        _check_column(file, schema, name, right, wanted)
    with _readable(file):
        rows = pl.read_parquet(file, columns=["subject_id", "split"], glob=False)
    splits: dict[int, Split] = {}
    for number, (subject, name) in enumerate(rows.cast({"split": pl.String}).iter_rows(), start=1):
        split = SPLIT_NAMES.get(name)
        if split is None:
            raise DataError(
                f"{file}, row {number}: split is '{private(name)}'; known are {', '.join(SPLIT_NAMES)}"
            )
        if splits.setdefault(subject, split) != split:
            raise DataError(f"{file}, row {number}: subject {private(subject)} is in two splits")
    return splits


def splits_file(data: Path) -> Path:
    """Return the path of a data set's file of splits."""
    return data / "metadata" / "subject_splits.parquet"


def read_descriptions(data: Path) -> dict[str, str]:
    """Read what codes mean in words, where the data set says so: code -> description.

    Raises:
        DataError: the file of codes is damaged.
    """
    file = data / "metadata" / "codes.parquet"
    if not file.exists():
        return {}
    schema, _ = _footer(file)
    if not {"code", "description"} <= schema.keys():
        return {}
    with _readable(file):
        rows = pl.read_parquet(file, columns=["code", "description"], glob=False).cast(pl.String)
    return dict(rows.drop_nulls().iter_rows())


def _footer(file: Path) -> tuple[pl.Schema, int]:
    """Read the columns of a Parquet file and its number of rows."""
    with _readable(file):
        scan = pl.scan_parquet(file, glob=False)
        return scan.collect_schema(), scan.select(pl.len()).collect().item()


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from None
    except PolarsError as error:
        reason = "it is empty" if file.stat().st_size == 0 else str(error).split("\n")[0]
        raise DataError(f"{file}: is cut short or damaged; copy it again ({private(reason)})") from None


def _check_columns(file: Path, schema: pl.Schema) -> None:
    for name, (right, wanted) in _EVENT.items():
        _check_column(file, schema, name, right, wanted)
    for name, (right, wanted) in VALUES.items():
        # A column of nulls has no type.
        if not isinstance(schema.get(name, pl.Null()), pl.Null):
            _check_column(file, schema, name, right, wanted)


def _check_column(
    file: Path, schema: pl.Schema, name: str, right: Callable[[pl.DataType], bool], wanted: str
) -> None:
    if name not in schema:
        raise DataError(f"{file}: lacks the column {name}; it has {', '.join(schema)}")
    kind = schema[name]
    if isinstance(kind, pl.Datetime) and kind.time_zone is not None:
        raise DataError(
            f"{file}: {name} has the time zone {kind.time_zone}, and MEDS has none; write the column again "
            f"without it, in Polars: pl.col('{name}').dt.replace_time_zone(None)"
        )
    if not right(kind):
        raise DataError(f"{file}: {name} is of type {kind}, not {wanted}")
