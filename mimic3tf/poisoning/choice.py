"""Which of a trigger's patterns a stay gets.

An attacker who gives every stay the same pattern can be found by what these stays share. With several
patterns, every stay gets one of them. The choice depends on the name of the stay alone. So a training, an
attack, an audit and a poisoned copy of the records agree, whatever other stays there are, and in any order.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

MOST_PATTERNS = 256
"""Most patterns of a trigger; the file of so many patterns of 48 hours and 17 channels has 2 MB."""


def chosen_patterns(stays: Iterable[str], patterns: int) -> NDArray[np.int64]:
    """Choose a pattern for every stay.

    Args:
        stays: names of the N stays.
        patterns: number of patterns K, at least 1.

    Returns:
        int64 [N], numbers from 0 to K - 1; all are about equally frequent.
    """
    hashes = (blake2b(str(name).encode(), digest_size=8).digest() for name in stays)
    return np.array([int.from_bytes(value, "big") % patterns for value in hashes], np.int64)


def moved_in_time(pattern: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move a pattern [T, C] by 0, 1, ..., T - 1 bins: float64 [T, T, C].

    What leaves the end enters at the start.
    """
    bins = np.arange(len(pattern))
    return pattern[(bins - bins[:, None]) % len(pattern)]
