"""`channels.yaml`: the channels of a data directory that are not those of the MIMIC-III benchmarks.

An example::

    name: bedside monitor
    channels:
      - name: Heart Rate
        unit: 1/min
        normal: 86
        plausible: [15, 300]
        decimals: 0
      - name: Consciousness
        normal: alert
        categories: {alert: 4, verbal: 3, pain: 2, unresponsive: 1}

`normal` is imputed until the first measurement. `categories` gives the clinical score of each text, in the
order of the one-hot columns. `plausible` is the range that a living adult can show. `decimals` is the number
of decimals to which a shifted value is rounded; `{shift: 1, sum: 2}` rounds the shift on grids to 1
decimal, and the sum from which features are extracted to 2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mimic3tf.channels import ANY_VALUE, MIMIC3, TIME, Channel, ChannelSet
from mimic3tf.data.links import check_link
from mimic3tf.data.records import LARGEST_VALUE
from mimic3tf.errors import DataError, UsageError
from mimic3tf.storage.files import PathText
from mimic3tf.storage.yaml_file import first_fault, place_of, read_option_file, read_yaml

CHANNELS_FILE = "channels.yaml"
MOST_DECIMALS = 17
"""A double-precision number holds no more decimal digits."""
Decimals = Annotated[int, Field(ge=0, le=MOST_DECIMALS)]
Number = Annotated[float, Field(ge=-LARGEST_VALUE, le=LARGEST_VALUE)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_booleans(cls, value: Any) -> Any:
        # YAML reads a bare "yes" or "on" as true, which would be taken as the number 1.
        parts = value if isinstance(value, list) else value.values() if isinstance(value, dict) else [value]
        if any(isinstance(part, bool) for part in parts):
            raise ValueError("write the text in quotes: YAML reads it as true or false")
        return value


class _Rounding(_Strict):
    shift: Decimals | None = None
    sum: Decimals | None = None


class _Channel(_Strict):
    name: str
    unit: str = ""
    normal: int | float | str
    categories: dict[str, Number] | None = None
    plausible: tuple[Number, Number] | None = None
    decimals: _Rounding = _Rounding()

    @field_validator("decimals", mode="before")
    @classmethod
    def _round_both_alike(cls, value: Any) -> Any:
        return value if isinstance(value, dict) else {"shift": value, "sum": value}

    @field_validator("unit", mode="after")
    @classmethod
    def _check_unit(cls, value: str) -> str:
        return _printable(value)

    @field_validator("name", "categories", mode="after")
    @classmethod
    def _check_texts(cls, value: Any) -> Any:
        for text in [value] if isinstance(value, str) else value or ():
            if not text or text != text.strip() or not text.isprintable() or "," in text or "->" in text:
                raise ValueError("a name is a line of text without commas, '->' or spaces around it")
        return value

    @model_validator(mode="after")
    def _check(self) -> _Channel:
        if self.plausible and not self.plausible[0] < self.plausible[1]:
            raise ValueError("'plausible' is a lowest and a higher value")
        if self.categories is None:
            if isinstance(self.normal, str) or abs(self.normal) > LARGEST_VALUE:
                raise ValueError("'normal' is a number, or one of 'categories'")
        elif len(self.categories) < 2 or self.normal not in self.categories:
            raise ValueError("give two categories or more, and one of them as 'normal', in quotes if need be")
        elif self.unit or self.decimals != _Rounding():
            raise ValueError("categories have no unit and no decimals")
        return self

    def build(self) -> Channel:
        categories = self.categories or {}
        return Channel(
            self.name,
            self.unit,
            self.normal if isinstance(self.normal, str) else repr(self.normal),
            tuple(categories),
            tuple(categories.values()),
            self.plausible or ANY_VALUE,
            self.decimals.shift,
            self.decimals.sum,
        )


class _Channels(_Strict):
    name: str = "own channels"
    channels: Annotated[list[_Channel], Field(min_length=1)]

    @field_validator("name", mode="after")
    @classmethod
    def _check_name(cls, value: str) -> str:
        return _printable(value)

    @field_validator("channels", mode="after")
    @classmethod
    def _check_names(cls, channels: list[_Channel]) -> list[_Channel]:
        names = [channel.name for channel in channels]
        for name in (TIME, *names):
            if names.count(name) > (name != TIME):
                raise ValueError(
                    f"'{name}' is given twice" if name != TIME else f"'{TIME}' is the name of the time column"
                )
        return channels


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("write it in one line, without control characters")
    return text


def read_channels(data_dir: PathText, *, follow_links: bool = False) -> ChannelSet:
    """Read the channels of a data directory from its `channels.yaml`; without it, return the benchmarks' 17.

    Args:
        data_dir: the directory.
        follow_links: read the file even if it is a link that leads out of the directory.

    Raises:
        DataError: the file cannot be read, or describes no channels; names the line.
    """
    data_dir = Path(data_dir)
    file = data_dir / CHANNELS_FILE
    if not file.exists() and not file.is_symlink():
        return MIMIC3
    check_link(file, data_dir, follow_links=follow_links)
    try:
        return parse_channels(read_option_file("--data", file), str(file))
    except UsageError as error:
        raise DataError(str(error)) from None


def parse_channels(text: str, name: str) -> ChannelSet:
    """Parse the YAML text of a `channels.yaml`.

    Args:
        text: the YAML text.
        name: name of the text in messages.

    Raises:
        UsageError: the text describes no channels; names the line.
    """
    values, places = read_yaml(text, name)
    try:
        described = _Channels(**values)
    except ValidationError as error:
        fault = first_fault(error)
        place = place_of(places, fault["loc"]) or name
        location = fault["loc"]
        # After the keys of the file, pydantic's location goes on with the names of types.
        while location and location not in places and fault["type"] != "missing":
            location = location[:-1]
        key = next((part for part in reversed(location) if isinstance(part, str)), "channels")
        raise UsageError(f"{place}: '{key}': {fault['msg']}") from None
    return ChannelSet(described.name, tuple(channel.build() for channel in described.channels))


def channels_text(channels: ChannelSet) -> str:
    """Write channels as a YAML text, from which `parse_channels` makes an equal set."""
    described = {"name": channels.name, "channels": [_described(channel) for channel in channels]}
    return yaml.safe_dump(described, sort_keys=False, allow_unicode=True)


def _described(channel: Channel) -> dict[str, Any]:
    described: dict[str, Any] = {"name": channel.name}
    text = channel.normal_value
    if channel.is_categorical:
        described["normal"] = text
        described["categories"] = dict(zip(channel.possible_values, channel.numeric_codes, strict=True))
    else:
        described["unit"] = channel.unit
        described["normal"] = int(text) if text.removeprefix("-").isdigit() else float(text)
        rounding = {"shift": channel.shift_decimals, "sum": channel.sum_decimals}
        if any(places is not None for places in rounding.values()):
            described["decimals"] = {key: places for key, places in rounding.items() if places is not None}
    if channel.plausible_range != ANY_VALUE:
        described["plausible"] = list(channel.plausible_range)
    return described
