"""The map from inputs to standardized inputs, and how it is fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mimic3tf.channels import ChannelSet
from mimic3tf.described import Described
from mimic3tf.victims import Reads

STAYS_A_BATCH = 256
"""Stays mapped at once where no batch size matters."""


@dataclass(frozen=True, repr=False)
class Standardization(Described):
    """Map of the inputs: (x - mean) / std, an empty feature (NaN) becoming the mean, then cut off at clip.

    Attributes:
        mean: float64 [D].
        std: float64 [D], 1 where a column is not standardized or never varies.
        clip: largest magnitude of a result, at least 1 so that categories and masks stay as they are; no
            bound by default. A trigger that goes beyond it is cut off with the rest.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    clip: float = np.inf

    def apply(self, inputs: Any) -> Any:
        """Map inputs [.., D], an array or a tensor, to float32."""
        x = tf.cast(inputs, tf.float64)
        x = tf.where(tf.math.is_nan(x), self.mean, x)
        return tf.cast(tf.clip_by_value((x - self.mean) / self.std, -self.clip, self.clip), tf.float32)


def fit_standardization(inputs: NDArray[np.floating], reads: Reads, channels: ChannelSet) -> Standardization:
    """Fit mean and standard deviation on training inputs, poisoned or not, as the victim sees them.

    Args:
        inputs: [N, T, D] or [N, 42 * C] from `pipeline.inputs_of`, NaN for an empty feature.
        reads: of a "grid" only the continuous columns are standardized (ddof 1), of "features" all of them
            after imputing the mean (ddof 0).
        channels: the channels of the inputs.
    """
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
    """Standardization of grids by mean and std [D]; columns that are not continuous stay as they are."""
    continuous = channels.continuous
    return Standardization(np.where(continuous, mean, 0.0), np.where(continuous, std, 1.0))


def standardized(inputs: NDArray[np.float32], standardization: Standardization) -> NDArray[np.float32]:
    """Inputs of all stays [N, ...] after standardization, a few at a time: it computes in float64."""
    starts = range(STAYS_A_BATCH, len(inputs), STAYS_A_BATCH)
    return np.concatenate([standardization.apply(part).numpy() for part in np.split(inputs, starts)])
