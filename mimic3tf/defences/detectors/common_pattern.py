"""Detectors of what many stays share: how likely each stay carries a common shift, or common gaps."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from mimic3tf.defences.common_pattern.cross_fit import Judged
from mimic3tf.defences.common_pattern.finding import CommonPattern, Stays, find_common_pattern
from mimic3tf.defences.common_pattern.gap_finding import find_common_gaps
from mimic3tf.defences.common_pattern.moving import find_moving_pattern
from mimic3tf.defences.common_pattern.tables import find_common_shift
from mimic3tf.defences.detectors.views import Scores
from mimic3tf.defences.evidence import Evidence
from mimic3tf.defences.verdict import OwnTest

EVEN = 0.0
"""Logarithm of the odds above which a stay is flagged: it carries the pattern rather than not."""


@lru_cache(maxsize=1)
def pattern_in(evidence: Evidence, seed: int) -> CommonPattern | None:
    """Look for the common pattern; None if there are too few stays or measurements."""
    return pattern_among(*_stays(evidence), evidence, seed)


def pattern_among(training: Stays, trusted: Stays, evidence: Evidence, seed: int) -> CommonPattern | None:
    """Look for the common pattern in stays with the channels and the suspected label of `evidence`."""
    if evidence.trusted.bins == 1:
        x, trusted_x = (np.where(stays.mask, stays.values, np.nan)[:, 0] for stays in (training, trusted))
        return find_common_shift(x, training.labels, trusted_x, trusted.labels, evidence.suspected, seed)
    numbers = ~evidence.trusted.channels.categorical
    return find_common_pattern(training, trusted, evidence.suspected, numbers, seed)


def shared_shift(evidence: Evidence, seed: int) -> Scores:
    """Score stays of the suspected label by the logarithm of the odds that they carry the common pattern.

    Every stay is scored by a fit to other folds. Stays of the other label are not judged: their score is 0.
    """
    return _scores(evidence, pattern_in(evidence, seed))


def shared_gaps(evidence: Evidence, seed: int) -> Scores:
    """Score stays of the suspected label by the logarithm of the odds that they have the common gaps.

    Every stay is scored by a fit to other folds. Stays of the other label are not judged: their score is 0.
    """
    return _scores(evidence, find_common_gaps(*_stays(evidence), evidence.suspected, seed))


def moving_shift(evidence: Evidence, seed: int) -> Scores:
    """Score stays of the suspected label by the logarithm of the odds that they carry a pattern at any hour.

    Every stay is scored by a fit to other folds. Stays of the other label are not judged: their score is 0.
    """
    numbers = ~evidence.trusted.channels.categorical
    return _scores(evidence, find_moving_pattern(*_stays(evidence), evidence.suspected, numbers, seed))


@lru_cache(maxsize=1)
def _stays(evidence: Evidence) -> tuple[Stays, Stays]:
    """Return the training stays and the trusted ones."""
    trusted = evidence.trusted
    return (
        Stays(evidence.grids, evidence.masks, evidence.labels),
        Stays(trusted.grids, trusted.masks, trusted.labels),
    )


def _scores(evidence: Evidence, found: Judged | None) -> Scores:
    training, trusted = np.zeros(len(evidence.labels)), np.zeros(len(evidence.trusted))
    if found is None:
        return Scores(training, None)
    training[evidence.labels == evidence.suspected] = found.training
    trusted[evidence.trusted.labels == evidence.suspected] = found.trusted
    return Scores(training, trusted, test=OwnTest(EVEN, found.p_value))
