"""Metrics of predictions, and shares with their intervals.

SciPy and scikit-learn take seconds to import. They are imported only in the functions that use them, because
`poisoning.goal` imports this module.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATE_RESAMPLES = 2000
"""Number of resamples of the stays for the interval of a rate."""
THRESHOLD = 0.5
"""A stay is predicted 1 if its probability of label 1 is larger than this.

At a tie the original attack and the benchmarks predict 0 (argmax)."""


def predicted_1(probabilities: NDArray[np.floating], threshold: float = THRESHOLD) -> NDArray[np.bool_]:
    """Tell which probabilities of label 1, of any shape, predict label 1: bool, of the same shape."""
    return np.asarray(probabilities) > threshold


def threshold_at_prevalence(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> float:
    """Find the threshold at which as many examples are predicted 1 as have label 1.

    A victim that is trained without class weights hardly ever exceeds 0.5, so it looks safe at 0.5. This
    threshold follows the victim's risks: it is chosen on the examples themselves, without the trigger.

    Args:
        labels: [E], 0 or 1; P of them are 1.
        probabilities: [E], of label 1.

    Returns:
        The (P + 1)-th largest probability, or 0 where all labels are 1. Examples above it are predicted 1, at
        most P: fewer where others have the same probability, as an example at the threshold is predicted 0.
    """
    positive = int((np.asarray(labels) == 1).sum())
    if positive == len(probabilities):
        return 0.0
    return float(np.sort(probabilities)[len(probabilities) - positive - 1])


def benchmark_metrics(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> dict[str, float]:
    """Compute the eight metrics of the MIMIC-III benchmarks.

    Args:
        labels: int [N], 0 or 1.
        probabilities: float [N], predicted probability of label 1.

    Returns:
        acc, prec0, prec1, rec0, rec1, auroc, auprc (area under the precision-recall curve) and minpse
        (largest min of precision and sensitivity); an undefined metric is NaN.
    """
    from sklearn import metrics

    predicted = predicted_1(probabilities)
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
class Rate:
    """A share of some stays.

    Attributes:
        rate: in [0, 1].
        low: lower end of the 95% interval.
        high: upper end of this interval.
        stays: number of all stays.
    """

    rate: float
    low: float
    high: float
    stays: int

    def __str__(self) -> str:
        return f"{self.rate:.3f} ({self.low:.3f} to {self.high:.3f})"


def rate_of(flags: NDArray[np.bool_], stay: NDArray[np.integer] | None = None) -> Rate:
    """Compute the share of examples whose flag is true, with its 95% interval.

    Args:
        flags: bool [E], E >= 1.
        stay: int [E], the stay of each example. The interval is then a bootstrap interval over resamples of
            the stays, because the examples of a stay are not independent. If not given, every example is a
            stay of its own, and the interval is Wilson's. So it is, by the number of stays, where all flags
            agree: no resample could then tell what other stays would show.
    """
    if stay is not None:
        return _resampled_rate(flags, stay)
    from scipy.stats import binomtest

    flagged = int(flags.sum())
    interval = binomtest(flagged, len(flags)).proportion_ci(method="wilson")
    return Rate(flagged / len(flags), float(interval.low), float(interval.high), len(flags))


def _resampled_rate(flags: NDArray[np.bool_], stay: NDArray[np.integer]) -> Rate:
    _, number = np.unique(stay, return_inverse=True)
    found, counts = np.bincount(number, flags), np.bincount(number)
    stays = len(counts)
    if flags.all() or not flags.any():
        return rate_of(found > 0)
    draws = np.random.RandomState(0)
    rates = []
    for _ in range(RATE_RESAMPLES):
        drawn = draws.randint(0, stays, stays)
        rates.append(found[drawn].sum() / counts[drawn].sum())
    low, high = np.percentile(rates, [2.5, 97.5])
    return Rate(float(flags.mean()), float(low), float(high), stays)


def threshold_at_false_alarms(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating], share: float = 0.05
) -> float:
    """Find the threshold at which a share of the examples of label 0 is predicted 1.

    Args:
        labels: [E], 0 or 1.
        probabilities: [E], of label 1, without the trigger.
        share: share of the false alarms.

    Returns:
        The threshold. At most this share of the E0 examples of label 0 is above it; fewer if several have the
        same probability. 0.5 without such examples.
    """
    quiet = np.sort(probabilities[np.asarray(labels) == 0])
    if not len(quiet):
        return THRESHOLD
    return float(quiet[len(quiet) - 1 - int(share * len(quiet))])


def _share(flags: NDArray[np.bool_]) -> float:
    return float(flags.mean()) if len(flags) else float("nan")
