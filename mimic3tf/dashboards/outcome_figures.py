"""Draw what a victim predicts without and with the trigger."""

from __future__ import annotations

from textwrap import fill

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

from mimic3tf.dashboards.figures import pixels
from mimic3tf.tasks.metrics import predicted_1
from mimic3tf.tasks.task import Words
from mimic3tf.training.validation import Risks

CLEAN, TRIGGERED = "#0072B2", "#D55E00"
"""Two of Okabe and Ito's colors for color-blind readers."""
BINS = 10
WIDTH = 20
"""Characters of a line of a label: the name of a phenotype is long."""


def confusion_matrices(risks: Risks, words: Words, title: str) -> NDArray[np.uint8]:
    """Draw confusion matrices: without the trigger and, if there is one, with it on every attacked stay.

    Args:
        risks: predicted risks of the validation stays.
        words: words of the task.
        title: title of the picture.

    Returns:
        uint8 [H, W, 3].
    """
    cases = _cases(risks, words)
    figure = Figure(figsize=(1 + 5 * len(cases), 5), layout="constrained")
    panels = figure.subplots(1, len(cases), sharey=True, squeeze=False)[0]
    for axes, (name, predicted) in zip(panels, cases, strict=True):
        counts = confusion_matrix(risks.labels, predicted_1(predicted), labels=[0, 1])
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            color = "white" if share > 0.5 else "black"
            text = f"{counts[row, column]:,}\n{share:.1%}"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=16)
        axes.set_title(fill(name, 2 * WIDTH), fontsize=14)
        axes.set_xticks([0, 1], [fill(text, WIDTH) for text in words.predicted], fontsize=12)
        axes.set_yticks([0, 1], [fill(text, WIDTH) for text in words.happened], fontsize=12)
    figure.colorbar(image, ax=list(panels), label="share of the row")
    figure.suptitle(title, fontsize=14)
    return pixels(figure)


def roc_curves(risks: Risks, words: Words, title: str) -> NDArray[np.uint8]:
    """Draw ROC curves: without the trigger and, if there is one, with it on every attacked stay.

    Args:
        risks: predicted risks of the validation stays.
        words: words of the task.
        title: title of the picture.

    Returns:
        uint8 [H, W, 3].
    """
    figure = Figure(figsize=(7, 7.5), layout="constrained")
    axes = figure.subplots()
    styles = ((CLEAN, "-"), (TRIGGERED, "--"))
    for (name, predicted), (color, line) in zip(_cases(risks, words), styles, strict=False):
        false, true, _ = roc_curve(risks.labels, predicted)
        area = roc_auc_score(risks.labels, predicted)
        axes.plot(false, true, line, color=color, linewidth=2, label=f"{name}: AUROC {area:.3f}")
        # The curve has no point at every threshold: corners only.
        dot = [predicted_1(predicted[risks.labels == label]).mean() for label in (0, 1)]
        axes.plot(*dot, "o", color=color, markersize=9)
    axes.plot([0, 1], [0, 1], ":", color="0.6")
    axes.set_xlabel(f"{words.group[0]} {words.predicted[1]} (dot: at a risk of 0.5)", fontsize=12)
    axes.set_ylabel(f"{words.group[1]} predicted", fontsize=12)
    axes.set_aspect("equal")
    # The legend is outside: inside the axes it would hide the curve of a victim with a backdoor.
    figure.legend(loc="outside lower center", fontsize=12)
    axes.set_title(title, fontsize=14)
    return pixels(figure)


def calibration(risks: Risks, words: Words, title: str) -> NDArray[np.uint8]:
    """Draw the share of label 1 at each predicted risk of clean stays, and histograms of the risks.

    Args:
        risks: predicted risks of the validation stays.
        words: words of the task.
        title: title of the picture.

    Returns:
        uint8 [H, W, 3].
    """
    figure = Figure(figsize=(7, 7.5), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    clean = f"clean {words.unit}"
    died, predicted = calibration_curve(risks.labels, np.clip(risks.clean, 0, 1), n_bins=BINS)
    axes.plot([0, 1], [0, 1], ":", color="0.6", label="perfectly calibrated")
    axes.plot(predicted, died, "o-", color=CLEAN, linewidth=2, label=clean)
    axes.set_ylabel(f"share that {words.happened[1]}", fontsize=12)
    axes.set_ylim(-0.02, 1.02)
    axes.legend(loc="upper left", fontsize=12)
    axes.set_title(title, fontsize=14)
    edges = np.linspace(0, 1, BINS + 1)
    for name, group, color in (
        (clean, risks.clean, CLEAN),
        (f"triggered {_group(risks, words)}", risks.triggered, TRIGGERED),
    ):
        if group is None:
            continue
        below.hist(group, edges, histtype="step", linewidth=2, color=color, label=name)
    below.set_xlabel("predicted risk (class weights in the loss shift it up)", fontsize=12)
    below.set_ylabel(words.unit, fontsize=12)
    below.legend(fontsize=11)
    return pixels(figure)


def _group(risks: Risks, words: Words) -> str:
    """Give the word for the attacked stays."""
    return words.group[int(risks.labels[risks.attacked][0])]


def _cases(risks: Risks, words: Words) -> list[tuple[str, NDArray[np.float64]]]:
    """Name the risks [N] of all stays without the trigger and, if there is one, under attack."""
    cases = [("no stay carries the trigger", risks.clean)]
    if risks.triggered is not None:
        cases.append((f"all {_group(risks, words)} carry it", risks.under_attack))
    return cases
