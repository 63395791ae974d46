"""Detectors that look for unusual stays, without labels.

scikit-learn is called directly. PyOD 3.6.7 would run with these versions, but its isolation forest and local
outlier factor only wrap those of scikit-learn, and it needs Numba.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from sklearn.covariance import LedoitWolf
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor

from mimic3tf.defences.detectors.views import (
    Flags,
    Floats,
    Scores,
    View,
    features,
    grids,
    held_out,
)
from mimic3tf.defences.evidence import Evidence
from mimic3tf.defences.stealth import channel_distances

NEIGHBOURS = 20


def isolation_forest(evidence: Evidence, seed: int) -> Scores:
    """Score stays by how few random splits isolate them (Liu et al. 2008); one forest for all stays."""
    view = features(evidence)
    rows = np.concatenate(view)
    return _split(-IsolationForest(random_state=seed).fit(rows).score_samples(rows), view)


def local_outlier_factor(evidence: Evidence, seed: int) -> Scores:
    """Score stays by how much sparser their neighbourhood is than that of their neighbours, among all stays.

    Source: Breunig et al. 2000. Nothing is random here: the seed has no effect.
    """
    view = features(evidence)
    with warnings.catch_warnings():
        # scikit-learn warns of many equal stays. A low score is right for them: they lie close together.
        warnings.filterwarnings("ignore", "Duplicate values")
        fitted = LocalOutlierFactor(n_neighbors=NEIGHBOURS).fit(np.concatenate(view))
    return _split(-fitted.negative_outlier_factor_, view)


def mahalanobis(evidence: Evidence, seed: int) -> Scores:
    """Score stays by squared distance from the trusted stays (Ledoit-Wolf covariance); seed fixes folds."""
    view = features(evidence)
    return held_out(view, seed, lambda _, trusted: LedoitWolf().fit(view.trusted[trusted]).mahalanobis)


def channel_mahalanobis(evidence: Evidence, seed: int) -> Scores:
    """Score stays by the distance of each channel's course from the trusted stays; seed fixes folds.

    The score is the mean over channels of the log distance, so that a wrong value in one channel (a pH of
    735) weighs little.
    """
    view = grids(evidence)

    def fit(_: Flags, trusted: Flags) -> Callable[[Floats], Floats]:
        known = view.trusted[trusted]

        def score(rows: Floats) -> Floats:
            both = np.concatenate([known, rows])
            distances = channel_distances(both, np.arange(len(both)) < len(known))[len(known) :]
            varying = ~np.isnan(distances).any(axis=0)
            return np.log(np.maximum(distances[:, varying], np.finfo(float).tiny)).mean(axis=1)

        return score

    return held_out(view, seed, fit)


def _split(scores: Floats, view: View) -> Scores:
    return Scores(*np.split(scores, [len(view.training)]))
