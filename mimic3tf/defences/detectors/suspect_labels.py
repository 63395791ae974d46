"""Detectors that look for stays whose label 1 does not go with what they show.

Poisoned stays that carry the same trigger teach a model that the trigger means death, so a model of the
training stays finds their label natural. A model of trusted stays alone does not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from mimic3tf.defences.detectors.registry.outliers import NEIGHBOURS
from mimic3tf.defences.detectors.registry.views import Floats, Scores, features, held_out
from mimic3tf.defences.evidence import Evidence

INVERSE_PENALTY = 1e-3
"""Scikit-learn's C: strong, as there may be fewer trusted stays than features."""


def easy_to_learn(evidence: Evidence, seed: int) -> Scores:
    """Log odds of death by a fresh model of the other training stays; seed fixes folds.

    Backdoors are learned faster than anything else (Anti-Backdoor Learning, Li et al. 2021): their stays have
    an unusually low loss. Here it is that of other folds, so that trusted stays can be judged alike.
    """
    view = features(evidence)
    return held_out(
        view, seed, lambda training, _: _log_odds(view.training[training], evidence.labels[training])
    )


def unexpected_death(evidence: Evidence, seed: int) -> Scores:
    """Log odds of survival by a model of trusted stays: a label 1 has a high loss there; seed fixes folds."""
    view = features(evidence)
    labels = np.asarray(evidence.trusted.labels)
    return held_out(view, seed, lambda _, trusted: _log_odds(view.trusted[trusted], 1 - labels[trusted]))


def model_disagreement(evidence: Evidence, seed: int) -> Scores:
    """Log odds of death by a model of the training stays, less those by a model of trusted stays.

    A backdoor is what the first has learned and the second has not. Seed fixes folds.
    """
    death, survival = easy_to_learn(evidence, seed), unexpected_death(evidence, seed)
    assert death.trusted is not None
    assert survival.trusted is not None
    return Scores(death.training + survival.training, death.trusted + survival.trusted)


def neighbours_survived(evidence: Evidence, seed: int) -> Scores:
    """Share of the nearest other stays, training or trusted, that are labelled 0.

    Nothing in it is random: seed changes nothing.
    """
    view = features(evidence)
    rows = np.concatenate(view)
    labels = np.concatenate([evidence.labels, evidence.trusted.labels])
    near = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(rows).kneighbors(return_distance=False)
    share = 1.0 - labels[near].mean(axis=1)
    return Scores(*np.split(share, [len(view.training)]))


def _log_odds(rows: Floats, labels: NDArray[np.int64]) -> Callable[[Floats], Floats]:
    return LogisticRegression(C=INVERSE_PENALTY, max_iter=300).fit(rows, labels).decision_function
