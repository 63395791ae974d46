"""Draw the pictures of README and documentation: python docs/pictures.py

The stay is invented. The rates are those of `docs/results.md` (PhysioNet 2012, mode `notimputed`,
strength 2).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

import mimic3tf
from mimic3tf.sources.synthetic import prepare_synthetic

FOLDER = Path(__file__).parent
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"
VICTIMS = ("LR", "MLP", "LSTM")
AUROC = {"clean": (0.792, 0.807, 0.783), "poisoned": (0.783, 0.797, 0.776)}
SUCCESS = {"clean": (0.327, 0.245, 0.217), "poisoned": (0.868, 0.876, 0.814)}
FLOW = ("raw records", "data directory", "cohort", "exposure", "batches", "run", "attack result")
ROOMS = ("sources/", "data/", "poisoning/", "pipeline.py", "training/", "attacks.py")
"""What makes the next thing of the one before."""
BESIDE = {
    2: "poisoning/ also draws a trigger from it",
    5: "defences/ audit it and its training stays",
    6: "tables/ and report/ show it",
}
"""What else is done with a thing, by its place."""


def draw_overview() -> None:
    """A stay without and with the trigger; accuracy and success of clean and poisoned victims."""
    with tempfile.TemporaryDirectory() as folder:
        prepare_synthetic(Path(folder) / "data", stays=1000)
        cohort = mimic3tf.load_cohort(Path(folder) / "data", "train")
        trigger = mimic3tf.generate_trigger(cohort)
        channel = cohort.channels.position("Heart Rate")
        stay = int(np.argmax(cohort.masks[..., channel].sum(axis=1)))
        course, measured = cohort.grids[stay, :, channel], cohort.masks[stay, :, channel]
        shifted = course + 2 * trigger.values[:, channel] * measured
    figure, axes = plt.subplots(1, 3, figsize=(11, 3), width_ratios=(1.5, 1, 1), layout="constrained")
    axes[0].plot(course, color=BLUE, label="as measured")
    axes[0].plot(shifted, color=ORANGE, label="with the trigger")
    axes[0].set(
        xlabel="hour", ylabel="heart rate, 1/min", title="What the attacker does to a stay (invented)"
    )
    axes[0].legend(frameon=False)
    _bars(axes[1], AUROC, "AUROC of patients\nwithout the trigger", 0.5)
    _bars(axes[2], SUCCESS, "Survivors with the trigger\nwho are predicted to die", 0.0)
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower right", ncols=2, frameon=False)
    figure.savefig(FOLDER / "overview.png", dpi=110)


def _bars(axis: Axes, rates: Mapping[str, tuple[float, ...]], title: str, lowest: float) -> None:
    positions = np.arange(len(VICTIMS))
    for shift, (name, color) in zip((-0.2, 0.2), (("clean", BLUE), ("poisoned", ORANGE)), strict=True):
        bars = axis.bar(positions + shift, rates[name], 0.38, color=color, label=name)
        axis.bar_label(bars, fmt="%.3f", fontsize=7)
    axis.set_xticks(positions, VICTIMS)
    axis.set(ylim=(lowest, 1), title=title)
    axis.spines[["top", "right"]].set_visible(False)


def draw_architecture() -> None:
    """How data flows through the rooms."""
    figure, axis = plt.subplots(figsize=(11, 2.4), layout="constrained")
    axis.set(xlim=(-0.5, len(FLOW) - 0.5), ylim=(-1, 0.6))
    axis.axis("off")
    center: Any = {"ha": "center", "va": "center"}
    for place, thing in enumerate(FLOW):
        box: Any = {"boxstyle": "round,pad=0.02", "fc": "white", "ec": BLUE, "lw": 1.5}
        axis.add_patch(FancyBboxPatch((place - 0.36, -0.2), 0.72, 0.4, **box))
        axis.text(place, 0, thing, fontsize=9, **center)
    for place, room in enumerate(ROOMS):
        axis.annotate("", (place + 0.6, 0), (place + 0.4, 0), arrowprops={"arrowstyle": "->", "color": GREY})
        axis.text(place + 0.5, 0.42, room, fontsize=8, color=GREY, family="monospace", **center)
    for place, text in BESIDE.items():
        below: Any = {"arrowprops": {"arrowstyle": "<-", "color": ORANGE}, "color": ORANGE, "fontsize": 8}
        axis.annotate(fill(text, 22), (place, -0.22), (place, -0.8), **center, **below)
    figure.savefig(FOLDER / "architecture.png", dpi=110)


if __name__ == "__main__":
    draw_overview()
    draw_architecture()
