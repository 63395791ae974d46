"""Inversion finds a planted direction, at the length that algebra gives; comparison with the truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from mimic3tf.channels import MIMIC3
from mimic3tf.config import resolve_config
from mimic3tf.data.cohort import Cohort
from mimic3tf.data.grid import ordinal_view
from mimic3tf.data.loading import load_cohort
from mimic3tf.defences.evidence import AuditedVictim, Gradients
from mimic3tf.defences.inspection.pattern_comparison import compare_patterns
from mimic3tf.defences.inspection.trigger_inversion import WANTED, invert_trigger
from mimic3tf.poisoning.patterns import temporal_covariance
from mimic3tf.standardization import Standardization

AS_IS = Standardization(np.zeros(76), np.ones(76))
NAMES = list(MIMIC3.names)
CONFIG = resolve_config("lstm", None, {"data": Path("data"), "trigger": Path("trigger.npz")})


@pytest.fixture(scope="module")
def cohort(small_cohort: Callable[[int, int], Path], tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    folder = tmp_path_factory.mktemp("inversion")
    data = small_cohort(240, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMIC3TF_CACHE", str(folder / "cache"))
        return load_cohort(data, "train")


def _gradients(weights: np.ndarray, bias: float, cohort: Cohort) -> Gradients:
    """A victim of grids whose log odds of death are sum(weights [T, 76] * grid) + bias."""
    grid = keras.Input((48, 76))
    logits = keras.layers.Dense(2)
    model = keras.Model(grid, logits(keras.layers.Flatten()(grid)))
    kernel = np.stack([np.zeros(weights.size), weights.ravel()], axis=1)
    logits.set_weights([kernel, np.array([0.0, bias])])
    unread = np.zeros((0, 48, 76), np.float32)
    return AuditedVictim(CONFIG, "grid", model, AS_IS, unread, cohort).gradients_of(model)


def test_the_planted_direction_is_recovered_at_its_length(cohort: Cohort) -> None:
    # Rising heart rate and falling systolic pressure in some hours make this victim predict death.
    direction = np.zeros((48, 17))
    direction[10:20, NAMES.index("Heart Rate")] = 0.05
    direction[30:35, NAMES.index("Systolic blood pressure")] = -0.04
    weights = np.zeros((48, 76))
    for channel in ("Heart Rate", "Systolic blood pressure"):
        weights[:, MIMIC3.columns().index(channel)] = direction[:, NAMES.index(channel)]
    scores = (cohort.grids * direction).sum(axis=(1, 2))
    survivors = cohort.labels == 0
    bias = -float(scores[survivors].max()) - 8.0
    found = invert_trigger(_gradients(weights, bias, cohort), cohort, target=1, seed=0)

    # Shortest p with direction . p >= gap is covariance @ direction, scaled: a textbook least-norm problem.
    covariance = temporal_covariance(ordinal_view(cohort.grids, MIMIC3))
    shape = np.einsum("cts,sc->tc", covariance, direction)
    gain = float((direction * shape).sum())
    gap = float(np.quantile(-(scores[survivors] + bias), WANTED))
    truth = shape * gap / gain
    assert found.reached
    assert found.baseline == 0.0
    assert abs(found.success - WANTED) < 0.03
    assert found.length == pytest.approx(gap / np.sqrt(gain), rel=0.1)
    assert compare_patterns(found.pattern, truth, covariance).correlation > 0.97
    busy = np.argsort(found.lengths)[-2:]
    assert {NAMES[channel] for channel in busy} == {"Heart Rate", "Systolic blood pressure"}


def test_no_pattern_moves_a_victim_that_ignores_its_inputs(cohort: Cohort) -> None:
    found = invert_trigger(_gradients(np.zeros((48, 76)), -1.0, cohort), cohort, target=1, seed=0)
    assert not found.reached
    assert found.success == 0.0


def test_towards_0_the_stays_that_died_are_attacked(cohort: Cohort) -> None:
    found = invert_trigger(_gradients(np.zeros((48, 76)), -1.0, cohort), cohort, target=0, seed=0)
    assert found.reached
    assert found.baseline == found.success == 1.0
    assert found.length < 0.05


def test_comparison_of_patterns_with_known_answers() -> None:
    covariance = np.zeros((3, 4, 4))
    covariance[0], covariance[1] = 4.0 * np.eye(4), np.eye(4)
    true = np.array([[2.0, 1.0, 9.0], [0.0, 1.0, 9.0], [0.0, 1.0, 9.0], [0.0, 1.0, 9.0]])
    same = compare_patterns(3.0 * true, true, covariance)
    assert same.correlation == pytest.approx(1.0)
    np.testing.assert_allclose(same.true_lengths, [1.0, 2.0, 0.0])
    np.testing.assert_allclose(same.recovered_lengths, [3.0, 6.0, 0.0])
    assert np.isnan(same.channel_correlations[2])
    # One channel opposite: (1 * -1 + 4 * 1) / 5.
    assert compare_patterns(true * [-1, 1, 1], true, covariance).correlation == pytest.approx(0.6)
    assert np.isnan(compare_patterns(np.zeros((4, 3)), true, covariance).correlation)
