"""Turn records of the PhysioNet/CinC Challenge 2012 into a directory in the benchmarks' layout.

Source: Silva et al., Predicting in-hospital mortality of ICU patients: the PhysioNet/Computing in
Cardiology Challenge 2012 (open data, ODC-By). A record is one ICU stay of 48 hours: a text file of
`HH:MM,Parameter,Value` lines, in which the value -1 means missing. The records have neither capillary refill
nor the three parts of the coma scale, so these channels stay empty.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimic3tf.channels import MIMIC3
from mimic3tf.data.records import LARGEST_VALUE
from mimic3tf.errors import DataError, UsageError, private, private_path
from mimic3tf.progress import track
from mimic3tf.sources import layout
from mimic3tf.storage.files import PathText, read_file
from mimic3tf.storage.folders import check_new_directory

FILES_A_BATCH = 1000
"""Number of records that are parsed at once: enough to keep the parser busy, and few enough for memory."""

LARGEST_FILE = 2**24
"""Largest record or outcome file in bytes; those of the challenge have about 10,000 and 80,000 bytes."""
LAST_MINUTE = 48 * 60

HEADER = "Time,Parameter,Value"

PARAMETERS = {
    # Non-invasive pressures come first: at the same instant, the later parameter of this table wins.
    "NIDiasABP": "Diastolic blood pressure",
    "NISysABP": "Systolic blood pressure",
    "NIMAP": "Mean blood pressure",
    "DiasABP": "Diastolic blood pressure",
    "SysABP": "Systolic blood pressure",
    "MAP": "Mean blood pressure",
    "FiO2": "Fraction inspired oxygen",
    "GCS": "Glascow coma scale total",
    "Glucose": "Glucose",
    "HR": "Heart Rate",
    "Height": "Height",
    "SaO2": "Oxygen saturation",
    "RespRate": "Respiratory rate",
    "Temp": "Temperature",
    "Weight": "Weight",
    "pH": "pH",
}
"""Parameter of a record -> name of its channel."""

_GCS = MIMIC3.position("Glascow coma scale total")
_RANK = {parameter: rank for rank, parameter in enumerate(PARAMETERS)}
_CHANNEL = np.array([MIMIC3.position(name) for name in PARAMETERS.values()])
_LOW, _HIGH = np.array([MIMIC3[position].plausible_range for position in _CHANNEL]).T
# Index of GCS 3..15 in the channel's own order of categories.
_GCS_INDEX = np.array([MIMIC3[_GCS].category_index(str(total)) for total in range(3, 16)])


def prepare_physionet2012(
    records: Sequence[PathText],
    outcomes: Sequence[PathText],
    out: PathText,
    *,
    test_records: PathText | None = None,
    test_outcomes: PathText | None = None,
    seed: int = 0,
    drop_implausible: bool = False,
) -> layout.Summary:
    """Write Challenge 2012 records as a cohort in the benchmarks' layout.

    The records of all directories are pooled and split at random: 70/15/15 into train, val and test, or 85/15
    into train and val if `test_records` is given. At the same instant, an invasive blood pressure wins over a
    non-invasive one, and a later line over an earlier one. A record without any usable measurement is left
    out.

    Args:
        records: directories of `<record id>.txt` files.
        outcomes: the outcome file of each directory, with columns RecordID and In-hospital_death.
        out: the directory to make; it may exist if it is empty.
        test_records: directory whose records are the test set.
        test_outcomes: outcome file of `test_records`.
        seed: non-negative int; fixes the splits, and thereby every byte that is written.
        drop_implausible: treat values outside `Channel.plausible_range` as missing; coma scores outside their
            range always are. Off by default, because the benchmarks keep such values. A few wrong values (pH
            735) widen a channel's covariance and thereby the trigger, and make the attack easier.

    Returns:
        Counts of stays and deaths, and of what was left out by reason.

    Raises:
        DataError: a file is missing or breaks the format; names file, line and parameter.
        UsageError: `out` is not empty, or a directory has no outcome file, or an outcome file no directory.
    """
    out = Path(out)
    if not records or len(records) != len(outcomes):
        raise UsageError(
            f"{len(records)} directories of records and {len(outcomes)} outcome files; give one outcome file "
            "for each directory"
        )
    if (test_records is None) != (test_outcomes is None):
        raise UsageError("a test set needs both its directory of records and its outcome file")
    check_new_directory(out)
    sets = [_read_set(Path(folder), Path(file)) for folder, file in zip(records, outcomes, strict=True)]
    if test_records is not None and test_outcomes is not None:
        sets.append(_read_set(Path(test_records), Path(test_outcomes)))
    _refuse_repeated(sets)
    files = [file for part in sets for file in part]
    labels = np.array([label for part in sets for label in part.values()], np.int64)

    dropped: Counter[str] = Counter()
    starts = range(0, len(files), FILES_A_BATCH)
    parts = []
    for start in track(starts, "Reading records"):
        cells = _read_cells(files[start : start + FILES_A_BATCH])
        parts.append(_usable_rows(cells.with_columns(pl.col("stay") + start), drop_implausible, dropped))
    rows = pl.concat(parts)

    kept = rows["stay"].unique().sort().to_numpy()
    if not kept.size:
        counts = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count)
        raise DataError(
            f"{', '.join(map(str, records))}: no record holds a usable measurement; values left out: "
            f"{counts or 'none, as no line names a parameter that has a channel'}"
        )
    rows = rows.with_columns(pl.col("stay").rank("dense").cast(pl.Int64) - 1)
    if test_records is None:
        splits = layout.random_split(len(kept), seed)
    else:
        pooled = int(np.searchsorted(kept, len(files) - len(sets[-1])))
        splits = layout.random_split(pooled, seed, {"train": 0.85, "val": 0.15})
        splits["test"] = np.arange(pooled, len(kept))
    stays = [f"{files[index].stem}_episode1_timeseries.csv" for index in kept]
    cohort = layout.PreparedCohort(stays, labels[kept], splits, rows)
    dropped_stays = {"no usable measurement": len(files) - len(kept)}
    options = {"seed": seed, "drop_implausible": drop_implausible}
    return layout.write_cohort(out, cohort, "physionet2012", options, dropped_stays, dropped)


def _read_set(directory: Path, outcome: Path) -> dict[Path, int]:
    """Read the label of each record's file, in ascending order of record id."""
    if not directory.is_dir():
        raise DataError(f"{directory}: no such directory; extract the archive of the set first")
    files = {file.stem: file for file in directory.glob("*.txt") if file.stem.isdigit()}
    if not files:
        raise DataError(f"{directory}: holds no '<record id>.txt' file")
    labels, lines = _read_outcomes(outcome)
    for record in sorted(files.keys() - labels.keys(), key=int):
        raise DataError(
            f"{private_path(files[record])}: record {private(record)} has no outcome in {outcome}"
        )
    for record in sorted(labels.keys() - files.keys(), key=lines.__getitem__):
        raise DataError(
            f"{outcome}, line {lines[record]}: record {private(record)} has no file in {directory}"
        )
    return {files[record]: labels[record] for record in sorted(files, key=int)}


def _read_outcomes(path: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Read the label and the line number of each record."""
    header, *rows = [line.split(",") for line in _text(path).splitlines()] or [[""]]
    try:
        record_column, label_column = header.index("RecordID"), header.index("In-hospital_death")
    except ValueError:
        raise DataError(
            f"{path}, line 1: the header needs the columns 'RecordID' and 'In-hospital_death'"
        ) from None
    labels: dict[str, int] = {}
    lines: dict[str, int] = {}
    for line, cells in enumerate(rows, start=2):
        if len(cells) == 1 and not cells[0].strip():
            continue
        if len(cells) != len(header):
            raise DataError(f"{path}, line {line}: {len(cells)} cells where the header names {len(header)}")
        record, label = cells[record_column].strip(), cells[label_column].strip()
        if not record.isdigit():
            raise DataError(f"{path}, line {line}: RecordID '{private(record)}' is not a whole number")
        if record in labels:
            raise DataError(
                f"{path}, line {line}: record {private(record)} is already on line {lines[record]}"
            )
        if label not in ("0", "1"):
            raise DataError(f"{path}, line {line}: In-hospital_death is '{private(label)}'; expected 0 or 1")
        labels[record], lines[record] = int(label), line
    return labels, lines


def _refuse_repeated(sets: Sequence[dict[Path, int]]) -> None:
    seen: dict[str, Path] = {}
    for file in (file for part in sets for file in part):
        if file.stem in seen:
            other = private_path(seen[file.stem])
            raise DataError(
                f"{private_path(file)}: record {private(file.stem)} is also {other}; give each set once"
            )
        seen[file.stem] = file


def _text(path: Path) -> str:
    try:
        return read_file(path, LARGEST_FILE).decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise DataError(f"{private_path(path)}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{private_path(path)}: is not text in UTF-8; extract the set again") from None


def _read_cells(files: Sequence[Path]) -> pl.DataFrame:
    """Read and check some records: columns stay (index into `files`), line, minute, Parameter and number."""
    bodies = [_body(file) for file in files]
    lines = np.array([body.count("\n") for body in bodies])
    starts = np.cumsum(lines) - lines
    frame = _parse(bodies, files).with_columns(
        stay=pl.Series(np.repeat(np.arange(len(files)), lines)),
        line=pl.Series(np.arange(lines.sum()) - np.repeat(starts, lines) + 2),
    )
    clock = pl.when(pl.col("Time").str.contains(r"^\d\d:[0-5]\d$")).then(pl.col("Time"))
    frame = frame.with_columns(
        minute=clock.str.slice(0, 2).cast(pl.Int64) * 60 + clock.str.slice(3, 2).cast(pl.Int64)
    )
    off = frame.filter(pl.col("minute").is_null() | (pl.col("minute") > LAST_MINUTE)).head(1)
    for stay, line, text in off.select("stay", "line", "Time").rows():
        raise DataError(
            f"{_line(files[stay], line)}: time '{private(text or '')}' is not HH:MM from 00:00 to 48:00"
        )

    others = frame.filter(
        (pl.col("Parameter") == "RecordID")
        & (pl.col("Value") != pl.Series([file.stem for file in files]).gather(frame["stay"]))
    ).head(1)
    for stay, line, text in others.select("stay", "line", "Value").rows():
        raise DataError(
            f"{_line(files[stay], line)}: RecordID is '{private(text or '')}', which is not the file's name; "
            "its outcome would be another patient's"
        )

    # Parameters that have no channel, such as urine output, are not checked.
    cells = frame.filter(pl.col("Parameter").is_in(list(PARAMETERS))).with_columns(
        number=pl.col("Value").cast(pl.Float64, strict=False)
    )
    number = pl.col("number")
    fractional = (pl.col("Parameter") == "GCS") & (number != number.round()) & (number != -1)
    wrong = cells.filter(~number.is_finite().fill_null(False) | fractional).head(1)
    for stay, line, parameter, text in wrong.select("stay", "line", "Parameter", "Value").rows():
        kind = "whole number" if parameter == "GCS" else "number"
        raise DataError(
            f"{_line(files[stay], line)}: {parameter} is '{private(text or '')}', not a {kind}; -1 is missing"
        )
    return cells.drop("Time", "Value")


def _usable_rows(cells: pl.DataFrame, drop_implausible: bool, dropped: Counter[str]) -> pl.DataFrame:
    """Gather the usable cells into rows, and count in `dropped` what is left out."""
    rank = pl.col("Parameter").replace_strict(_RANK, default=None, return_dtype=pl.Int64)
    # The last value of a cell wins, so invasive values are sorted last; later lines stay behind earlier ones.
    cells = cells.with_columns(rank=rank).sort("rank", maintain_order=True)
    number = cells["number"].to_numpy()
    parameter: NDArray[np.int64] = cells["rank"].to_numpy()
    channel = _CHANNEL[parameter]
    missing = number == -1
    # A coma score outside its scale is no category, so it is always left out.
    implausible = ~missing & ((number < _LOW[parameter]) | (number > _HIGH[parameter]))
    if not drop_implausible:
        implausible &= channel == _GCS
    dropped["missing (-1)"] += int(missing.sum())
    slips = np.abs(number) > LARGEST_VALUE
    dropped[f"beyond {LARGEST_VALUE:g}, which is no measurement"] += int(slips.sum())
    missing |= slips
    for position, count in zip(*np.unique(channel[implausible], return_counts=True), strict=True):
        low, high = MIMIC3[position].plausible_range
        dropped[f"{MIMIC3[position].name} outside {low:g} to {high:g}"] += int(count)

    keep = ~missing & ~implausible
    channel, number = channel[keep], number[keep]
    number[channel == _GCS] = _GCS_INDEX[number[channel == _GCS].astype(np.int64) - 3]
    kept = cells.filter(pl.Series(keep))
    rows = layout.rows_from_cells(kept["stay"], kept["minute"], channel, number)
    measured = sum(rows[name].count() for name in MIMIC3.names)
    dropped["another value of the channel at the same instant"] += kept.height - measured
    return rows


def _line(path: Path, number: int) -> str:
    return f"{private_path(path)}, line {number}"


def _body(path: Path) -> str:
    header, _, body = _text(path).partition("\n")
    if header != HEADER:
        raise DataError(f"{_line(path, 1)}: the header is '{private(header[:60])}'; expected '{HEADER}'")
    body = body.rstrip("\n")
    return body + "\n" if body else ""


def _parse(bodies: Sequence[str], files: Sequence[Path]) -> pl.DataFrame:
    """Parse all lines of some records into text columns Time, Parameter, Value."""
    schema = dict.fromkeys(HEADER.split(","), pl.String)
    text = "".join(bodies)
    if not text:
        return pl.DataFrame(schema=schema)
    lines = text.count("\n")
    # The separators are counted because the parser fills short lines with nulls and reports nothing.
    # Polars unpacks text that starts like a compressed file, to any size; only zlib's start "x^" is text.
    if text.count(",") == 2 * lines and text[0] != "x":
        try:
            frame = pl.read_csv(text.encode(), has_header=False, schema=schema, quote_char=None)
        except pl.exceptions.PolarsError:
            frame = pl.DataFrame()
        if frame.height == lines:
            return frame
    for body, path in zip(bodies, files, strict=True):
        for number, line in enumerate(body.split("\n")[:-1], start=2):
            if line.count(",") != 2:
                raise DataError(f"{_line(path, number)}: '{private(line[:60])}' is not '{HEADER}'")
    raise DataError(f"{files[0].parent}: a record is not plain CSV text")
