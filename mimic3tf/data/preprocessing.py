"""Discretizer and Normalizer with the interface of mimic3-benchmarks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimic3tf.channels import MIMIC3, TIME, Channel, ChannelSet
from mimic3tf.data import grid as grids
from mimic3tf.data.records import parse_rows
from mimic3tf.errors import DataError
from mimic3tf.storage.files import PathText, parse_json, read_file, read_json, write_whole
from mimic3tf.storage.inert_pickle import read_inert_pickle

LARGEST_NORMALIZER = 2**20
"""Largest size in bytes; the normalizers of the benchmarks have about 3,000 bytes."""
SMALLEST_STD = 1e-7
"""A smaller standard deviation is replaced by this value, as in the benchmarks."""


class Discretizer:
    """Turn the rows of one stay into a regular grid.

    The interface is that of the class of the same name in mimic3-benchmarks.

    Args:
        timestep: hours of a bin.
        store_masks: append one mask column for each channel.
        impute_strategy: "zero", "normal_value", "previous" or "next".
        start_time: "zero" counts hours from admission, "relative" from the first row.
        config_path: JSON file with `id_to_channel`, `is_categorical_channel`, `possible_values` and
            `normal_values`, in the format of the benchmarks; the benchmarks' 17 channels if not given.

    Raises:
        ValueError: the strategy or the start time is unknown.
        DataError: the configuration cannot be read, or a key is missing.
    """

    def __init__(
        self,
        timestep: float = 0.8,
        store_masks: bool = True,
        impute_strategy: grids.Imputation = "zero",
        start_time: str = "zero",
        config_path: PathText | None = None,
    ) -> None:
        if impute_strategy not in ("zero", "normal_value", "previous", "next"):
            raise ValueError(
                f"impute_strategy must be zero, normal_value, previous or next, not {impute_strategy!r}"
            )
        if start_time not in ("zero", "relative"):
            raise ValueError(f"start_time must be zero or relative, not {start_time!r}")
        self._timestep = timestep
        self._store_masks = store_masks
        self._impute_strategy = impute_strategy
        self._start_time = start_time
        self._channels = MIMIC3 if config_path is None else _channels_of(Path(config_path))
        self._stays = 0
        self._empty_share = 0.0
        self._unused_share = 0.0

    def transform(
        self, X: NDArray[np.str_], header: Sequence[str] | None = None, end: float | None = None
    ) -> tuple[NDArray[np.float64], str]:
        """Discretize one stay.

        Args:
            X: strings [R, 1 + C], the hours in the first column, "" where not measured.
            header: column names of X; the order of the channels if not given.
            end: hours that the grid covers; up to the last row if not given.

        Returns:
            The grid, float64 [T, D], and its column names joined by commas.

        Raises:
            DataError: a cell is malformed, a category is unknown, hours are unsorted or the header differs.
        """
        names = self._channels.names
        rows = np.asarray(X)
        if header is not None:
            if list(header[:1]) != [TIME] or sorted(header[1:]) != sorted(names):
                raise DataError("header: expected 'Hours' first and then the discretizer's channels")
            rows = rows[:, [0, *(list(header).index(name) for name in names)]]
        records = parse_rows(rows, self._channels)
        hours = records.hours
        if self._start_time == "relative":
            hours = hours - hours[0]
        # With relative time, the benchmarks shorten the period by the time of the first row.
        period = hours[-1] if end is None else end - (records.hours[0] - hours[0])
        records = type(records)(records.stay, hours, records.values)

        grid = grids.discretize(records, 1, period=period, timestep=self._timestep)
        measured = ~np.isnan(grid)
        imputed = grids.impute(grid, self._impute_strategy, self._channels)
        data = grids.one_hot(imputed, measured if self._store_masks else None, self._channels)[0]
        columns = ",".join(self._channels.columns(masks=self._store_masks))

        within = records.hours <= period + grids.EPSILON
        total = int((~np.isnan(records.values[within])).sum())
        self._stays += 1
        self._empty_share += 1.0 - measured.any(axis=-1).mean()
        self._unused_share += 1.0 - measured.sum() / total if total else 0.0
        return data, columns

    def print_statistics(self) -> None:
        """Print how full the grids of this object were, as means over stays.

        Unused data: share of the measurements within the period that a later measurement in the same bin and
        channel replaces. Empty bins: share of the bins in which no channel was measured.
        """
        stays = max(self._stays, 1)
        print("statistics of discretizer:")
        print(f"\tconverted {self._stays} examples")
        print(f"\taverage unused data = {100.0 * self._unused_share / stays:.2f} percent")
        print(f"\taverage empty bins = {100.0 * self._empty_share / stays:.2f} percent")


def _channels_of(path: Path) -> ChannelSet:
    try:
        config = read_json(path)
    except FileNotFoundError:
        raise DataError(f"{path}: discretizer configuration not found") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not JSON: {error}") from None
    try:
        channels = tuple(
            Channel(
                name,
                unit="",
                normal_value=str(config["normal_values"][name]),
                possible_values=tuple(config["possible_values"][name])
                if config["is_categorical_channel"][name]
                else (),
            )
            for name in config["id_to_channel"]
        )
        return ChannelSet(path.name, channels)
    except KeyError as error:
        raise DataError(f"{path}: key {error} is missing") from None
    except (TypeError, AttributeError):
        raise DataError(f"{path}: not the configuration of a discretizer") from None


class Normalizer:
    """Standardize columns of grids with their mean and standard deviation.

    The interface is that of the class of the same name in mimic3-benchmarks.

    Args:
        fields: indices of the columns to standardize; all columns if not given.
    """

    def __init__(self, fields: Iterable[int] | None = None) -> None:
        self._fields = None if fields is None else list(fields)
        self._means: NDArray[np.float64] | None = None
        self._stds: NDArray[np.float64] | None = None
        self._sum_x: Any = 0.0
        self._sum_sq_x: Any = 0.0
        self._count = 0

    @property
    def means(self) -> NDArray[np.float64]:
        """Column means, float64 [D]."""
        return self._loaded(self._means)

    @property
    def stds(self) -> NDArray[np.float64]:
        """Column standard deviations, float64 [D]."""
        return self._loaded(self._stds)

    @staticmethod
    def _loaded(statistics: NDArray[np.float64] | None) -> NDArray[np.float64]:
        if statistics is None:
            raise DataError("the normalizer has no statistics yet; call load_params")
        return statistics

    def _feed_data(self, x: NDArray[np.floating]) -> None:
        """Add rows [.., D] to the statistics."""
        rows = np.asarray(x, np.float64).reshape(-1, np.shape(x)[-1])
        self._count += rows.shape[0]
        self._sum_x = self._sum_x + rows.sum(axis=0)
        self._sum_sq_x = self._sum_sq_x + (rows**2).sum(axis=0)

    def _use_params(self) -> None:
        """Compute means and standard deviations (ddof 1) of the rows given to `_feed_data`."""
        if self._count < 2:
            raise DataError("a normalizer needs at least two rows")
        self._means = self._sum_x / self._count
        variance = (self._sum_sq_x - self._count * self._means**2) / (self._count - 1)
        self._stds = np.maximum(np.sqrt(np.maximum(variance, 0.0)), SMALLEST_STD)

    def _save_params(self, save_file_path: PathText) -> None:
        """Compute the statistics and write them as JSON (never as a pickle)."""
        self._use_params()
        table = {"mean": self.means.tolist(), "std": self.stds.tolist()}
        write_whole(Path(save_file_path), json.dumps(table))

    def load_params(self, load_file_path: PathText) -> None:
        """Read the statistics from JSON (`mean`, `std`) or the benchmarks' pickle, which is not executed.

        Raises:
            DataError: the file is missing, or holds no finite means and positive deviations.
        """
        path = Path(load_file_path)
        try:
            content = read_file(path, LARGEST_NORMALIZER)
        except OSError as error:
            raise DataError(f"{path}: normalizer cannot be read: {error.strerror}") from None
        try:
            if content.lstrip()[:1] == b"{":
                table = parse_json(content)
                means, stds = table["mean"], table["std"]
            else:
                table = read_inert_pickle(content)
                means, stds = table["means"], table["stds"]
            self._means, self._stds = _numbers(means), _numbers(stds)
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{path}: not a normalizer: {error}") from None
        if self._means.ndim != 1 or self._means.shape != self._stds.shape:
            raise DataError(f"{path}: not a normalizer: means and deviations differ in shape")
        if not (np.isfinite(self._means).all() and np.isfinite(self._stds).all() and (self._stds > 0).all()):
            raise DataError(f"{path}: not a normalizer: a mean is not finite, or a deviation not positive")

    def transform(self, X: NDArray[np.floating]) -> NDArray[np.float64]:
        """Standardize a grid [.., D]; columns outside `fields` are not changed.

        Raises:
            DataError: no statistics were loaded, or their number of columns differs from D.
        """
        data = np.array(X, np.float64)
        if data.shape[-1] != len(self.means):
            raise DataError(f"the normalizer has {len(self.means)} columns, the grid {data.shape[-1]}")
        fields = slice(None) if self._fields is None else self._fields
        data[..., fields] = (data[..., fields] - self.means[fields]) / self.stds[fields]
        return data


def _numbers(listed: Any) -> NDArray[np.float64]:
    """Convert a list of numbers, or an array, to float64.

    Nested lists are refused: a small pickle could expand to any size if each list held the next list twice.
    """
    if isinstance(listed, list) and not all(type(number) in (int, float) for number in listed):
        raise ValueError("statistics are lists of numbers")
    return np.array(listed, np.float64)
