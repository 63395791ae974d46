"""What detectors read of the training stays, and of the trusted ones in the same way.

A detector that treats both alike has false alarms that can be counted: among trusted stays all its alarms are
false. Alike means that both are fitted together, or that each is scored by a fit to other folds.
"""

# Annotations are not postponed here: the documentation cannot resolve those of a `NamedTuple` then.
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mimic3tf import pipeline
from mimic3tf.data.cohort import Cohort
from mimic3tf.data.features import clinical_scores, window_features
from mimic3tf.data.grid import ordinal_view
from mimic3tf.defences.evidence import Evidence
from mimic3tf.described import Described
from mimic3tf.poisoning import exposures
from mimic3tf.standardization import STAYS_A_BATCH
from mimic3tf.training.prediction import outputs_of
from mimic3tf.victims.penultimate import penultimate

FOLDS = 5
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class View(NamedTuple):
    """Rows of the training stays [N, ...] and of the trusted ones [M, ...]."""

    training: Floats
    trusted: Floats


@dataclass(frozen=True, repr=False)
class Scores(Described):
    """How suspicious stays look to a detector; higher is more.

    Attributes:
        training: float64 [N], of the training stays.
        trusted: float64 [M], of the trusted stays, made in the same way; None where that cannot be done.
    """

    training: Floats
    trusted: Floats | None


@lru_cache(maxsize=1)
def features(evidence: Evidence) -> View:
    """Standardized features: float64 [N, 42 * C] and [M, 42 * C].

    A victim of grids never sees features: they are taken from its grids then, imputed cells and all.
    """
    if evidence.reads == "features":
        clean = exposures.clean(evidence.trusted)
        trusted = pipeline.inputs_of(clean, "features", evidence.standardization)
        view = View(evidence.inputs.astype(np.float64), trusted.astype(np.float64))
    else:
        both = evidence.grids, evidence.trusted.grids
        view = View(*(_features_of_grids(values, evidence.trusted) for values in both))
    return _standardized(view)


@lru_cache(maxsize=1)
def grids(evidence: Evidence) -> View:
    """Grids as numbers, categories as ordinals: float64 [N, T, C] and [M, T, C].

    Poisoned on the fly in mode "notimputed", imputed cells carry the clean value beside shifted ones, and
    what reads grids may find that seam. Records that were poisoned before (`mimic3tf poison`) have none.
    """
    trusted = evidence.trusted
    return View(*(ordinal_view(part, trusted.channels) for part in (evidence.grids, trusted.grids)))


def standardized_grids(evidence: Evidence) -> View:
    """The same in standard deviations of each channel."""
    view = grids(evidence)
    channels = view.training.shape[-1]
    standardized = _standardized(View(*(rows.reshape(-1, channels) for rows in view)))
    return View(*(part.reshape(rows.shape) for part, rows in zip(standardized, view, strict=True)))


def activations(evidence: Evidence, stays: NDArray[np.integer]) -> Floats:
    """What a victim's last layer reads of some training stays: float64 [K, H]."""
    return np.asarray(outputs_of(penultimate(evidence.model), evidence.inputs[stays]), np.float64)


def held_out(view: View, seed: int, fit: Callable[[Flags, Flags], Callable[[Floats], Floats]]) -> Scores:
    """Score every stay by a fit that has not seen its fold, neither the training stays nor the trusted ones.

    Args:
        view: rows of the stays.
        seed: fixes the folds; the same for the same numbers of stays.
        fit: takes the training stays bool [N] and trusted stays bool [M] to fit on, gives a function from
            rows [K, ...] to scores [K].
    """
    random = np.random.default_rng(seed)
    folds = [random.permutation(len(rows)) % FOLDS for rows in view]
    scores = [np.empty(len(rows)) for rows in view]
    for fold in range(FOLDS):
        score = fit(folds[0] != fold, folds[1] != fold)
        for rows, of, found in zip(view, folds, scores, strict=True):
            found[of == fold] = score(rows[of == fold])
    return Scores(*scores)


def _features_of_grids(values: NDArray[np.float32], cohort: Cohort) -> Floats:
    """Features of grids [N, T, C] that have channels and timestep of a cohort."""
    parts = []
    for start in range(0, len(values), STAYS_A_BATCH):
        batch = tf.cast(values[start : start + STAYS_A_BATCH], tf.float64)
        hours = tf.range(values.shape[1], dtype=tf.float64) * cohort.timestep
        times = tf.broadcast_to(hours, batch.shape[:2])
        everywhere = tf.ones_like(batch[..., :1], tf.bool)
        scores = clinical_scores(batch, cohort.channels)
        parts.append(window_features(scores, everywhere, times).numpy())
    return np.concatenate(parts)


def _standardized(view: View) -> View:
    """Columns [.., D] in standard deviations over all stays; those that never vary become 0."""
    rows = np.concatenate(view)
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    std[std == 0] = 1.0
    return View(*((part - mean) / std for part in view))
