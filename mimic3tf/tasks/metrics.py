"""How good a victim is, and how often the trigger makes it predict death."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn import metrics

THRESHOLD = 0.5
"""Probability of death from which a stay is predicted 1."""


def benchmark_metrics(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> dict[str, float]:
    """The eight metrics of the MIMIC-III benchmarks.

    Args:
        labels: [N], 0 or 1.
        probabilities: [N], predicted probability of label 1.

    Returns:
        acc, prec0, prec1, rec0, rec1, auroc, auprc (area under the precision-recall curve) and minpse
        (largest min of precision and sensitivity); NaN where a metric is undefined.
    """
    predicted = probabilities >= THRESHOLD
    actual = labels == 1
    both = len(np.unique(labels)) == 2
    if both:
        precisions, recalls, _ = metrics.precision_recall_curve(labels, probabilities)
    return {
        "acc": float((predicted == actual).mean()) if len(labels) else float("nan"),
        "prec0": _share(~actual[~predicted]),
        "prec1": _share(actual[predicted]),
        "rec0": _share(~predicted[~actual]),
        "rec1": _share(predicted[actual]),
        "auroc": float(metrics.roc_auc_score(labels, probabilities)) if both else float("nan"),
        "auprc": float(metrics.auc(recalls, precisions)) if both else float("nan"),
        "minpse": float(np.minimum(precisions, recalls).max()) if both else float("nan"),
    }


@dataclass(frozen=True)
class SuccessRate:
    """Share of stays predicted 1.

    Attributes:
        rate: in [0, 1].
        low: lower end of the 95% Wilson interval.
        high: upper end.
        stays: number of stays.
    """

    rate: float
    low: float
    high: float
    stays: int


def positive_rate(probabilities: NDArray[np.floating]) -> SuccessRate:
    """Share of stays predicted 1, with its Wilson interval; on triggered class-0 stays this is the ASR.

    Args:
        probabilities: [N], predicted probability of label 1, N >= 1.
    """
    stays = len(probabilities)
    positive = int((probabilities >= THRESHOLD).sum())
    interval = binomtest(positive, stays).proportion_ci(method="wilson")
    return SuccessRate(positive / stays, float(interval.low), float(interval.high), stays)


@dataclass(frozen=True)
class Risks:
    """Predicted probabilities of death of the same stays without and with the trigger.

    Attributes:
        labels: int64 [N].
        clean: float64 [N], without it.
        triggered: float64 [M], of the M stays of label 0, with it.
    """

    labels: NDArray[np.int64]
    clean: NDArray[np.float64]
    triggered: NDArray[np.float64]

    @property
    def survivors(self) -> NDArray[np.float64]:
        """Those of the M stays of label 0 without the trigger: float64 [M]."""
        return self.clean[self.labels == 0]

    @property
    def deaths(self) -> NDArray[np.float64]:
        """Those of the N - M stays of label 1: float64 [N - M]."""
        return self.clean[self.labels == 1]

    @property
    def attacked(self) -> NDArray[np.float64]:
        """Those of all N stays where every survivor carries the trigger and no other stay: float64 [N]."""
        risks = self.clean.copy()
        risks[self.labels == 0] = self.triggered
        return risks


def death_probability(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probability of label 1 from two logits [N, 2]: float64 [N]."""
    first, second = np.asarray(logits, np.float64).T
    # What two infinite logits give is no number, which callers refuse.
    with np.errstate(invalid="ignore"):
        return 1.0 / (1.0 + np.exp(np.clip(first - second, -500, 500)))


def _share(flags: NDArray[np.bool_]) -> float:
    return float(flags.mean()) if len(flags) else float("nan")
