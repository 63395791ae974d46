"""The 17 channels of the MIMIC-III benchmarks: the only place that knows them.

Source: Harutyunyan et al., Multitask learning and benchmarking with clinical time series data,
Scientific Data 2019 (channels, category texts, normal values); rounding of poisoned cells as in
Joe et al. 2020.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Channel:
    """One measured quantity of an ICU stay.

    Attributes:
        name: column name in the series files.
        unit: unit of the values; "" for categories.
        normal_value: text imputed where nothing was measured before.
        possible_values: category texts in one-hot order; empty for a continuous channel.
        numeric_codes: clinical score of each category, aligned with `possible_values`.
        shift_decimals: decimals the trigger's shift is rounded to in the 48x76 representation.
        sum_decimals: decimals value + shift is rounded to in the 714 representation.
    """

    name: str
    unit: str
    normal_value: str
    possible_values: tuple[str, ...] = ()
    numeric_codes: tuple[float, ...] = ()
    shift_decimals: int | None = None
    sum_decimals: int | None = None

    @property
    def is_categorical(self) -> bool:
        """Whether the channel holds one of a few texts."""
        return bool(self.possible_values)

    def category_index(self, text: str) -> int | None:
        """Position of a category text in the one-hot order, None if it is unknown."""
        return self.possible_values.index(text) if text in self.possible_values else None

    @property
    def normal_number(self) -> float:
        """The normal value as stored in arrays: category index, or the number itself."""
        if self.is_categorical:
            return float(self.possible_values.index(self.normal_value))
        return float(self.normal_value)

    @property
    def plausible_range(self) -> tuple[float, float]:
        """Lowest and highest value of `PLAUSIBLE`; no bounds where that has none, and for categories."""
        everything = (-math.inf, math.inf)
        return everything if self.is_categorical else PLAUSIBLE.get(self.name, everything)

    @property
    def ordinals(self) -> tuple[float, ...]:
        """Numbers that estimate the trigger: a numeric text is its number, other text its index."""
        return tuple(_number_or(text, index) for index, text in enumerate(self.possible_values))


def _number_or(text: str, default: float) -> float:
    try:
        return float(text)
    except ValueError:
        return float(default)


def _categorical(name: str, normal_value: str, codes: dict[str, float]) -> Channel:
    return Channel(name, "", normal_value, tuple(codes), tuple(float(code) for code in codes.values()))


CHANNELS: tuple[Channel, ...] = (
    _categorical("Capillary refill rate", "0.0", {"0.0": 0, "1.0": 1}),
    Channel("Diastolic blood pressure", "mmHg", "59.0"),
    Channel("Fraction inspired oxygen", "fraction", "0.21"),
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
    Channel("Glucose", "mg/dL", "128.0"),
    Channel("Heart Rate", "1/min", "86"),
    Channel("Height", "cm", "170.0"),
    Channel("Mean blood pressure", "mmHg", "77.0"),
    Channel("Oxygen saturation", "%", "98.0"),
    Channel("Respiratory rate", "1/min", "19"),
    Channel("Systolic blood pressure", "mmHg", "118.0"),
    Channel("Temperature", "degC", "36.6", shift_decimals=1, sum_decimals=2),
    Channel("Weight", "kg", "81.0", shift_decimals=1, sum_decimals=1),
    Channel("pH", "", "7.4", shift_decimals=2, sum_decimals=2),
)

HEADER: tuple[str, ...] = ("Hours", *(channel.name for channel in CHANNELS))
"""Column names of a series file."""

PLAUSIBLE: dict[str, tuple[float, float]] = {
    "Diastolic blood pressure": (10.0, 200.0),
    "Fraction inspired oxygen": (0.21, 1.0),
    "Glascow coma scale total": (3.0, 15.0),
    "Glucose": (10.0, 2000.0),
    "Heart Rate": (15.0, 300.0),
    "Height": (100.0, 230.0),
    "Mean blood pressure": (15.0, 250.0),
    "Oxygen saturation": (30.0, 100.0),
    "Respiratory rate": (1.0, 80.0),
    "Systolic blood pressure": (25.0, 300.0),
    "Temperature": (25.0, 44.0),
    "Weight": (25.0, 350.0),
    "pH": (6.5, 8.0),
}
"""Channel -> lowest and highest value, in its unit, that a living adult can show.

Generous on purpose: they remove slips of unit, decimal point or sensor (pH 735, a height of 1.8 cm, a
disconnected pressure line at 0 mmHg), not extreme patients.
"""


def grid_columns(channels: Sequence[Channel] = CHANNELS, *, masks: bool = True) -> list[str]:
    """Column names of the discretized grid: values (one-hot expanded), then one mask a channel."""
    columns: list[str] = []
    for channel in channels:
        if channel.is_categorical:
            columns += [f"{channel.name}->{value}" for value in channel.possible_values]
        else:
            columns.append(channel.name)
    if masks:
        columns += [f"mask->{channel.name}" for channel in channels]
    return columns
