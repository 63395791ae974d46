"""What a charted value means in its channel, as SQL that all sources share.

The SQL reads the column `channel` (position in the channel set). The cleaned value of an event is its
`number`, or in channels of categories, and in those that a source leaves "as charted", its `text`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mimic3tf.channels import ChannelSet
from mimic3tf.data.records import LARGEST_VALUE


def number_sql(channels: ChannelSet, numbers: Mapping[str, str]) -> str:
    """Write the SQL of an event's number (DOUBLE).

    Args:
        channels: the channels.
        numbers: channel -> SQL of its number; the number of other channels is null.
    """
    cases = " ".join(f"WHEN {channels.position(name)} THEN {sql}" for name, sql in numbers.items())
    return f"CASE channel {cases} END"


def text_sql(
    channels: ChannelSet,
    value: str,
    spellings: Mapping[str, Mapping[str, str]],
    as_charted: Collection[str] = (),
) -> str:
    """Write the SQL of an event's text: a category of its channel, or null if the value is none.

    Args:
        channels: the channels.
        value: SQL of the charted text.
        spellings: channel -> charted text -> category. The texts of other channels are their categories.
        as_charted: channels of numbers whose text is kept, if it is a number, without spaces around it.
    """
    cases = []
    for position, channel in enumerate(channels):
        if channel.name in as_charted:
            # The engine also reads "8_4" and " 84" as numbers.
            plain = f"replace(trim({value}), '_', '')"
            condition = f"abs(TRY_CAST({value} AS DOUBLE)) <= {LARGEST_VALUE}"
            cases.append(f"WHEN {position} THEN CASE WHEN {condition} THEN {plain} END")
        elif channel.is_categorical:
            known = spellings.get(channel.name) or {text: text for text in channel.possible_values}
            choice = " ".join(f"WHEN {quoted(text)} THEN {quoted(known[text])}" for text in known)
            cases.append(f"WHEN {position} THEN CASE {value} {choice} END")
    return f"CASE channel {' '.join(cases)} END" if cases else "NULL::VARCHAR"


def name_sql(name: str) -> str:
    """Quote a column name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def quoted(text: str) -> str:
    """Quote a text for SQL."""
    return "'" + text.replace("'", "''") + "'"
