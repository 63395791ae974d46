"""Turn two tables of one's own into the in-hospital-mortality task in the benchmarks' layout.

A table of outcomes has a row for each stay, a table of measurements a row for each value (long format). Their
owner has chosen the stays, so no cohort rule is applied, and no value is left out for being implausible.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from mimic3tf.channels import MIMIC3, Channel, ChannelSet
from mimic3tf.data.channels_file import parse_channels
from mimic3tf.data.records import LARGEST_VALUE
from mimic3tf.errors import DataError, UsageError
from mimic3tf.sources import layout
from mimic3tf.sources.cleaning import quoted
from mimic3tf.sources.database import Database
from mimic3tf.sources.events import EVENT, Source, prepare_events
from mimic3tf.sources.measurements import FAULTS, Measurements, epoch_sql, zoned_sql
from mimic3tf.sources.outcomes import DIED, LABEL, SUBJECT, UNKNOWN, Outcomes, split_of
from mimic3tf.sources.stated_units import OPTION, check_median, read_units
from mimic3tf.sources.table_file import TableFile, id_sql, number_of, open_table
from mimic3tf.sources.units import convert_sql, known_unit
from mimic3tf.storage.files import PathText
from mimic3tf.storage.yaml_file import read_option_file

MOST_UNITS = 10_000
"""Most pairs of channel and unit that are read; more means that the column holds something else."""

_STAYS = """
CREATE TABLE stay AS
SELECT row_number() OVER (ORDER BY subject, k) - 1 AS stay, *
FROM (SELECT {subject} AS subject, {episode} AS k, {label} AS died{more} FROM outcome) WHERE died IS NOT NULL
"""

_INSERT = """
INSERT INTO event BY NAME
SELECT stay, round(second)::BIGINT AS second, channel, number, text,
    CASE WHEN number IS NULL AND text IS NULL THEN name || ' is no value of the channel' END AS fault
FROM (
    SELECT * REPLACE (CASE WHEN abs(converted) <= {largest} THEN converted END AS number)
    FROM (SELECT *, {converted} AS converted FROM ({read}) JOIN known USING (channel) WHERE fault IS NULL)
)
"""


def prepare_tables(
    outcomes: PathText,
    measurements: PathText,
    out: PathText,
    *,
    channels: ChannelSet | PathText = MIMIC3,
    units: Sequence[str] = (),
    ignore_unknown: bool = False,
    memory_limit: str = "4GB",
) -> layout.Summary:
    """Write a table of outcomes and a table of measurements as the in-hospital-mortality task.

    Both are CSV (plain or .gz) or Parquet, of any size. Upper and lower case do not matter in the names of
    columns, and other columns are passed over. Of several values of a channel at one instant, the largest
    wins.

    Args:
        outcomes: columns subject, episode (1 if there is none), died (0 or 1; a stay without is left out),
            and split (train, val or test), if a hash of the subject is not to decide it.
        measurements: columns subject, episode, channel, value, unit (if there is one), and minute or hour
            since admission to the ICU; or time, if outcomes has a column intime.
        out: the directory to make; it may exist if it is empty.
        channels: the channels, or a file such as `channels.yaml`.
        units: texts "Channel=unit", or files of such lines, as `read_units` takes them. They count for values
            whose unit is not stated in the table, and for channels all of whose values state the same one.
        ignore_unknown: leave out and count what is no known channel, no category of its channel or no number.
        memory_limit: memory to use, such as "4GB"; intermediate results are kept on disk beside `out`.

    Returns:
        Counts of stays, deaths and values, and of what was left out by reason.

    Raises:
        DataError: a table cannot be read, or holds what cannot be understood; names file and row.
        UsageError: an option cannot be used, `out` is not empty, or another process writes it.
    """
    if not isinstance(channels, ChannelSet):
        channels = parse_channels(read_option_file("--channels", Path(channels)), str(channels))
    stated = read_units(units, channels)
    stays, values = open_table(Path(outcomes)), Measurements(open_table(Path(measurements)), channels)
    options = {
        "channels": channels.name,
        "units": stated,
        "ignore_unknown": ignore_unknown,
        "split": "column" if stays.find(["split"]) else "hash",
    }
    fill = _Tables(stays, values, stated, ignore_unknown).fill
    return prepare_events(
        Source("tables", Path(measurements), fill, split_of, options, channels), Path(out), memory_limit
    )


@dataclass(frozen=True)
class _Tables:
    """The two tables, and what is said about them.

    Attributes:
        outcomes: the table of stays.
        values: the table of measurements.
        stated: channel -> unit that `--units` states.
        ignore: whether unknown channels, categories and texts are left out.
    """

    outcomes: TableFile
    values: Measurements
    stated: Mapping[str, str]
    ignore: bool

    def fill(self, database: Database, bar: Progress) -> dict[str, int]:
        """Make the tables of stays and events; return the number of stays left out, by reason."""
        path = self.values.file.path
        # Times without a zone are read as UTC, and only differences of them are used.
        database.run(f"SET TimeZone = 'UTC'; {EVENT}")
        dropped = self._fill_stays(database)
        self.values.open(database)
        read = self.values.read_sql()
        groups = (
            "SELECT channel, unit, fault, count(*), approx_quantile(number, 0.5), bool_or(zoned), "
            f"bool_and(zoned) FROM ({read}) GROUP BY ALL ORDER BY ALL LIMIT {MOST_UNITS}"
        )
        found = database.run(groups, bar, f"Checking {path.name}")
        if not found:
            raise DataError(f"{path}: holds no measurement, only the names of the columns")
        if len(found) == MOST_UNITS:
            raise DataError(f"{path}: column 'unit' holds no units, but {MOST_UNITS:,} different texts")
        for fault in FAULTS:
            if fault in {row[2] for row in found} and (fault == "Time" or not self.ignore):
                self.values.explain(database, fault)
        self._check_zones(database, {flag for row in found for flag in row[5:] if flag is not None})
        units = self._units(database, found)
        for channel, _, reason, count, *_ in found:
            if reason is not None:
                text = quoted(self._reason(channel, str(reason)))
                database.run(f"INSERT INTO left_out VALUES ({text}, {count})")
        insert = _INSERT.format(read=read, converted=self._converted(units), largest=LARGEST_VALUE)
        database.run(insert, bar, f"Reading {path.name}")
        return dropped

    def _fill_stays(self, database: Database) -> dict[str, int]:
        table = self.outcomes
        columns = {"subject": table.column(*SUBJECT), "died": table.column(*DIED)}
        columns |= {name: spelled for name in ("episode", "split") if (spelled := table.find([name]))}
        timed, numbered = self.values.time == "time", "episode" in columns
        if "episode" in self.values.columns and not numbered:
            raise DataError(f"{table.path}: lacks the column 'episode', which {self.values.file.path} has")
        if timed:
            columns["intime"] = table.column("intime")
        checked = Outcomes(database, table, columns)
        if numbered and "episode" not in self.values.columns:
            lacking = f"{self.values.file.path} lacks the column 'episode', and would mean stay 1 of everyone"
            checked.refuse(f"{number_of('episode')} <> 1", "episode", lacking)
        episode = "CAST(CAST(episode AS DOUBLE) AS BIGINT)" if numbered else "1::BIGINT"
        key = {"subject": id_sql("subject")} | ({"episode": episode} if numbered else {})
        hint = "" if numbered else "number a patient's stays in a column 'episode', or "
        checked.refuse_repeated(key, f"{hint}keep one row of each stay")
        more = ", trim(split::VARCHAR) AS split" if "split" in columns else ""
        if timed:
            checked.refuse(f"{epoch_sql('intime')} IS NULL", "intime", "expected a date and time")
            more += f", {epoch_sql('intime')} AS start, {zoned_sql('intime')} AS zoned"
        database.run(_STAYS.format(subject=id_sql("subject"), episode=episode, label=LABEL, more=more))
        return {UNKNOWN: checked.unknown}

    def _reason(self, channel: object, fault: str) -> str:
        if fault == "Value":
            return f"{self.values.channels[int(str(channel))].name} is no value of the channel"
        return "of an unknown channel" if fault == "Channel" else fault

    def _check_zones(self, database: Database, zoned: set[object]) -> None:
        if self.values.time == "time":
            zoned |= {flag for (flag,) in database.run("SELECT DISTINCT zoned FROM stay")}
        if len(zoned) > 1:
            raise DataError(
                f"{self.values.file.path} and {self.outcomes.path}: some times have a time zone, others have "
                "none; write all of them in the same way"
            )

    def _units(self, database: Database, found: Sequence[Sequence[object]]) -> dict[int, dict[str, str]]:
        """Return the unit of each channel's values by the text in the table; check that it can be right."""
        channels = self.values.channels
        medians: dict[int, dict[str, float]] = {}
        for channel, unit, fault, _, median, *_ in found:
            if fault is None and median is not None:
                medians.setdefault(int(str(channel)), {})[str(unit)] = float(str(median))
        return {
            position: {text: self._unit(database, channels[position], text, of) for text in of}
            for position, of in medians.items()
        }

    def _unit(self, database: Database, channel: Channel, text: str, medians: Mapping[str, float]) -> str:
        """Return the unit of the values of a channel that state one, or none (""); check it."""
        if channel.name in self.stated:
            self._check_overruled(channel, medians)
            return self.stated[channel.name]
        try:
            convert_sql(text, channel, "0")
        except UsageError as error:
            condition = (
                f"trim(channel::VARCHAR) = {quoted(channel.name)} AND trim(unit::VARCHAR) = {quoted(text)}"
            )
            ((place, _),) = self.values.first(database, condition)
            raise DataError(f"{place}: {error}; correct it, or state the right one with {OPTION}") from None
        check_median(database, self.values.file.path, channel, text, medians[text])
        return text

    def _check_overruled(self, channel: Channel, texts: Collection[str]) -> None:
        """Refuse that `--units` overrules one of several units that the table states."""
        unit = self.stated[channel.name]
        if len(texts) > 1 and any(text and known_unit(text) != known_unit(unit) for text in texts):
            raise UsageError(
                f'{OPTION} "{channel.name}={unit}": {self.values.file.path} states different units of this '
                f"channel ({', '.join(text or 'none' for text in texts)}); correct them there"
            )

    def _converted(self, units: Mapping[int, Mapping[str, str]]) -> str:
        """Write the SQL of a number in the unit of its channel."""
        cases = " ".join(
            f"WHEN channel = {position} AND unit = {quoted(text)} "
            f"THEN {convert_sql(unit, self.values.channels[position], 'number')}"
            for position, texts in units.items()
            for text, unit in texts.items()
        )
        return f"(CASE {cases} ELSE number END)" if cases else "number"
