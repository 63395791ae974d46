"""Bootstrap intervals of metrics, as the benchmarks' evaluation scripts make them.

All predictions of a stay are drawn together, because they are not independent. A resample is a number of
draws for each stay, so that many resamples are measured at once, from predictions that are sorted once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Measure = Callable[[NDArray[np.integer]], NDArray[np.float64]]
"""Computes M metrics of B samples, float64 [B, M], from int [B, S], how often each stay occurs in each."""
RESAMPLES = 10_000
"""Number of resamples that the benchmarks' script for in-hospital mortality draws."""
CELLS = 2**21
"""Largest number of draws that are held at once: about 100 MB."""
RANKING = ("auroc", "auprc", "minpse")
"""Metrics that `ranking_metrics` computes, in the order of its columns."""


@dataclass(frozen=True)
class Estimate:
    """A metric, and what the bootstrap says about it; NaN where the metric is not defined.

    Attributes:
        value: the metric of all predictions.
        mean: mean over the resamples.
        median: median over the resamples.
        std: standard deviation of the resamples: the standard error of the metric.
        low: lower end of the 95% interval: 2.5% of the resamples lie below it.
        high: upper end of this interval.
    """

    value: float
    mean: float
    median: float
    std: float
    low: float
    high: float


def ranking_metrics(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating], counts: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Compute AUROC, AUPRC and minpse of B samples in which each prediction occurs several times or never.

    They are those of `metrics.benchmark_metrics`; equal probabilities are one step of both curves.

    Args:
        labels: int [E], 0 or 1.
        probabilities: float [E], predicted probability of label 1.
        counts: int [B, E], how often each prediction occurs in each sample.

    Returns:
        float64 [B, 3], one column for each of `RANKING`; NaN where a sample has only one label.
    """
    order = np.argsort(-probabilities, kind="stable")
    ranked = probabilities[order]
    # A threshold cannot lie between equal probabilities, so only the last one of them ends a step.
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    counts = counts[:, order]
    predicted = np.cumsum(counts, axis=1)[:, ends].astype(np.float64)
    true = np.cumsum(counts * labels[order], axis=1)[:, ends].astype(np.float64)
    false = predicted - true
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = true / true[:, -1:]
        # Both curves begin above the largest probability, where nothing is predicted 1.
        precision = np.where(predicted > 0, true / predicted, 1.0)
        recall_before, precision_before = _shifted(recall, 0.0), _shifted(precision, 1.0)
        steps = np.diff(false, axis=1, prepend=0.0) / false[:, -1:]
        auroc = (steps * (recall + recall_before) / 2).sum(axis=1)
        auprc = ((recall - recall_before) * (precision + precision_before) / 2).sum(axis=1)
    minpse = np.minimum(precision, recall).max(axis=1)
    metrics = np.stack([auroc, auprc, minpse], axis=1)
    metrics[(true[:, -1] == 0) | (false[:, -1] == 0)] = np.nan
    return metrics


def bootstrap(
    labels: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    *,
    stay: NDArray[np.integer] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Estimate the metrics of `RANKING` with percentile bootstrap intervals, resampled by stay.

    Resamples without both labels are left out.

    Args:
        labels: int [E], 0 or 1.
        probabilities: float [E], predicted probability of label 1.
        stay: int [E], the number of the stay of each prediction, 0 to S - 1; one stay each if not given.
        resamples: number of resamples, at least 1.
        seed: non-negative int; fixes the resamples.

    Returns:
        Each name of `RANKING` -> its estimate.
    """
    rows = np.arange(len(labels)) if stay is None else stay
    measure = ranking_measure(labels, probabilities, rows)
    stays = int(rows.max()) + 1
    return estimates(RANKING, measure, stays, len(labels), resamples=resamples, seed=seed)


def ranking_measure(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating], stay: NDArray[np.integer]
) -> Measure:
    """Prepare `ranking_metrics` of samples in which each stay occurs several times or never.

    Args:
        labels: int [E], 0 or 1.
        probabilities: float [E], predicted probability of label 1.
        stay: int [E], the number of the stay of each prediction, 0 to S - 1.
    """
    # In the order in which `ranking_metrics` needs them, so that it sorts nothing in each call.
    order = np.argsort(-np.asarray(probabilities), kind="stable")
    ranked, known, rows = np.asarray(probabilities)[order], np.asarray(labels)[order], stay[order]
    return lambda counts: ranking_metrics(known, ranked, counts[:, rows])


def estimates(
    names: Sequence[str], measure: Measure, stays: int, cells: int, *, resamples: int, seed: int
) -> dict[str, Estimate]:
    """Estimate metrics with percentile bootstrap intervals, resampled by stay.

    If every stay has one prediction, the resamples of a seed are those that the benchmarks' scripts draw
    after `np.random.seed(seed)`. Resamples in which a metric is not defined are left out for this metric.

    Args:
        names: names [M] of the metrics.
        measure: computes them.
        stays: number of stays S.
        cells: numbers that `measure` holds for each sample; sets how many samples it is given at once.
        resamples: number of resamples, at least 1.
        seed: non-negative int; fixes the resamples.

    Returns:
        Each name -> its estimate.
    """
    draws = np.random.RandomState(seed)  # the generator of the benchmarks' scripts
    at_once = max(1, CELLS // max(stays, cells))
    parts = []
    for first in range(0, resamples, at_once):
        count = min(at_once, resamples - first)
        drawn = draws.randint(0, stays, size=(count, stays)) + stays * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * stays).reshape(count, stays)
        parts.append(measure(times))
    found = np.concatenate(parts)
    value = measure(np.ones((1, stays), np.int64))[0]
    return {name: _estimate(float(value[column]), found[:, column]) for column, name in enumerate(names)}


def _estimate(value: float, found: NDArray[np.float64]) -> Estimate:
    found = found[~np.isnan(found)]
    if not len(found):
        return Estimate(value, *[float("nan")] * 5)
    low, median, high = np.percentile(found, [2.5, 50, 97.5])
    return Estimate(value, float(found.mean()), float(median), float(found.std()), float(low), float(high))


def _shifted(curve: NDArray[np.float64], start: float) -> NDArray[np.float64]:
    """Return the point before each point of curves [B, G], which begin at `start`."""
    return np.concatenate([np.full((len(curve), 1), start), curve[:, :-1]], axis=1)
