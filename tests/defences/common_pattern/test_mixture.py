"""Likelihood ratios are those of a slow oracle, and their gradients those of finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from mimic3tf.defences.common_pattern.finding import Stays, find_common_pattern
from mimic3tf.defences.common_pattern.mixture import LogRatio, Tails, fit_tails
from mimic3tf.defences.common_pattern.sound_stays import SoundStays, fit_sound_stays

BINS, CHANNELS = 8, 3
ALL = np.ones(CHANNELS, bool)


def stays(count: int, seed: int, share: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """Courses of a level and noise, in units and rates of measurement that differ between the channels."""
    random = np.random.default_rng(seed)
    level = random.normal(size=(count, 1, CHANNELS)) + 0.3 * random.normal(size=(count, 1, 1))
    values = 50 + (level + 0.6 * random.normal(size=(count, BINS, CHANNELS))) * (1, 10, 0.1)
    return values, random.random(values.shape) < share * np.array([1.0, 0.7, 1.3])


@pytest.fixture(scope="module")
def sound() -> SoundStays:
    fitted = fit_sound_stays(*stays(2000, 0), ALL)
    assert fitted is not None
    return fitted


def test_the_covariance_of_sound_stays_is_found(sound: SoundStays) -> None:
    # Level and noise have a variance of 1.09 + 0.36, and two channels share 0.09 of it. Weights make all
    # variances smaller in the same proportion.
    assert sorted(sound.channels) == [0, 1, 2]
    blocks = sound.covariance.reshape(CHANNELS, BINS, CHANNELS, BINS)
    for channel in range(CHANNELS):
        own = blocks[channel, :, channel]
        assert np.diag(own) == pytest.approx(np.full(BINS, own[0, 0]), rel=0.1)
        assert own[0, 1:] / own[0, 0] == pytest.approx(np.full(BINS - 1, 1.09 / 1.45), abs=0.1)
        assert 0.7 < own[0, 0] < 1.1
    assert blocks[0, :, 1] == pytest.approx(np.full((BINS, BINS), 0.09 / 1.45), abs=0.08)


def test_log_ratios_are_those_of_a_slow_oracle(sound: SoundStays) -> None:
    values, mask = stays(7, 1)
    mask[3] = False
    mask[5] = mask[4]
    tails = Tails(np.array([3.0, 8.0, 50.0]), np.array([0.8, 1.0, 1.3]))
    random = np.random.default_rng(2)
    pattern = random.normal(size=CHANNELS * sound.modes)
    ratio = LogRatio(sound.whiten(values, mask), tails)(pattern)
    shift = np.einsum("utk,uk->ut", sound.basis, pattern.reshape(CHANNELS, -1))
    for stay in range(len(values)):
        cells = ((values[stay][:, sound.channels] - sound.center) / sound.scale).clip(-8, 8).T - sound.mean
        measured = mask[stay][:, sound.channels].T
        block = sound.covariance[np.ix_(measured.ravel(), measured.ravel())]
        factor = np.linalg.cholesky(block)
        channel = np.nonzero(measured)[0]
        expected = 0.0
        for sign, moved in ((1, cells - shift), (-1, cells)):
            residuals = np.linalg.inv(factor) @ moved[measured]
            for c in range(CHANNELS):
                own = residuals[channel == c]
                scale = tails.degrees[c] * tails.scale[c]
                expected -= sign * (tails.degrees[c] + len(own)) / 2 * np.log1p((own**2).sum() / scale)
        assert ratio[stay] == pytest.approx(expected, abs=1e-4)


def test_gradients_are_those_of_finite_differences(sound: SoundStays) -> None:
    log_ratio = LogRatio(sound.whiten(*stays(20, 3)), Tails(np.full(CHANNELS, 5.0), np.ones(CHANNELS)))
    random = np.random.default_rng(4)
    pattern, weights = random.normal(size=CHANNELS * sound.modes), random.random(20)
    gradient = log_ratio.with_gradient(pattern)[1](weights)
    assert log_ratio.with_gradient(np.zeros_like(pattern))[1](weights) == pytest.approx(
        weights @ log_ratio.scores, abs=1e-3
    )
    for at, slope in enumerate(gradient):
        step = np.zeros_like(pattern)
        step[at] = 0.01
        numeric = weights @ (log_ratio(pattern + step) - log_ratio(pattern - step)) / 0.02
        assert slope == pytest.approx(numeric, abs=0.02)


def test_heavy_tails_are_told_from_light_ones(sound: SoundStays) -> None:
    values, mask = stays(3000, 5)
    wild = np.random.default_rng(6).random(3000) < 0.1
    values[wild, :, 0] = 50 + 4 * (values[wild, :, 0] - 50)
    tails = fit_tails(sound.whiten(values, mask))
    first = list(sound.channels).index(0)
    assert tails.degrees[first] < 6
    assert all(tails.degrees[c] > 20 for c in range(CHANNELS) if c != first)
    assert tails.scale == pytest.approx(np.ones(CHANNELS), abs=0.5)


def cohorts(seed: int, poisoned: int, shift: np.ndarray | float = 0.0) -> tuple[Stays, Stays, np.ndarray]:
    """600 training stays and 400 trusted ones; 20% have label 1, and some more get it with a shift."""
    random = np.random.default_rng(seed)
    values, mask = stays(1000, seed)
    labels = (random.random(1000) < 0.2).astype(np.int64)
    carries = np.arange(1000) < poisoned
    labels[carries] = 1
    values[carries] += shift
    training, trusted = (
        Stays(values[part], mask[part], labels[part]) for part in (slice(600), slice(600, None))
    )
    return training, trusted, carries[:600]


def test_a_planted_pattern_is_found_and_shown_with_its_error() -> None:
    shift = np.zeros((BINS, CHANNELS))
    shift[:, 0] = np.where(np.arange(BINS) % 2, 2.5, -2.5)
    shift[:4, 1] = 15.0
    training, trusted, carries = cohorts(7, 30, shift)
    found = find_common_pattern(training, trusted, 1, ALL, 0)
    assert found is not None
    assert found.p_value < 0.001
    flagged = found.training > 0
    truth = carries[training.labels == 1]
    assert flagged[truth].mean() > 0.85
    assert flagged[~truth].mean() < 0.05
    assert (found.trusted > 0).mean() < 0.05
    (pattern,) = found.patterns
    assert (pattern.stays, pattern.p_value) == (flagged.sum(), found.p_value)
    assert np.corrcoef(pattern.shift[:, 0], shift[:, 0])[0, 1] > 0.95
    # Prior and error pull a pattern towards its channel's usual course; most cells are within three errors.
    away = np.abs(pattern.shift - shift) / pattern.error
    assert (away < 3).mean() > 0.8


def test_patterns_are_found_one_after_the_other() -> None:
    """Half of the poisoned stays carry another pattern, which the first search does not see."""
    random = np.random.default_rng(12)
    shifts = np.zeros((2, BINS, CHANNELS))
    shifts[0, :, 0], shifts[1, :, 1] = (
        np.where(random.random(BINS) < 0.5, *ends) for ends in ((5, -5), (40, -40))
    )
    which = np.arange(60) % 2
    training, trusted, carries = cohorts(10, 60, shifts[which])
    found = find_common_pattern(training, trusted, 1, ALL, 0)
    assert found is not None
    assert len(found.patterns) == 2
    likeness = [
        [np.corrcoef(pattern.shift.ravel(), shift.ravel())[0, 1] for shift in shifts]
        for pattern in found.patterns
    ]
    assert sorted(np.argmax(likeness, axis=1)) == [0, 1]
    assert np.max(likeness, axis=1).min() > 0.8
    flagged = (found.training > 0)[carries[training.labels == 1]]
    assert min(flagged[which == one].mean() for one in (0, 1)) > 0.5
    assert sum(pattern.stays for pattern in found.patterns) == (found.training > 0).sum()


def test_a_label_0_is_as_good_as_a_label_1() -> None:
    training, trusted, _ = cohorts(8, 30, np.array([3.0, 0.0, 0.0]))
    one = find_common_pattern(training, trusted, 1, ALL, 0)
    training, trusted = (Stays(part.values, part.mask, 1 - part.labels) for part in (training, trusted))
    zero = find_common_pattern(training, trusted, 0, ALL, 0)
    assert one is not None
    assert zero is not None
    np.testing.assert_array_equal(one.training, zero.training)
    assert one.p_value == zero.p_value


def test_categories_and_constant_channels_are_left_out() -> None:
    values, mask = stays(400, 9)
    values[..., 1] = 7.0
    fitted = fit_sound_stays(values, mask, np.array([True, True, False]))
    assert fitted is not None
    assert list(fitted.channels) == [0]
    assert fit_sound_stays(values, mask, np.array([False, True, False])) is None


def test_too_few_stays_are_not_judged() -> None:
    training, trusted, _ = cohorts(10, 0)
    few = Stays(trusted.values[:100], trusted.mask[:100], np.ones(100, np.int64))
    assert find_common_pattern(training, few, 1, ALL, 0) is None
