"""The p-value of a common pattern is as small as chance makes it, and not smaller."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import kstest, permutation_test

from mimic3tf.defences.common_pattern import finding, mixture, sound_stays
from mimic3tf.defences.common_pattern.finding import Stays, find_common_pattern, permutation_p_value


def test_the_p_value_of_one_fold_is_that_of_scipy() -> None:
    random = np.random.default_rng(0)
    values = [random.normal(0.25, 1, 60), random.normal(size=25)]
    folds = [np.zeros(60, np.int64), np.zeros(25, np.int64)]
    ours = permutation_p_value(values, folds, np.random.default_rng(1))

    def difference(a: Any, b: Any, axis: int) -> Any:
        return a.mean(axis=axis) - b.mean(axis=axis)

    theirs = permutation_test(
        values,
        difference,
        alternative="greater",
        n_resamples=9999,
        rng=np.random.default_rng(2),
        vectorized=True,
    )
    assert ours == pytest.approx(theirs.pvalue, abs=0.02)


def test_members_change_groups_within_their_fold_only() -> None:
    # One fold has high values in both groups: there is no difference within any fold.
    values = [np.r_[np.ones(90), np.zeros(10)], np.r_[np.ones(10), np.zeros(90)]]
    folds = [np.r_[np.zeros(90, int), np.ones(10, int)], np.r_[np.zeros(10, int), np.ones(90, int)]]
    assert permutation_p_value(values, folds, np.random.default_rng(0)) == 1.0
    together = [np.zeros(100, int)] * 2
    assert permutation_p_value(values, together, np.random.default_rng(0)) < 0.001


@pytest.mark.slow
def test_p_values_of_sound_stays_are_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 small cohorts without any poisoning: Kolmogorov and Smirnov see no difference from chance."""
    monkeypatch.setattr(finding, "PERMUTATIONS", 199)
    monkeypatch.setattr(finding, "FEWEST_SOUND", 50)
    monkeypatch.setattr(sound_stays, "ROUNDS", 0)
    monkeypatch.setattr(mixture, "QUICK_STEPS", ((6, 4),))
    monkeypatch.setattr(mixture, "STEPS", 5)
    monkeypatch.setattr(mixture, "UPDATES", 1)
    monkeypatch.setattr(mixture, "RELEVANCES", 0)
    random = np.random.default_rng(3)
    p_values = []
    for seed in range(200):
        values = random.normal(size=(240, 3, 2)) + random.normal(size=(240, 1, 2))
        # Stays of label 1 differ from the others, in both groups alike.
        labels = (np.arange(240) % 3 == 0).astype(np.int64)
        values[labels == 1] += random.normal(size=2)
        mask = random.random(values.shape) < 0.8
        training, trusted = (
            Stays(values[part], mask[part], labels[part]) for part in (slice(150), slice(150, None))
        )
        found = find_common_pattern(training, trusted, 1, np.ones(2, bool), seed)
        assert found is not None
        p_values.append(found.p_value)
    assert kstest(p_values, "uniform").pvalue > 0.01
    assert np.mean(np.array(p_values) < 0.05) < 0.12
