"""Make summaries of precision-recall curves and of histograms of predicted risks.

TensorBoard's own functions for these summaries take several times as long, and they would run in every epoch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.histogram import metadata as histogram
from tensorboard.plugins.pr_curve import metadata as curve
from tensorboard.util.tensor_util import make_tensor_proto

from mimic3tf.training.validation import Risks

THRESHOLDS = 101
"""Number of thresholds of a precision-recall curve, evenly spaced over [0, 1]."""
BUCKETS = 30
"""Number of buckets of a histogram, evenly spaced over [0, 1]."""


def precision_recall(risks: Risks, attacked: str) -> list[Summary]:
    """Make precision-recall curves: without the trigger and, if there is one, with it on every attacked stay.

    Args:
        risks: predicted risks of the validation stays.
        attacked: word for the attacked stays, such as "survivors".

    Returns:
        One or two summaries for TensorBoard.
    """
    summaries = []
    cases = {"clean": risks.clean}
    if risks.triggered is not None:
        cases[f"{attacked} triggered"] = risks.under_attack
    for name, predicted in cases.items():
        tag = f"precision-recall/{name}"
        true, false = (_predicted_positive(predicted[risks.labels == label]) for label in (1, 0))
        counts = (true, false, false[0] - false, true[0] - true)
        rates = (true / np.maximum(true + false, 1), true / max(true[0], 1))
        metadata = curve.create_summary_metadata(tag, "", THRESHOLDS)
        summaries.append(
            _summary(f"{tag}/pr_curves", metadata, np.stack([*counts, *rates], dtype=np.float32))
        )
    return summaries


def risk_histograms(risks: Risks, attacked: str, spared: str) -> list[Summary]:
    """Make histograms of predicted risks: of attacked stays without and with the trigger, and of other stays.

    Args:
        risks: predicted risks of the validation stays.
        attacked: word for the attacked stays, such as "survivors".
        spared: word for the other stays.

    Returns:
        Two summaries for TensorBoard, or three if there is a trigger.
    """
    groups = {
        f"clean {attacked}": risks.untriggered,
        f"triggered {attacked}": risks.triggered,
        spared: risks.spared,
    }
    edges = np.linspace(0, 1, BUCKETS + 1)
    metadata = histogram.create_summary_metadata(None, None)
    summaries = []
    for name, group in groups.items():
        if group is None:
            continue
        counts = np.bincount(np.minimum(_part(group, BUCKETS), BUCKETS - 1), minlength=BUCKETS)
        buckets = np.stack([edges[:-1], edges[1:], counts], axis=1)
        summaries.append(_summary(f"predicted risk/{name}", metadata, buckets))
    return summaries


def _predicted_positive(risks: NDArray[np.floating]) -> NDArray[np.integer]:
    """Count, for each threshold, the risks that are at or above it: int [THRESHOLDS]."""
    return np.bincount(_part(risks, THRESHOLDS - 1), minlength=THRESHOLDS)[::-1].cumsum()[::-1]


def _part(risks: NDArray[np.floating], parts: int) -> NDArray[np.integer]:
    """Give each risk the number of the part of [0, 1] that contains it."""
    return (risks * parts).astype(np.intp)


def _summary(tag: str, metadata: SummaryMetadata, content: NDArray[np.floating]) -> Summary:
    summary = Summary()
    summary.value.add(tag=tag, metadata=metadata, tensor=make_tensor_proto(content))
    return summary
