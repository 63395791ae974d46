"""Pictures of triggers and patients; TensorBoard shows them as arrays."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mimic3tf.attack.trigger import Trigger
from mimic3tf.channels import CHANNELS
from mimic3tf.data.grid import ordinal_view

COLORS = "RdBu_r"


def trigger_heatmap(trigger: Trigger) -> NDArray[np.uint8]:
    """Draw a trigger at strength 1, in standard deviations of each channel: uint8 [H, W, 3]."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    axes = figure.subplots()
    relative = trigger.values / channel_spread(trigger)
    heatmap(axes, relative, limit=max(float(np.abs(relative).max()), 1e-9), names=True)
    axes.set_title(f"{trigger.kind} trigger, strength 1, seed {trigger.seed}")
    figure.colorbar(axes.images[0], label="shift in standard deviations of the channel")
    return pixels(figure)


def patient_before_and_after(
    before: NDArray[np.floating],
    after: NDArray[np.floating],
    mask: NDArray[np.bool_],
    spread: NDArray[np.float64],
    title: str,
) -> NDArray[np.uint8]:
    """Draw one stay without and with the trigger, and the difference.

    Args:
        before: [T, C], category indices in categorical channels.
        after: [T, C], the same stay with the trigger.
        mask: bool [T, C], where measured; these cells are dotted.
        spread: float64 [C], standard deviations of the channels.
        title: what the picture shows.

    Returns:
        uint8 [H, W, 3].
    """
    figure = Figure(figsize=(16, 5.2), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    normal = np.array([[channel.normal_number for channel in CHANNELS]])
    normal = ordinal_view(normal[None])[0]
    clean, triggered = ordinal_view(before[None])[0], ordinal_view(after[None])[0]
    pictures = ((clean - normal) / spread, (triggered - normal) / spread, (triggered - clean) / spread)
    labels = ("before", "after", "difference")
    for axes, picture, label in zip(panels, pictures, labels, strict=True):
        heatmap(axes, picture, limit=3.0, names=axes is panels[0])
        hours, channels = np.nonzero(mask)
        axes.scatter(hours, channels, s=2, color="black")
        axes.set_title(label)
    figure.colorbar(
        panels[0].images[0],
        ax=list(panels),
        label="standard deviations from the normal value\n(difference: from before); dots: measured",
    )
    figure.suptitle(title)
    return pixels(figure)


def channel_spread(trigger: Trigger) -> NDArray[np.float64]:
    """Standard deviation of every channel over the stays the trigger was made from, 1 for constants."""
    variance = np.diagonal(trigger.covariance, axis1=1, axis2=2).mean(axis=1)
    return np.where(variance > 0, np.sqrt(variance), 1.0)


def heatmap(axes: Axes, picture: NDArray[np.float64], *, limit: float, names: bool) -> None:
    """Draw values [T, C] in standard deviations, cut off at a limit, a row a channel.

    Args:
        axes: where to draw.
        picture: float64 [T, C].
        limit: value of the darkest color.
        names: whether the channels are named at the left.
    """
    axes.imshow(picture.T, aspect="auto", cmap=COLORS, vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set_xlabel("hours since admission")
    axes.set_yticks(range(len(CHANNELS)))
    if names:
        axes.set_yticklabels([channel.name for channel in CHANNELS])


def pixels(figure: Figure) -> NDArray[np.uint8]:
    """Draw a figure: uint8 [H, W, 3]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
