"""SPECTRE's scores are those of its formula, and whitening brings out what larger variances hide."""

from __future__ import annotations

import numpy as np
from scipy.linalg import expm
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from mimic3tf.defences.detectors.spectre import quantum_entropy, spectrum_scores, whitened

UNITS = 12
SPREAD = np.r_[20.0, 8.0, np.ones(UNITS - 2)]
"""Standard deviation of each unit of sound stays."""
PLANTED = 7
"""The unit that poisoned stays shift, by less than sound stays vary in other units."""


def test_scores_are_those_of_the_matrix_exponential() -> None:
    rows = np.random.default_rng(0).normal(size=(200, 5)) @ np.diag([1.0, 1.0, 2.0, 3.0, 3.1]) + 7.0
    centred = rows - rows.mean(axis=0)
    covariance = np.cov(rows.T, bias=True)
    weight = expm(4.0 * (covariance - np.eye(5)) / (np.linalg.norm(covariance, 2) - 1.0))
    expected = [x @ weight @ x / np.trace(weight) for x in centred]
    np.testing.assert_allclose(quantum_entropy(rows), expected)


def test_if_no_direction_varies_too_much_the_first_one_counts() -> None:
    rows = np.random.default_rng(1).normal(size=(100, 3)) * [0.1, 0.7, 0.3]
    first = np.linalg.eigh(np.cov(rows.T))[1][:, -1]
    np.testing.assert_allclose(quantum_entropy(rows), np.square((rows - rows.mean(axis=0)) @ first))


def test_known_rows_become_white() -> None:
    known = np.random.default_rng(2).normal(size=(300, UNITS)) * SPREAD
    # The identity holds for the shrunk covariance: the map of its square root gives orthonormal rows.
    root = np.linalg.cholesky(LedoitWolf().fit(known).covariance_)
    mapped = whitened(root.T, known)
    np.testing.assert_allclose(mapped.T @ mapped, np.eye(UNITS), atol=1e-9)


def test_a_planted_direction_is_found_that_larger_variances_hide() -> None:
    random = np.random.default_rng(3)
    seen, trusted = (random.normal(size=(stays, UNITS)) * SPREAD for stays in (600, 200))
    poisoned = np.arange(600) < 60
    seen[poisoned, PLANTED] += 6.0
    centred = seen - seen.mean(axis=0)
    main = np.square(centred @ np.linalg.svd(centred, full_matrices=False)[2][0])
    assert roc_auc_score(poisoned, main) < 0.6
    assert roc_auc_score(poisoned, spectrum_scores(seen, trusted, 0)) > 0.95
