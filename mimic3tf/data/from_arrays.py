"""Take the arrays of the benchmarks' own classes as a cohort."""

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
    """Take one epoch of a Keras batch generator as a cohort, so that the pipeline can poison it.

    Args:
        batches: any object with `steps` that yields `(X, y)`: X [B, T, D] as `Discretizer` makes it with
            masks and `impute_strategy="previous"`, *not* standardized; y [B]. Do not shuffle it: the
            first stays of the cohort are the ones a poisoning proportion selects.
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
    """Take grids from `load_data` as a cohort.

    Args:
        X: [N, T, D] as `Discretizer` makes it with masks and `impute_strategy="previous"`, *not*
            standardized; columns as `ChannelSet.columns` names them.
        y: labels [N], 0 or 1.
        names: stay names [N]; numbered if not given.
        timestep: hours of a bin.
        channels: the channels of X.

    Returns:
        The cohort, for victims that read grids.

    Raises:
        DataError: X has other columns, or is not what `Discretizer` makes with these settings: it was
            standardized, or made with another imputation.
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
    """Refuse grids that no imputation by the previous value makes.

    A bin without a measurement holds the value of the bin before it, and at the start the normal value: after
    standardization it no longer does. Where every first bin is measured, many values below zero tell it, in a
    channel that has none.

    Raises:
        DataError: names the channel.
    """
    if not np.isin(masks, (0, 1)).all():
        raise DataError("X: its last columns are no masks of 0 and 1; pass grids before standardization")
    measured = masks != 0
    before = np.empty_like(values)
    before[:, 1:], before[:, 0] = values[:, :-1], channels.normal
    as_imputed = measured | np.isclose(values, before, rtol=1e-5, atol=1e-6)
    for i, channel in enumerate(channels):
        found = values[..., i][measured[..., i]]
        # No bound on how large they are: some units write fractions as percentages.
        typical = float(np.percentile(found, 10)) if len(found) else channels.normal[i]
        if not as_imputed[..., i].all() or typical < min(0, channels.plausible_values[i, 0]):
            raise DataError(
                f"X: channel '{channel.name}' does not hold measured and carried-forward values in its unit; "
                "pass grids of impute_strategy='previous', before standardization"
            )
