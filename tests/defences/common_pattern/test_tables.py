"""A shift that rows of a table share is found, whatever the units and the distributions of the columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import kstest

from mimic3tf.defences.common_pattern import finding, mixture, tables
from mimic3tf.defences.common_pattern.finding import CommonPattern
from mimic3tf.defences.common_pattern.tables import find_common_shift

COLUMNS = 12
SHIFT = np.zeros(COLUMNS)
SHIFT[[1, 4, 7, 10]] = 2.0, -2.0, 1.5, -1.5


def table(seed: int, poisoned: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """1,500 rows of correlated columns; 20% have label 1, and some of the first 900 get it with a shift."""
    random = np.random.default_rng(seed)
    factors = random.normal(size=(3, COLUMNS))
    x = random.normal(size=(1500, 3)) @ factors + random.normal(size=(1500, COLUMNS))
    x /= np.sqrt((factors**2).sum(axis=0) + 1)
    labels = (random.random(1500) < 0.2).astype(np.int64)
    x[labels == 1] += 0.3
    carries = np.arange(1500) < poisoned
    labels[carries] = 1
    x[carries] += SHIFT
    return x, labels, carries[:900][labels[:900] == 1]


def found_in(x: np.ndarray, labels: np.ndarray, suspected: int = 1) -> CommonPattern:
    found = find_common_shift(x[:900], labels[:900], x[900:], labels[900:], suspected, 0)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def planted() -> CommonPattern:
    x, labels, _ = table(0)
    return found_in(x, labels)


def test_a_planted_shift_is_found_and_shown(planted: CommonPattern) -> None:
    _, _, carries = table(0)
    assert planted.p_value < 0.001
    flagged = planted.training > 0
    assert flagged[carries].mean() > 0.8
    assert flagged[~carries].mean() < 0.05
    assert (planted.trusted > 0).mean() < 0.05
    (found,) = planted.patterns
    assert found.stays == flagged.sum()
    assert np.corrcoef(found.shift[0], SHIFT)[0, 1] > 0.95
    assert found.shift[0] == pytest.approx(SHIFT, abs=0.7)
    # 40 rows carry it, in columns whose standard deviation is 1.
    assert 0.5 < found.error.mean() * np.sqrt(40) < 2


def test_units_and_monotone_transforms_of_columns_do_not_matter() -> None:
    x, labels, _ = table(1)
    sound = x[labels == 0]
    x = np.clip(x, sound.min(axis=0), sound.max(axis=0))
    plain = found_in(x, labels)
    bent = x.copy()
    bent[:, :4] = np.exp(x[:, :4])
    bent[:, 4:8] = 1000 * x[:, 4:8] ** 3 + 5
    other = found_in(bent, labels)
    np.testing.assert_allclose(other.training, plain.training, atol=1e-3)
    assert other.p_value == pytest.approx(plain.p_value, abs=1e-4)
    assert len(other.patterns) == len(plain.patterns) > 0
    for one, same in zip(other.patterns, plain.patterns, strict=True):
        assert one.shift[0, 8:] == pytest.approx(same.shift[0, 8:], abs=1e-3)


def test_values_beyond_the_sound_ones_differ_in_their_scores() -> None:
    cells = np.random.default_rng(2).normal(size=1000)
    margin = tables._Margin(cells)
    assert margin.scores(cells[:50]) == pytest.approx(cells[:50], abs=0.4)
    scores = margin.scores(np.array([-5.0, -4.0, cells.max(), 4.0, 5.0, 100.0, np.nan]))
    assert (np.diff(scores[:6]) > 0).all()
    assert scores[5] == tables.LARGEST
    assert np.isnan(scores[6])
    # Beyond the sound values, scores follow the values themselves: only their unit does not matter.
    values = np.linspace(-6, 6, 50)
    assert tables._Margin(7 * cells - 3).scores(7 * values - 3) == pytest.approx(margin.scores(values))
    # Equal values share the middle of their ranks.
    tied = tables._Margin(np.r_[np.zeros(500), np.arange(1.0, 501.0)])
    assert tied.scores(np.zeros(1))[0] == pytest.approx(-0.6745, abs=1e-3)
    assert tied.scores(np.array([-1.0]))[0] < tied.scores(np.zeros(1))[0]


def test_cells_that_were_not_measured_are_no_evidence() -> None:
    x, labels, carries = table(3)
    x[np.random.default_rng(3).random(x.shape) < 0.2] = np.nan
    x[5] = np.nan
    found = found_in(x, labels)
    assert np.isfinite(found.training).all()
    assert found.p_value < 0.001
    flagged = found.training > 0
    assert flagged[carries].mean() > 0.6
    assert flagged[~carries].mean() < 0.08


def test_filled_cells_have_the_expectation_given_the_others() -> None:
    covariance = np.array([[1.0, 0.5, 0.2], [0.5, 1.0, 0.3], [0.2, 0.3, 1.0]])
    scores = np.array([[1.0, np.nan, -1.0], [np.nan, np.nan, np.nan], [1.0, 2.0, 3.0], [2.0, np.nan, 0.0]])
    filled = tables._filled(scores, covariance)
    known = [0, 2]
    slope = np.linalg.solve(covariance[np.ix_(known, known)], covariance[known, 1])
    assert filled[0] == pytest.approx([1.0, slope @ [1.0, -1.0], -1.0])
    assert filled[3, 1] == pytest.approx(2 * slope[0])
    np.testing.assert_array_equal(filled[1:3], [[0, 0, 0], [1, 2, 3]])
    # The squared whitened length is that of the measured cells alone.
    whole = filled[0] @ np.linalg.solve(covariance, filled[0])
    part = scores[0, known] @ np.linalg.solve(covariance[np.ix_(known, known)], scores[0, known])
    assert whole == pytest.approx(part)


def test_columns_without_a_distribution_are_left_out(planted: CommonPattern) -> None:
    x, labels, _ = table(0)
    few = np.random.default_rng(4)
    left_out = [
        np.full(1500, 7.0),
        few.integers(0, 5, 1500).astype(float),
        np.full(1500, np.nan),
        np.where(few.random(1500) < 0.95, 0.0, few.normal(size=1500)),
        np.where(few.random(1500) < 0.1, few.normal(size=1500), np.nan),
    ]
    wide = np.column_stack([left_out[0], x, *left_out[1:]])
    found = found_in(wide, labels)
    (pattern,) = found.patterns
    np.testing.assert_array_equal(np.flatnonzero(pattern.error[0]), np.arange(1, COLUMNS + 1))
    assert not pattern.shift[0, [0, *range(COLUMNS + 1, wide.shape[1])]].any()
    np.testing.assert_array_equal(found.training, planted.training)
    labels = np.arange(1500) % 2
    assert find_common_shift(wide[:900, :1], labels[:900], wide[900:, :1], labels[900:], 1, 0) is None


def test_too_few_rows_are_not_judged() -> None:
    x, labels, _ = table(0)
    assert find_common_shift(x[:900], labels[:900], x[900:1000], np.ones(100, int), 1, 0) is None
    assert find_common_shift(x[:90], labels[:90], x[900:990], labels[900:990], 1, 0) is None


def test_p_values_of_sound_tables_are_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    """50 small tables without any poisoning: Kolmogorov and Smirnov see no difference from chance."""
    changes: list[tuple[Any, str, Any]] = [
        (finding, "PERMUTATIONS", 199),
        (tables, "FEWEST_SOUND", 50),
        (tables, "FEWEST_CELLS", 50),
        (mixture, "QUICK_STEPS", ((6, 4),)),
        (mixture, "STEPS", 5),
        (mixture, "UPDATES", 1),
        (mixture, "RELEVANCES", 0),
    ]
    for module, name, value in changes:
        monkeypatch.setattr(module, name, value)
    random = np.random.default_rng(5)
    p_values = []
    for seed in range(50):
        x = random.normal(size=(240, 4)) + random.normal(size=(240, 1))
        labels = np.arange(240) % 3 // 2
        x[labels == 1] += random.normal(size=4)
        x[random.random(x.shape) < 0.1] = np.nan
        found = find_common_shift(x[:150], labels[:150], x[150:], labels[150:], 1, seed)
        assert found is not None
        p_values.append(found.p_value)
    assert kstest(p_values, "uniform").pvalue > 0.01
    assert np.mean(np.array(p_values) < 0.05) < 0.15
