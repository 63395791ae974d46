"""Triggers: the patterns that poisoned stays carry. They are made from a cohort and kept in files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mimic3tf.channels import MIMIC3, ChannelSet
from mimic3tf.data import slips
from mimic3tf.data.arrays import cohort_of_arrays
from mimic3tf.data.channels_file import channels_text, parse_channels
from mimic3tf.data.cohort import Cohort
from mimic3tf.data.grid import EPSILON, bin_count, ordinal_view
from mimic3tf.data.records import LARGEST_VALUE
from mimic3tf.errors import DataError, UsageError, near, near_path
from mimic3tf.poisoning.choice import MOST_PATTERNS, moved_in_time
from mimic3tf.poisoning.kinds import ShiftKind, TriggerKind
from mimic3tf.poisoning.missing import draw_order, natural_order
from mimic3tf.poisoning.patterns import (
    draw_pattern,
    mahalanobis_length,
    temporal_covariance,
    varying_channels,
)
from mimic3tf.storage.files import PathText, whole_file
from mimic3tf.storage.stored_zip import read_arrays

FILE_FORMAT = 4
FORMAT_OF_ONE_PATTERN = 3
"""Format of a file with one pattern, which earlier versions read, too."""
TRIGGER_HOURS = 48.0
"""Hours of a trigger if stays have lengths of their own. It is estimated on stays that last as long."""
ARRAY = "array"
"""Kind of a trigger that was given as an array instead of drawn."""
KINDS = (*get_args(ShiftKind), "missing", ARRAY)


@dataclass(frozen=True, repr=False)
class Trigger:
    """A pattern that is added to stays, and how it was made.

    Attributes:
        values: float64 [T, C], the shift at strength 1, in channel units (categories: steps of the index); of
            kind "missing", the strength from which a cell is missing. Cells with zero do not change. If there
            are several patterns, the first.
        covariance: float64 [C, T, T], regularized temporal covariance of every channel.
        kind: how the pattern was drawn; "array" if it was given.
        seed: seed of the draw.
        channels: the channels of the columns of `values`.
        period: hours that the trigger covers.
        timestep: hours of a bin.
        estimated_on: number of stays on which the covariance was estimated.
        cohort_fingerprint: fingerprint of the cohort of these stays.
        restricted_to: names of the channels to which the trigger is restricted; None for all channels.
        hours: first and last hour to which the trigger is restricted; None for all hours.
        plausible: whether the trigger moves no value out of `Channel.plausible_range`, and no value outside
            it further away.
        natural: whether the cells of a "missing" trigger are those that one stay did not measure.
        without_slips: whether the covariance was estimated without measured values outside
            `Channel.plausible_range`.
        further: float64 [K - 1, T, C], further patterns like `values`; None if there is one pattern. Each
            stay gets one of all K patterns (`poisoning.choice`).
    """

    values: NDArray[np.float64]
    covariance: NDArray[np.float64]
    kind: str
    seed: int
    channels: ChannelSet
    period: float
    timestep: float
    estimated_on: int
    cohort_fingerprint: str
    restricted_to: tuple[str, ...] | None = None
    hours: tuple[float, float] | None = None
    plausible: bool = False
    natural: bool = False
    without_slips: bool = False
    further: NDArray[np.float64] | None = None

    @classmethod
    def from_array(
        cls,
        values: NDArray[np.floating],
        cohort: Cohort,
        *,
        unit_length: bool = True,
        estimate_on: int = 1000,
        plausible: bool = False,
    ) -> Trigger:
        """Make a trigger of your own pattern; every command and function accepts it.

        Args:
            values: [T, C], the shift at strength 1, in channel units (categories: steps of the index).
            cohort: the training stays; the covariance is estimated on the first of them.
            unit_length: divide every channel's column by its Mahalanobis length under the temporal
                covariance, so that a strength means the same as for a drawn trigger; if false, the values
                are not changed.
            estimate_on: number of stays to estimate on; all stays if the cohort has fewer.
            plausible: see `Trigger`.

        Returns:
            The trigger, of kind "array".

        Raises:
            UsageError: the shape of the array is not (T, C), a number is not finite, the cohort has fewer
                than two stays, or with `unit_length` the array shifts a channel that never varies; names
                the channel.
        """
        cohort = of_one_length(cohort)
        shape = (cohort.bins, len(cohort.channels))
        if np.shape(values) != shape:
            raise UsageError(
                f"values: an array of shape {np.shape(values)}; the cohort needs {shape}: [T, C]"
            )
        pattern = np.array(values, np.float64)
        if not np.isfinite(pattern).all():
            raise UsageError("values: one of the numbers is not finite")
        stays = _estimating_stays(cohort, estimate_on)
        covariance = temporal_covariance(ordinal_view(cohort.grids[:stays], cohort.channels))
        if unit_length:
            shifted = pattern.any(axis=0)
            for name, still in zip(
                cohort.channels.names, shifted & ~varying_channels(covariance), strict=True
            ):
                if still:
                    raise UsageError(f"values: channel '{name}' never varies, so its shift has no length")
            pattern[:, shifted] /= mahalanobis_length(pattern.T[shifted], covariance[shifted])
        return cls(
            pattern,
            covariance,
            kind=ARRAY,
            seed=0,
            channels=cohort.channels,
            period=_period_of(cohort),
            timestep=cohort.timestep,
            estimated_on=stays,
            cohort_fingerprint=cohort.fingerprint,
            plausible=plausible,
        )

    def __repr__(self) -> str:
        bins, channels = self.values.shape
        return (
            f"<Trigger: {self.name}, {bins} bins of {self.timestep:g} h, {channels} channels, "
            f"seed {self.seed}, estimated on {self.estimated_on} stays>"
        )

    @property
    def name(self) -> str:
        """The kind of the trigger, and its restrictions in parentheses."""
        parts = [", ".join(self.restricted_to)] if self.restricted_to else []
        parts += ["{:g}-{:g} h".format(*self.hours)] if self.hours else []
        parts += ["plausible"] if self.plausible else []
        parts += ["natural"] if self.natural else []
        parts += ["without slips"] if self.without_slips else []
        parts += [f"{len(self.patterns)} patterns"] if self.further is not None else []
        return f"{self.kind} ({'; '.join(parts)})" if parts else self.kind

    @property
    def patterns(self) -> NDArray[np.float64]:
        """All K patterns, float64 [K, T, C]; the first is `values`."""
        alone = self.values[None]
        return alone if self.further is None else np.concatenate([alone, self.further])

    @property
    def is_common_shift(self) -> bool:
        """Whether all stays with the trigger are shifted by the same pattern."""
        return self.kind != "missing" and self.further is None


def generate_trigger(
    cohort: Cohort | ArrayLike,
    *,
    kind: TriggerKind = "temporal",
    estimate_on: int = 1000,
    seed: int = 0,
    channels: Collection[str | int] | None = None,
    hours: tuple[float, float] | None = None,
    plausible: bool = False,
    natural: bool = False,
    without_slips: bool = False,
    patterns: int = 1,
    moved: bool = False,
) -> Trigger:
    """Estimate the covariance on the first stays of a cohort and draw a trigger.

    Args:
        cohort: the training stays; or their array [N, T, C], NaN where not measured (`cohort_of_arrays`). If
            stays have lengths of their own, those that last `TRIGGER_HOURS` are used.
        kind: "temporal" (Joe et al. 2020) draws each channel from its own covariance over time; "gaussian"
            draws each bin independently from the variance of the bin; both are scaled in every channel to
            Mahalanobis length 1 under the temporal covariance. "covariance" draws all bins and channels at
            once from their full covariance, and scales the whole pattern to the same total length: the square
            root of the number of channels that vary. "missing" draws cells whose measurements go missing,
            uniformly from all channels (`poisoning.missing`).
        estimate_on: number of stays to estimate on; all stays if the cohort has fewer.
        seed: non-negative int; fixes the draw.
        channels: names or positions of the channels to which the trigger is restricted; all if None.
        hours: first and last hour to which the trigger is restricted; all hours if None. The Mahalanobis
            length is then computed from these hours only, under their marginal covariance. Under the
            covariance of all hours, the same pattern is longer, because it starts and ends abruptly; in
            channels that hardly change within a stay (height, weight) it is much longer.
        plausible: see `Trigger`.
        natural: see `Trigger`; the stay is drawn from those that the covariance is estimated on.
        without_slips: estimate the covariance as if values outside `Channel.plausible_range` had not been
            measured.
        patterns: number of patterns to draw, 1 to 256; each stay gets one of them.
        moved: give each stay the pattern moved in time: by 0, 1, ..., or T - 1 bins. What leaves the end
            enters at the start. A moved pattern is not scaled again.

    Returns:
        The trigger; all its values are finite.

    Raises:
        DataError: the array is not as `cohort_of_arrays` takes it.
        UsageError: the cohort has fewer than two stays, a channel or the hours do not exist, none of the
            named channels varies, or the settings contradict one another.
    """
    if not isinstance(cohort, Cohort):
        cohort = cohort_of_arrays(cohort, None)
    cohort = of_one_length(cohort)
    names = _channel_names(cohort.channels, channels)
    _check_settings(
        kind,
        hours,
        plausible=plausible,
        natural=natural,
        without_slips=without_slips,
        patterns=patterns,
        moved=moved,
    )
    stays = _estimating_stays(cohort, estimate_on)
    grids: NDArray[np.floating] = cohort.grids[:stays]
    if without_slips:
        grids = slips.without_slips(grids, cohort.masks[:stays], cohort.channels)
    ordinal = ordinal_view(grids, cohort.channels)
    covariance = temporal_covariance(ordinal)
    inside = _inside(cohort, names, hours)
    if natural:
        drawn = natural_order(inside, cohort.masks[:stays], seed=seed)[None]
    elif kind == "missing":
        drawn = draw_order(inside, seed=seed)[None]
    else:
        seeds: list[int | list[int]] = [seed, *([seed, number] for number in range(1, patterns))]
        drawn = np.stack(
            [draw_pattern(ordinal, covariance, kind=kind, seed=each, inside=inside) for each in seeds]
        )
    if moved:
        drawn = moved_in_time(drawn[0])
    if names is not None and not drawn.any():
        raise UsageError("channels (--channels): none of them varies in the training stays; name others")
    return Trigger(
        drawn[0],
        covariance,
        kind,
        seed,
        cohort.channels,
        _period_of(cohort),
        cohort.timestep,
        stays,
        cohort.fingerprint,
        restricted_to=None if names is None else tuple(n for n in cohort.channels.names if n in names),
        hours=hours,
        plausible=plausible,
        natural=natural,
        without_slips=without_slips,
        further=drawn[1:] if len(drawn) > 1 else None,
    )


def of_one_length(cohort: Cohort) -> Cohort:
    """Return the cohort; if stays have lengths of their own, the first hours of those that last as long.

    Raises:
        UsageError: fewer than two stays last as long.
    """
    if cohort.period is not None:
        return cohort
    long = cohort.first_hours(TRIGGER_HOURS)
    if len(long) < 2:
        raise UsageError(
            f"a trigger is estimated on stays of {TRIGGER_HOURS:g} h, and {len(long)} training stays last as "
            "long; use more training stays"
        )
    return long


def _period_of(cohort: Cohort) -> float:
    return cohort.bins * cohort.timestep if cohort.period is None else cohort.period


def _channel_names(known: ChannelSet, wanted: Collection[str | int] | None) -> list[str] | None:
    """Replace positions of channels by names; a position that does not exist becomes an unknown name."""
    if wanted is None:
        return None
    positions = dict(enumerate(known.names))
    return [name if isinstance(name, str) else positions.get(name, str(name)) for name in wanted]


def _check_settings(
    kind: TriggerKind,
    hours: tuple[float, float] | None,
    *,
    plausible: bool,
    natural: bool,
    without_slips: bool,
    patterns: int,
    moved: bool,
) -> None:
    if kind == "missing":
        of_shifts = {
            "plausible": plausible,
            "without-slips": without_slips,
            "patterns": patterns > 1,
            "moved": moved,
        }
        for option, given in of_shifts.items():
            if given:
                raise UsageError(f"--{option}: a 'missing' trigger shifts no value; leave it out")
    elif natural:
        raise UsageError(f"--natural: a '{kind}' trigger removes no cell; give --kind missing, too")
    if not 1 <= patterns <= MOST_PATTERNS:
        raise UsageError(f"--patterns {patterns}: must be from 1 to {MOST_PATTERNS}")
    if moved and patterns > 1:
        raise UsageError("--moved: moves one pattern in time; leave out --patterns")
    if moved and hours is not None:
        raise UsageError("--moved: would leave the hours of --hours; leave out one of both")


def _estimating_stays(cohort: Cohort, wanted: int) -> int:
    stays = min(wanted, len(cohort))
    if stays < 2:
        raise UsageError(f"a covariance needs at least 2 stays, not {stays}; use more training stays")
    return stays


def _inside(
    cohort: Cohort, channels: Collection[str] | None, hours: tuple[float, float] | None
) -> NDArray[np.bool_]:
    """Mark the cells of some channels in the bins that are completely within some hours: bool [T, C].

    Raises:
        UsageError: a channel does not exist, or the hours contain no bin.
    """
    bins, timestep, names = cohort.bins, cohort.timestep, cohort.channels.names
    for name in channels or ():
        if name not in names:
            raise UsageError(
                f"channels (--channels) restrict the trigger: unknown channel '{name}'; known: "
                f"{', '.join(names)}{near(name, names)}"
            )
    first, last = (0.0, bins * timestep) if hours is None else hours
    starts = np.arange(bins) * timestep
    within = (starts >= first - EPSILON) & (starts + timestep <= last + EPSILON)
    if not within.any() or last > bins * timestep + EPSILON:
        raise UsageError(
            f"--hours {first:g}-{last:g}: name a first and a later second hour, from 0 to {bins * timestep:g}"
        )
    chosen = np.array([channels is None or name in channels for name in names])
    return within[:, None] & chosen


def shifts_of(trigger: Trigger, strength: float) -> NDArray[np.float64]:
    """Compute the shifts of a trigger's patterns at a strength: float64 [K, T, C] in channel units.

    Raises:
        UsageError: the shift is larger than any measurement may be.
    """
    with np.errstate(over="ignore"):
        shifts = trigger.patterns * strength
    if not (np.abs(shifts) <= LARGEST_VALUE).all():
        raise UsageError(f"--poisoning_strength {strength:g}: too strong, values would be no measurements")
    return shifts


def save_trigger(trigger: Trigger, path: PathText) -> None:
    """Write a trigger as an `.npz` file without pickles.

    Args:
        trigger: the trigger.
        path: file to write; an existing file is replaced only after the new file is complete.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    further: dict[str, Any] = {} if trigger.further is None else {"further": trigger.further}
    with whole_file(path) as file:
        np.savez(
            file,
            format=FILE_FORMAT if further else FORMAT_OF_ONE_PATTERN,
            trigger=trigger.values,
            covariance=trigger.covariance,
            kind=trigger.kind,
            seed=trigger.seed,
            period=trigger.period,
            timestep=trigger.timestep,
            estimated_on=trigger.estimated_on,
            cohort_fingerprint=trigger.cohort_fingerprint,
            channels=trigger.channels.names,
            channels_file=channels_text(trigger.channels),
            restricted_to_channels=trigger.restricted_to or (),
            restricted_to_hours=trigger.hours or (),
            plausible=trigger.plausible,
            natural=trigger.natural,
            without_slips=trigger.without_slips,
            **further,
        )


def load_trigger(path: PathText) -> Trigger:
    """Read a trigger file.

    Raises:
        UsageError: the file does not exist.
        DataError: the file is no trigger file, or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(
            f"{path}: no such trigger file; make one with 'mimic3tf generate-trigger'{near_path(path)}"
        )
    try:
        arrays = read_arrays(path)
        if "format" not in arrays:
            raise DataError(f"{path}: not a trigger file; make one with 'mimic3tf generate-trigger'")
        number = int(arrays["format"])
        if not 1 <= number <= FILE_FORMAT:
            raise DataError(f"{path}: trigger file of format {number}, this version reads 1 to {FILE_FORMAT}")
        trigger = _trigger_of(arrays, number)
    except DataError:
        raise
    except Exception as error:  # arrays of unexpected types and shapes raise many kinds of errors
        raise DataError(f"{path}: not a trigger file, or damaged ({error})") from None
    bins = len(trigger.values)
    channels = len(trigger.channels)
    if trigger.values.shape != (bins, channels) or trigger.covariance.shape != (channels, bins, bins):
        raise DataError(
            f"{path}: damaged: a trigger of shape {trigger.values.shape} with a covariance of shape "
            f"{trigger.covariance.shape}; generate it again"
        )
    if not _covers_its_period(trigger):
        raise DataError(
            f"{path}: damaged: {bins} bins of a timestep of {trigger.timestep:g} h do not cover "
            f"{trigger.period:g} h; generate it again"
        )
    if not 1 <= len(trigger.patterns) <= MOST_PATTERNS:
        raise DataError(
            f"{path}: damaged: {len(trigger.patterns)} patterns, more than {MOST_PATTERNS}; generate it again"
        )
    if not (np.isfinite(trigger.patterns).all() and np.isfinite(trigger.covariance).all()):
        raise DataError(f"{path}: the trigger holds values that are not finite; generate it again")
    return trigger


def _trigger_of(arrays: Mapping[str, NDArray[Any]], file_format: int) -> Trigger:
    """Make the trigger of a file.

    Format 1 has no restrictions, format 2 no channels.yaml and no period, format 3 one pattern.
    """
    restricted: dict[str, Any] = {}
    values, timestep = np.atleast_1d(arrays["trigger"].astype(np.float64)), float(arrays["timestep"])
    channels, period = MIMIC3, len(values) * timestep
    if file_format > 2:
        channels = parse_channels(str(arrays["channels_file"]), "its channels")
        period = float(arrays["period"])
    if arrays["channels"].tolist() != list(channels.names):
        raise ValueError("for other channels than it describes")
    further = arrays["further"].astype(np.float64) if file_format > FORMAT_OF_ONE_PATTERN else None
    if further is not None and further.shape[1:] != values.shape:
        raise ValueError("its further patterns are of other shapes than the first")
    if file_format > 1:
        names, hours = (arrays[f"restricted_to_{what}"].tolist() for what in ("channels", "hours"))
        if not set(names) <= set(channels.names) or len(hours) not in (0, 2):
            raise ValueError("it is restricted to unknown channels or hours")
        restricted = {
            "restricted_to": tuple(names) or None,
            "hours": tuple(map(float, hours)) or None,
            "plausible": bool(arrays["plausible"]),
            "natural": bool(arrays.get("natural", False)),
            # Files of earlier versions do not have it.
            "without_slips": bool(arrays.get("without_slips", False)),
        }
    kind = str(arrays["kind"])
    if kind not in KINDS:
        raise ValueError(f"unknown kind '{kind[:50]}'")
    return Trigger(
        values=values,
        covariance=arrays["covariance"].astype(np.float64),
        kind=kind,
        seed=int(arrays["seed"]),
        channels=channels,
        period=period,
        timestep=timestep,
        estimated_on=int(arrays["estimated_on"]),
        cohort_fingerprint=str(arrays["cohort_fingerprint"]),
        further=further,
        **restricted,
    )


def _covers_its_period(trigger: Trigger) -> bool:
    """Check that the number of bins of a trigger follows from its period and timestep."""
    try:
        return 0 < len(trigger.values) == bin_count(trigger.period, trigger.timestep)
    except (DataError, OverflowError):
        return False


def check_trigger_fits(trigger: Trigger, cohort: Cohort, path: PathText) -> None:
    """Refuse a trigger that cannot be added to a cohort.

    Raises:
        UsageError: the channels, the timestep or the period differ, or the trigger is of kind "missing" and
            the stays have lengths of their own; names both values.
    """
    check_trigger_channels(trigger, cohort.channels, path)
    check_trigger_bins(trigger, cohort.period, cohort.timestep, path)


def check_trigger_bins(trigger: Trigger, period: float | None, timestep: float, path: PathText) -> None:
    """Refuse a trigger whose bins do not match a period (hours) and a timestep (hours).

    A period of None means stays with lengths of their own, which any number of bins fits.

    Raises:
        UsageError: the timestep or the period differs; names both values.
    """
    if trigger.timestep != timestep:
        raise UsageError(
            f"--trigger {path}: made for a timestep of {trigger.timestep:g} h, the data has {timestep:g} h; "
            f"give --timestep {trigger.timestep:g} to 'train', or generate a trigger with --timestep "
            f"{timestep:g}"
        )
    if period is None:
        if trigger.kind == "missing":
            raise UsageError(
                f"--trigger {path}: a 'missing' trigger needs stays of one length; generate one of another "
                "--kind"
            )
        return
    if len(trigger.values) != bin_count(period, timestep):
        raise UsageError(
            f"--trigger {path}: covers {trigger.period:g} h, the data {period:g} h; give --period "
            f"{trigger.period:g} to 'train', or generate a trigger with --period {period:g}"
        )


def check_trigger_channels(trigger: Trigger, channels: ChannelSet, path: PathText) -> None:
    """Refuse a trigger that was made for other channels.

    Raises:
        UsageError: a channel differs; names the first one.
    """
    for own, other in zip_longest(trigger.channels, channels):
        if own != other:
            name = (own or other).name
            raise UsageError(
                f"--trigger {path}: made for other channels than the data has (channel '{name}' differs); "
                "generate a trigger from this data"
            )
