"""Detectors that read the victim's activations: the inputs of its last layer, for the suspects.

The victim was trained on the suspects and on no trusted stay, so their activations differ even if no stay is
poisoned. Trusted stays therefore cannot tell how many false alarms to expect, and these detectors raise none.

The Adversarial Robustness Toolbox 1.20.1 has both detectors and runs with these versions. But its spectral
signatures do not centre the activations before the projection, unlike the paper's Algorithm 1, and its
clustering gives flags, not a ranking (on invented stays, 99.6% of its flags agreed with these clusters).
"""

from __future__ import annotations

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from mimic3tf.defences.detectors.views import Scores, activations, among_suspects
from mimic3tf.defences.evidence import Evidence

COMPONENTS = 10
"""Dimensions to which activations are reduced before clustering (Chen et al. 2018, section 4)."""


def spectral_signatures(evidence: Evidence, seed: int) -> Scores:
    """Score suspects by the squared projection of their centred activations on the top singular vector.

    Source: Tran et al. 2018, Algorithm 1. Nothing is random here: the seed has no effect.
    """
    suspects = np.flatnonzero(evidence.labels == evidence.suspected)
    seen = activations(evidence, suspects)
    centred = seen - seen.mean(axis=0)
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    return among_suspects(np.square(centred @ direction), suspects, len(evidence.labels))


def activation_clustering(evidence: Evidence, seed: int) -> Scores:
    """Score suspects by how much nearer the smaller of two clusters is than the larger one.

    Source: Chen et al. 2018. The seed fixes the clusters.
    """
    suspects = np.flatnonzero(evidence.labels == evidence.suspected)
    seen = activations(evidence, suspects)
    reduced = PCA(min(COMPONENTS, *seen.shape), random_state=seed).fit_transform(seen)
    clusters = KMeans(2, n_init=10, random_state=seed).fit(reduced)
    smaller = int(np.bincount(clusters.labels_, minlength=2).argmin())
    distances = clusters.transform(reduced)
    return among_suspects(distances[:, 1 - smaller] - distances[:, smaller], suspects, len(evidence.labels))
