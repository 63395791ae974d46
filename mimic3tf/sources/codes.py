"""A mapping of codes: which codes of a data set measure which channel, in which unit.

A mapping is a YAML file. An example::

    channels:
      Heart Rate:
        - code: VITALS//PERIODIC//HEARTRATE
      Temperature:
        - {code: "LAB//223761//.*", unit: degF}
      Capillary refill rate:
        - {code: "LAB//22(3951|4308)//.*", categories: {Normal <3 Seconds: "0.0", Abnormal >3 Seconds: "1.0"}}

`code` is a regular expression that the whole code has to match. `unit` is the unit as charted, if it is not
the channel's (`units.py` lists what can be converted); `factor` multiplies the number instead. `categories`
gives the category of each charted text; without it, the texts are those of the channel. `at_admission: true`
is for what is charted once and before the ICU stay begins, such as height: it counts for the stay's start.
With `item_code` at the top of the file, `items: [220045]` stands for codes with these numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator

from mimic3tf.channels import MIMIC3, Channel, ChannelSet
from mimic3tf.data.records import LARGEST_VALUE
from mimic3tf.errors import UsageError, near
from mimic3tf.sources.cleaning import quoted
from mimic3tf.sources.units import convert_sql
from mimic3tf.storage.yaml_file import first_fault, place_of, read_yaml


@dataclass(frozen=True)
class Code:
    """Codes that are treated alike.

    Attributes:
        channel: position of their channel.
        code: regular expression of the whole code, or None if the codes are given as `items` only.
        items: their numbers, in data sets that number what is charted.
        number: SQL of the number in the channel's unit; the number as charted is "charted" (DOUBLE). Null for
            channels of categories.
        categories: charted text -> category; empty for channels of numbers.
        at_admission: the value counts for the start of the stay, whenever it was charted.
    """

    channel: int
    code: str | None
    items: tuple[int, ...] = ()
    number: str = "NULL"
    categories: Mapping[str, str] = field(default_factory=dict)
    at_admission: bool = False


def _compiled(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"'{pattern}' is no regular expression: {error}") from None
    return pattern


Pattern = Annotated[str, AfterValidator(_compiled)]
"""A regular expression that a whole code has to match."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    code: Pattern | None = None
    items: tuple[int, ...] = ()
    unit: str = ""
    factor: float | None = None
    categories: dict[str, str] = {}
    at_admission: bool = False

    @model_validator(mode="after")
    def _check(self) -> _Entry:
        if (self.code is None) == (not self.items):
            raise ValueError("give either 'code', a regular expression, or 'items', numbers")
        if self.unit and self.factor is not None:
            raise ValueError("give either 'unit' or 'factor'")
        return self


class Mapped(BaseModel):
    """The content of a mapping's file, apart from what a source adds to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    item_code: str | None = None
    channels: dict[str, list[_Entry]]


M = TypeVar("M", bound=Mapped)


def shipped_mapping(name: str) -> str:
    """Return the YAML text of a mapping that comes with the package, such as "mimic4"."""
    return (resources.files("mimic3tf.sources") / "mappings" / f"{name}.yaml").read_text(encoding="utf-8")


def parse_mapping(text: str, name: str, kind: type[M]) -> M:
    """Parse the YAML text of a mapping.

    Args:
        text: the YAML text.
        name: name of the text in messages.
        kind: the class of its content.

    Raises:
        UsageError: the text is no mapping; names the line.
    """
    values, places = read_yaml(text, name)
    try:
        return kind(**values)
    except ValidationError as error:
        fault = first_fault(error)
        place = place_of(places, fault["loc"]) or name
        key = next((part for part in reversed(fault["loc"]) if isinstance(part, str)), "channels")
        raise UsageError(f"{place}: '{key}': {fault['msg']}") from None


def codes_of(mapped: Mapped, name: str, channels: ChannelSet = MIMIC3) -> tuple[Code, ...]:
    """Return the codes of a mapping, in its order.

    Args:
        mapped: the mapping.
        name: its name in messages.
        channels: the channels that it maps to.

    Raises:
        UsageError: the mapping names an unknown channel, unit or category.
    """
    codes = []
    for channel_name, entries in mapped.channels.items():
        if channel_name not in channels.names:
            raise UsageError(
                f"{name}: '{channel_name}': no such channel; known are {', '.join(channels.names)}"
                f"{near(channel_name, channels.names)}"
            )
        position = channels.position(channel_name)
        codes += [_code(entry, position, channels[position], mapped.item_code, name) for entry in entries]
    return tuple(codes)


def _code(entry: _Entry, position: int, channel: Channel, item_code: str | None, name: str) -> Code:
    code = entry.code
    if code is None and item_code is not None:
        code = item_code.replace("{item}", f"({'|'.join(map(str, entry.items))})")
    if channel.is_categorical:
        categories = entry.categories or {text: text for text in channel.possible_values}
        for category in categories.values():
            if category not in channel.possible_values:
                raise UsageError(
                    f"{name}: '{channel.name}': '{category}' is no category; known are "
                    f"{', '.join(channel.possible_values)}"
                )
        return Code(position, code, entry.items, categories=categories, at_admission=entry.at_admission)
    number = "charted"
    try:
        number = (
            f"{number} * {entry.factor!r}::DOUBLE"
            if entry.factor is not None
            else convert_sql(entry.unit, channel, number)
        )
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None
    return Code(position, code, entry.items, number, at_admission=entry.at_admission)


def charted_sql(events: str, value: str = "e.value", number: str = "TRY_CAST(e.value AS DOUBLE)") -> str:
    """Write the SQL that finds the stay of each event; see `insert_sql` for its columns.

    An event counts if it lies in the hours of a stay of its subject, and names no other ICU stay. What is
    charted at admission needs the id of the stay; before the stay begins, it counts for its start. An event
    without a time is left out, and counted for each stay that it could belong to.

    Args:
        events: SQL with columns subject, icustay (null if the event names none), time, code and at_admission.
        value: SQL of the value as charted (VARCHAR) of an event `e`. It and `number` are worked out for the
            events of the cohort only.
        number: SQL of its number as charted (DOUBLE), null if it is none.
    """
    return f"""
SELECT s.stay, greatest(date_diff('second', s.intime, e.time), 0) AS second, e.code, {value} AS value,
    {number} AS charted,
    CASE WHEN e.time IS NULL THEN 'without a time' END AS fault
FROM ({events}) e JOIN stay s
    ON s.subject = e.subject AND coalesce(e.icustay = s.icustay, true)
    AND ((e.time <= s.last AND (e.time >= s.intime OR (e.at_admission AND e.icustay = s.icustay)))
        OR e.time IS NULL)
"""


def insert_sql(charted: str, codes: Sequence[Code], channels: ChannelSet = MIMIC3) -> str:
    """Write the statement that cleans charted values and adds them to the table `event`.

    Args:
        charted: SQL with columns stay, second, and those of `cleaned_sql`.
        codes: the codes.
        channels: the channels.
    """
    cleaned = cleaned_sql(charted, codes, channels)
    return f"INSERT INTO event BY NAME SELECT stay, second, channel, number, text, fault FROM ({cleaned})"


def cleaned_sql(charted: str, codes: Sequence[Code], channels: ChannelSet) -> str:
    """Write the SQL that cleans charted values.

    Args:
        charted: SQL with columns code (index into `codes`), value (VARCHAR, as charted), charted (DOUBLE, its
            number) and fault (why the value is left out, or null). Other columns are kept.
        codes: the codes.
        channels: the channels.

    Returns:
        SQL with the columns channel, number, text and fault of the table `event`, and those of `charted`.
    """
    position = _cases({index: str(code.channel) for index, code in enumerate(codes)})
    names = _cases({index: quoted(channels[code.channel].name) for index, code in enumerate(codes)})
    number = _cases({index: code.number for index, code in enumerate(codes)})
    texts = {
        index: f"CASE value {_choices(code.categories)} END" if code.categories else "NULL"
        for index, code in enumerate(codes)
    }
    return f"""
WITH cleaned AS (
    SELECT * RENAME (fault AS known_fault), {number}::DOUBLE AS converted, {_cases(texts)}::VARCHAR AS text
    FROM ({charted})
), bounded AS (
    SELECT * EXCLUDE (converted), CASE WHEN abs(converted) <= {LARGEST_VALUE} THEN converted END AS number
    FROM cleaned
)
SELECT * EXCLUDE (known_fault), ({position})::TINYINT AS channel,
    CASE
        WHEN known_fault IS NOT NULL THEN known_fault
        WHEN number IS NULL AND text IS NULL THEN ({names}) || ' is no value of the channel'
    END AS fault
FROM bounded
"""


def _cases(cases: Mapping[int, str]) -> str:
    """Write the SQL of one expression for each code; codes with the same expression share a branch.

    The expression of most codes comes last, as what is left needs no comparison.
    """
    codes: dict[str, list[str]] = {}
    for code, sql in cases.items():
        codes.setdefault(sql, []).append(str(code))
    *others, (most, _) = sorted(codes.items(), key=lambda item: len(item[1])) or [("NULL", [])]
    branches = (f"WHEN code IN ({', '.join(alike)}) THEN {sql}" for sql, alike in others)
    return f"CASE {' '.join(branches)} ELSE {most} END" if others else most


def _choices(categories: Mapping[str, Any]) -> str:
    return " ".join(f"WHEN {quoted(text)} THEN {quoted(category)}" for text, category in categories.items())
