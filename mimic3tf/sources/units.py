"""Units in which people chart, and how a number becomes one in the unit of its channel, as SQL."""

from __future__ import annotations

from collections.abc import Mapping

from mimic3tf.channels import Channel
from mimic3tf.errors import UsageError, near

UNITS: Mapping[str, tuple[str, ...]] = {
    "1/min": ("/min", "bpm", "beats/min", "breaths/min", "insp/min"),
    "mmHg": ("mm Hg",),
    "kPa": (),
    "%": ("percent", "pct"),
    "fraction": (),
    "% or fraction": (),
    "degC": ("°C", "C", "deg C", "Celsius"),
    "degF": ("°F", "F", "deg F", "Fahrenheit", "?F"),
    "cm": (),
    "m": (),
    "in": ("inch", "inches"),
    "kg": (),
    "g": (),
    "lb": ("lbs", "pound", "pounds"),
    "oz": ("ounce", "ounces"),
    "mg/dL": ("mg/dl",),
    "mmol/L": ("mmol/l",),
}
"""Unit -> other ways to write it; upper and lower case do not matter."""

CONVERSIONS: Mapping[tuple[str, str], str] = {
    ("degF", "degC"): "({} - 32) * 5 / 9",
    ("%", "fraction"): "{} / 100",
    ("fraction", "%"): "{} * 100",
    # A number from 1 to 20 is a flow of oxygen in litres that was charted in the wrong cell.
    ("% or fraction", "fraction"): "CASE WHEN {0} > 0.2 AND {0} <= 1 THEN {0} "
    "WHEN {0} >= 20 AND {0} <= 100 THEN {0} / 100 END",
    ("in", "cm"): "{} * 2.54::DOUBLE",
    ("m", "cm"): "{} * 100",
    ("lb", "kg"): "{} * 0.453592::DOUBLE",
    ("oz", "kg"): "{} / 16 * 0.453592::DOUBLE",
    ("g", "kg"): "{} / 1000",
    ("kPa", "mmHg"): "{} * 7.50062::DOUBLE",
}
"""Unit as charted, unit of the channel -> SQL of the converted number."""

GLUCOSE = ("mmol/L", "mg/dL", "{} * 18.016::DOUBLE")
"""Units of glucose, and the SQL from one to the other: it holds for no other substance."""

_NAMES = {name.lower(): unit for unit, names in UNITS.items() for name in (unit, *names)}


def known_unit(text: str) -> str | None:
    """Return the name in `UNITS` of a unit as people write it, or None if it is not known."""
    return _NAMES.get(text.strip().lower())


def convert_sql(unit: str, channel: Channel, number: str) -> str:
    """Write the SQL of a number in its channel's unit.

    Args:
        unit: unit as charted; "" stands for the channel's own unit.
        channel: the channel.
        number: SQL of the number as charted.

    Raises:
        UsageError: the unit cannot be converted; lists the units that can.
    """
    charted, possible = known_unit(unit) or unit, _possible(channel)
    if charted in ("", known_unit(channel.unit) or channel.unit):
        return number
    if charted not in possible:
        units = [channel.unit or "no unit", *possible]
        raise UsageError(
            f"channel '{channel.name}': unit '{unit}' cannot be converted to "
            f"{channel.unit or 'a bare number'}; known are {', '.join(units)}{near(unit, units)}"
        )
    return "(" + possible[charted].format(number) + ")"


def convertible(channel: Channel) -> list[str]:
    """List the units in which a channel can be charted, its own first."""
    return [channel.unit, *_possible(channel)]


def _possible(channel: Channel) -> dict[str, str]:
    """Return the units that are converted to a channel's own, and the SQL that does it."""
    wanted = known_unit(channel.unit) or channel.unit
    possible = {source: sql for (source, target), sql in CONVERSIONS.items() if target == wanted}
    if channel.name == "Glucose" and wanted == GLUCOSE[1]:
        possible[GLUCOSE[0]] = GLUCOSE[2]
    return possible
