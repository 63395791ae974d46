"""Turn a cohort of YAIB into the in-hospital-mortality task in the benchmarks' layout.

Source: van de Water et al., Yet Another ICU Benchmark, ICLR 2024.

A cohort is a folder of dyn.parquet (one row for each hour of each stay: the hourly medians of what was
measured), sta.parquet (one row for each stay: age, sex, height, weight) and outc.parquet (the label). Which
column measures which channel is in `mappings/yaib.yaml`. Values are hourly medians, so an attack on single
cells is as coarse as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import polars as pl
from rich.progress import Progress

from mimic3tf.errors import DataError, near, private
from mimic3tf.sources import layout
from mimic3tf.sources.cleaning import quoted
from mimic3tf.sources.codes import Mapped, codes_of, insert_sql, parse_mapping, shipped_mapping
from mimic3tf.sources.cohort_rules import HOURS
from mimic3tf.sources.database import Database
from mimic3tf.sources.events import EVENT, Source, prepare_events
from mimic3tf.sources.splits import split_by_subject
from mimic3tf.storage.files import PathText

LABELS = ("died", "label")
"""Columns of a table of outcomes that may hold the label; the first that is there counts."""

_SAFE = "[A-Za-z0-9][A-Za-z0-9.-]*"


def prepare_yaib(
    data: PathText, out: PathText, *, outcomes: PathText | None = None, memory_limit: str = "4GB"
) -> layout.Summary:
    """Write the in-hospital-mortality task from a folder of dyn.parquet, sta.parquet and outc.parquet.

    A stay is taken if its hours reach hour 48 (hour 47 if no stay goes on longer), and if its age is at least
    18; where ages are not in the cohort at all, every stay is taken.

    Args:
        data: the folder. Without sta.parquet, height, weight and age are not known.
        out: the directory to make; it may exist if it is empty.
        outcomes: table (.csv or .parquet) with the columns stay_id and died (or label), 0 or 1, and maybe
            subject: all stays of a subject go to the same split. Without it the labels are those of
            outc.parquet, which in YAIB's own tasks tell of death in the ICU, not in hospital.
        memory_limit: memory to use, such as "4GB"; intermediate results are kept on disk beside `out`.

    Returns:
        Counts of stays and deaths, and of what was left out by reason.

    Raises:
        DataError: a file is missing or cannot be read, or its labels are no labels of stays; names file and
            row.
        UsageError: `out` is not empty, another process writes it, or the memory limit cannot be used.
    """
    data, out = Path(data), Path(out)
    table = data / "outc.parquet" if outcomes is None else Path(outcomes)
    options = {"labels": "outc.parquet" if outcomes is None else "own table"}
    source = Source("yaib", data, partial(_fill, data, table), split_by_subject, options)
    return prepare_events(source, out, memory_limit)


def _fill(data: Path, outcomes: Path, database: Database, bar: Progress) -> dict[str, int]:
    """Make the tables of stays and events; return the number of stays left out, by reason."""
    dyn, sta = data / "dyn.parquet", data / "sta.parquet"
    if not dyn.is_file():
        raise DataError(f"{data}: holds no dyn.parquet; give the folder of one cohort and task of YAIB")
    mapped = parse_mapping(shipped_mapping("yaib"), "yaib.yaml", Mapped)
    codes = codes_of(mapped, "yaib.yaml")
    names = [str(code.code) for code in codes]
    hours = _hours(dyn, names)
    static = _static(sta) if sta.is_file() else None
    stays, dropped = _stays(_ends(hours, dyn), static, _labels(outcomes), outcomes)
    stays.write_parquet(database.scratch / "stays.parquet")
    database.run(f"CREATE TABLE stay AS FROM read_parquet({quoted(str(database.scratch / 'stays.parquet'))})")
    database.run(EVENT)
    tables = {"hours": hours.filter(pl.col("second") <= HOURS * 3600)}
    if static is not None:
        tables["static"] = static.lazy().drop("age").with_columns(second=pl.lit(0, pl.Int64))
    for table, frame in tables.items():
        columns = [name for name in names if name in frame.collect_schema().names()]
        file = database.scratch / f"{table}.parquet"
        if not columns:
            continue
        _run(frame.with_columns(pl.col(columns).fill_nan(None)), dyn if table == "hours" else sta, file)
        code = " ".join(f"WHEN '{name}' THEN {index}" for index, name in enumerate(names))
        long = f"UNPIVOT read_parquet({quoted(str(file))}) ON {', '.join(columns)} INTO NAME name VALUE value"
        charted = (
            f"SELECT s.stay, e.second, CASE e.name {code} END AS code, e.value::VARCHAR AS value, "
            f"NULL AS fault FROM ({long}) e JOIN stay s USING (stay_id)"
        )
        database.run(insert_sql(charted, codes), bar, f"Reading {file.name}")
    return dropped


def _hours(dyn: Path, names: Sequence[str]) -> pl.LazyFrame:
    """Read columns stay_id (text), second and those of `names` that are there."""
    frame, schema = _scan(dyn, ("stay_id", "time"))
    columns = [name for name in names if name in schema]
    if not columns:
        raise DataError(f"{dyn}: has none of the columns {', '.join(names)}")
    for name in columns:
        if not schema[name].is_numeric():
            raise DataError(f"{dyn}: column {name} holds {schema[name]}, not numbers")
    time = pl.col("time")
    if isinstance(schema["time"], pl.Duration):
        second = time.dt.total_seconds()
    elif schema["time"].is_numeric():
        second = (time * 3600).round().cast(pl.Int64)
    else:
        raise DataError(
            f"{dyn}: column time holds {schema['time']}; expected a duration, or hours as a number"
        )
    for column in ("stay_id", "time"):
        empty = _run(frame.select(pl.col(column).is_null()), dyn)[column]
        if empty.any():
            raise DataError(f"{dyn}, row {(empty.arg_max() or 0) + 1}: {column} is empty")
    return frame.select(_key("stay_id"), second.alias("second"), pl.col(columns).cast(pl.Float64)).filter(
        pl.col("second") >= 0
    )


def _ends(hours: pl.LazyFrame, dyn: Path) -> pl.DataFrame:
    """Find the last hour of each stay."""
    ends = _run(hours.group_by("stay_id").agg(hours=pl.col("second").max() // 3600), dyn)
    if not ends.height:
        raise DataError(f"{dyn}: holds no row")
    return ends


def _static(sta: Path) -> pl.DataFrame:
    """Read columns stay_id (text), age, and height and weight where they are there."""
    frame, schema = _scan(sta, ("stay_id",))
    columns = [name for name in ("age", "height", "weight") if name in schema]
    static = _run(frame.select(_key("stay_id"), pl.col(columns).cast(pl.Float64, strict=False)), sta)
    _refuse_repeated(static, sta)
    return static if "age" in columns else static.with_columns(age=pl.lit(None, pl.Float64))


def _labels(path: Path) -> pl.DataFrame:
    """Read columns stay_id, subject (text), died (0, 1 or null); one row for each stay."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a table with the columns stay_id and died as --outcomes")
    frame, schema = _scan(path, ("stay_id",))
    label = next((name for name in LABELS if name in schema), None)
    if label is None:
        raise DataError(f"{path}: misses the column died (or label){near('died', schema)}")
    if "time" in schema:
        raise DataError(
            f"{path}: holds labels of hours, not of stays; give a table with the columns stay_id and died as "
            "--outcomes"
        )
    subject = "subject" if "subject" in schema else "stay_id"
    table = _run(
        frame.select(
            _key("stay_id"),
            _key(subject).alias("subject"),
            died=pl.col(label).cast(pl.String).str.strip_suffix(".0"),
        ),
        path,
    )
    for column, pattern, expected in (
        ("stay_id", _SAFE, "letters, digits, dots and dashes"),
        ("subject", _SAFE, "letters, digits, dots and dashes"),
        ("died", "[01]", "0 or 1"),
    ):
        fits = table[column].str.contains(f"^(?:{pattern})$").fill_null(column == "died")
        if not fits.all():
            row = fits.arg_min() or 0
            text = private(str(table[column][row]))
            raise DataError(f"{path}, row {row + 1}: {column} is '{text}'; expected {expected}")
    _refuse_repeated(table, path)
    return table.with_columns(pl.col("died").cast(pl.Int64))


def _stays(
    ends: pl.DataFrame, static: pl.DataFrame | None, labels: pl.DataFrame, outcomes: Path
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Choose the stays: columns stay, stay_id, subject, k, died; and count those left out, by reason."""
    last = int(str(ends["hours"].max()))
    if last < HOURS - 1:
        raise DataError(
            f"the hours of all stays end before hour {last + 1}; this task reads {HOURS} hours: make the "
            "cohort anew with a longer observation"
        )
    ages = pl.DataFrame(schema={"stay_id": pl.String, "age": pl.Float64}) if static is None else static
    joined = ends.join(ages.select("stay_id", "age"), on="stay_id", how="left").join(
        labels, on="stay_id", how="left", coalesce=True
    )
    if not joined["subject"].count():
        raise DataError(f"{outcomes}: names no stay_id of dyn.parquet")
    reasons = [
        ("without an outcome", pl.col("died").is_null()),
        ("of unknown age", pl.col("age").is_null() if ages["age"].count() else pl.lit(False)),
        ("younger than 18", pl.col("age") < 18),
        (f"shorter than {HOURS} hours", pl.col("hours") < min(last, HOURS)),
    ]
    fault = pl.coalesce(pl.when(wrong).then(pl.lit(reason)) for reason, wrong in reasons)
    joined = joined.with_columns(fault=fault)
    counts = joined["fault"].drop_nulls().value_counts()
    stays = joined.filter(pl.col("fault").is_null()).select("stay_id", "subject", "died")
    # Ids are numbers in most cohorts; as texts of equal length they are in order, too.
    stays = stays.sort(pl.col("stay_id").str.len_chars(), "stay_id").with_columns(
        k=pl.int_range(1, pl.len() + 1).over("subject")
    )
    return stays.with_row_index("stay").cast({"stay": pl.Int64}), dict(counts.rows())


def _scan(path: Path, needed: Sequence[str]) -> tuple[pl.LazyFrame, dict[str, pl.DataType]]:
    """Open a table, and check that it has some columns."""
    try:
        if path.suffix == ".parquet":
            frame = pl.scan_parquet(path, glob=False)
        else:
            frame = pl.scan_csv(path, infer_schema=False, glob=False)
        schema = dict(frame.collect_schema())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _damaged(path, error) from None
    for column in needed:
        if column not in schema:
            raise DataError(f"{path}: misses the column {column}{near(column, schema)}")
    return frame, schema


def _run(frame: pl.LazyFrame, path: Path, out: Path | None = None) -> pl.DataFrame:
    """Compute a frame that reads `path`; write it to `out` if that is given."""
    try:
        if out is not None:
            frame.sink_parquet(out)
            return pl.DataFrame()
        return frame.collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path}: is empty, cut short or damaged; copy it again ({private(str(error).splitlines()[0])})"
    )


def _key(column: str) -> pl.Expr:
    """Read an id as text, whether it is stored as a number or as text."""
    return pl.col(column).cast(pl.String).str.strip_suffix(".0")


def _refuse_repeated(table: pl.DataFrame, path: Path) -> None:
    repeated = table["stay_id"].is_duplicated()
    if repeated.any():
        row = repeated.arg_max() or 0
        raise DataError(f"{path}: stay_id {private(table['stay_id'][row])} is on several rows")
