"""The superposition test on victims whose entropies are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mimic3tf.data.flat import FlatGrids
from mimic3tf.defences.inspection.superposition import (
    score_suspicion,
    superposition_suspicion,
    thresholds,
)
from mimic3tf.pipeline import Inputs

FEATURES = 6


def _victim(weights: list[float]) -> Callable[[Inputs], np.ndarray]:
    """Log odds of death are inputs @ weights, of the last bin if there are several."""

    def risks_of(inputs: Inputs) -> np.ndarray:
        last = inputs.rows[inputs.starts[1:] - 1] if isinstance(inputs, FlatGrids) else inputs
        return 1 / (1 + np.exp(-last.astype(float) @ np.array(weights)))

    return risks_of


def _stays(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, FEATURES)).astype(np.float32)


def test_an_undecided_victim_gives_one_bit_and_a_certain_one_none() -> None:
    stays = _stays(300, 0)
    undecided = superposition_suspicion(_victim([0.0] * FEATURES), stays, stays, seed=0)
    np.testing.assert_allclose(undecided, -1.0, atol=1e-6)
    stays[:, 0] = 1.0
    certain = superposition_suspicion(_victim([99.0, 0, 0, 0, 0, 0]), stays, stays, seed=0)
    np.testing.assert_allclose(certain, 0.0, atol=1e-6)


def test_log_odds_of_3_for_every_overlay_give_the_entropy_of_one_quarter() -> None:
    stays = np.ones((5, FEATURES), np.float32)
    given = superposition_suspicion(_victim([np.log(3.0), 0, 0, 0, 0, 0]), stays, stays, seed=0)
    np.testing.assert_allclose(given, -(0.75 * np.log2(4 / 3) + 0.25 * 2), atol=1e-6)


def test_a_trigger_that_decides_alone_is_found() -> None:
    # Clean stays hang on small features; the trigger is a last feature that outweighs all of them.
    victim = _victim([1.0, 1.0, 1.0, 0.0, 0.0, 20.0])
    clean, trusted = _stays(400, 1), _stays(400, 2)
    clean[:, -1], trusted[:, -1] = 0.0, 0.0
    triggered = clean.copy()
    triggered[:, -1] = 3.0
    overlays, calibration = trusted[:200], trusted[200:]
    suspicion = [
        superposition_suspicion(victim, stays, overlays, seed=0) for stays in (calibration, clean, triggered)
    ]
    limits = thresholds(suspicion[0])
    assert list(limits) == [0.01, 0.05]
    for rate, limit in limits.items():
        assert (suspicion[0] > limit).mean() <= rate
    score = score_suspicion(suspicion[1], suspicion[2], limits)
    assert score.auroc == pytest.approx(1.0)
    assert score.recall == {0.01: 1.0, 0.05: 1.0}
    assert score.false_positives[0.05] < 0.12


def test_without_a_trigger_it_is_at_chance() -> None:
    victim = _victim([1.0] * FEATURES)
    parts = [superposition_suspicion(victim, _stays(500, seed), _stays(200, 9), seed=0) for seed in (3, 4)]
    assert score_suspicion(parts[0], parts[1], thresholds(parts[0])).auroc == pytest.approx(0.5, abs=0.05)


def test_overlays_of_other_lengths_are_cut_or_hold_their_last_bin() -> None:
    random = np.random.default_rng(5)
    rows = random.normal(size=(9, FEATURES)).astype(np.float32)
    short, long = FlatGrids(rows[:2], np.array([0, 2])), FlatGrids(rows[2:], np.array([0, 7]))
    seen: list[FlatGrids] = []

    def risks_of(inputs: Inputs) -> np.ndarray:
        assert isinstance(inputs, FlatGrids)
        seen.append(inputs)
        return np.full(len(inputs), 0.5)

    superposition_suspicion(risks_of, short, long, seed=0)
    superposition_suspicion(risks_of, long, short, seed=0)
    cut, held = seen
    np.testing.assert_array_equal(np.diff(cut.starts), 2)
    np.testing.assert_array_equal(cut.rows[:2], (rows[:2] + rows[2:4]) / 2)
    np.testing.assert_array_equal(np.diff(held.starts), 7)
    np.testing.assert_array_equal(held.rows[:7], (rows[2:] + rows[[0, 1, 1, 1, 1, 1, 1]]) / 2)
