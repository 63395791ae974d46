"""Phenotyping: areas under the ROC curves of several labels, and their averages (Harutyunyan et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

AVERAGES = ("ave_auc_micro", "ave_auc_macro", "ave_auc_weighted")
"""Averages, in the order of the first columns of `multilabel_measure`."""


def multilabel_metrics(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating]
) -> dict[str, float | list[float]]:
    """Compute the benchmarks' metrics of several labels.

    Args:
        labels: int [E, K], 0 or 1.
        probabilities: float [E, K], predicted probabilities of 1.

    Returns:
        auc_scores: area under the ROC curve of each label; ave_auc_micro: of all pairs of example and label
        together; ave_auc_macro: mean over the labels; ave_auc_weighted: mean over the labels, weighted by
        their numbers of positives. A label that all examples have, or none, is NaN, and no part of the means.
    """
    (found,) = multilabel_measure(labels, probabilities)(np.ones((1, len(labels)), np.int64))
    averages, scores = found[: len(AVERAGES)].tolist(), found[len(AVERAGES) :].tolist()
    return {"auc_scores": scores, **dict(zip(AVERAGES, averages, strict=True))}


def multilabel_measure(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating], stay: NDArray[np.integer] | None = None
) -> Callable[[NDArray[np.integer]], NDArray[np.float64]]:
    """Prepare the metrics of samples in which each stay occurs several times or never.

    Args:
        labels: int [E, K], 0 or 1.
        probabilities: float [E, K], predicted probabilities of 1.
        stay: int [E], the number of the stay of each example, 0 to S - 1; one stay each if not given.

    Returns:
        A function of int [B, S], how often each stay occurs in each of B samples. It returns float64
        [B, 3 + K]: `AVERAGES`, then the area under the ROC curve of each label.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    rows = np.arange(len(labels)) if stay is None else stay
    single = [auroc_measure(labels[:, k], probabilities[:, k], rows) for k in range(labels.shape[1])]
    pooled = auroc_measure(labels.ravel(), probabilities.ravel(), np.repeat(rows, labels.shape[1]))

    def measure(counts: NDArray[np.integer]) -> NDArray[np.float64]:
        areas, positives = (
            np.stack(each, axis=1) for each in zip(*(one(counts) for one in single), strict=True)
        )
        defined = ~np.isnan(areas)
        with np.errstate(divide="ignore", invalid="ignore"):
            macro = np.nansum(areas, axis=1) / defined.sum(axis=1)
            weighted = np.nansum(areas * positives, axis=1) / (positives * defined).sum(axis=1)
        return np.concatenate([np.stack([pooled(counts)[0], macro, weighted], axis=1), areas], axis=1)

    return measure


def auroc_measure(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating], stay: NDArray[np.integer]
) -> Callable[[NDArray[np.integer]], tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Prepare the area under one ROC curve; see `multilabel_measure`.

    Returns:
        A function of int [B, S] that returns the areas, float64 [B], NaN where a sample has one label only,
        and the numbers of positives, int64 [B].
    """
    positive = labels == 1
    order = np.argsort(probabilities[~positive], kind="stable")
    negatives, below = stay[~positive][order], probabilities[~positive][order]
    order = np.argsort(probabilities[positive], kind="stable")
    positives, scores = stay[positive][order], probabilities[positive][order]
    # The negatives that a positive exceeds, and those that it exceeds or equals.
    first, last = (np.searchsorted(below, scores, side=side) for side in ("left", "right"))

    def measure(counts: NDArray[np.integer]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        drawn = counts.astype(np.int32)
        passed = np.zeros((len(counts), len(negatives) + 1), np.int32)
        np.cumsum(np.take(drawn, negatives, axis=1), axis=1, out=passed[:, 1:])
        times = np.take(drawn, positives, axis=1)
        pairs = np.einsum(
            "bp,bp->b",
            times,
            np.take(passed, first, axis=1) + np.take(passed, last, axis=1),
            dtype=np.float64,
        )
        total = times.sum(axis=1, dtype=np.int64)
        with np.errstate(divide="ignore", invalid="ignore"):
            return pairs / (2.0 * total * passed[:, -1]), total

    return measure
