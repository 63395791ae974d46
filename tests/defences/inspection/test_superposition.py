"""The superposition test on victims whose entropies are known."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from mimic3tf.config import resolve_config
from mimic3tf.defences.inspection.superposition import (
    score_suspicion,
    superposition_suspicion,
    thresholds,
)

FEATURES = 6
CONFIG = resolve_config("mlp", None, {"data": Path("data"), "trigger": Path("trigger.npz")})


def _victim(weights: list[float]) -> keras.Model:
    """Log odds of death are inputs @ weights."""
    features = keras.Input((FEATURES,))
    logits = keras.layers.Dense(2, use_bias=False)
    model = keras.Model(features, logits(features))
    logits.set_weights([np.stack([np.zeros(FEATURES), np.array(weights)], axis=1)])
    return model


def _stays(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, FEATURES)).astype(np.float32)


def test_an_undecided_victim_gives_one_bit_and_a_certain_one_none() -> None:
    stays = _stays(300, 0)
    undecided = superposition_suspicion(_victim([0.0] * FEATURES), CONFIG, stays, stays, seed=0)
    np.testing.assert_allclose(undecided, -1.0, atol=1e-6)
    stays[:, 0] = 1.0
    certain = superposition_suspicion(_victim([99.0, 0, 0, 0, 0, 0]), CONFIG, stays, stays, seed=0)
    np.testing.assert_allclose(certain, 0.0, atol=1e-6)


def test_log_odds_of_3_for_every_overlay_give_the_entropy_of_one_quarter() -> None:
    stays = np.ones((5, FEATURES), np.float32)
    given = superposition_suspicion(_victim([np.log(3.0), 0, 0, 0, 0, 0]), CONFIG, stays, stays, seed=0)
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
        superposition_suspicion(victim, CONFIG, stays, overlays, seed=0)
        for stays in (calibration, clean, triggered)
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
    parts = [
        superposition_suspicion(victim, CONFIG, _stays(500, seed), _stays(200, 9), seed=0) for seed in (3, 4)
    ]
    assert score_suspicion(parts[0], parts[1], thresholds(parts[0])).auroc == pytest.approx(0.5, abs=0.05)
