"""The standardization of a victim's inputs, and how it is fitted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mimic3tf.channels import ChannelSet
from mimic3tf.data.flat import FlatGrids
from mimic3tf.described import Described
from mimic3tf.victims import Reads

STAYS_A_BATCH = 256
"""Number of stays that are mapped at once; it does not change the result."""
ROWS_A_BATCH = 2**14
"""Number of bins that are mapped at once if stays have lengths of their own."""


@dataclass(frozen=True, repr=False)
class Standardization(Described):
    """Map of the inputs: (x - mean) / std, then clipped; an empty feature (NaN) counts as the mean.

    Attributes:
        mean: float64 [D], in the unit of the column; 0 for a column that is not standardized.
        std: float64 [D], in the unit of the column; 1 for a column that is not standardized or never varies.
        clip: largest magnitude of a result, infinite by default. It is at least 1, so that categories and
            masks are not clipped. It clips the trigger, too.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    clip: float = np.inf

    def apply(self, inputs: Any) -> Any:
        """Standardize inputs [..., D], an array or a tensor; the result is a float32 tensor."""
        x = tf.cast(inputs, tf.float64)
        x = tf.where(tf.math.is_nan(x), self.mean, x)
        return tf.cast(tf.clip_by_value((x - self.mean) / self.std, -self.clip, self.clip), tf.float32)


def fit_standardization(inputs: Any, reads: Reads, channels: ChannelSet) -> Standardization:
    """Fit mean and standard deviation on the training inputs that the victim sees, poisoned or not.

    Args:
        inputs: from `pipeline.inputs_of`; NaN is an empty feature.
        reads: "grid" standardizes the continuous columns only (ddof 1); "features" standardizes all columns,
            after NaN is replaced by the mean (ddof 0).
        channels: the channels of the inputs.
    """
    inputs = inputs.rows if isinstance(inputs, FlatGrids) else inputs
    fitted = channels.continuous if reads == "grid" else np.ones(inputs.shape[-1], bool)
    rows = np.asarray(inputs[..., fitted], np.float64).reshape(-1, fitted.sum())
    empty = np.isnan(rows)
    count = np.maximum((~empty).sum(axis=0), 1)
    mean = np.where(empty, 0.0, rows).sum(axis=0) / count
    rows = np.where(empty, mean, rows)
    std = rows.std(axis=0, ddof=1 if reads == "grid" else 0)
    std = np.where((np.ptp(rows, axis=0) == 0) | ~(std > 0), 1.0, std)
    means, stds = np.zeros(len(fitted)), np.ones(len(fitted))
    means[fitted], stds[fitted] = mean, std
    return Standardization(means, stds)


def continuous_only(
    mean: NDArray[np.float64], std: NDArray[np.float64], channels: ChannelSet
) -> Standardization:
    """Make a standardization of grids from mean and std [D]; it changes continuous columns only."""
    continuous = channels.continuous
    return Standardization(np.where(continuous, mean, 0.0), np.where(continuous, std, 1.0))


def standardized(inputs: Any, standardization: Standardization) -> Any:
    """Standardize the inputs of all stays, an array [N, ...] or `FlatGrids`.

    A few stays are mapped at a time, because they are computed in float64.
    """
    if isinstance(inputs, FlatGrids):
        starts = range(ROWS_A_BATCH, len(inputs.rows), ROWS_A_BATCH)
        parts = [standardization.apply(part).numpy() for part in np.split(inputs.rows, starts)]
        return replace(inputs, rows=np.concatenate(parts))
    starts = range(STAYS_A_BATCH, len(inputs), STAYS_A_BATCH)
    return np.concatenate([standardization.apply(part).numpy() for part in np.split(inputs, starts)])
