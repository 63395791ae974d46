"""Draw the results of an audit for TensorBoard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import roc_curve

from mimic3tf.dashboards.events import event_files
from mimic3tf.dashboards.figures import heatmap, pixels
from mimic3tf.defences.audit import AuditResult
from mimic3tf.defences.detection import DetectionResult
from mimic3tf.defences.inspection.model_inspection import ModelFindings

COLUMNS = 3
BINS = 20
SUFFIX = ".audit"
"""End of the name of an audit's event file. A new audit replaces only event files with this ending, so the
events of a training run in the same folder remain."""
COLORS = {"training": "C0", "clean": "C0", "trusted": "C2", "poisoned": "C3"}


def write_figures(folder: Path, result: AuditResult) -> None:
    """Write the conclusion, the recovered patterns and the score histograms of an audit for TensorBoard.

    If the poisoned stays are known, ROC curves of the detectors are written too. If the true trigger is
    known, it is drawn beside the recovered patterns. Events of an earlier audit in the folder are deleted.

    Args:
        folder: folder of the audit.
        result: result of the audit.
    """
    found, poisoned = result.found, result.poisoned
    checks = (f"- {check.name}: {check.found}" for check in result.conclusion.checks)
    old = [file for file in event_files(folder) if file.name.endswith(SUFFIX)]
    writer = tf.summary.create_file_writer(str(folder), filename_suffix=SUFFIX)
    with writer.as_default(step=0):
        tf.summary.text("conclusion", "\n".join([result.conclusion.sentence, "", *checks]))
        if result.findings is not None:
            tf.summary.image("recovered patterns", recovered_patterns(result, result.findings)[None])
        tf.summary.image("suspicion of suspected stays", score_histograms(found, poisoned)[None])
        if poisoned is not None:
            tf.summary.image("ROC of detectors", roc_curves(found, poisoned)[None])
    writer.close()
    for path in old:
        path.unlink()


def roc_curves(result: DetectionResult, poisoned: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Draw the ROC curve of every detector on the suspects.

    Args:
        result: scores of the detectors.
        poisoned: bool [S], True for each suspect that is poisoned.

    Returns:
        uint8 [H, W, 3].
    """
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    for number, (name, found) in enumerate(result.detections.items()):
        false_alarms, recall, _ = roc_curve(poisoned, found.scores)
        auroc = "" if found.performance is None else f" {found.performance.auroc.value:.3f}"
        axes.plot(false_alarms, recall, "-" if number < 10 else "--", label=f"{name}{auroc}")
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    axes.set_xlabel("share of clean stays that are flagged")
    axes.set_ylabel("share of poisoned stays found")
    figure.legend(loc="outside right upper", title="AUROC", frameon=False)
    return pixels(figure)


def recovered_patterns(result: AuditResult, findings: ModelFindings) -> NDArray[np.uint8]:
    """Draw the inverted trigger of each label, and the true trigger at strength 1 if it is known.

    Each channel is divided by its own largest shift. The length of an inverted trigger is only the smallest
    length that works, so its shape is compared with the true trigger and its size is not.

    Args:
        result: result of the audit.
        findings: its findings about the model.

    Returns:
        uint8 [H, W, 3].
    """
    trigger, trusted = result.trigger, result.evidence.trusted
    inversions = [finding.inversion for finding in findings.targets]
    patterns = {f"leads to {one.target}, length {one.length:.2g}": one.pattern for one in inversions}
    if trigger is not None:
        patterns[f"true trigger, {trigger.name}"] = trigger.values
    figure = Figure(figsize=(6 * len(patterns), 5), layout="constrained")
    panels = figure.subplots(1, len(patterns), squeeze=False, sharey=True).ravel()
    for number, (axes, (title, pattern)) in enumerate(zip(panels, patterns.items(), strict=True)):
        largest = np.abs(pattern).max(axis=0)
        relative = pattern / np.where(largest > 0, largest, 1.0)
        names = trusted.channels.names if number == 0 else None
        heatmap(axes, relative, limit=1.0, names=names, timestep=trusted.timestep)
        axes.set_title(title, fontsize=10)
    figure.colorbar(panels[0].images[0], ax=panels, label="share of the channel's largest shift")
    return pixels(figure)


def score_histograms(result: DetectionResult, poisoned: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    """Draw how each detector ranks the training stays and the trusted stays, as one histogram a detector.

    The horizontal axis shows ranks, not scores, because a few extreme scores would hide the other stays.

    Args:
        result: scores of the detectors.
        poisoned: bool [S], True for each suspect that is poisoned; None if this is not known.

    Returns:
        uint8 [H, W, 3].
    """
    rows = -(-len(result.detections) // COLUMNS)
    figure = Figure(figsize=(4 * COLUMNS, 2.4 * rows), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    stays = len(result.suspects)
    for axes, (name, found) in zip(panels, result.detections.items(), strict=False):
        rank = rankdata(np.concatenate([found.scores, found.trusted]))
        training, trusted = np.split(rank / len(rank), [stays])
        if poisoned is None:
            groups = {"training": training, "trusted": trusted}
        else:
            groups = {"clean": training[~poisoned], "trusted": trusted, "poisoned": training[poisoned]}
        for group, ranks in groups.items():
            if len(ranks):
                shares = np.full(len(ranks), 1 / len(ranks))
                axes.hist(
                    ranks,
                    BINS,
                    range=(0, 1),
                    weights=shares,
                    histtype="step",
                    color=COLORS[group],
                    label=group,
                )
        axes.set_title(name, fontsize=10)
        axes.legend(fontsize=7, frameon=False)
    for axes in panels[len(result.detections) :]:
        axes.set_axis_off()
    figure.supxlabel("rank of suspicion")
    figure.supylabel("share of the group")
    return pixels(figure)
