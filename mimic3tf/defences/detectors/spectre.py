"""A detector of stays that lie far along directions in which the victim's activations vary too much.

Source: SPECTRE, Hayase et al. 2021 (arXiv 2104.11315). The numbers are those of its authors' code.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import softmax
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA

from mimic3tf.defences.detectors.views import (
    Floats,
    Scores,
    activations,
    among_suspects,
    trusted_activations,
)
from mimic3tf.defences.evidence import Evidence

ALPHA = 4.0
"""How strongly the score prefers the directions of the largest variance."""
DIMENSIONS, TRIED = 64, 8
"""The most directions that are judged, and how many numbers of directions are tried."""
REMOVED = 0.25
"""Share of the stays that is removed before numbers of directions are compared."""


def spectre(evidence: Evidence, seed: int) -> Scores:
    """Score suspects by the quantum entropy (QUE) of their whitened activations; seed fixes the projection.

    Activations are projected on the main directions of the suspects, whitened, and scored. Whitening makes a
    direction count that poisoned stays stretch, even if sound stays vary more along other directions.

    There are two departures from the paper. It has no trusted stays, and estimates the covariance from the
    suspects with a filter; here trusted stays of the suspected label give it (Ledoit-Wolf). And it knows how
    many stays are poisoned and removes 1.5 times as many; here `REMOVED` stands for that.
    """
    suspects = np.flatnonzero(evidence.labels == evidence.suspected)
    scores = spectrum_scores(activations(evidence, suspects), trusted_activations(evidence), seed)
    return among_suspects(scores, suspects, len(evidence.labels))


def spectrum_scores(seen: Floats, trusted: Floats, seed: int) -> Floats:
    """Score activations [N, H] of suspects against those [M, H] of trusted stays: [N].

    The number of directions is chosen as in the paper: after its highest scores are removed, the activations
    of all suspects deviate most from what is left.
    """
    projection = PCA(min(DIMENSIONS, *seen.shape), random_state=seed).fit(seen)
    seen, trusted = projection.transform(seen), projection.transform(trusted)
    best, found = -np.inf, np.zeros(len(seen))
    roots = np.linspace(1, np.sqrt(seen.shape[1]), TRIED)
    for directions in np.unique(np.round(roots**2).astype(int)):
        scores = quantum_entropy(whitened(seen[:, :directions], trusted[:, :directions]))
        left = seen[scores <= np.quantile(scores, 1 - REMOVED)]
        deviation = float(quantum_entropy(whitened(seen, left)).mean())
        if deviation > best:
            best, found = deviation, scores
    return found


def whitened(rows: Floats, known: Floats) -> Floats:
    """Map rows [N, K] so that the covariance of known rows [M, K] (Ledoit-Wolf) becomes the identity."""
    factor = np.linalg.cholesky(LedoitWolf().fit(known).covariance_)
    return np.asarray(solve_triangular(factor, rows.T, lower=True).T)


def quantum_entropy(rows: Floats) -> Floats:
    """Return the scores x' Q x / tr Q of whitened rows [N, K], where x is a row minus the mean: [N].

    Q is the matrix exponential of `ALPHA * (S - I) / (s - 1)`, where S is the covariance of the rows and s
    its largest eigenvalue. If s is 1 or less, no direction varies too much, and only the first one counts.
    """
    centred = rows - rows.mean(axis=0)
    variances, directions = np.linalg.eigh(centred.T @ centred / len(rows))
    excess = max(variances[-1] - 1, np.finfo(float).eps)
    return np.asarray(np.square(centred @ directions) @ softmax(ALPHA * variances / excess))
