"""Draw triggers, and a stay without and with a trigger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator
from numpy.typing import NDArray

from mimic3tf.channels import ChannelSet
from mimic3tf.dashboards.figures import channel_spread, heatmap
from mimic3tf.data.grid import ordinal_view
from mimic3tf.described import Described
from mimic3tf.poisoning.trigger import Trigger
from mimic3tf.report.aim import Aim
from mimic3tf.report.exhibits import Absent, Exhibit
from mimic3tf.report.figures import OKABE_ITO, WIDTH

SHOWN = ("Heart Rate", "Systolic blood pressure", "Respiratory rate", "Temperature")
"""Channels whose course is drawn if the data has them: they are measured often, and their values change."""
KINDS = ("temporal", "covariance", "gaussian")


@dataclass(frozen=True, repr=False)
class Stay(Described):
    """A stay without and with the trigger.

    Attributes:
        channels: the channels of the arrays' last axis.
        timestep: hours of a bin.
        values: float32 [T, C] without the trigger; category indices in categorical channels.
        mask: bool [T, C], True for measured cells.
        triggered: mode -> float32 [T, C], values with the trigger.
        strength: strength of the trigger (Mahalanobis length in every channel).
    """

    channels: ChannelSet
    timestep: float
    values: NDArray[np.float32]
    mask: NDArray[np.bool_]
    triggered: Mapping[str, NDArray[np.float32]]
    strength: float


def shown_channels(channels: ChannelSet) -> list[int]:
    """Choose the channels whose course is drawn, four at most, and return their positions."""
    usual = [position for position, name in enumerate(channels.names) if name in SHOWN]
    return (usual or np.flatnonzero(~channels.categorical).tolist() or list(range(len(channels))))[:4]


def trigger_courses(triggers: Mapping[str, Trigger], stay: Stay | None, strength: float) -> pl.DataFrame:
    """Compute the courses of some channels, in triggers and in a stay.

    Args:
        triggers: kind -> trigger.
        stay: the stay; None leaves it out.
        strength: strength of the triggers.

    Returns:
        Columns `pattern`, `channel`, `hour`, `standard_deviations`. The course of the stay is the distance
        from its own mean.
    """
    first = next(iter(triggers.values()))
    spread, channels = channel_spread(first), first.channels
    patterns = {} if stay is None else {"stay": ordinal_view(stay.values[None], channels)[0]}
    patterns |= {kind: strength * triggers[kind].values for kind in KINDS if kind in triggers}
    parts = []
    for name, values in patterns.items():
        for position in shown_channels(channels):
            course = values[:, position] / spread[position]
            parts.append(
                pl.DataFrame(
                    {
                        "pattern": name,
                        "channel": channels[position].name,
                        "hour": np.arange(len(course)) * first.timestep,
                        "standard_deviations": course - course.mean() if name == "stay" else course,
                    }
                )
            )
    return pl.concat(parts)


def draw_trigger_courses(courses: pl.DataFrame) -> Figure:
    """Draw the table of `trigger_courses`: a row of panels for each channel, a column for each pattern."""
    names, shown = (
        courses[column].unique(maintain_order=True).to_list() for column in ("pattern", "channel")
    )
    figure = Figure(figsize=(WIDTH, 1.0 + 1.35 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), len(names), squeeze=False, sharex=True)
    for column, name in enumerate(names):
        pattern = courses.filter(pl.col("pattern") == name)
        # All triggers have one scale, so that their sizes can be compared; a stay varies much more.
        alike = pattern if name == "stay" else courses.filter(pl.col("pattern") != "stay")
        limit = 1.1 * float(np.abs(alike["standard_deviations"].to_numpy()).max()) or 1.0
        for axes, channel in zip(grid[:, column], shown, strict=True):
            course = pattern.filter(pl.col("channel") == channel)
            axes.axhline(0, color="0.6", linewidth=0.8)
            axes.plot(
                course["hour"],
                course["standard_deviations"],
                color="black" if name == "stay" else OKABE_ITO[KINDS.index(name)],
                linewidth=1.2,
            )
            axes.set_ylim(-limit, limit)
            hours = float(course["hour"].to_numpy().max())
            axes.xaxis.set_major_locator(MultipleLocator(24 if hours > 36 else 6))
            if column > 1 or (column == 1 and names[0] != "stay"):
                axes.tick_params(labelleft=False)
        grid[0, column].set_title("a stay (own scale)" if name == "stay" else name, loc="left")
        grid[-1, column].set_xlabel("hours")
    for axes, channel in zip(grid[:, 0], shown, strict=True):
        axes.set_ylabel(channel.replace(" blood", "\nblood").replace(" rate", "\nrate"))
    figure.supylabel("standard deviations of the channel", fontsize=9)
    return figure


def stay_courses(stay: Stay) -> pl.DataFrame:
    """List values of some channels of a stay, without the trigger (`before`) and with it.

    Returns:
        Columns `channel`, `unit`, `hour`, `measured`, `before`, and one column for each mode.
    """
    return pl.concat(
        pl.DataFrame(
            {
                "channel": stay.channels[position].name,
                "unit": stay.channels[position].unit,
                "hour": np.arange(len(stay.values)) * stay.timestep,
                "measured": stay.mask[:, position],
                "before": stay.values[:, position],
                **{mode: values[:, position] for mode, values in stay.triggered.items()},
            }
        )
        for position in shown_channels(stay.channels)
    )


def draw_stay_courses(courses: pl.DataFrame) -> Figure:
    """Draw the table of `stay_courses`, one panel for each channel."""
    shown = courses["channel"].unique(maintain_order=True)
    rows = -(-len(shown) // 2)
    figure = Figure(figsize=(WIDTH, 0.6 + 2.3 * rows), layout="constrained")
    grid = figure.subplots(rows, 2, squeeze=False, sharex=True)
    panels, unused = np.split(grid.ravel(), [len(shown)])
    for axes in unused:
        axes.set_axis_off()
    for axes, channel in zip(panels, shown, strict=True):
        course = courses.filter(pl.col("channel") == channel)
        hour, before = course["hour"].to_numpy(), course["before"].to_numpy()
        axes.plot(hour, course["all"], ":", color=OKABE_ITO[1], label="after, all")
        axes.plot(hour, course["notimputed"], "--", color=OKABE_ITO[0], label="after, notimputed")
        axes.plot(hour, before, color="black", linewidth=1, label="before")
        measured = course["measured"].to_numpy()
        axes.plot(hour[measured], before[measured], ".", color="black", markersize=4, label="measured")
        axes.set_title(channel, loc="left")
        axes.set_ylabel(course["unit"][0])
    for axes in panels[-2:]:  # the lowest panel of each column
        axes.set_xlabel("hours since admission")
        axes.tick_params(labelbottom=True)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def stay_cells(stay: Stay) -> pl.DataFrame:
    """List all cells of a stay, without the trigger (`before`) and with it.

    Returns:
        Columns `channel`, `hour`, `measured`, `before`, and one column for each mode.
    """
    bins, channels = stay.values.shape
    return pl.DataFrame(
        {
            "channel": np.tile(stay.channels.names, bins),
            "hour": np.repeat(np.arange(bins) * stay.timestep, channels),
            "measured": stay.mask.ravel(),
            "before": ordinal_view(stay.values[None], stay.channels).ravel(),
            **{
                mode: ordinal_view(values[None], stay.channels).ravel()
                for mode, values in stay.triggered.items()
            },
        }
    )


def draw_stay_cells(stay: Stay, spread: NDArray[np.float64]) -> Figure:
    """Draw heatmaps of all channels of a stay, without the trigger and with it in both modes.

    Args:
        stay: the stay.
        spread: float64 [C], standard deviations of the channels.

    Returns:
        The figure; a color is a distance from the channel's normal value, in standard deviations.
    """
    normal = ordinal_view(stay.channels.normal[None, None], stay.channels)[0]
    pictures = {"before": stay.values} | {f"after, {mode}": v for mode, v in stay.triggered.items()}
    figure = Figure(figsize=(WIDTH, max(3.9, 1 + 0.17 * len(spread))), layout="constrained")
    panels = figure.subplots(1, len(pictures), sharey=True)
    for axes, (title, values) in zip(panels, pictures.items(), strict=True):
        relative = (ordinal_view(values[None], stay.channels)[0] - normal) / spread
        names = stay.channels.names if axes is panels[0] else None
        heatmap(axes, relative, limit=3.0, names=names, timestep=stay.timestep)
        bins, rows = np.nonzero(stay.mask)
        axes.scatter(bins * stay.timestep, rows, s=1.5, color="black", linewidths=0)
        axes.set_title(title, loc="left")
        axes.set_xlabel("hours")
        axes.grid(visible=False)
        axes.tick_params(labelsize=8)
    figure.colorbar(
        panels[0].images[0],
        ax=list(panels),
        location="bottom",
        shrink=0.5,
        label="standard deviations from the normal value; dots: measured cells",
    )
    return figure


def trigger_exhibit(
    triggers: dict[str, Trigger], stay: Stay | None, strength: float, aim: Aim
) -> Exhibit | Absent:
    """Show the kinds of trigger side by side, with the course of a stay.

    Args:
        triggers: kind -> trigger.
        stay: the stay; None leaves it out.
        strength: strength of the triggers.
        aim: words of the attack.
    """
    title = "What the triggers look like"
    if not set(KINDS) & set(triggers):
        return Absent(title, "the sweep's folder holds no trigger files of a kind that shifts values")
    courses = trigger_courses(triggers, stay, strength)
    return Exhibit(
        "trigger_patterns",
        title,
        f"Triggers at strength {strength:g}"
        + (f", and the course of a {aim.one} around its own mean" if stay else "")
        + ". A temporal trigger changes slowly, as a patient does, and stays on one side of zero for hours. "
        "A Gaussian trigger changes its sign from hour to hour, and must have smaller shifts to have the "
        "same Mahalanobis length. "
        f"Seed {' and '.join(sorted({str(trigger.seed) for trigger in triggers.values()}))}.",
        courses,
        lambda: draw_trigger_courses(courses),
        "Line charts over the hours, one row for each channel and one column for each pattern: temporal "
        "triggers change slowly, Gaussian triggers jump around zero and are smaller.",
    )


def stay_exhibits(
    stay: Stay | None, trigger: Trigger | None, reason: str, aim: Aim
) -> list[Exhibit | Absent]:
    """Show a stay without the trigger and with it in both modes: courses of some channels, and all cells.

    Args:
        stay: the stay; None if there is none to show.
        trigger: the trigger that the stay carries.
        reason: why there is no stay.
        aim: words of the attack.
    """
    if stay is None or trigger is None:
        return [Absent("A patient before and after", reason)]
    courses = stay_courses(stay)
    return [
        Exhibit(
            "stay_courses",
            "A patient before and after",
            f"The course of a {aim.one} (the one with the most measured cells), without "
            f"the temporal trigger and with it at strength {stay.strength:g}. Mode notimputed shifts "
            "measured hours only, and does not change carried-forward hours; mode all shifts every hour. "
            "This is a real record: check whether the licence of your data allows you to pass this page on, "
            "or write the page with --no-patient.",
            courses,
            lambda: draw_stay_courses(courses),
            "Line charts of some channels over the hours, before and after the trigger in both modes; the "
            "lines are close together.",
        ),
        Exhibit(
            "stay_cells",
            "All channels of that patient",
            "The distance of every cell from the channel's normal value; dots mark measured cells. The "
            "trigger changes the cells that differ between the panels. A coma scale may jump: its steps "
            "follow the benchmarks' order of texts, in which a total of 3 comes after 14.",
            stay_cells(stay),
            lambda: draw_stay_cells(stay, channel_spread(trigger)),
            "Three heatmaps of channels by hours: before, after in mode notimputed, and after in mode all. "
            "They differ little.",
        ),
    ]
