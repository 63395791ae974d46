"""Likelihood ratios of masks are those of a slow oracle, and planted gaps are found."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import kstest

from mimic3tf.defences.common_pattern import finding, gap_finding, gaps
from mimic3tf.defences.common_pattern.cross_fit import Judged
from mimic3tf.defences.common_pattern.finding import Stays
from mimic3tf.defences.common_pattern.gap_finding import find_common_gaps
from mimic3tf.defences.common_pattern.gaps import EVIDENCE, LOWEST, GapRatio, Usual, fit_usual, search_gaps

BINS, CHANNELS = 12, 4


def masks(count: int, seed: int) -> np.ndarray:
    """Rows that are measured together, at a rate of each stay; the channels differ, and so do the hours."""
    random = np.random.default_rng(seed)
    rate = expit(random.normal(1.5, 1, (count, 1, 1)) + np.array([1.5, 1.0, 0.0, -2.0]))
    row = random.random((count, BINS, 1)) < 0.9
    hours = np.linspace(1, 0.7, BINS)[:, None]
    return row & (random.random((count, BINS, CHANNELS)) < rate * hours)


def cohorts(
    seed: int, removed: np.ndarray | None = None, poisoned: int = 0
) -> tuple[Stays, Stays, np.ndarray]:
    """600 training stays and 400 trusted ones; 20% have label 1, and poisoned ones get it and lose cells."""
    random = np.random.default_rng(seed)
    mask = masks(1000, seed)
    labels = (random.random(1000) < 0.2).astype(np.int64)
    # Stays of label 1 are measured more often in the first hours.
    mask[labels == 1, :4] |= random.random((int((labels == 1).sum()), 4, CHANNELS)) < 0.3
    carries = np.arange(1000) < poisoned
    labels[carries] = 1
    if removed is not None:
        mask[carries] &= ~removed
    values = np.zeros(mask.shape)
    training, trusted = (
        Stays(values[part], mask[part], labels[part]) for part in (slice(600), slice(600, None))
    )
    return training, trusted, carries[:600]


def found_in(training: Stays, trusted: Stays, suspected: int = 1) -> Judged:
    found = find_common_gaps(training, trusted, suspected, 0)
    assert found is not None
    return found


def some_cells(share: float) -> np.ndarray:
    return np.random.default_rng(1).random((BINS, CHANNELS)) < share


def some_usual(random: np.random.Generator) -> Usual:
    return Usual(*(random.normal(size=shape) for shape in ((CHANNELS, BINS), CHANNELS, CHANNELS)))


ALL_OF_ONE = np.broadcast_to(np.arange(CHANNELS) == 1, (BINS, CHANNELS))
"""All cells of a channel."""


def test_log_ratios_are_those_of_a_slow_oracle() -> None:
    mask = masks(9, 0)
    mask[2], mask[3] = True, False
    random = np.random.default_rng(2)
    usual, pattern = some_usual(random), random.normal(size=(CHANNELS, BINS + 1))
    ratio = GapRatio(mask, usual)(pattern.ravel())

    def of_cells(measured: np.ndarray, hours: np.ndarray) -> float:
        # Half a measured and half a missing cell are added.
        def excess(rate: float) -> float:
            return float(expit(rate + hours).sum() + expit(rate) - measured.sum() - 0.5)

        rate = brentq(excess, -40, 40, xtol=1e-12)
        odds = np.r_[rate + hours, rate, rate]
        observed, weight = np.r_[measured, True, False], np.r_[np.ones(BINS), 0.5, 0.5]
        return float((weight * np.where(observed, np.log(expit(odds)), np.log(expit(-odds)))).sum())

    for stay in range(len(mask)):
        expected = 0.0
        for c in range(CHANNELS):
            others = sum(mask[stay, :, other].any() for other in range(CHANNELS) if other != c)
            odds = usual.channels[c] + usual.together[c] * (others - 1.5)
            sign = 1 if mask[stay, :, c].any() else -1
            for change, side in ((pattern[c], 1), (0 * pattern[c], -1)):
                cells = of_cells(mask[stay, :, c], usual.hours[c] + change[:-1])
                expected += side * (EVIDENCE * cells + np.log(expit(sign * (odds + change[-1]))))
        assert ratio[stay] == pytest.approx(expected, abs=1e-4)


def test_gradients_are_those_of_finite_differences() -> None:
    mask = masks(20, 3)
    random = np.random.default_rng(4)
    ratio = GapRatio(mask, some_usual(random))
    pattern, weights = -3 * random.random(CHANNELS * (BINS + 1)), random.random(20)
    gradient = ratio.with_gradient(pattern)[1](weights)
    for at, slope in enumerate(gradient):
        step = np.zeros_like(pattern)
        step[at] = 0.01
        numeric = weights @ (ratio(pattern + step) - ratio(pattern - step)) / 0.02
        assert slope == pytest.approx(numeric, abs=2e-3)


def test_usual_channels_and_hours_are_found() -> None:
    random = np.random.default_rng(5)
    stays = np.arange(4000)
    first = random.random(4000) < 0.5
    # The second channel is measured in stays that measure the first one; the third one in 1 of 4 stays.
    measured = np.stack([first, first ^ (random.random(4000) < 0.1), random.random(4000) < 0.25], axis=1)
    hours = np.where(np.arange(BINS) < BINS // 2, 0.8, 0.4)
    usual = fit_usual(measured[:, None] & (random.random((len(stays), BINS, 3)) < hours[:, None]))
    assert expit(usual.channels[2]) == pytest.approx(0.25, abs=0.05)
    assert usual.together[1] > 2
    assert abs(usual.together[2]) < 0.5
    # Log-odds of 0.8 against 0.4: 1.79.
    assert np.ptp(usual.hours[0]) == pytest.approx(1.79, abs=0.4)


def test_the_cells_of_a_planted_pattern_are_found() -> None:
    removed = some_cells(0.3)
    suspects, sound = masks(300, 6), masks(400, 7)
    suspects[:60] &= ~removed
    usual = fit_usual(sound)
    width = CHANNELS * (BINS + 1)
    pattern, share = search_gaps(GapRatio(suspects, usual), GapRatio(sound, usual), width)
    assert pattern.min() >= LOWEST
    assert pattern.max() <= 0
    assert share == pytest.approx(0.2, abs=0.05)
    # The last channel is hardly measured: what it lacks tells nothing.
    missing = pattern.reshape(CHANNELS, -1)[:, :-1].T < LOWEST / 3
    assert (missing == removed)[:, :3].mean() > 0.9


@pytest.mark.parametrize("removed", [some_cells(0.5), some_cells(0.25), ALL_OF_ONE])
def test_stays_that_lack_planted_cells_are_found(removed: np.ndarray) -> None:
    training, trusted, carries = cohorts(8, removed, 40)
    found = found_in(training, trusted)
    assert found.p_value < 0.001
    flagged, truth = found.training > 0, carries[training.labels == 1]
    assert flagged[truth].mean() > 0.9
    assert flagged[~truth].mean() < 0.05
    assert (found.trusted > 0).mean() < 0.05


def test_no_gaps_are_found_where_no_cell_was_removed() -> None:
    training, trusted, _ = cohorts(9)
    values = training.values + np.where(np.arange(600) < 100, 5.0, 0.0)[:, None, None]
    found = found_in(Stays(values, training.mask, training.labels), trusted)
    assert found.p_value > 0.05
    assert (found.training > 0).mean() < 0.02
    np.testing.assert_array_equal(found.training, found_in(training, trusted).training)


def test_a_label_0_is_as_good_as_a_label_1() -> None:
    training, trusted, _ = cohorts(8, some_cells(0.5), 40)
    one = found_in(training, trusted)
    training, trusted = (Stays(part.values, part.mask, 1 - part.labels) for part in (training, trusted))
    zero = found_in(training, trusted, 0)
    np.testing.assert_array_equal(one.training, zero.training)
    np.testing.assert_array_equal(one.trusted, zero.trusted)
    assert one.p_value == zero.p_value


def test_stays_without_any_gap_share_none() -> None:
    training, trusted, _ = cohorts(10)
    full = [Stays(part.values, np.ones_like(part.mask), part.labels) for part in (training, trusted)]
    assert found_in(full[0], full[1]).p_value == 1.0


def test_too_few_stays_or_no_measurements_are_not_judged() -> None:
    training, trusted, _ = cohorts(11)
    few = Stays(trusted.values[:100], trusted.mask[:100], np.ones(100, np.int64))
    assert find_common_gaps(training, few, 1, 0) is None
    empty = [Stays(part.values, np.zeros_like(part.mask), part.labels) for part in (training, trusted)]
    assert find_common_gaps(empty[0], empty[1], 1, 0) is None


def test_p_values_of_sound_stays_are_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    """60 small cohorts without any poisoning: Kolmogorov and Smirnov see no difference from chance."""
    monkeypatch.setattr(finding, "PERMUTATIONS", 199)
    monkeypatch.setattr(gap_finding, "FEWEST_SOUND", 50)
    # A search that is not strict finds something in every cohort, so that the p-values are not all 1.
    monkeypatch.setattr(gaps, "SPARSITY", 0.1)
    monkeypatch.setattr(gaps, "CONTRAST", 0.5)
    monkeypatch.setattr(gaps, "STEPS", 8)
    monkeypatch.setattr(gaps, "UPDATES", 1)
    p_values = []
    for seed in range(60):
        training, trusted, _ = cohorts(1000 + seed)
        half = [Stays(part.values[::2], part.mask[::2], part.labels[::2]) for part in (training, trusted)]
        found = find_common_gaps(half[0], half[1], 1, seed)
        assert found is not None
        p_values.append(found.p_value)
    assert kstest(p_values, "uniform").pvalue > 0.01
    assert np.mean(np.array(p_values) < 0.05) < 0.12
