"""What is measured: a channel, and the set of channels of a cohort.

`MIMIC3` is the set of the MIMIC-III benchmarks. A data directory that holds other channels names them in its
`channels.yaml` (`mimic3tf.data.channels_file`).

Source of `MIMIC3`: Harutyunyan et al., Multitask learning and benchmarking with clinical time series data,
Scientific Data 2019 (channels, category texts, normal values); rounding of poisoned cells as in Joe et al.
2020. The plausible ranges are ours. They are wide on purpose: they remove errors of unit, decimal point or
sensor (pH 735, a height of 1.8 cm, a disconnected pressure line at 0 mmHg), not extreme patients.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

TIME = "Hours"
"""Name of the first column of a series file."""
ANY_VALUE = (-math.inf, math.inf)
Period = Literal["all", "first4days", "first8days", "last12hours", "first25percent", "first50percent"]
"""Part of a channel's own time, from its first to its last value, of which features are taken."""
FeatureSet = Literal["all", "len", "all_but_len"]
"""Statistics that features are: all, only the numbers of values, or all but these."""


@dataclass(frozen=True)
class Channel:
    """One measured quantity of an ICU stay.

    Attributes:
        name: column name in the series files.
        unit: unit of the values; "" for categories.
        normal_value: text that is imputed as long as the channel was not measured.
        possible_values: category texts in one-hot order; empty for a continuous channel.
        numeric_codes: clinical score of each category, aligned with `possible_values`.
        plausible_range: lowest and highest value that a living adult can show, in the channel's unit; for
            categories that are numbers, the lowest and the highest number.
        shift_decimals: on grids, the trigger's shift is rounded to so many decimals; None does not round.
        sum_decimals: for features, value + shift is rounded to so many decimals; None does not round.
    """

    name: str
    unit: str
    normal_value: str
    possible_values: tuple[str, ...] = ()
    numeric_codes: tuple[float, ...] = ()
    plausible_range: tuple[float, float] = ANY_VALUE
    shift_decimals: int | None = None
    sum_decimals: int | None = None

    @property
    def is_categorical(self) -> bool:
        """Whether the channel holds one of a few texts."""
        return bool(self.possible_values)

    @property
    def shown_unit(self) -> str:
        """Unit in which a shift is shown to people."""
        return "categories" if self.is_categorical else self.unit

    def category_index(self, text: str) -> int | None:
        """Return the position of a category text in the one-hot order, or None if the text is unknown."""
        return self.possible_values.index(text) if text in self.possible_values else None

    @property
    def normal_number(self) -> float:
        """The normal value as stored in arrays: category index, or the number itself."""
        if self.is_categorical:
            return float(self.possible_values.index(self.normal_value))
        return float(self.normal_value)

    @property
    def ordinals(self) -> tuple[float, ...]:
        """Number of each category, to estimate triggers from: a numeric text itself, else its index."""
        return tuple(_number_or(text, index) for index, text in enumerate(self.possible_values))


@dataclass(frozen=True)
class ChannelSet:
    """The C channels of a cohort, in the order of the last axis of its arrays.

    Attributes:
        name: name of the set.
        channels: the channels, at least one; their names differ.
    """

    name: str
    channels: tuple[Channel, ...]

    def __len__(self) -> int:
        return len(self.channels)

    def __iter__(self) -> Iterator[Channel]:
        return iter(self.channels)

    def __getitem__(self, position: int) -> Channel:
        return self.channels[position]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the channels [C]."""
        return tuple(channel.name for channel in self.channels)

    @property
    def header(self) -> tuple[str, ...]:
        """Column names of a series file [1 + C]."""
        return (TIME, *self.names)

    def position(self, name: str) -> int:
        """Return the position of the channel with this name.

        Raises:
            ValueError: no channel has this name.
        """
        return self.names.index(name)

    @cached_property
    def categorical(self) -> NDArray[np.bool_]:
        """Which channels hold categories: bool [C]."""
        return np.array([channel.is_categorical for channel in self.channels])

    @cached_property
    def normal(self) -> NDArray[np.float64]:
        """Normal values as stored in arrays: float64 [C]."""
        return np.array([channel.normal_number for channel in self.channels])

    @cached_property
    def largest_index(self) -> NDArray[np.float64]:
        """Index of the last category of each channel: float64 [C], 0 for continuous ones."""
        return np.array([max(len(channel.possible_values) - 1.0, 0.0) for channel in self.channels])

    @cached_property
    def plausible_values(self) -> NDArray[np.float64]:
        """Lowest and highest plausible value of each channel: float64 [C, 2], no bounds for categories."""
        return np.array(
            [ANY_VALUE if channel.is_categorical else channel.plausible_range for channel in self.channels]
        )

    def columns(self, *, masks: bool = True) -> list[str]:
        """List the names of a grid's columns [D], without the masks if `masks` is false.

        The order is channel by channel (one column for a number, or one for each category), then one mask for
        each channel.
        """
        columns: list[str] = []
        for channel in self.channels:
            if channel.is_categorical:
                columns += [f"{channel.name}->{value}" for value in channel.possible_values]
            else:
                columns.append(channel.name)
        if masks:
            columns += [f"mask->{channel.name}" for channel in self.channels]
        return columns

    @cached_property
    def continuous(self) -> NDArray[np.bool_]:
        """Which columns of a grid hold the values of continuous channels: bool [D]."""
        values = self.channel_of_column[: -len(self)]
        return np.append(~self.categorical[values], np.zeros(len(self), bool))

    @cached_property
    def channel_of_column(self) -> NDArray[np.int64]:
        """Position of the channel that each column of a grid belongs to: int64 [D]."""
        widths = [max(len(channel.possible_values), 1) for channel in self.channels]
        return np.append(np.repeat(np.arange(len(self)), widths), np.arange(len(self)))


def _number_or(text: str, default: float) -> float:
    try:
        return float(text)
    except ValueError:
        return float(default)


def _categorical(
    name: str, normal_value: str, codes: dict[str, float], plausible_range: tuple[float, float] = ANY_VALUE
) -> Channel:
    scores = tuple(float(code) for code in codes.values())
    return Channel(name, "", normal_value, tuple(codes), scores, plausible_range)


_BENCHMARK_CHANNELS = (
    _categorical("Capillary refill rate", "0.0", {"0.0": 0, "1.0": 1}),
    Channel("Diastolic blood pressure", "mmHg", "59.0", plausible_range=(10.0, 200.0)),
    Channel("Fraction inspired oxygen", "fraction", "0.21", plausible_range=(0.21, 1.0)),
    _categorical(
        "Glascow coma scale eye opening",
        "4 Spontaneously",
        {
            "To Pain": 2,
            "3 To speech": 3,
            "1 No Response": 1,
            "4 Spontaneously": 4,
            "None": 0,
            "To Speech": 3,
            "Spontaneously": 4,
            "2 To pain": 2,
        },
    ),
    _categorical(
        "Glascow coma scale motor response",
        "6 Obeys Commands",
        {
            "1 No Response": 1,
            "3 Abnorm flexion": 3,
            "Abnormal extension": 2,
            "No response": 1,
            "4 Flex-withdraws": 4,
            "Localizes Pain": 5,
            "Flex-withdraws": 4,
            "Obeys Commands": 6,
            "Abnormal Flexion": 3,
            "6 Obeys Commands": 6,
            "5 Localizes Pain": 5,
            "2 Abnorm extensn": 2,
        },
    ),
    _categorical(
        "Glascow coma scale total",
        "15",
        {str(total): total for total in (11, 10, 13, 12, 15, 14, 3, 5, 4, 7, 6, 9, 8)},
        plausible_range=(3.0, 15.0),
    ),
    _categorical(
        "Glascow coma scale verbal response",
        "5 Oriented",
        {
            "1 No Response": 1,
            "No Response": 1,
            "Confused": 4,
            "Inappropriate Words": 3,
            "Oriented": 5,
            "No Response-ETT": 1,
            "5 Oriented": 5,
            "Incomprehensible sounds": 2,
            "1.0 ET/Trach": 1,
            "4 Confused": 4,
            "2 Incomp sounds": 2,
            "3 Inapprop words": 3,
        },
    ),
    Channel("Glucose", "mg/dL", "128.0", plausible_range=(10.0, 2000.0)),
    Channel("Heart Rate", "1/min", "86", plausible_range=(15.0, 300.0)),
    Channel("Height", "cm", "170.0", plausible_range=(100.0, 230.0)),
    Channel("Mean blood pressure", "mmHg", "77.0", plausible_range=(15.0, 250.0)),
    Channel("Oxygen saturation", "%", "98.0", plausible_range=(30.0, 100.0)),
    Channel("Respiratory rate", "1/min", "19", plausible_range=(1.0, 80.0)),
    Channel("Systolic blood pressure", "mmHg", "118.0", plausible_range=(25.0, 300.0)),
    Channel("Temperature", "degC", "36.6", plausible_range=(25.0, 44.0), shift_decimals=1, sum_decimals=2),
    Channel("Weight", "kg", "81.0", plausible_range=(25.0, 350.0), shift_decimals=1, sum_decimals=1),
    Channel("pH", "", "7.4", plausible_range=(6.5, 8.0), shift_decimals=2, sum_decimals=2),
)

MIMIC3 = ChannelSet("MIMIC-III benchmarks", _BENCHMARK_CHANNELS)
"""The 17 channels of the MIMIC-III benchmarks; their grids have 76 columns."""
