"""Draw the values of each channel: a box against the plausible range, or the shares of the categories."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.typing import RcKeyType

from mimic3tf.sources.channel_summary import ChannelSummary

STYLE: dict[RcKeyType, Any] = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}
COLUMNS, MOST_DRAWN, MOST_CATEGORIES, MOST_LETTERS = 3, 120, 4, 28
PLAUSIBLE, BOX, LINE = "#d9ead3", "#0072B2", "#D55E00"


def draw_channels(channels: Sequence[ChannelSummary], path: Path) -> None:
    """Draw the channels that have values as a PNG file, `MOST_DRAWN` of them at most.

    Args:
        channels: the channels, at least one of which has a value.
        path: the file to write.
    """
    shown = [channel for channel in channels if channel.values][:MOST_DRAWN]
    rows = math.ceil(len(shown) / COLUMNS)
    height = 0.9 + 1.3 * rows
    with rc_context(STYLE), warnings.catch_warnings():
        # The font may lack a letter of a channel's name; a box stands for it.
        warnings.filterwarnings("ignore", "Glyph")
        figure = Figure(figsize=(10, height))
        # Set by hand: the layout engines of Matplotlib take three times as long as the drawing.
        edges = {"top": 1 - 0.7 / height, "bottom": 0.3 / height}
        figure.subplots_adjust(left=0.02, right=0.98, wspace=0.07, hspace=1.15, **edges)
        hidden = f"; {len(shown)} of {len(channels)} channels" if len(shown) < len(channels) else ""
        title = (
            "1st to 99th percentile (line), quartiles (box) and median (red); the plausible range is green"
        )
        figure.suptitle(f"{title}{hidden}", fontsize=9, y=1 - 0.18 / height, va="center")
        panels = [*figure.subplots(rows, COLUMNS, squeeze=False).flat]
        for panel, summary in zip(panels, shown, strict=False):
            _draw(panel, summary)
        for panel in panels[len(shown) :]:
            panel.set_visible(False)
        figure.savefig(path, dpi=110, metadata={"Software": None})


def _draw(axes: Axes, summary: ChannelSummary) -> None:
    channel = summary.channel
    unit = f" ({channel.unit})" if channel.unit else ""
    # Above the name, because long names leave no room beside it.
    axes.set_title(f"{channel.name}{unit}", loc="left", parse_math=False)
    axes.set_yticks([])
    seen = f"{summary.values:,} values, {summary.share_of_stays:.0%} of stays"
    axes.annotate(
        seen,
        (0, 1),
        (0, 16),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=6.5,
        color="0.35",
    )
    if channel.is_categorical:
        _draw_categories(axes, summary)
    else:
        _draw_box(axes, summary)


def _draw_box(axes: Axes, summary: ChannelSummary) -> None:
    quantiles = summary.quantiles
    first, last = quantiles["p1"], quantiles["p99"]
    # The percentiles take the middle half of the width; around them the plausible range shows, or not.
    margin = (last - first) / 2 or max(abs(first), 1) / 10
    start, end = first - margin, last + margin
    low, high = (min(max(bound, start), end) for bound in summary.channel.plausible_range)
    axes.axvspan(low, high, color=PLAUSIBLE, linewidth=0)
    axes.plot([first, last], [0.4, 0.4], color=BOX, linewidth=1.2)
    axes.barh(0.4, quantiles["p75"] - quantiles["p25"], 0.42, quantiles["p25"], color=BOX, alpha=0.55)
    axes.plot([quantiles["median"]] * 2, [0.15, 0.65], color=LINE, linewidth=2)
    axes.set_xlim(start, end)
    axes.set_ylim(0, 0.8)


def _draw_categories(axes: Axes, summary: ChannelSummary) -> None:
    counts = dict([*summary.categories.items()][:MOST_CATEGORIES])
    for place, (text, count) in enumerate(counts.items()):
        share = count / summary.values
        axes.barh(-place, share, 0.8, color=BOX, alpha=0.55)
        name = text if len(text) <= MOST_LETTERS else text[: MOST_LETTERS - 1] + "…"
        axes.text(0.01, -place, f"{name} {share:.0%}", va="center", fontsize=6.5, parse_math=False)
    axes.set_xlim(0, 1)
    axes.set_ylim(-MOST_CATEGORIES + 0.4, 0.6)
    axes.set_xticks([])
