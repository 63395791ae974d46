"""A pattern that stays carry at hours of their own is found, and chance is not taken for one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from mimic3tf.defences.common_pattern import finding, moving
from mimic3tf.defences.common_pattern.finding import Stays
from mimic3tf.defences.common_pattern.moving import Evidence, Search, find_moving_pattern

BINS, CHANNELS = 24, 3
ALL = np.ones(CHANNELS, bool)


def cohorts(
    seed: int, carry: int = 0, pattern: np.ndarray | None = None, training: int = 900, trusted: int = 500
) -> tuple[Stays, Stays, np.ndarray]:
    """Training and trusted stays; 20% have label 1, and some training stays get it with a moved pattern."""
    random = np.random.default_rng(seed)
    shape = (training + trusted, BINS, CHANNELS)
    values = 50 + random.normal(size=(shape[0], 1, CHANNELS)) + random.normal(size=shape)
    mask = random.random(shape) < 0.7
    labels = (random.random(len(values)) < 0.2).astype(np.int64)
    # Stays of label 1 differ from the others, in both groups alike.
    values[labels == 1, :, 0] += 0.5
    carries = np.arange(len(values)) < carry
    labels[carries] = 1
    if pattern is not None:
        lags = random.integers(BINS, size=carry)
        values[carries] += pattern[(np.arange(BINS) - lags[:, None]) % BINS]
    parts = slice(training), slice(training, None)
    groups = [Stays(values[part], mask[part], labels[part]) for part in parts]
    return groups[0], groups[1], carries[:training]


def a_pattern() -> np.ndarray:
    pattern = np.zeros((BINS, CHANNELS))
    pattern[:8, 0], pattern[4:10, 1] = 2.5, -2.5
    return pattern


def test_log_ratios_of_all_lags_are_those_of_moved_patterns() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=(40, CHANNELS, BINS))
    reference = Evidence(np.fft.rfft(scores, axis=2), np.ones(40))
    search = Search(reference, np.ones((CHANNELS, BINS // 2 + 1)), BINS)
    pattern = random.normal(size=(CHANNELS, BINS))
    stays = Evidence(np.fft.rfft(scores[:5], axis=2), np.array([1.0, 2.0, 0.5, 1.0, 0.0]))
    found = search.log_ratios(np.fft.rfft(pattern, axis=1), stays)
    # The information is the mean over stays, and over all times, of the products of two scores.
    moved = np.stack([np.roll(scores, lag, axis=2).reshape(40, -1) for lag in range(BINS)])
    information = np.einsum("lni,lnj->ij", moved, moved) / (40 * BINS)
    for lag in range(BINS):
        shifted = np.roll(pattern, lag, axis=1).ravel()
        expected = scores[:5].reshape(5, -1) @ shifted
        expected -= stays.amount * (shifted @ information @ shifted) / 2
        assert found[:, lag] == pytest.approx(expected, abs=1e-8)


def test_a_moving_pattern_is_found() -> None:
    training, trusted, carries = cohorts(1, 60, a_pattern())
    found = find_moving_pattern(training, trusted, 1, ALL, 0)
    assert found is not None
    assert found.p_value < 0.001
    flagged, truth = found.training > 0, carries[training.labels == 1]
    assert flagged[truth].mean() > 0.8
    assert flagged[~truth].mean() < 0.05
    assert (found.trusted > 0).mean() < 0.05


def test_a_label_0_is_as_good_as_a_label_1() -> None:
    training, trusted, _ = cohorts(2, 60, a_pattern())
    one = find_moving_pattern(training, trusted, 1, ALL, 0)
    training, trusted = (Stays(part.values, part.mask, 1 - part.labels) for part in (training, trusted))
    zero = find_moving_pattern(training, trusted, 0, ALL, 0)
    assert one is not None
    assert zero is not None
    np.testing.assert_array_equal(one.training, zero.training)
    assert one.p_value == zero.p_value


def test_too_few_stays_are_not_judged() -> None:
    training, trusted, _ = cohorts(3, training=150, trusted=60)
    assert find_moving_pattern(training, trusted, 1, ALL, 0) is None


def test_p_values_of_sound_stays_are_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    """60 small cohorts without any poisoning: Kolmogorov and Smirnov see no difference from chance."""
    monkeypatch.setattr(finding, "PERMUTATIONS", 199)
    monkeypatch.setattr(moving, "STARTS", ((6, 2), (1, 4)))
    p_values = []
    for seed in range(60):
        training, trusted, _ = cohorts(100 + seed, training=240, trusted=120)
        found = find_moving_pattern(training, trusted, 1, ALL, seed)
        assert found is not None
        p_values.append(found.p_value)
    assert kstest(p_values, "uniform").pvalue > 0.01
    assert np.mean(np.array(p_values) < 0.05) < 0.12
