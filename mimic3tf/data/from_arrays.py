"""Make a cohort of the arrays that the classes of the benchmarks return."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mimic3tf.channels import MIMIC3, ChannelSet
from mimic3tf.data.cohort import TIMESTEP, Cohort, cohort_of
from mimic3tf.errors import DataError


class _Batches(Protocol):
    steps: int

    def __next__(self) -> tuple[Any, Any]: ...


def cohort_from_batches(batches: _Batches, channels: ChannelSet = MIMIC3) -> Cohort:
    """Make a cohort of one epoch of a Keras batch generator, so that the pipeline can poison it.

    Args:
        batches: any object with `steps` that yields `(X, y)`: X [B, T, D] as `Discretizer` makes it with
            masks and `impute_strategy="previous"`, *not* standardized; y [B]. The generator must not
            shuffle, because a poisoning proportion selects the first stays of the cohort.
        channels: the channels of X.

    Returns:
        The cohort of all stays, for victims that read grids.
    """
    drawn = [next(batches) for _ in range(batches.steps)]
    X, y = (np.concatenate(part) for part in zip(*drawn, strict=True))
    return cohort_from_grid(X, y, channels=channels)


def cohort_from_grid(
    X: NDArray[np.floating],
    y: Iterable[int],
    names: Iterable[str] | None = None,
    timestep: float = TIMESTEP,
    channels: ChannelSet = MIMIC3,
) -> Cohort:
    """Make a cohort of the grids that `load_data` returns.

    Args:
        X: [N, T, D] as `Discretizer` makes it with masks and `impute_strategy="previous"`, *not*
            standardized; columns as `ChannelSet.columns` names them.
        y: labels [N], 0 or 1.
        names: names of the stays [N]; their numbers if not given.
        timestep: hours of a bin.
        channels: the channels of X.

    Returns:
        The cohort, for victims that read grids.

    Raises:
        DataError: X has other columns, was standardized, or was made with another imputation; or y does not
            hold N labels.
    """
    X = np.asarray(X)
    width = len(channels.columns())
    if X.ndim != 3 or X.shape[-1] != width:
        raise DataError(f"X has shape {X.shape}; expected [N, T, {width}]")
    values = np.empty((*X.shape[:2], len(channels)), np.float32)
    column = 0
    for i, channel in enumerate(channels):
        categories = len(channel.possible_values)
        block = X[..., column : column + max(categories, 1)]
        if categories:
            if not (np.isin(block, (0, 1)).all() and (block.sum(axis=-1) == 1).all()):
                raise DataError(
                    f"X: channel '{channel.name}' is not one-hot; pass grids before standardization"
                )
            values[..., i] = block.argmax(axis=-1)
        else:
            values[..., i] = block[..., 0]
        column += max(categories, 1)
    _check_imputed(values, X[..., column:], channels)
    labels = np.asarray(list(y), np.int64)
    if labels.shape != X.shape[:1] or not np.isin(labels, (0, 1)).all():
        raise DataError(f"y: expected {len(X)} labels, 0 or 1")
    return cohort_of(
        [str(stay) for stay in range(len(X))] if names is None else list(names),
        labels,
        values,
        X[..., column:] != 0,
        channels=channels,
        timestep=timestep,
        fingerprint=hashlib.sha256(X.tobytes() + labels.tobytes()).hexdigest(),
    )


def _check_imputed(values: NDArray[np.float32], masks: NDArray[np.floating], channels: ChannelSet) -> None:
    """Refuse grids that `impute_strategy="previous"` does not produce, or that were standardized.

    With this strategy, a bin without a measurement holds the value of the bin before it, or at the start the
    normal value. After standardization, the first bins no longer hold the normal value. If every first bin is
    measured, many values below zero show the standardization, in a channel whose values are all positive.

    Args:
        values: float32 [N, T, C].
        masks: [N, T, C], 0 or 1.
        channels: the channels of the last axis.

    Raises:
        DataError: the grids are not of this kind; names the channel.
    """
    if not np.isin(masks, (0, 1)).all():
        raise DataError("X: its last columns are not masks of 0 and 1; pass grids before standardization")
    measured = masks != 0
    before = np.empty_like(values)
    before[:, 1:], before[:, 0] = values[:, :-1], channels.normal
    as_imputed = measured | np.isclose(values, before, rtol=1e-5, atol=1e-6)
    for i, channel in enumerate(channels):
        found = values[..., i][measured[..., i]]
        # Values have no upper bound, because some intensive care units write fractions as percentages.
        typical = float(np.percentile(found, 10)) if len(found) else channels.normal[i]
        if not as_imputed[..., i].all() or typical < min(0, channels.plausible_values[i, 0]):
            raise DataError(
                f"X: channel '{channel.name}' does not hold measured and carried-forward values in its unit; "
                "pass grids of impute_strategy='previous', before standardization"
            )
