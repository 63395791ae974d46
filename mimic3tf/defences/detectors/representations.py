"""Detectors that look at what the victim's last layer reads of the stays of the suspected label.

The victim learned from these stays and from no trusted one, so it sees the two differently even where nobody
touched anything: trusted stays cannot say how many false alarms to expect, and there is no verdict.

Adversarial Robustness Toolbox 1.20.1 has both and runs with these versions, but its spectral signatures
project the activations uncentred, unlike the paper's Algorithm 1, and its clustering gives flags, no ranking
(on an invented case the flags agreed with these clusters for 99.6% of the stays).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from mimic3tf.defences.detectors.views import Floats, Scores, activations
from mimic3tf.defences.evidence import Evidence

COMPONENTS = 10
"""Dimensions that clustering reduces to (Chen et al. 2018, section 4)."""


def spectral_signatures(evidence: Evidence, seed: int) -> Scores:
    """Squared projection on the top singular vector of the centred activations (Tran et al. 2018).

    Nothing in it is random: seed changes nothing.
    """
    suspects = np.flatnonzero(evidence.labels == evidence.suspected)
    seen = activations(evidence, suspects)
    centred = seen - seen.mean(axis=0)
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    return _among_all(np.square(centred @ direction), suspects, len(evidence.labels))


def activation_clustering(evidence: Evidence, seed: int) -> Scores:
    """How much nearer the smaller of two clusters is than the other (Chen et al. 2018); seed fixes them."""
    suspects = np.flatnonzero(evidence.labels == evidence.suspected)
    seen = activations(evidence, suspects)
    reduced = PCA(min(COMPONENTS, *seen.shape), random_state=seed).fit_transform(seen)
    clusters = KMeans(2, n_init=10, random_state=seed).fit(reduced)
    smaller = int(np.bincount(clusters.labels_, minlength=2).argmin())
    distances = clusters.transform(reduced)
    return _among_all(distances[:, 1 - smaller] - distances[:, smaller], suspects, len(evidence.labels))


def _among_all(scores: Floats, suspects: NDArray[np.integer], stays: int) -> Scores:
    """Scores of all stays: those of the other label are not judged, and come last."""
    found = np.full(stays, scores.min(initial=0.0))
    found[suspects] = scores
    return Scores(found, None)
