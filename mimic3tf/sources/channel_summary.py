"""What the values of each channel look like in a cohort: the quickest way to see a wrong unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from mimic3tf.channels import Channel, ChannelSet
from mimic3tf.progress import track

QUANTILES = {"p1": 0.01, "p25": 0.25, "median": 0.5, "p75": 0.75, "p99": 0.99}
"""Name of a quantile in `summary.json` -> its probability."""


@dataclass(frozen=True)
class ChannelSummary:
    """The measured cells of one channel.

    Attributes:
        channel: the channel.
        values: number of its measured cells.
        share_of_stays: share of the stays that have at least one.
        quantiles: value at each of `QUANTILES`; empty for categories, and where nothing was measured.
        outside: number of values outside the plausible range; 0 for categories.
        categories: category -> number of its cells, the most frequent first; empty for numbers.
    """

    channel: Channel
    values: int
    share_of_stays: float
    quantiles: Mapping[str, float]
    outside: int
    categories: Mapping[str, int]

    @cached_property
    def record(self) -> dict[str, object]:
        """The summary as `summary.json` holds it."""
        counts: dict[str, object] = {
            "channel": self.channel.name,
            "unit": self.channel.unit,
            "values": self.values,
            "share_of_stays": round(self.share_of_stays, 4),
        }
        if self.channel.is_categorical:
            return counts | {"categories": dict(self.categories)}
        quantiles = {name: self._rounded(name) for name in QUANTILES}
        return counts | quantiles | {"outside_plausible_range": self.outside}

    def _rounded(self, quantile: str) -> float | None:
        return float(f"{self.quantiles[quantile]:.6g}") if self.quantiles else None


def summarize_channels(
    rows: pl.DataFrame | pl.LazyFrame, stays: int, channels: ChannelSet
) -> tuple[ChannelSummary, ...]:
    """Summarize the cells of each channel; only one channel is in memory at a time.

    Args:
        rows: column `stay`, and one column for each channel; a cell that was not measured is null.
        stays: number of stays of the cohort.
        channels: the channels.
    """
    lazy = rows.lazy()
    return tuple(_summarize(lazy, stays, channel) for channel in track(channels, "Summarizing channels"))


def _summarize(rows: pl.LazyFrame, stays: int, channel: Channel) -> ChannelSummary:
    cells = rows.select("stay", value=pl.col(channel.name)).drop_nulls().collect(engine="streaming")
    values = cells["value"]
    share = cells["stay"].n_unique() / max(stays, 1)
    if channel.is_categorical:
        counted = values.value_counts().sort("count", "value", descending=[True, False])
        return ChannelSummary(channel, len(values), share, {}, 0, dict(counted.iter_rows()))
    quantiles = {}
    if len(values):
        quantiles = {name: float(values.quantile(q, "linear") or 0) for name, q in QUANTILES.items()}
    low, high = channel.plausible_range
    outside = int((~values.is_between(low, high)).sum())
    return ChannelSummary(channel, len(values), share, quantiles, outside, {})
