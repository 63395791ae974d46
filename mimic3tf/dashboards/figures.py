"""Draw triggers and stays as arrays of pixels for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mimic3tf.data.grid import ordinal_view
from mimic3tf.poisoning.trigger import Trigger

COLORS = "RdBu_r"


def trigger_heatmap(trigger: Trigger) -> NDArray[np.uint8]:
    """Draw a trigger at strength 1, in standard deviations of each channel.

    The axis at the right gives the largest shift of each channel in the channel's own unit. For a
    missing-value trigger, the darkest cells are those that go missing at the lowest strength; cells that
    never go missing are drawn as 0.

    Args:
        trigger: the trigger to draw.

    Returns:
        uint8 [H, W, 3].
    """
    figure = Figure(figsize=(13, max(6.5, 0.3 * len(trigger.channels))), layout="constrained")
    axes = figure.subplots()
    relative, label = relative_pattern(trigger)
    limit = max(float(np.abs(relative).max()), 1e-9)
    heatmap(axes, relative, limit=limit, names=trigger.channels.names, timestep=trigger.timestep)
    shown = "" if trigger.further is None else ", the first pattern"
    axes.set_title(f"{trigger.name} trigger{shown}, strength 1, seed {trigger.seed}")
    if trigger.kind != "missing":
        largest = axes.secondary_yaxis("right")
        shifts = np.abs(trigger.values).max(axis=0)
        labels = [
            f"{shift:.3g} {channel.shown_unit}"
            for shift, channel in zip(shifts, trigger.channels, strict=True)
        ]
        largest.set_yticks(range(len(labels)), labels)
        largest.set_ylabel("largest shift")
    figure.colorbar(axes.images[0], label=label)
    return pixels(figure)


def relative_pattern(trigger: Trigger) -> tuple[NDArray[np.float64], str]:
    """Express a trigger at strength 1 on one scale for all channels.

    Args:
        trigger: the trigger.

    Returns:
        The pattern, float64 [T, C], and the name of its scale. The pattern is in standard deviations of each
        channel. For a missing-value trigger, a cell is 1 minus the strength from which the cell is missing,
        and 0 if the cell is never missing.
    """
    if trigger.kind == "missing":
        missing = np.where(trigger.values > 0, 1 - trigger.values, 0.0)
        return missing, "1 - the strength from which a cell is missing"
    return trigger.values / channel_spread(trigger), "shift in standard deviations of the channel"


def channel_covariances(trigger: Trigger) -> NDArray[np.uint8]:
    """Draw the covariance over time of every channel, each divided by the channel's largest variance.

    Args:
        trigger: holds the covariances, float64 [C, T, T].

    Returns:
        uint8 [H, W, 3].
    """
    bins, columns = trigger.covariance.shape[1], min(len(trigger.channels), 6)
    rows = -(-len(trigger.channels) // columns)
    # Room for the text above, below and beside a tile, in bins; it grows with the number of bins.
    above, below, aside = (max(round(room * bins / 48), 1) for room in (13, 1, 2))
    height, width = above + bins + below, aside + bins + aside
    tiles = np.full((rows * height, columns * width), np.nan)
    figure = Figure(figsize=(15, max(9, 3 * rows)))
    # All channels share one panel of tiles: a panel for each channel would take a second to draw.
    axes = figure.add_axes((0.04, 0.06, 0.86, 0.88))
    for place, (channel, covariance) in enumerate(zip(trigger.channels, trigger.covariance, strict=True)):
        top, left = place // columns * height + above, place % columns * width + aside
        largest = float(np.diagonal(covariance).max())
        tiles[top : top + bins, left : left + bins] = covariance / max(largest, np.finfo(float).tiny)
        title = f"{fill(channel.name, 24)}\nlargest SD {np.sqrt(largest):.3g} {channel.shown_unit}"
        axes.text(left, top - below, title, fontsize=9, va="bottom")
    axes.imshow(tiles, cmap=COLORS, vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    hours = np.arange(0, bins * trigger.timestep, 12 if bins * trigger.timestep <= 96 else 48)
    at = hours / trigger.timestep
    labels = [f"{hour:g}" for hour in hours]
    axes.set_xticks((np.arange(columns)[:, None] * width + aside + at).ravel(), labels * columns)
    axes.set_yticks((np.arange(rows)[:, None] * height + above + at).ravel(), labels * rows)
    axes.set_xlabel("hour")
    axes.set_ylabel("hour")
    axes.set_title(f"temporal covariance of {trigger.estimated_on} stays")
    scale = figure.add_axes((0.92, 0.06, 0.015, 0.88))
    figure.colorbar(axes.images[0], cax=scale, label="share of the channel's largest variance")
    return pixels(figure)


def patient_before_and_after(
    before: NDArray[np.floating],
    mask: NDArray[np.bool_],
    after: Mapping[str, tuple[NDArray[np.floating], NDArray[np.bool_]]],
    trigger: Trigger,
    title: str,
) -> NDArray[np.uint8]:
    """Draw one stay without the trigger, with it, and the difference, in one color scale.

    The picture has one row for each mode.

    Args:
        before: [T, C], values without the trigger; category indices in categorical channels.
        mask: bool [T, C], True for measured cells; the picture marks them with dots.
        after: mode -> values [T, C] and mask [T, C] of the same stay with the trigger.
        trigger: gives the channels and their standard deviations.
        title: title of the picture.

    Returns:
        uint8 [H, W, 3].
    """
    channels, timestep = trigger.channels, trigger.timestep
    figure = Figure(figsize=(17, max(5.5, 0.3 * len(channels)) * len(after)), layout="constrained")
    grid = figure.subplots(len(after), 3, sharey=True, squeeze=False)
    normal = ordinal_view(channels.normal[None, None], channels)[0]
    spread = channel_spread(trigger)
    clean = ordinal_view(before[None], channels)[0]
    for panels, (mode, (values, left)) in zip(grid, after.items(), strict=True):
        triggered = ordinal_view(values[None], channels)[0]
        pictures = ((clean - normal) / spread, (triggered - normal) / spread, (triggered - clean) / spread)
        labels = ("without the trigger", f"with the trigger, {mode}", f"difference, {mode}")
        for axes, picture, label, measured in zip(panels, pictures, labels, (mask, left, left), strict=True):
            names = channels.names if axes is panels[0] else None
            heatmap(axes, picture, limit=3.0, names=names, timestep=timestep)
            bins, rows = np.nonzero(measured)
            axes.plot(bins * timestep, rows, ".", markersize=3, color="black")
            axes.set_title(label)
    figure.colorbar(
        grid[0, 0].images[0],
        ax=list(grid.flat),
        label="standard deviations from the normal value (right: with minus without); dots: measured cells",
    )
    figure.suptitle(title)
    return pixels(figure)


def channel_spread(trigger: Trigger) -> NDArray[np.float64]:
    """Compute the standard deviation of every channel over the stays from which the trigger was made.

    Args:
        trigger: holds the covariances, float64 [C, T, T].

    Returns:
        float64 [C], in the unit of each channel; 1 for a channel that never varies.
    """
    variance = np.diagonal(trigger.covariance, axis1=1, axis2=2).mean(axis=1)
    return np.where(variance > 0, np.sqrt(variance), 1.0)


def heatmap(
    axes: Axes,
    picture: NDArray[np.float64],
    *,
    limit: float,
    names: Sequence[str] | None,
    timestep: float,
) -> None:
    """Draw a heatmap with one row for each channel.

    Args:
        axes: axes to draw on.
        picture: float64 [T, C], the numbers to draw.
        limit: absolute value of the darkest colors; larger values get the same color.
        names: names of the channels, written at the left; None leaves them out.
        timestep: hours of a bin.
    """
    bins, channels = picture.shape
    edges = (-0.5 * timestep, (bins - 0.5) * timestep, channels - 0.5, -0.5)
    axes.imshow(
        picture.T,
        aspect="auto",
        cmap=COLORS,
        vmin=-limit,
        vmax=limit,
        interpolation="nearest",
        extent=edges,
    )
    axes.set_xlabel("hours since admission")
    axes.set_yticks(range(channels))
    if names is not None:
        axes.set_yticklabels(names)


def pixels(figure: Figure) -> NDArray[np.uint8]:
    """Render a figure as pixels: uint8 [H, W, 3]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
