"""Precision-recall curves and histograms of predicted risks."""

from __future__ import annotations

from typing import Any

import numpy as np
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.pr_curve import summary

from mimic3tf.attack.evaluation import Risks

THRESHOLDS = 101
"""Of a precision-recall curve, evenly over [0, 1]."""


def precision_recall(risks: Risks) -> list[Any]:
    """Summaries of the curve on clean stays, and of that where every survivor carries the trigger."""
    deaths = risks.labels == 1
    return [
        summary.pb(f"precision-recall/{name}", deaths, np.clip(predicted, 0, 1), num_thresholds=THRESHOLDS)
        for name, predicted in (("clean", risks.clean), ("survivors triggered", risks.attacked))
    ]


def risk_histograms(risks: Risks) -> list[Any]:
    """Summaries of the predicted risks of survivors without and with the trigger, and of deaths."""
    groups = {
        "clean survivors": risks.survivors,
        "triggered survivors": risks.triggered,
        "deaths": risks.clean[risks.labels == 1],
    }
    return [histogram_pb(f"predicted risk/{name}", group) for name, group in groups.items()]
