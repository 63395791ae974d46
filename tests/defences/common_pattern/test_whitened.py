"""Systems of many stays are solved in blocks."""

from __future__ import annotations

import numpy as np
import pytest

from mimic3tf.defences.common_pattern import whitened


@pytest.mark.parametrize("size", [1, 31, 32, 33, 100])
def test_blocks_are_solved_as_the_whole_is(size: int) -> None:
    random = np.random.default_rng(size)
    roots = random.normal(size=(3, size, 2 * size))
    covariance = (roots @ roots.transpose(0, 2, 1) / size + 0.1 * np.eye(size)).astype(np.float32)
    right = random.normal(size=(3, size, 4)).astype(np.float32)
    expected = np.linalg.solve(np.linalg.cholesky(covariance.astype(np.float64)), right)
    np.testing.assert_allclose(whitened._solved(covariance, right), expected, rtol=1e-4, atol=1e-5)
