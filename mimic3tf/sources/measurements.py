"""A table of measurements in long format: one row for each value.

`read_sql` writes the SQL of its rows with their stay, channel and fault. A fault that begins with a capital
letter means that a cell cannot be understood; see `explain`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from mimic3tf.channels import ChannelSet
from mimic3tf.data.records import LARGEST_VALUE
from mimic3tf.errors import DataError, near, private
from mimic3tf.sources.cleaning import quoted
from mimic3tf.sources.cohort_rules import HOURS
from mimic3tf.sources.database import Database
from mimic3tf.sources.outcomes import SUBJECT
from mimic3tf.sources.table_file import MISSING, TableFile, id_sql, number_of

SECONDS = {"minute": 60, "hour": 3600}
"""Column of the time since admission -> seconds of its unit."""
FAULTS = ("Time", "Channel", "Value")
"""Faults of a cell that cannot be understood: no time, no known channel, no number or category."""

_NUMBER = "TRY_CAST(m.value AS DOUBLE)"
_NAME = "trim(m.channel::VARCHAR)"
# As text, because the engine takes it from the statistics of a Parquet file that no number is NaN.
_MISSING = (
    "(m.value IS NULL OR lower(trim(m.value::VARCHAR)) IN "
    f"({', '.join(map(quoted, sorted({text.lower() for text in MISSING})))}))"
)

_READ = f"""
SELECT *, CASE
    WHEN bad_time THEN 'Time'
    WHEN channel IS NULL THEN 'Channel'
    WHEN missing THEN 'without a value'
    WHEN number IS NULL AND text IS NULL THEN 'Value'
    WHEN stay IS NULL THEN 'of a stay without an outcome'
    WHEN second IS NULL THEN 'without a time'
    WHEN second < 0 OR second > {HOURS * 3600} THEN 'outside of the first {HOURS} hours'
END AS fault
FROM (
    SELECT s.stay, c.channel, {{second}} AS second, {{bad_time}} AS bad_time, {{zoned}} AS zoned,
        {{unit}} AS unit, {_MISSING} AS missing,
        CASE WHEN NOT c.of_categories AND abs({_NUMBER}) <= {LARGEST_VALUE} THEN {_NUMBER} END AS number,
        {{text}} AS text
    FROM measurement m
    LEFT JOIN stay s ON s.subject = {{subject}} AND s.k = {{episode}}
    LEFT JOIN known c ON c.name = {_NAME}
)
"""


@dataclass(frozen=True)
class Measurements:
    """A table of measurements, as the view `measurement` of a database.

    Attributes:
        file: the table.
        channels: the channels that it may name.
    """

    file: TableFile
    channels: ChannelSet

    @cached_property
    def columns(self) -> dict[str, str]:
        """Name of a column here -> in the file.

        Raises:
            DataError: the file lacks a column, or has several columns of the time.
        """
        file = self.file
        columns = {"subject": file.column(*SUBJECT), "channel": file.column("channel")}
        columns["value"] = file.column("value")
        columns |= {name: spelled for name in ("episode", "unit") if (spelled := file.find([name]))}
        times = [name for name in (*SECONDS, "time") if file.find([name])]
        if len(times) != 1:
            has = ", ".join(times or file.kinds)
            wanted = "keep one of them" if times else f"a column {', '.join(SECONDS)} or time is needed"
            raise DataError(f"{file.path}: the time cannot be told from the columns {has}; {wanted}")
        columns[times[0]] = file.column(times[0])
        kind = file.kinds[columns[times[0]]]
        if times[0] in SECONDS and not (kind.is_numeric() or isinstance(kind, (pl.String, pl.Null))):
            raise DataError(
                f"{file.path}: column '{columns[times[0]]}' is of type {kind}; write the {times[0]}s since "
                "admission as a number"
            )
        return columns

    @property
    def time(self) -> str:
        """Name of the column of the time."""
        return next(name for name in (*SECONDS, "time") if name in self.columns)

    def open(self, database: Database) -> None:
        """Add the view `measurement`, and the table `known` of the channels.

        Raises:
            DataError: a column holds no plain values.
        """
        self.file.add_view(database, "measurement", self.columns)
        known = ", ".join(
            f"({position}, {quoted(channel.name)}, {channel.is_categorical})"
            for position, channel in enumerate(self.channels)
        )
        database.run(f"CREATE TABLE known AS FROM (VALUES {known}) AS v(channel, name, of_categories)")

    def read_sql(self) -> str:
        """Write the SQL of all rows: stay, second since admission, channel, unit, number, text, fault, zoned.

        It needs the table `stay`, with a column `start` if the table has times.
        """
        timed = self.time == "time"
        return _READ.format(
            second=f"{epoch_sql('m.time')} - s.start"
            if timed
            else f"{number_of(f'm.{self.time}')} * {SECONDS[self.time]}",
            bad_time=self._bad_time,
            zoned=zoned_sql("m.time") if timed else "NULL::BOOLEAN",
            unit="coalesce(trim(m.unit::VARCHAR), '')" if "unit" in self.columns else "''",
            text=self._category_sql(lambda position: f"c.channel = {position}"),
            subject=id_sql("m.subject"),
            episode=number_of("m.episode") if "episode" in self.columns else "1",
        )

    @property
    def _bad_time(self) -> str:
        parsed = epoch_sql("m.time") if self.time == "time" else f"TRY_CAST(m.{self.time} AS DOUBLE)"
        return f"(m.{self.time} IS NOT NULL AND {parsed} IS NULL)"

    def explain(self, database: Database, fault: str) -> None:
        """Refuse the first row with one of `FAULTS`.

        Raises:
            DataError: there is one; names its place, and what is known instead.
        """
        known = ", ".join(map(quoted, self.channels.names))
        numbers = ", ".join(quoted(channel.name) for channel in self.channels if not channel.is_categorical)
        category = self._category_sql(lambda position: f"{_NAME} = {quoted(self.channels[position].name)}")
        conditions = {
            "Time": self._bad_time,
            "Channel": f"({_NAME} IN ({known})) IS NOT TRUE",
            "Value": f"""NOT {_MISSING} AND CASE WHEN {_NAME} IN ({numbers or "NULL"})
                    THEN (abs({_NUMBER}) <= {LARGEST_VALUE}) IS NOT TRUE
                    ELSE {_NAME} IN ({known}) AND ({category}) IS NULL END""",
        }
        for place, cells in self.first(database, conditions[fault]):
            raise DataError(f"{place}: {self._words(fault, cells)}")

    def first(self, database: Database, condition: str) -> list[tuple[str, dict[str, object]]]:
        """Find the first row, called m, that fulfils a condition; see `TableFile.first`."""
        return self.file.first(database, "measurement m", self.columns, condition)

    def _words(self, fault: str, cells: Mapping[str, object]) -> str:
        if fault == "Time":
            kind = "a date and time" if self.time == "time" else "a number"
            return f"{self.time} is '{private(str(cells[self.time])[:60])}', not {kind}"
        names, channel = self.channels.names, str(cells["channel"] or "").strip()
        ignore = "or leave such values out with --ignore-unknown"
        if fault == "Channel":
            return (
                f"channel '{channel[:60]}' is not known{near(channel, names)}; the channels are "
                f"{', '.join(names)}; correct it, describe channels of your own with --channels, {ignore}"
            )
        texts = self.channels[names.index(channel)].possible_values
        held = f"{channel} is '{private(str(cells['value'])[:60])}'"
        if not texts:
            return f"{held}, not a number; correct it, {ignore}"
        return (
            f"{held}, which is no category{near(str(cells['value']), texts)}; the categories are "
            f"{', '.join(texts)}; correct it, {ignore}"
        )

    def _category_sql(self, is_channel: Callable[[int], str]) -> str:
        """Write the SQL of a category: the one with this text, or the one whose text is this number.

        Args:
            is_channel: writes the SQL that tells whether a row is of a channel, by its position.
        """
        cases = " ".join(
            f"WHEN {is_channel(position)} THEN CASE trim(m.value::VARCHAR) "
            f"{' '.join(f'WHEN {quoted(text)} THEN {quoted(text)}' for text in channel.possible_values)} "
            f"ELSE CASE {_NUMBER} {' '.join(_numbered(channel.possible_values))} ELSE NULL END END"
            for position, channel in enumerate(self.channels)
            if channel.is_categorical
        )
        return f"CASE {cases} END" if cases else "NULL::VARCHAR"


def _numbered(texts: tuple[str, ...]) -> Iterator[str]:
    """Write the SQL of the categories whose text is a number."""
    for text in texts:
        try:
            yield f"WHEN {float(text)!r}::DOUBLE THEN {quoted(text)}"
        except ValueError:
            yield "WHEN NULL THEN NULL"


def epoch_sql(column: str) -> str:
    """Write the SQL of the seconds since 1970 of a time (DOUBLE): null if the cell is none."""
    return f"epoch(TRY_CAST({column} AS TIMESTAMPTZ))"


def zoned_sql(column: str) -> str:
    """Write the SQL that tells whether a time names its zone: null if the cell is empty."""
    return f"regexp_matches({column}::VARCHAR, ':\\d\\d(\\.\\d+)? ?([A-Za-z].*|[+-]\\d\\d(:?\\d\\d)?)$')"
