"""Length of stay: classes of remaining hours, and the metrics of predicted hours.

Classes, class means and formulas are those of the MIMIC-III benchmarks (Harutyunyan et al. 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Partition = Literal["custom", "log", "none"]
"""How remaining hours are predicted: as one of ten classes, custom or logarithmic, or as a number."""
CLASSES = 10
"""Number of classes of both partitions."""
CUSTOM_EDGES = 24.0 * np.array([1, 2, 3, 4, 5, 6, 7, 8, 14])
"""Hours at which the custom classes 1 to 9 begin: a class a day, then the second week, then all above."""
CUSTOM_MEANS = np.array(
    [
        *(11.450379, 35.070846, 59.206531, 83.382723, 107.487817),
        *(131.579534, 155.643957, 179.660558, 254.306624, 585.325890),
    ]
)
"""Mean hours of the custom classes, for turning a class into hours."""
LOG_MEANS = np.array(
    [
        *(0.611848, 2.587614, 6.977417, 16.465430, 37.053745),
        *(81.816438, 182.303159, 393.334856, 810.964040, 1715.702848),
    ]
)
"""Mean hours of the logarithmic classes."""
HOURS_METRICS = ("kappa", "mad", "mse", "mape")
"""Metrics of predicted hours, in the order of the columns of `hours_measure`."""


def custom_class(hours: NDArray[np.floating]) -> NDArray[np.int64]:
    """Find the custom class, 0 to 9, of remaining hours of any shape."""
    return np.searchsorted(CUSTOM_EDGES, hours, side="right").astype(np.int64)


def log_class(hours: NDArray[np.floating]) -> NDArray[np.int64]:
    """Find the logarithmic class of remaining hours of any shape: ln(hours + 1) / 8 * 10, held in 0 to 9."""
    position = np.log(np.maximum(hours, 0.0) + 1.0) / 8.0 * CLASSES
    return np.minimum(position.astype(np.int64), CLASSES - 1)


def check_partition(partition: str) -> None:
    """Refuse an unknown partition.

    Raises:
        ValueError: the partition is not one of `Partition`.
    """
    if partition not in get_args(Partition):
        raise ValueError(f"partition must be custom, log or none, not {partition!r}")


def targets_of(
    hours: NDArray[np.floating], partition: Partition
) -> NDArray[np.integer] | NDArray[np.floating]:
    """Turn remaining hours of any shape into what is predicted: classes, or the hours themselves."""
    return {"custom": custom_class, "log": log_class}.get(partition, np.asarray)(hours)


def hours_of(probabilities: NDArray[np.floating], partition: Partition) -> NDArray[np.float64]:
    """Turn the probabilities of classes [E, 10] into hours: the mean of the most probable class.

    Predictions of partition none are hours already, and are returned as they are.
    """
    if partition == "none":
        return np.asarray(probabilities, np.float64)
    means = CUSTOM_MEANS if partition == "custom" else LOG_MEANS
    return means[np.argmax(probabilities, axis=-1)]


def hours_metrics(hours: NDArray[np.floating], predicted: NDArray[np.floating]) -> dict[str, float]:
    """Compute the benchmarks' metrics of predicted remaining hours.

    Args:
        hours: float [E], the remaining hours.
        predicted: float [E]; a negative prediction counts as 0.

    Returns:
        kappa: Cohen's kappa of the custom classes with linear weights, over the classes that occur; mad: mean
        absolute deviation in hours; mse: mean squared error; mape: mean of the absolute error divided by
        (hours + 0.1), in percent. NaN where not defined.
    """
    (found,) = hours_measure(hours, predicted)(np.ones((1, len(hours)), np.int64))
    return dict(zip(HOURS_METRICS, found.tolist(), strict=True))


def percentage_errors(hours: NDArray[np.floating], predicted: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute the absolute error of predicted hours in percent of the hours, plus 0.1 so that none is 0."""
    return 100.0 * np.abs((hours - predicted) / (hours + 0.1))


def hours_measure(
    hours: NDArray[np.floating], predicted: NDArray[np.floating], stay: NDArray[np.integer] | None = None
) -> Callable[[NDArray[np.integer]], NDArray[np.float64]]:
    """Prepare the metrics of samples in which each stay occurs several times or never.

    Args:
        hours: float [E], the remaining hours.
        predicted: float [E]; a negative prediction counts as 0.
        stay: int [E], the number of the stay of each prediction, 0 to S - 1; one stay each if not given.

    Returns:
        A function of int [B, S], how often each stay occurs in each of B samples. It returns float64 [B, 4],
        one column for each of `HOURS_METRICS`.
    """
    # Imported here, because it takes long.
    from scipy import sparse

    hours, predicted = np.asarray(hours, np.float64), np.maximum(np.asarray(predicted, np.float64), 0.0)
    rows = np.arange(len(hours)) if stay is None else stay
    error = hours - predicted
    each = np.stack([np.abs(error), error**2, percentage_errors(hours, predicted)], axis=1)
    pair = custom_class(hours) * CLASSES + custom_class(predicted)
    width = CLASSES**2
    # Every metric follows from sums over predictions, and so from sums over stays. A stay fills few columns.
    sums = sparse.coo_array(
        (
            np.concatenate([np.ones(len(hours)), each.ravel()]),
            (
                np.concatenate([rows, np.repeat(rows, 3)]),
                np.concatenate([pair, np.tile(np.arange(width, width + 3), len(hours))]),
            ),
        )
    ).tocsr()
    sums.resize(sums.shape[0], width + 3)

    def measure(counts: NDArray[np.integer]) -> NDArray[np.float64]:
        totals = (sums.T @ counts.T.astype(np.float64)).T
        confusion = totals[:, :width].reshape(-1, CLASSES, CLASSES)
        with np.errstate(divide="ignore", invalid="ignore"):
            means = totals[:, width:] / confusion.sum(axis=(1, 2))[:, None]
        return np.concatenate([_kappa(confusion)[:, None], means], axis=1)

    return measure


def _kappa(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute Cohen's kappa with linear weights: float64 [B] from counts [B, K, K] of true and predicted.

    A class that never occurs, true or predicted, is no step between its neighbours.
    """
    true, predicted = confusion.sum(axis=2), confusion.sum(axis=1)
    place = np.cumsum((true + predicted) > 0, axis=1).astype(np.float64)
    distance = np.abs(place[:, :, None] - place[:, None, :])
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = true[:, :, None] * predicted[:, None, :] / true.sum(axis=1)[:, None, None]
        return 1.0 - (distance * confusion).sum(axis=(1, 2)) / (distance * expected).sum(axis=(1, 2))
