"""Slips: measured values outside a channel's plausible range, such as a pH of 735, and what they do.

A few of them can make most of the variance of a channel, and a trigger is drawn from this variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimic3tf.channels import ChannelSet
from mimic3tf.data.grid import last_measured, take_source

MOST = 0.5
"""Slips dominate a channel if they make more than this share of its variance."""
FEW = 0.1
"""If a larger share of a channel's values is outside, its unit or its range is wrong: these are no slips."""


@dataclass(frozen=True)
class Slips:
    """The slips of one channel.

    Attributes:
        channel: its name.
        values: number of its measured cells.
        outside: how many of them are outside the plausible range.
        plausible_range: lowest and highest plausible value.
        share_of_variance: by which share the variance is smaller without them.
    """

    channel: str
    values: int
    outside: int
    plausible_range: tuple[float, float]
    share_of_variance: float

    @property
    def in_words(self) -> str:
        """How many values are slips, and what share of the variance they make."""
        low, high = self.plausible_range
        return (
            f"{self.channel}: {self.outside:,} of {self.values:,} values are outside {low:g} to {high:g} and "
            f"make {self.share_of_variance:.0%} of its variance"
        )


def outside_range(
    grids: NDArray[np.floating], masks: NDArray[np.bool_], channels: ChannelSet
) -> NDArray[np.bool_]:
    """Mark the measured cells [N, T, C] outside the plausible range; categories are never outside."""
    low, high = channels.plausible_values.T.astype(grids.dtype)
    return masks & ((grids < low) | (grids > high))


def dominating_slips(
    grids: NDArray[np.floating], masks: NDArray[np.bool_], channels: ChannelSet
) -> list[Slips]:
    """Find the channels of which slips make more than half of the variance of the measured cells.

    Args:
        grids: [N, T, C] in channel units.
        masks: bool [N, T, C], which cells were measured.
        channels: the channels of the last axis.
    """
    outside = outside_range(grids, masks, channels)
    shares = np.zeros(len(channels))
    for position in np.flatnonzero(outside.any(axis=(0, 1))):
        cells = grids[..., position].astype(np.float64)
        every, kept = (cells[chosen[..., position]] for chosen in (masks, masks & ~outside))
        shares[position] = 1 - ((kept - kept.mean()) ** 2).sum() / ((every - every.mean()) ** 2).sum()
    return slips_of(shares, outside, masks, channels)


def slips_of(
    shares: NDArray[np.float64], outside: NDArray[np.bool_], masks: NDArray[np.bool_], channels: ChannelSet
) -> list[Slips]:
    """Describe the channels of which slips make more than half of the variance.

    Args:
        shares: float64 [C], the share of the variance that slips make.
        outside: bool [N, T, C] of `outside_range`.
        masks: bool [N, T, C], which cells were measured.
        channels: the channels of the last axis.
    """
    values, slips = masks.sum(axis=(0, 1)), outside.sum(axis=(0, 1))
    return [
        Slips(channel.name, int(values[at]), int(slips[at]), channel.plausible_range, float(shares[at]))
        for at, channel in enumerate(channels)
        if shares[at] > MOST and slips[at] <= FEW * values[at]
    ]


def without_slips(
    grids: NDArray[np.floating], masks: NDArray[np.bool_], channels: ChannelSet
) -> NDArray[np.float64]:
    """Replace slips as if they had not been measured: by the last plausible value, or the normal value.

    Args:
        grids: [N, T, C] in channel units, imputed by the last value.
        masks: bool [N, T, C], which cells were measured.
        channels: the channels of the last axis.

    Returns:
        float64 [N, T, C], imputed anew.
    """
    kept = masks & ~outside_range(grids, masks, channels)
    return take_source(grids, last_measured(kept), channels.normal)
