"""What a mapping makes of a MEDS data set, without making a directory: for people who write a mapping."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from mimic3tf.sources.codes import cleaned_sql
from mimic3tf.sources.database import Database, parse_size, progress_bar
from mimic3tf.sources.meds import EVENTS, VALUE, add_items, channels_of, resolve
from mimic3tf.sources.meds_files import VALUES, Shards, find_shards, read_descriptions, scan_events
from mimic3tf.sources.meds_mapping import KINDS
from mimic3tf.storage.files import PathText

FREQUENT = 20
"""Number of codes without a channel that are listed."""

# A code has few different values, so the median of counted values is exact and needs little memory.
_COUNTED = """
SELECT *, TRY_CAST(value AS DOUBLE) AS charted, NULL AS fault
FROM (SELECT found, code, {value} AS value, count(*) AS n FROM ({events}) e GROUP BY ALL)
"""

_SUMMARY = """
SELECT {key}, sum(n)::BIGINT AS events, coalesce(sum(n) FILTER (fault IS NOT NULL), 0)::BIGINT AS lost,
    count(DISTINCT value) AS texts, count(DISTINCT text) AS categories, {spreads}
FROM (
    SELECT *, sum(n) OVER (PARTITION BY {key} ORDER BY charted) AS charted_upto,
        sum(n) FILTER (charted IS NOT NULL) OVER (PARTITION BY {key}) AS charted_all,
        sum(n) OVER (PARTITION BY {key} ORDER BY number) AS number_upto,
        sum(n) FILTER (number IS NOT NULL) OVER (PARTITION BY {key}) AS number_all
    FROM value
)
GROUP BY {key} ORDER BY {key}
"""

# Half of the values are at most the median, and half at least.
_SPREAD = """
    min({of}) AS {of}_low,
    (min({of}) FILTER (2 * {of}_upto >= {of}_all) + min({of}) FILTER (2 * {of}_upto > {of}_all)) / 2
        AS {of}_median,
    max({of}) AS {of}_high
"""

# Codes without any value are diagnoses, drugs and the like, not measurements.
_UNMAPPED = """
SELECT code, count(*) AS events, {numbers} AS numbers FROM shard ANTI JOIN item USING (code)
WHERE time IS NOT NULL AND code IS NOT NULL AND coalesce({values}) IS NOT NULL
GROUP BY code ORDER BY numbers DESC, events DESC, code LIMIT {frequent}
"""


@dataclass(frozen=True)
class Explanation:
    """What a mapping makes of a data set.

    Attributes:
        data: directory of the data set.
        mapping: name of the mapping; None if no shipped one fits.
        codes: a row for each code of a channel: channel (position), found (the code), events with a value,
            lost (those whose value is none of the channel), texts (number of different values), categories
            (number of different categories), and low, median and high of the numbers before (`charted_*`) and
            after conversion (`number_*`), null if there are none.
        channels: the same for each channel.
        stays: kind of event that tells of stays -> number of events.
        unmapped: the most frequent codes with a value and without a channel: code, events, numbers (events
            with a number), description (null if the data set gives none).
    """

    data: Path
    mapping: str | None
    codes: pl.DataFrame
    channels: pl.DataFrame
    stays: dict[str, int]
    unmapped: pl.DataFrame


def explain_meds(data: PathText, *, mapping: str | None = None, memory_limit: str = "4GB") -> Explanation:
    """Find out what the codes of a MEDS data set become. Every event counts, not only those of the cohort.

    Args:
        data: directory of the data set.
        mapping: as in `prepare_meds`.
        memory_limit: memory to use, such as "4GB".

    Raises:
        DataError: the data set cannot be read; names the file.
        UsageError: the mapping or the memory limit cannot be used.
    """
    data = Path(data)
    limit, shards = parse_size(memory_limit), find_shards(data)
    descriptions = read_descriptions(data)
    with tempfile.TemporaryDirectory() as scratch, Database(Path(scratch), limit) as database:
        with progress_bar() as bar:
            resolved = resolve(database, shards, mapping, bar, channels_of(data, mapping))
            add_items(database, resolved)
            events = scan_events(shards, resolved.stays, resolved.measured)
            database.add_stream("event_stream", events)
            counted = _COUNTED.format(value=VALUE, events=EVENTS)
            cleaned = cleaned_sql(counted, resolved.codes, resolved.channels)
            database.run(f"CREATE TABLE value AS {cleaned}", bar, "Reading measurements")
            database.run(f"CREATE TABLE unmapped AS {_unmapped_sql(shards)}", bar, "Reading other codes")
        spreads = ", ".join(_SPREAD.format(of=of) for of in ("charted", "number"))
        codes, channels = (
            database.frame(_SUMMARY.format(key=key, spreads=spreads)) for key in ("channel, found", "channel")
        )
        unmapped = database.frame("FROM unmapped ORDER BY numbers DESC, events DESC, code")
    stays = dict.fromkeys(KINDS, 0)
    for mark in resolved.landmarks:
        stays[mark.kind] += mark.events
    names = pl.Series("description", [descriptions.get(code) for code in unmapped["code"]], dtype=pl.String)
    return Explanation(
        data,
        None if mapping is None and not resolved.fits else resolved.name,
        codes,
        channels,
        stays,
        unmapped.with_columns(names),
    )


def _unmapped_sql(shards: Shards) -> str:
    values = [name for name in VALUES if name in shards.columns]
    numbers = "count(numeric_value)" if "numeric_value" in values else "0"
    # Two arguments at least, and their types may differ.
    return _UNMAPPED.format(
        numbers=numbers,
        values=", ".join([*(f"{name}::VARCHAR" for name in values), "NULL"]),
        frequent=FREQUENT,
    )
