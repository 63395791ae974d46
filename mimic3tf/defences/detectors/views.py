"""The arrays that detectors read: features, grids and activations of training stays and trusted stays.

If a detector treats training stays and trusted stays in the same way, its false alarms can be counted: all
its alarms among trusted stays are false. "In the same way" means that one fit to both scores both, or that
each stay is scored by a fit to other folds.
"""

# No postponed annotations here: with them, the documentation cannot resolve those of a `NamedTuple`.
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mimic3tf.data.cohort import Cohort
from mimic3tf.data.features import clinical_scores, window_features
from mimic3tf.data.grid import ordinal_view
from mimic3tf.defences.evidence import AuditedVictim, Evidence, Part
from mimic3tf.defences.verdict import OwnTest
from mimic3tf.described import Described
from mimic3tf.standardization import STAYS_A_BATCH

FOLDS = 5
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class View(NamedTuple):
    """Arrays of the training stays [N, ...] and of the trusted stays [M, ...]."""

    training: Floats
    trusted: Floats


@dataclass(frozen=True, repr=False)
class Scores(Described):
    """The scores of a detector; higher is more suspicious.

    Attributes:
        training: float64 [N], scores of the training stays.
        trusted: float64 [M], scores of the trusted stays; None if they cannot be made in the same way.
        test: the detector's own test; None if only its scores are compared.
    """

    training: Floats
    trusted: Floats | None
    test: OwnTest | None = field(default=None, kw_only=True)


@lru_cache(maxsize=1)
def features(evidence: Evidence) -> View:
    """Make standardized features: float64 [N, 42 * C] and [M, 42 * C], or the columns of a table.

    Unless a victim reads features, they are computed from the grids, imputed cells included.
    """
    model = evidence.model
    if isinstance(model, AuditedVictim) and model.reads == "features":
        view = View(model.inputs.astype(np.float64), model.examples.inputs.astype(np.float64))
    elif evidence.trusted.bins == 1:
        view = View(*(rows[:, 0] for rows in grids(evidence)))
    else:
        both = evidence.grids, evidence.trusted.grids
        view = View(*(_features_of_grids(values, evidence.trusted) for values in both))
    return _standardized(view)


@lru_cache(maxsize=1)
def grids(evidence: Evidence) -> View:
    """Make grids with categories as ordinals: float64 [N, T, C] and [M, T, C].

    If a run poisons on the fly in mode "notimputed", imputed cells keep clean values next to shifted cells,
    and a detector that reads grids may find these breaks. Records of `mimic3tf poison` have no such breaks.
    """
    trusted = evidence.trusted
    return View(*(ordinal_view(part, trusted.channels) for part in (evidence.grids, trusted.grids)))


def standardized_grids(evidence: Evidence) -> View:
    """Make the arrays of `grids` in standard deviations of each channel: [N, T, C] and [M, T, C]."""
    view = grids(evidence)
    channels = view.training.shape[-1]
    standardized = _standardized(View(*(rows.reshape(-1, channels) for rows in view)))
    return View(*(part.reshape(rows.shape) for part, rows in zip(standardized, view, strict=True)))


def activations(evidence: Evidence, stays: NDArray[np.integer]) -> Floats:
    """Return the inputs of the model's last layer for training stays of indices [K]: float64 [K, H]."""
    return _activations(evidence, "training", stays)


def trusted_activations(evidence: Evidence) -> Floats:
    """Return the inputs of the model's last layer for trusted stays of the suspected label: [K, H]."""
    return _activations(evidence, "trusted", np.flatnonzero(evidence.trusted.labels == evidence.suspected))


def _activations(evidence: Evidence, part: Part, stays: NDArray[np.integer]) -> Floats:
    assert evidence.model is not None
    found = evidence.model.activations(part, stays)
    assert found is not None
    return found


def among_suspects(scores: Floats, suspects: NDArray[np.integer], stays: int) -> Scores:
    """Make scores of all stays from those of the suspects of indices [K]; the others get the lowest score."""
    found = np.full(stays, scores.min(initial=0.0))
    found[suspects] = scores
    return Scores(found, None)


def held_out(view: View, seed: int, fit: Callable[[Flags, Flags], Callable[[Floats], Floats]]) -> Scores:
    """Score every stay by a fit to the other folds of training stays and trusted stays.

    Args:
        view: arrays of the stays.
        seed: fixes the folds, which depend only on it and on the numbers of stays.
        fit: takes which training stays, bool [N], and which trusted stays, bool [M], to fit to; returns a
            function from rows [K, ...] to scores [K].
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
    """Compute features [N, 42 * C] of grids [N, T, C] with the channels and timestep of a cohort."""
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
    """Standardize columns [..., D] over all stays; columns that never vary become 0."""
    rows = np.concatenate(view)
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    std[std == 0] = 1.0
    return View(*((part - mean) / std for part in view))
