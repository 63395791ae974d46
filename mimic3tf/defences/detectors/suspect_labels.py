"""Detectors that look for stays whose suspected label does not fit their measurements.

Poisoned stays share a trigger and a label, so a model of the training stays learns that the trigger means
this label, and predicts it for them. A model of trusted stays does not. The names say "death", which is the
suspected label of the paper's attack.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from mimic3tf.defences.detectors.outliers import NEIGHBOURS
from mimic3tf.defences.detectors.views import Floats, Scores, features, held_out
from mimic3tf.defences.evidence import Evidence

INVERSE_PENALTY = 1e-3
"""Scikit-learn's C. The penalty is strong, because there may be fewer trusted stays than features."""
SUREST = 1e-6
"""Predictions nearer to 0 or 1 count as this far away, as their odds are infinite."""


def easy_to_learn(evidence: Evidence, seed: int) -> Scores:
    """Score stays by the log odds of death in a new model of the other training stays; seed fixes folds.

    A model learns a backdoor faster than anything else (Anti-Backdoor Learning, Li et al. 2021), so poisoned
    stays have an unusually low loss. The model here is trained on other folds than the stay's own, so that
    trusted stays can be scored in the same way.
    """
    view = features(evidence)
    labels = _is_suspected(evidence.labels, evidence)
    return held_out(view, seed, lambda training, _: _log_odds(view.training[training], labels[training]))


def unexpected_death(evidence: Evidence, seed: int) -> Scores:
    """Score stays by the log odds of survival in a model of trusted stays; seed fixes folds.

    A high score means that the label "death" has a high loss in that model.
    """
    view = features(evidence)
    labels = _is_suspected(evidence.trusted.labels, evidence)
    return held_out(view, seed, lambda _, trusted: _log_odds(view.trusted[trusted], 1 - labels[trusted]))


def model_disagreement(evidence: Evidence, seed: int) -> Scores:
    """Score stays by the log odds of death in a model of training stays minus those in one of trusted stays.

    The first model has learned a backdoor, the second has not. The seed fixes the folds.
    """
    death, survival = easy_to_learn(evidence, seed), unexpected_death(evidence, seed)
    assert death.trusted is not None
    assert survival.trusted is not None
    return Scores(death.training + survival.training, death.trusted + survival.trusted)


def learned_by_model(evidence: Evidence, seed: int) -> Scores:
    """Score stays by the log odds of death in the audited model minus those in one of trusted stays.

    As `model_disagreement`, but with the predictions of the model itself. It was trained on the training
    stays and on no trusted stay, so that trusted stays cannot tell how many false alarms to expect. The seed
    fixes the folds.
    """
    assert evidence.model is not None
    risks = evidence.model.predictions()
    assert risks is not None
    odds = logit(np.clip(risks, SUREST, 1 - SUREST))
    survival = unexpected_death(evidence, seed).training
    return Scores((odds if evidence.suspected == 1 else -odds) + survival, None)


def neighbours_survived(evidence: Evidence, seed: int) -> Scores:
    """Score stays by the share of their nearest stays, training or trusted, without the suspected label.

    Nothing is random here: the seed has no effect.
    """
    view = features(evidence)
    rows = np.concatenate(view)
    labels = _is_suspected(np.concatenate([evidence.labels, evidence.trusted.labels]), evidence)
    near = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(rows).kneighbors(return_distance=False)
    share = 1.0 - labels[near].mean(axis=1)
    return Scores(*np.split(share, [len(view.training)]))


def _log_odds(rows: Floats, labels: NDArray[np.int64]) -> Callable[[Floats], Floats]:
    return LogisticRegression(C=INVERSE_PENALTY, max_iter=300).fit(rows, labels).decision_function


def _is_suspected(labels: NDArray[np.int64], evidence: Evidence) -> NDArray[np.int64]:
    return (labels == evidence.suspected).astype(np.int64)
