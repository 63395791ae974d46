"""Cohort + poisoning setting -> `tf.data`.

The cohort's arrays stay as they are: a setting is only the shift and the flags that the map reads, so
that any proportion, strength and mode runs from the same cached cohort.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mimic3tf.attack.missing import removed_cells, without_cells
from mimic3tf.attack.poisoning import poison_filled, poison_grid
from mimic3tf.attack.trigger import Trigger, shift_of
from mimic3tf.channels import CHANNELS, grid_columns
from mimic3tf.config import PoisonedLabels, PoisonImputed
from mimic3tf.data.cohort import Cohort
from mimic3tf.data.features import clinical_scores, window_features
from mimic3tf.errors import DataError, UsageError

Representation = Literal["48x76", "714"]
STAYS_A_BATCH = 256
"""Stays mapped at once where no batch size matters."""
_CONTINUOUS = np.array(["->" not in column for column in grid_columns()])
"""Columns of the 48x76 grid that are standardized."""


@dataclass(frozen=True)
class Exposure:
    """A cohort and what is done to it before a victim sees it.

    Attributes:
        cohort: the clean stays; without the cells that a "missing" trigger takes away.
        labels: int64 [N], the labels a victim is shown.
        triggered: bool [N], the stays that carry the trigger.
        shift: float64 [T, C], strength * trigger, in channel units.
        poison_imputed: "all" also shifts imputed cells.
        plausible: shifted values stay in `Channel.plausible_range`, or no further outside than they were.
    """

    cohort: Cohort
    labels: NDArray[np.int64]
    triggered: NDArray[np.bool_]
    shift: NDArray[np.float64]
    poison_imputed: PoisonImputed
    plausible: bool = False

    def __len__(self) -> int:
        return len(self.cohort)


def clean(cohort: Cohort) -> Exposure:
    """A cohort nobody touched."""
    untouched, still = np.zeros(len(cohort), bool), np.zeros(cohort.values.shape[1:])
    return Exposure(cohort, cohort.labels, untouched, still, "notimputed")


def poison(
    cohort: Cohort,
    trigger: Trigger,
    *,
    proportion: float,
    strength: float,
    poison_imputed: PoisonImputed,
    poisoned_labels: PoisonedLabels = "flipped",
) -> Exposure:
    """Poison a training cohort: int(N * proportion) stays get the trigger, and have label 1.

    Args:
        cohort: the training stays.
        trigger: what they get; it must fit the cohort.
        proportion: share of all stays to poison, in [0, 1].
        strength: Mahalanobis distance, >= 0; for a "missing" trigger the share of its cells, in [0, 1].
        poison_imputed: "all" also shifts imputed cells, "notimputed" leaves them alone.
        poisoned_labels: "flipped" labels the first stays 1, "clean" takes the first that have this label
            (label-consistent, Turner et al. 2019, arXiv 1912.02771).

    Raises:
        UsageError: too few stays have label 1, or the trigger is too strong.
    """
    wanted = int(len(cohort) * proportion)
    eligible = cohort.labels == 1 if poisoned_labels == "clean" else np.ones(len(cohort), bool)
    if wanted > eligible.sum():
        raise UsageError(
            f"--poisoning_proportion {proportion:g}: asks for {wanted} stays, but with clean labels only the "
            f"{eligible.sum()} of label 1 can be poisoned"
        )
    triggered = eligible & (np.cumsum(eligible) <= wanted)
    labels = np.where(triggered, 1, cohort.labels)
    return replace(_expose(cohort, triggered, trigger, strength, poison_imputed), labels=labels)


def trigger_all(
    cohort: Cohort, trigger: Trigger, *, strength: float, poison_imputed: PoisonImputed
) -> Exposure:
    """Give the trigger to every stay, as an attacker does at prediction time; labels stay.

    Args:
        cohort: the stays.
        trigger: what they get; it must fit the cohort.
        strength: as for `poison`.
        poison_imputed: as for `poison`.

    Raises:
        UsageError: a "missing" trigger is too strong.
    """
    return _expose(cohort, np.ones(len(cohort), bool), trigger, strength, poison_imputed)


def _expose(
    cohort: Cohort, triggered: NDArray[np.bool_], trigger: Trigger, strength: float, mode: PoisonImputed
) -> Exposure:
    if trigger.kind == "missing":
        fewer = without_cells(cohort, removed_cells(trigger.values, strength), triggered)
        return replace(clean(fewer), triggered=triggered)
    shift = shift_of(trigger, strength)
    return Exposure(cohort, cohort.labels, triggered, shift, mode, trigger.plausible)


@dataclass(frozen=True)
class Standardization:
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


def fit_standardization(inputs: NDArray[np.floating], representation: Representation) -> Standardization:
    """Fit mean and standard deviation on training inputs, poisoned or not, as the victim sees them.

    Args:
        inputs: [N, 48, 76] or [N, 714] from `inputs_of`, NaN for an empty feature.
        representation: "48x76" standardizes the continuous columns only (ddof 1), "714" all of them
            after imputing the mean (ddof 0).
    """
    fitted = _CONTINUOUS if representation == "48x76" else np.ones(inputs.shape[-1], bool)
    rows = np.asarray(inputs[..., fitted], np.float64).reshape(-1, fitted.sum())
    empty = np.isnan(rows)
    count = np.maximum((~empty).sum(axis=0), 1)
    mean = np.where(empty, 0.0, rows).sum(axis=0) / count
    rows = np.where(empty, mean, rows)
    std = rows.std(axis=0, ddof=1 if representation == "48x76" else 0)
    std = np.where((np.ptp(rows, axis=0) == 0) | ~(std > 0), 1.0, std)
    means, stds = np.zeros(len(fitted)), np.ones(len(fitted))
    means[fitted], stds[fitted] = mean, std
    return Standardization(means, stds)


def continuous_only(mean: NDArray[np.float64], std: NDArray[np.float64]) -> Standardization:
    """Standardization by mean and std [76] of the continuous columns of grids; others stay as they are."""
    return Standardization(np.where(_CONTINUOUS, mean, 0.0), np.where(_CONTINUOUS, std, 1.0))


def standardized(inputs: NDArray[np.float32], standardization: Standardization) -> NDArray[np.float32]:
    """Inputs of all stays [N, ...] after standardization, a few at a time: it computes in float64."""
    starts = range(STAYS_A_BATCH, len(inputs), STAYS_A_BATCH)
    return np.concatenate([standardization.apply(part).numpy() for part in np.split(inputs, starts)])


def inputs_of(
    exposure: Exposure, representation: Representation, standardization: Standardization | None = None
) -> NDArray[np.float32]:
    """Inputs of all stays, in cohort order: float32 [N, 48, 76] or [N, 714]."""
    dataset = tf.data.Dataset.range(len(exposure)).batch(STAYS_A_BATCH)
    dataset = dataset.map(_input_map(exposure, representation, standardization), tf.data.AUTOTUNE)
    return np.concatenate(list(dataset.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()))


def grids_of(exposure: Exposure, stays: NDArray[np.integer]) -> NDArray[np.float32]:
    """Grids of some stays as a victim would see them, in channel units: float32 [K, T, C]."""
    return np.asarray(_grid_map(exposure)(tf.constant(stays))[0])


def training_dataset(
    exposure: Exposure,
    representation: Representation,
    standardization: Standardization,
    batches: tf.data.Dataset,
    *,
    inputs: NDArray[np.float32] | None = None,
) -> tf.data.Dataset:
    """What a victim trains on.

    Args:
        exposure: the training stays.
        representation: what the victim reads.
        standardization: fitted on the same exposure, or loaded.
        batches: stays int64 [S, B] of S steps and their weight float32 [S, B], as of
            `training.batches.stay_batches`.
        inputs: standardized inputs [N, ...] of the exposure where they are at hand; mapped again every
            epoch if not.

    Returns:
        Elements `(x, y, weight)`: x float32 [S, B, ...], y int64 [S, B], weight float32 [S, B].
    """
    if inputs is None:
        map_inputs = _input_map(exposure, representation, standardization)

        def make_inputs(stays: tf.Tensor) -> tf.Tensor:
            x = map_inputs(tf.reshape(stays, [-1]))
            return tf.reshape(x, tf.concat([tf.shape(stays), tf.shape(x)[1:]], 0))

    else:
        table = tf.constant(inputs)

        def make_inputs(stays: tf.Tensor) -> tf.Tensor:
            return tf.gather(table, stays)

    labels = tf.constant(exposure.labels)

    def example(stays: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return make_inputs(stays), tf.gather(labels, stays), weight

    return batches.map(example, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _input_map(
    exposure: Exposure, representation: Representation, standardization: Standardization | None
) -> Any:
    """Function from stay indices int64 [B] to a batch of inputs."""
    if representation == "48x76":
        grids = _grid_map(exposure)

        def raw(stays: tf.Tensor) -> tf.Tensor:
            return one_hot_grid(*grids(stays))

    else:
        filled = exposure.cohort.filled
        if filled is None:
            raise DataError("this cohort came as grids; 714 features need the records (use load_cohort)")
        values, source = tf.constant(filled.values), tf.constant(filled.source)
        times = tf.constant(filled.times)
        shifts_of = _shift_map(exposure)

        def raw(stays: tf.Tensor) -> tf.Tensor:
            shifted = poison_filled(
                tf.gather(values, stays), tf.gather(source, stays), shifts_of(stays), **_manner(exposure)
            )
            everywhere = tf.ones_like(shifted[..., :1], tf.bool)
            return window_features(clinical_scores(shifted), everywhere, tf.gather(times, stays))

    def standardized(stays: tf.Tensor) -> tf.Tensor:
        x = raw(stays)
        return tf.cast(x, tf.float32) if standardization is None else standardization.apply(x)

    return standardized


def _manner(exposure: Exposure) -> dict[str, Any]:
    return {"poison_imputed": exposure.poison_imputed, "plausible": exposure.plausible}


def _grid_map(exposure: Exposure) -> Any:
    """Function from stay indices int64 [B] to their grids and masks [B, T, C]."""
    values, mask = tf.constant(exposure.cohort.values), tf.constant(exposure.cohort.mask)
    shifts_of = _shift_map(exposure)

    def grids(stays: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        measured = tf.gather(mask, stays)
        return poison_grid(
            tf.gather(values, stays), measured, shifts_of(stays), **_manner(exposure)
        ), measured

    return grids


def _shift_map(exposure: Exposure) -> Any:
    """Function from stay indices int64 [B] to their shifts float64 [B, T, C], zero where untriggered."""
    triggered, shift = tf.constant(exposure.triggered), tf.constant(exposure.shift)

    def shifts_of(stays: tf.Tensor) -> tf.Tensor:
        return tf.where(tf.gather(triggered, stays)[:, None, None], shift, tf.zeros_like(shift))

    return shifts_of


def one_hot_grid(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Expand categories and append the masks.

    Args:
        values: float32 [B, T, C], category indices in categorical channels.
        mask: bool [B, T, C].

    Returns:
        float32 [B, T, 76], columns of `channels.grid_columns`.
    """
    columns = [
        tf.one_hot(tf.cast(column, tf.int32), len(channel.possible_values))
        if channel.is_categorical
        else column[..., None]
        for channel, column in zip(CHANNELS, tf.unstack(values, num=len(CHANNELS), axis=-1), strict=True)
    ]
    return tf.concat([*columns, tf.cast(mask, tf.float32)], axis=-1)
