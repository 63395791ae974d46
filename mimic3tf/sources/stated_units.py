"""The units that a table's values are in, as its owner states them, and a check of what was stated.

Nobody's unit is guessed: where the median of a channel's values is unusual in the stated unit, but usual in
another, the owner has to say which of the two it is.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from mimic3tf.channels import Channel, ChannelSet
from mimic3tf.errors import DataError, UsageError, near
from mimic3tf.sources.database import Database
from mimic3tf.sources.units import convert_sql, convertible, known_unit
from mimic3tf.storage.yaml_file import read_option_file

OPTION = "--units"

USUAL_MEDIANS: Mapping[tuple[str, str], tuple[float, float]] = {
    ("Weight", "kg"): (35, 110),
    ("Height", "cm"): (120, 210),
    ("Glucose", "mg/dL"): (50, 600),
    ("Diastolic blood pressure", "mmHg"): (25, 130),
    ("Mean blood pressure", "mmHg"): (30, 160),
    ("Systolic blood pressure", "mmHg"): (50, 220),
    ("Oxygen saturation", "%"): (60, 100),
    ("Temperature", "degC"): (30, 42),
}
"""Channel and unit -> the medians that a cohort of adults can have, where they are fewer than the plausible
single values: 180 kg is plausible as a weight, but a median of 180 is in pounds."""


def read_units(given: Sequence[str], channels: ChannelSet) -> dict[str, str]:
    """Read what `--units` states.

    Args:
        given: texts "Channel=unit", or files of such lines.
        channels: the channels.

    Returns:
        Channel -> unit.

    Raises:
        UsageError: a text or a line is none of these, or the unit cannot be converted.
    """
    units: dict[str, str] = {}
    for text in given:
        if Path(text).is_file():
            lines = read_option_file(OPTION, Path(text)).removeprefix("\ufeff").splitlines()
            places = {f"{text}, line {number}": line for number, line in enumerate(lines, 1) if line.strip()}
        else:
            places = {OPTION: text}
        for place, line in places.items():
            name, equals, unit = (part.strip() for part in line.rpartition("="))
            if not equals or not name or not unit:
                raise UsageError(
                    f'{place}: \'{line}\' is neither "Channel=unit", such as "Temperature=degF", nor a file'
                )
            units[name] = unit
            _check_stated(place, name, unit, channels)
    return units


def _check_stated(place: str, name: str, unit: str, channels: ChannelSet) -> None:
    if name not in channels.names:
        raise UsageError(f"{place}: '{name}' is no channel{near(name, channels.names)}")
    channel = channels[channels.position(name)]
    if channel.is_categorical:
        raise UsageError(f"{place}: '{name}' has categories and no unit")
    try:
        convert_sql(unit, channel, "0")
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from None


def check_median(database: Database, place: object, channel: Channel, unit: str, median: float) -> None:
    """Refuse values that are unusual in the unit that they are said to be in, and usual in another one.

    Args:
        database: a database to compute with.
        place: where the values are; an error names it.
        channel: their channel.
        unit: the unit that they are said to be in; "" stands for the channel's own.
        median: their median, as charted.

    Raises:
        DataError: the median is more likely in another unit; names the option that says which.
    """
    stated = known_unit(unit) or unit or channel.unit
    if _usual(channel, _converted(database, channel, stated, median)):
        return
    for other in convertible(channel):
        value = _converted(database, channel, other, median)
        if known_unit(other) != known_unit(stated) and _usual(channel, value):
            options = [f"{OPTION} {_option(channel, name)}" for name in (other, stated)]
            becomes = f", which is {value:.4g} {channel.unit}" if other != channel.unit else ""
            raise DataError(
                f"{place}: channel '{channel.name}' has the median {median:.4g}, which looks like {other}"
                f"{becomes}, not like {stated}; type {options[0]} if it is, {options[1]} if it is not"
            )


def _option(channel: Channel, unit: str) -> str:
    text = f"{channel.name}={unit}"
    # Double quotes work in every shell, but not around characters that mean something to it.
    return f'"{text}"' if not set(text) & set('"$`\\!') else shlex.quote(text)


def _converted(database: Database, channel: Channel, unit: str, number: float) -> float | None:
    ((value,),) = database.run(f"SELECT ({convert_sql(unit, channel, f'{number!r}::DOUBLE')})::DOUBLE")
    return None if value is None else float(str(value))


def _usual(channel: Channel, value: float | None) -> bool:
    low, high = USUAL_MEDIANS.get((channel.name, channel.unit), channel.plausible_range)
    return value is not None and low <= value <= high
