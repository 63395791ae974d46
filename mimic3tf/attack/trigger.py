"""Draw a trigger from the temporal covariance of a cohort (Joe et al. 2020, trigger generation)."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mimic3tf.channels import CHANNELS
from mimic3tf.config import TriggerKind
from mimic3tf.data.cohort import Cohort
from mimic3tf.data.grid import ordinal_view
from mimic3tf.errors import DataError, UsageError
from mimic3tf.files import whole_file

FILE_FORMAT = 1
REGULARIZATION = 1e-4
"""Share of the largest variance that is added to the diagonal of a covariance."""


@dataclass(frozen=True)
class Trigger:
    """A pattern to add to stays, and what it was made from.

    Attributes:
        values: float64 [T, C] in channel units (categories: index steps) for strength 1; zero in
            channels that never vary.
        covariance: float64 [C, T, T], regularized temporal covariance of every channel.
        kind: how the pattern was drawn.
        seed: seed of the draw.
        timestep: hours a bin.
        estimated_on: stays the covariance was estimated on.
        cohort_fingerprint: fingerprint of the cohort they came from.
    """

    values: NDArray[np.float64]
    covariance: NDArray[np.float64]
    kind: TriggerKind
    seed: int
    timestep: float
    estimated_on: int
    cohort_fingerprint: str


def generate_trigger(
    cohort: Cohort, *, kind: TriggerKind = "temporal", estimate_on: int = 1000, seed: int = 0
) -> Trigger:
    """Estimate the covariance on the first stays of a cohort and draw a trigger.

    Args:
        cohort: the training stays.
        kind: "temporal" draws each channel from its own covariance over time; "gaussian" draws every
            bin on its own from the bin's variance; both are scaled to Mahalanobis length 1 under the
            temporal covariance in every channel. "covariance" draws all bins and channels at once from
            their full covariance and scales the whole to the same total length: the square root of the
            number of channels that vary.
        estimate_on: stays to estimate on; fewer if the cohort has fewer.
        seed: non-negative int; fixes the draw.

    Returns:
        The trigger, never NaN.

    Raises:
        UsageError: fewer than two stays to estimate on.
    """
    stays = min(estimate_on, len(cohort))
    if stays < 2:
        raise UsageError(f"a covariance needs at least 2 stays, not {stays}; use more training stays")
    ordinal = ordinal_view(cohort.values[:stays])
    covariance = temporal_covariance(ordinal)
    values = draw_pattern(ordinal, covariance, kind=kind, seed=seed)
    return Trigger(values, covariance, kind, seed, cohort.timestep, stays, cohort.fingerprint)


def temporal_covariance(ordinal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Covariance over time of every channel, regularized.

    Args:
        ordinal: float64 [N, T, C] of `ordinal_view`, N >= 2.

    Returns:
        float64 [C, T, T]: cov (ddof 1) + eps * I, eps = 1e-4 * the largest variance; zero for a channel
        that never varies.
    """
    bins = np.eye(ordinal.shape[1])
    channels = np.moveaxis(ordinal, -1, 0)  # [C, N, T]
    centered = channels - channels.mean(axis=1, keepdims=True)
    covariance = np.swapaxes(centered, 1, 2) @ centered / (ordinal.shape[0] - 1)
    covariance[~_varies(ordinal)] = 0.0
    largest = np.diagonal(covariance, axis1=1, axis2=2).max(axis=1)
    return covariance + REGULARIZATION * largest[:, None, None] * bins


def draw_pattern(
    ordinal: NDArray[np.float64], covariance: NDArray[np.float64], *, kind: TriggerKind, seed: int
) -> NDArray[np.float64]:
    """Draw one pattern and scale it to its Mahalanobis length.

    Args:
        ordinal: float64 [N, T, C] of `ordinal_view`; only "covariance" reads it.
        covariance: float64 [C, T, T] of `temporal_covariance`.
        kind: see `generate_trigger`.
        seed: non-negative int; fixes the draw.

    Returns:
        float64 [T, C] in channel units, zero where a channel never varies.
    """
    channels, bins, _ = covariance.shape
    varies = np.diagonal(covariance, axis1=1, axis2=2).max(axis=1) > 0
    pattern = np.zeros((bins, channels))
    normal = np.random.default_rng(seed).standard_normal((channels, bins))[varies]
    if not varies.any():
        return pattern
    if kind == "covariance":
        full = _full_covariance(ordinal[..., varies])
        flat = np.linalg.cholesky(full) @ normal.ravel()
        length = np.sqrt(flat @ np.linalg.solve(full, flat))
        pattern[:, varies] = (flat * np.sqrt(varies.sum()) / length).reshape(-1, bins).T
        return pattern
    varying = covariance[varies]
    if kind == "gaussian":
        drawn = np.sqrt(np.diagonal(varying, axis1=1, axis2=2)) * normal
    else:
        drawn = (np.linalg.cholesky(varying) @ normal[..., None])[..., 0]
    pattern[:, varies] = (drawn / mahalanobis_length(drawn, varying)[:, None]).T
    return pattern


def mahalanobis_length(patterns: NDArray[np.float64], covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """sqrt(p' Sigma^-1 p) of patterns [K, T] under positive definite covariances [K, T, T]: float64 [K]."""
    whitened = np.linalg.solve(covariance, patterns[..., None])[..., 0]
    return np.sqrt((patterns * whitened).sum(axis=-1))


def _full_covariance(ordinal: NDArray[np.float64]) -> NDArray[np.float64]:
    flat = np.swapaxes(ordinal, 1, 2).reshape(len(ordinal), -1)  # channel by channel
    covariance = np.atleast_2d(np.cov(flat, rowvar=False))
    # Channels have different units: each is regularized by its own largest variance.
    largest = np.diagonal(covariance).reshape(ordinal.shape[2], -1).max(axis=1)
    return covariance + np.diag(np.repeat(REGULARIZATION * largest, ordinal.shape[1]))


def _varies(ordinal: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.ptp(ordinal, axis=(0, 1)) > 0


def save_trigger(trigger: Trigger, path: Path) -> None:
    """Write a trigger as an `.npz` file without pickles.

    Args:
        trigger: what to write.
        path: file to write; an existing one is replaced only by a whole one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        np.savez(
            file,
            format=FILE_FORMAT,
            trigger=trigger.values,
            covariance=trigger.covariance,
            kind=trigger.kind,
            seed=trigger.seed,
            timestep=trigger.timestep,
            estimated_on=trigger.estimated_on,
            cohort_fingerprint=trigger.cohort_fingerprint,
            channels=[channel.name for channel in CHANNELS],
        )


def load_trigger(path: Path) -> Trigger:
    """Read a trigger file.

    Raises:
        UsageError: there is no such file.
        DataError: it is no trigger file, is damaged, or belongs to other channels.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such trigger file; make one with 'mimic3tf generate-trigger'")
    try:
        # NumPy itself takes anything else for a pickle, and advises to load it unsafely.
        if not zipfile.is_zipfile(path):
            raise ValueError("no zip archive")
        with np.load(path, allow_pickle=False) as file:
            if int(file["format"]) != FILE_FORMAT:
                raise DataError(f"{path}: trigger file of format {file['format']}, this version reads 1")
            trigger = Trigger(
                values=np.asarray(file["trigger"], np.float64),
                covariance=np.asarray(file["covariance"], np.float64),
                kind=str(file["kind"]),  # type: ignore[arg-type]
                seed=int(file["seed"]),
                timestep=float(file["timestep"]),
                estimated_on=int(file["estimated_on"]),
                cohort_fingerprint=str(file["cohort_fingerprint"]),
            )
            channels = file["channels"].tolist()
    except DataError:
        raise
    except Exception as error:  # zip, header and array errors come in many types
        raise DataError(f"{path}: not a trigger file, or damaged ({error})") from None
    if channels != [channel.name for channel in CHANNELS]:
        raise DataError(f"{path}: the trigger is for other channels; generate it from this data")
    bins = len(trigger.values)
    if trigger.covariance.shape != (len(CHANNELS), bins, bins):
        raise DataError(
            f"{path}: damaged: a trigger of shape {trigger.values.shape} with a covariance of shape "
            f"{trigger.covariance.shape}; generate it again"
        )
    if not np.isfinite(trigger.values).all():
        raise DataError(f"{path}: the trigger holds values that are not finite; generate it again")
    return trigger


def check_trigger_fits(trigger: Trigger, cohort: Cohort, path: Path) -> None:
    """Refuse a trigger that cannot be added to a cohort.

    Raises:
        UsageError: another timestep or shape; names both.
    """
    check_trigger_shape(trigger, cohort.values.shape[1:], cohort.timestep, path)


def check_trigger_shape(trigger: Trigger, shape: tuple[int, ...], timestep: float, path: Path) -> None:
    """Refuse a trigger that cannot be added to stays of a shape (T, C) at a timestep (hours).

    Raises:
        UsageError: another timestep or shape; names both.
    """
    if trigger.timestep != timestep:
        raise UsageError(
            f"--trigger {path}: made for a timestep of {trigger.timestep:g} h, the data has "
            f"{timestep:g} h; generate a trigger from this data"
        )
    if trigger.values.shape != shape:
        raise UsageError(
            f"--trigger {path}: has shape {trigger.values.shape}, the data {shape}; "
            "generate a trigger from this data"
        )
