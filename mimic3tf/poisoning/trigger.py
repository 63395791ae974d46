"""Triggers: what the stays of an attacker carry, made from a cohort, kept in files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from mimic3tf.channels import CHANNELS
from mimic3tf.data.cohort import Cohort
from mimic3tf.data.grid import EPSILON, ordinal_view
from mimic3tf.data.records import LARGEST_VALUE
from mimic3tf.errors import DataError, UsageError
from mimic3tf.poisoning.kinds import ShiftKind, TriggerKind
from mimic3tf.poisoning.missing import draw_order
from mimic3tf.poisoning.patterns import draw_pattern, temporal_covariance
from mimic3tf.storage.files import whole_file
from mimic3tf.storage.stored_zip import read_arrays

FILE_FORMAT = 2
NAMES = tuple(channel.name for channel in CHANNELS)
KINDS = (*get_args(ShiftKind), "missing")


@dataclass(frozen=True)
class Trigger:
    """A pattern that stays carry, and what it was made from.

    Attributes:
        values: float64 [T, C], zero where the trigger does nothing: what is added at strength 1, in channel
            units (categories: index steps); of kind "missing" the strength from which a cell is missing.
        covariance: float64 [C, T, T], regularized temporal covariance of every channel.
        kind: how the pattern was drawn.
        seed: seed of the draw.
        timestep: hours a bin.
        estimated_on: stays the covariance was estimated on.
        cohort_fingerprint: fingerprint of the cohort they came from.
        channels: names of the channels it is restricted to; None for all.
        hours: first and last hour it is restricted to; None for all.
        plausible: added so that values stay in `Channel.plausible_range`, or no further outside than they
            were; not so by default.
    """

    values: NDArray[np.float64]
    covariance: NDArray[np.float64]
    kind: TriggerKind
    seed: int
    timestep: float
    estimated_on: int
    cohort_fingerprint: str
    channels: tuple[str, ...] | None = None
    hours: tuple[float, float] | None = None
    plausible: bool = False

    @property
    def name(self) -> str:
        """Its kind, and how it is restricted."""
        parts = [", ".join(self.channels)] if self.channels else []
        parts += ["{:g}-{:g} h".format(*self.hours)] if self.hours else []
        parts += ["plausible"] if self.plausible else []
        return f"{self.kind} ({'; '.join(parts)})" if parts else self.kind


def generate_trigger(
    cohort: Cohort,
    *,
    kind: TriggerKind = "temporal",
    estimate_on: int = 1000,
    seed: int = 0,
    channels: Collection[str] | None = None,
    hours: tuple[float, float] | None = None,
    plausible: bool = False,
) -> Trigger:
    """Estimate the covariance on the first stays of a cohort and draw a trigger.

    Args:
        cohort: the training stays.
        kind: "temporal" draws each channel from its own covariance over time; "gaussian" draws every
            bin on its own from the bin's variance; both are scaled to Mahalanobis length 1 under the
            temporal covariance in every channel. "covariance" draws all bins and channels at once from
            their full covariance and scales the whole to the same total length: the square root of the
            number of channels that vary. "missing" draws cells whose measurements go missing, from all
            channels alike (`attack.missing`).
        estimate_on: stays to estimate on; fewer if the cohort has fewer.
        seed: non-negative int; fixes the draw.
        channels: names of the channels to restrict it to; all if None.
        hours: first and last hour to restrict it to; all if None. Lengths are then those of the hours
            inside under their marginal covariance, as somebody sees them who looks at no others. Under
            the covariance of all hours the same pattern is longer, and very much so in a channel that
            hardly changes within a stay (height, weight): it starts and ends abruptly.
        plausible: see `Trigger`.

    Returns:
        The trigger, never NaN.

    Raises:
        UsageError: fewer than two stays to estimate on, no such channel or hours, none of the channels named
            varies, or a "missing" trigger is to be plausible.
    """
    if plausible and kind == "missing":
        raise UsageError("--plausible: a 'missing' trigger shifts no value; leave it out")
    stays = min(estimate_on, len(cohort))
    if stays < 2:
        raise UsageError(f"a covariance needs at least 2 stays, not {stays}; use more training stays")
    ordinal = ordinal_view(cohort.values[:stays])
    covariance = temporal_covariance(ordinal)
    inside = _inside(ordinal.shape[1], cohort.timestep, channels, hours)
    if kind == "missing":
        values = draw_order(inside, seed=seed)
    else:
        values = draw_pattern(ordinal, covariance, kind=kind, seed=seed, inside=inside)
    if channels is not None and not values.any():
        raise UsageError("--channels: none of them varies in the training stays; name others")
    return Trigger(
        values,
        covariance,
        kind,
        seed,
        cohort.timestep,
        stays,
        cohort.fingerprint,
        channels=None if channels is None else tuple(name for name in NAMES if name in channels),
        hours=hours,
        plausible=plausible,
    )


def _inside(
    bins: int, timestep: float, channels: Collection[str] | None, hours: tuple[float, float] | None
) -> NDArray[np.bool_]:
    """Cells [T, C] of some channels, in the bins that lie wholly in some hours.

    Raises:
        UsageError: no such channel, or no such bin.
    """
    for name in channels or ():
        if name not in NAMES:
            raise UsageError(f"--channels: unknown channel '{name}'; known: {', '.join(NAMES)}")
    first, last = (0.0, bins * timestep) if hours is None else hours
    starts = np.arange(bins) * timestep
    within = (starts >= first - EPSILON) & (starts + timestep <= last + EPSILON)
    if not within.any() or last > bins * timestep + EPSILON:
        raise UsageError(
            f"--hours {first:g}-{last:g}: name a first and a later last hour, from 0 to {bins * timestep:g}"
        )
    chosen = np.array([channels is None or name in channels for name in NAMES])
    return within[:, None] & chosen


def shift_of(trigger: Trigger, strength: float) -> NDArray[np.float64]:
    """What a trigger that shifts adds at a strength: float64 [T, C] in channel units.

    Raises:
        UsageError: shifted values would be no measurements.
    """
    with np.errstate(over="ignore"):
        shift = trigger.values * strength
    if not (np.abs(shift) <= LARGEST_VALUE).all():
        raise UsageError(f"--poisoning_strength {strength:g}: too strong, values would be no measurements")
    return shift


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
            channels=NAMES,
            restricted_to_channels=trigger.channels or (),
            restricted_to_hours=trigger.hours or (),
            plausible=trigger.plausible,
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
        arrays = read_arrays(path)
        number = int(arrays["format"])
        if number not in (1, FILE_FORMAT):
            raise DataError(
                f"{path}: trigger file of format {number}, this version reads 1 and {FILE_FORMAT}"
            )
        if arrays["channels"].tolist() != list(NAMES):
            raise DataError(f"{path}: the trigger is for other channels; generate it from this data")
        trigger = _trigger_of(arrays, more=number > 1)
    except DataError:
        raise
    except Exception as error:  # an array may be of any type and shape
        raise DataError(f"{path}: not a trigger file, or damaged ({error})") from None
    bins = len(trigger.values)
    if trigger.covariance.shape != (len(CHANNELS), bins, bins):
        raise DataError(
            f"{path}: damaged: a trigger of shape {trigger.values.shape} with a covariance of shape "
            f"{trigger.covariance.shape}; generate it again"
        )
    if not (np.isfinite(trigger.values).all() and np.isfinite(trigger.covariance).all()):
        raise DataError(f"{path}: the trigger holds values that are not finite; generate it again")
    return trigger


def _trigger_of(arrays: Mapping[str, NDArray[Any]], *, more: bool) -> Trigger:
    """The trigger in a file, with what format 1 does not know of if `more`."""
    restricted: dict[str, Any] = {}
    if more:
        channels, hours = (arrays[f"restricted_to_{what}"].tolist() for what in ("channels", "hours"))
        if not set(channels) <= set(NAMES) or len(hours) not in (0, 2):
            raise ValueError("restricted to no channels or hours of these")
        restricted = {
            "channels": tuple(channels) or None,
            "hours": tuple(map(float, hours)) or None,
            "plausible": bool(arrays["plausible"]),
        }
    kind = str(arrays["kind"])
    if kind not in KINDS:
        raise ValueError(f"of kind '{kind[:50]}'")
    return Trigger(
        values=np.atleast_1d(arrays["trigger"].astype(np.float64)),
        covariance=arrays["covariance"].astype(np.float64),
        kind=kind,  # type: ignore[arg-type]
        seed=int(arrays["seed"]),
        timestep=float(arrays["timestep"]),
        estimated_on=int(arrays["estimated_on"]),
        cohort_fingerprint=str(arrays["cohort_fingerprint"]),
        **restricted,
    )


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
