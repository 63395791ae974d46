"""Draw figures of tables, in which lines differ in more than color."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from matplotlib.typing import RcKeyType

STYLE: dict[RcKeyType, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
    "legend.frameon": False,
    # A fixed salt: the same figure always gives the same file.
    "svg.hashsalt": "mimic3tf",
    "pdf.fonttype": 42,
}
"""Matplotlib settings with which all figures are drawn and saved."""
WIDTH = 7.2
"""Width of a figure in inches: the text width of a printed page."""
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Okabe and Ito's colors for color-blind readers, without yellow, which is hard to see on white paper."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
MODES = {"all": "imputed cells too (all)", "notimputed": "measured cells only (notimputed)"}
SEQUENTIAL = colormaps["cividis"]


@dataclass(frozen=True)
class Style:
    """Color, marker and dashes that distinguish a line from the others."""

    color: Any
    marker: str
    linestyle: Any


def named_styles(names: Sequence[Any]) -> dict[Any, Style]:
    """Choose styles for lines that have no order."""
    return {name: Style(OKABE_ITO[i % 7], MARKERS[i % 7], LINES[i % 7]) for i, name in enumerate(names)}


def run_styles(names: Sequence[Any]) -> dict[Any, Style]:
    """Choose styles without markers for up to 49 lines that have no order."""
    return {name: Style(OKABE_ITO[i % 7], "", LINES[(i + i // 7) % 7]) for i, name in enumerate(names)}


def ordered_styles(values: Sequence[Any]) -> dict[Any, Style]:
    """Choose styles for lines that have an order: the first line is the darkest."""
    shades = np.linspace(0, 0.78, max(len(values), 2))
    return {
        value: Style(SEQUENTIAL(shades[i]), MARKERS[i % 7], LINES[i % 7]) for i, value in enumerate(values)
    }


def line_panels(
    table: pl.DataFrame,
    *,
    rows: tuple[str, Sequence[Any], Callable[[Any], str]],
    columns: tuple[str, Sequence[Any], Callable[[Any], str]],
    x: str,
    lines: tuple[str, Sequence[Any], Callable[[Any], str]],
    styles: dict[Any, Style],
    x_label: str,
    y_label: str | None = None,
    share_x: bool | Literal["col"] = True,
    share_y: bool | Literal["row"] = True,
) -> Figure:
    """Draw means over seeds as lines in a grid of panels, with a band for each mean that has an interval.

    Call the function within `STYLE`.

    Args:
        table: columns `mean`, `ci95_low`, `ci95_high`, and those named by `rows`, `columns`, `x`, `lines`.
        rows: for the rows of panels: a column of the table, its values, and a function that writes a value.
        columns: the same for the columns of panels.
        x: column of the table for the x axis.
        lines: the same as `rows` for the lines of a panel.
        styles: value of a line -> its style.
        x_label: label of the x axis.
        y_label: label of the y axes; the value of the panel row if not given.
        share_x: `sharex` of Matplotlib's subplots.
        share_y: `sharey` of Matplotlib's subplots.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(WIDTH, 0.7 + 2.1 * len(rows[1])), layout="constrained")
    grid = figure.subplots(len(rows[1]), len(columns[1]), squeeze=False, sharex=share_x, sharey=share_y)
    for panels, row in zip(grid, rows[1], strict=True):
        for axes, column in zip(panels, columns[1], strict=True):
            panel = table.filter((pl.col(rows[0]) == row) & (pl.col(columns[0]) == column))
            for line in lines[1]:
                points = panel.filter(pl.col(lines[0]) == line).sort(x)
                draw_line(axes, points, x, styles[line], lines[2](line))
            title = columns[2](column) if y_label is None else f"{rows[2](row)}, {columns[2](column)}"
            axes.set_title(title, loc="left")
        panels[0].set_ylabel(rows[2](row) if y_label is None else y_label)
    for axes in grid[-1]:
        axes.set_xlabel(x_label)
    shared_legend(figure, grid.flat)
    return figure


def draw_line(axes: Axes, points: pl.DataFrame, x: str, style: Style, label: str) -> None:
    """Draw means over seeds as a line, and a band for the means that have an interval.

    Args:
        axes: axes to draw on.
        points: columns `mean`, `ci95_low`, `ci95_high` and the one that `x` names, sorted by it.
        x: column of the x axis.
        style: style of the line.
        label: name of the line in the legend.
    """
    if not len(points):
        return
    at = points[x].to_numpy()
    axes.plot(
        at,
        points["mean"].to_numpy(),
        color=style.color,
        marker=style.marker,
        linestyle=style.linestyle,
        label=label,
    )
    low, high = (points[name].cast(pl.Float64).to_numpy() for name in ("ci95_low", "ci95_high"))
    axes.fill_between(at, low, high, color=style.color, alpha=0.15, linewidth=0)


def small_multiples(count: int, *, columns: int = 3, height: float = 2.3) -> tuple[Figure, list[Axes]]:
    """Make a figure with `count` panels; the unused places of its last row stay empty.

    Args:
        count: number of panels.
        columns: largest number of panels in a row.
        height: height of a row in inches.

    Returns:
        The figure and its panels.
    """
    rows, columns = -(-count // columns), min(count, columns)
    figure = Figure(figsize=(WIDTH, 0.7 + height * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[count:]:
        axes.set_axis_off()
    return figure, list(panels[:count])


def shared_legend(figure: Figure, panels: Iterable[Axes]) -> None:
    """Draw one legend below all panels, which names each line once."""
    entries = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    fitting = max(1, 84 // (8 + max(map(len, entries), default=0)))
    figure.legend(
        entries.values(), entries.keys(), loc="outside lower center", ncols=min(len(entries), fitting)
    )


def rate_heatmaps(table: pl.DataFrame, victims: Sequence[str], modes: Sequence[str]) -> Figure:
    """Draw heatmaps of the success rate by proportion and strength, one for each victim and mode.

    Args:
        table: columns `victim`, `poison_imputed`, `poisoning_proportion`, `poisoning_strength`, `mean`.
        victims: victims, one for each row of panels.
        modes: modes, one for each column of panels.

    Returns:
        The figure, with the rate written in every cell.
    """
    proportions = sorted(table["poisoning_proportion"].unique())
    strengths = sorted(table["poisoning_strength"].unique(), reverse=True)
    height = 0.7 + len(victims) * (0.7 + 0.3 * len(strengths))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    grid = figure.subplots(len(victims), len(modes), squeeze=False, sharex=True, sharey=True)
    for panels, victim in zip(grid, victims, strict=True):
        for axes, mode in zip(panels, modes, strict=True):
            picture = np.full((len(strengths), len(proportions)), np.nan)
            panel = table.filter((pl.col("victim") == victim) & (pl.col("poison_imputed") == mode))
            for row in panel.iter_rows(named=True):
                at = (
                    strengths.index(row["poisoning_strength"]),
                    proportions.index(row["poisoning_proportion"]),
                )
                picture[at] = row["mean"]
            image = axes.imshow(picture, cmap=SEQUENTIAL, vmin=0, vmax=1, aspect="auto")
            for (y, x), rate in np.ndenumerate(picture):
                text = "not run" if np.isnan(rate) else f"{rate:.2f}"
                color = "white" if rate < 0.5 else "black"
                axes.text(x, y, text, ha="center", va="center", color=color, fontsize=8)
            axes.grid(visible=False)
            axes.set_title(f"{victim.upper()}, {MODES[mode]}", loc="left")
            axes.set_xticks(range(len(proportions)), [percent(proportion) for proportion in proportions])
            axes.set_yticks(range(len(strengths)), [f"{strength:g}" for strength in strengths])
        panels[0].set_ylabel("strength")
    for axes in grid[-1]:
        axes.set_xlabel("training stays poisoned")
    figure.colorbar(image, ax=grid.ravel().tolist(), label="attack success rate", shrink=0.6)
    return figure


def percent(share: float) -> str:
    """Write a share in percent, with three significant digits at most."""
    return f"{100 * share:.3g}%"


def percent_axis(axes: Axes) -> None:
    """Label the shares on an x axis in percent."""
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))


def label_counts(figure: Figure) -> None:
    """Set axes, limits and labels of pairs of panels: counts (left, logarithmic) and shares (right)."""
    panels = [axes for axes in figure.axes if axes.get_subplotspec() is not None]
    for axes, label in zip(panels[-2:], ("poisoned stays", "share of training stays poisoned"), strict=True):
        axes.set_xlabel(label)
    for count, share in zip(panels[::2], panels[1::2], strict=True):
        count.set_xscale("log", subs=(2, 5))
        count.xaxis.set_major_formatter(FuncFormatter(_count))
        count.xaxis.set_minor_formatter(FuncFormatter(_count))
        percent_axis(share)
        share.set_ylim(-0.03, 1.03)


def _count(stays: float, _: int | None) -> str:
    return f"{stays:,.0f}"


def forest(table: pl.DataFrame, labels: Sequence[str], x_label: str) -> Figure:
    """Draw mean differences, one below the other, with their intervals and the range of the seeds' means.

    Args:
        table: columns `mean_difference`, `ci95_low`, `ci95_high`, `lowest_seed`, `highest_seed`.
        labels: name of the comparison in each row.
        x_label: label of the x axis.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(WIDTH, 1.1 + 0.27 * len(table)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color="black", linewidth=0.8)
    at = np.arange(len(table))
    axes.hlines(
        at,
        table["lowest_seed"],
        table["highest_seed"],
        color="0.75",
        linewidth=6,
        label="range of the seeds' means",
    )
    low, high = (table[name].cast(pl.Float64).to_numpy() for name in ("ci95_low", "ci95_high"))
    axes.hlines(at, low, high, color=OKABE_ITO[0], linewidth=1.8, label="95% bootstrap interval")
    axes.plot(table["mean_difference"], at, "o", color=OKABE_ITO[1], label="mean difference")
    axes.set_yticks(at, labels)
    axes.invert_yaxis()
    axes.set_xlabel(x_label)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def dots(table: pl.DataFrame, series: dict[str, str], labels: str, panels: str, x_label: str) -> Figure:
    """Draw shares as dots, one row of dots for each row of the table.

    Args:
        table: the columns that `labels`, `panels` and `series` name. If a series also has columns that end in
            `_low` and `_high`, its interval is drawn.
        series: column of the table -> name of the series in the legend.
        labels: column with the names of the rows.
        panels: column with the name of the panel in which a row is drawn.
        x_label: label of the x axis.

    Returns:
        The figure.
    """
    names = table[panels].unique(maintain_order=True).to_list()
    groups = [table.filter(pl.col(panels) == name) for name in names]
    heights = [len(group) + 1 for group in groups]
    figure = Figure(figsize=(WIDTH, 1.0 + 0.24 * sum(heights)), layout="constrained")
    grid = figure.subplots(len(names), 1, squeeze=False, sharex=True, height_ratios=heights).ravel()
    for axes, name, group in zip(grid, names, groups, strict=True):
        at = np.arange(len(group))
        for place, (column, called) in enumerate(series.items()):
            color, marker = OKABE_ITO[place], MARKERS[place]
            share = group[column].cast(pl.Float64).to_numpy()
            if f"{column}_low" in group.columns:
                low, high = (group[f"{column}_{end}"].cast(pl.Float64).to_numpy() for end in ("low", "high"))
                axes.hlines(at, low, high, color=color, linewidth=1.8)
            axes.plot(share, at, marker, color=color, label=called)
        axes.set_yticks(at, group[labels].to_list())
        axes.set_ylim(len(group) - 0.4, -0.6)
        axes.set_title(name, loc="left")
    grid[-1].set_xlim(-0.03, 1.03)
    grid[-1].set_xlabel(x_label)
    shared_legend(figure, grid)
    return figure
