"""Retraining, fine-pruning and private steps, each against an answer known beforehand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from mimic3tf.channels import MIMIC3
from mimic3tf.config import TrainingConfig, resolve_config
from mimic3tf.defences.repairs.fine_pruning import has_units, prune_dormant
from mimic3tf.defences.repairs.private_training import PrivateSteps, epsilon, is_dense
from mimic3tf.defences.repairs.registry import Repaired, RepairOutcome, measure_each
from mimic3tf.defences.retraining import Examples, auroc_of, predict, retrain, tune
from mimic3tf.tasks.registry import MORTALITY
from mimic3tf.tasks.targets import Head
from mimic3tf.training.models import build_untrained
from mimic3tf.training.steps import Steps
from mimic3tf.victims import Victim

FEATURES = 3


def _settings(batch_size: int) -> Any:
    return SimpleNamespace(task=MORTALITY.name, seed=0, input_dropout=0.0, batch_size=batch_size)


def _config(**settings: Any) -> TrainingConfig:
    quick = {"epochs": 3, "batch_size": 10, "precision": "float32", "learning_rate": 1e-2, "l2": 0.0}
    files = {"data": Path("data"), "trigger": Path("trigger.npz")}
    return resolve_config("mlp", None, files | quick | settings)


CONFIG = _config()


def _two_layers(_: tuple[int, ...] = (), head: Head = MORTALITY.head) -> keras.Model:
    inputs = keras.Input((FEATURES,))
    hidden = keras.layers.Dense(4, activation="relu", name="hidden")(inputs)
    return keras.Model(inputs, head(hidden))


@pytest.fixture
def _small_victims(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is retrained has few features and units."""
    victim = Victim("mlp", "Small", "features", _two_layers, by_channel=False)
    monkeypatch.setattr("mimic3tf.training.models.victim_of", lambda name: victim)


def _backdoored() -> keras.Model:
    """Predicts death where feature 0 is positive; a third unit wakes where feature 2 is above 4."""
    model = _two_layers()
    hidden = np.array([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.1], [0.0, 0.0, 1.0, 0.0]])
    logits = np.array([[0.0, 1.0], [0.0, -1.0], [0.0, 50.0], [0.0, 0.0]])
    model.set_weights([hidden, np.array([0.0, 0.0, -4.0, 0.0]), logits, np.zeros(2)])
    return model


def _examples(inputs: np.ndarray, labels: np.ndarray) -> Examples:
    return Examples(inputs, labels, MIMIC3, 48)


def _clean(count: int = 200) -> Examples:
    random = np.random.default_rng(0)
    inputs = random.uniform(-2, 2, size=(count, FEATURES)).astype(np.float32)
    return _examples(inputs, (inputs[:, 0] > 0).astype(np.int64))


def _pruned(model: keras.Model, clean: Examples) -> tuple[keras.Model, np.ndarray]:
    targets = MORTALITY.targets

    def auroc(outputs: np.ndarray) -> float:
        return targets.metrics(clean.labels, targets.probabilities(outputs))["auroc"]

    return prune_dormant(model, CONFIG.head, clean.inputs, auroc)


def test_pruning_silences_the_planted_unit_and_nothing_that_clean_stays_need() -> None:
    model, clean = _backdoored(), _clean()
    triggered = clean.inputs.copy()
    triggered[:, 2] = 6.0
    assert (predict(model, CONFIG, triggered) > 0.5).all()
    before = model.get_weights()
    pruned, kept = _pruned(model, clean)
    # Units 2 and 3 are idle or unread, and one of the first two is enough to rank the stays of its side.
    assert not kept[2]
    assert auroc_of(pruned, CONFIG, clean) >= auroc_of(model, CONFIG, clean) - 0.01
    np.testing.assert_array_equal(predict(pruned, CONFIG, triggered), predict(pruned, CONFIG, clean.inputs))
    for weights, untouched in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weights, untouched)


def test_a_pruned_unit_stays_silent_when_the_model_is_trained_further() -> None:
    pruned, kept = _pruned(_backdoored(), _clean())
    tuned = tune(pruned, _config(), _clean())
    before = predict(tuned, CONFIG, _clean().inputs)
    hidden, bias, *others = tuned.get_weights()
    tuned.set_weights([hidden, np.where(kept, bias, 1e6), *others])
    np.testing.assert_array_equal(predict(tuned, CONFIG, _clean().inputs), before)


def test_a_repair_that_diverges_is_named_and_not_measured() -> None:
    broken = _two_layers()
    broken.set_weights([np.full_like(weights, np.nan) for weights in broken.get_weights()])
    repairs = {"broken": lambda: Repaired(broken, "3 epochs"), "none": lambda: Repaired(_two_layers(), "")}
    measured: list[str] = []

    def measure(name: str, repaired: Repaired) -> RepairOutcome:
        measured.append(name)
        return RepairOutcome(name, None, None, 0.5, 0.0, repaired.detail)

    first, second = measure_each(repairs, measure)
    assert (first.detail, first.auroc) == ("training diverged", None)
    assert (second.auroc, measured) == (0.5, ["none"])


@pytest.mark.parametrize(("name", "units", "dense"), [("lr", 0, 1), ("mlp", 1, 1), ("lstm", 1, 0)])
def test_what_can_be_pruned_and_trained_privately(name: Any, units: int, dense: int) -> None:
    config = resolve_config(name, None, {"data": Path("data"), "trigger": Path("trigger.npz")})
    model = build_untrained(config, MIMIC3, 48, "float32")
    assert (has_units(model), is_dense(model)) == (bool(units), bool(dense))


@pytest.mark.usefixtures("_small_victims")
def test_retraining_learns_repeats_and_keeps_the_best_epoch() -> None:
    config, clean = _config(epochs=12), _clean()
    first, second = (retrain(config, clean, clean) for _ in range(2))
    assert auroc_of(first, CONFIG, clean) > 0.98
    for weights, same in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, same)
    # Judges who hold the contrary prefer the epoch that learned least.
    contrary = _examples(clean.inputs, 1 - clean.labels)
    misled = retrain(config, clean, contrary)
    assert auroc_of(misled, CONFIG, clean) < auroc_of(first, CONFIG, clean)


@pytest.mark.usefixtures("_small_victims")
def test_noise_that_drowns_the_inputs_leaves_nothing_to_learn() -> None:
    config, clean = _config(epochs=4), _clean(100)
    drowned = retrain(config, clean, _examples(clean.inputs, 1 - clean.labels), noise=1e4)
    learned = retrain(config, clean, clean)
    assert predict(drowned, CONFIG, clean.inputs).std() < predict(learned, CONFIG, clean.inputs).std()


def test_tuning_leaves_the_given_model_alone() -> None:
    model, clean = _backdoored(), _clean()
    before = predict(model, CONFIG, clean.inputs)
    tuned = tune(model, _config(), clean)
    np.testing.assert_array_equal(predict(model, CONFIG, clean.inputs), before)
    assert not np.array_equal(predict(tuned, CONFIG, clean.inputs), before)


def _one_call(examples: Examples) -> Any:
    """Batches of one step with all stays."""
    count = len(examples)
    weight = np.full((1, count), 1 / count, np.float32)
    parts = (examples.inputs[None], examples.labels[None], weight)
    return iter(tf.data.Dataset.from_tensors(parts).repeat())


def test_private_steps_without_clip_and_noise_are_ordinary_ones() -> None:
    clean, results = _clean(20), []
    kinds: list[Callable[..., Any]] = [Steps, partial(PrivateSteps, clip=1e9, noise_multiplier=0.0)]
    for make in kinds:
        model = _backdoored()
        steps = make(model, keras.optimizers.SGD(0.5), _settings(20), stays=20)
        steps.epoch(_one_call(clean))
        results.append(model.get_weights())
    for ordinary, private in zip(*results, strict=True):
        np.testing.assert_allclose(private, ordinary, rtol=1e-5, atol=1e-6)


def test_no_stay_moves_the_weights_by_more_than_the_clip() -> None:
    one = _examples(np.array([[1.0, 2.0, 50.0]], np.float32), np.array([0]))
    model = _backdoored()
    before = model.get_weights()
    steps = PrivateSteps(
        model, keras.optimizers.SGD(1.0), _settings(1), stays=1, clip=0.25, noise_multiplier=0.0
    )
    steps.epoch(_one_call(one))
    moved = [after - weights for after, weights in zip(model.get_weights(), before, strict=True)]
    assert np.sqrt(sum((part**2).sum() for part in moved)) == pytest.approx(0.25, rel=1e-4)


def test_the_noise_has_the_deviation_that_was_asked_for() -> None:
    # Equal stays of both labels at even odds: their gradients cancel, what is left is noise.
    features = keras.Input((500,))
    model = keras.Model(features, keras.layers.Dense(2, kernel_initializer="zeros")(features))
    pair = _examples(np.zeros((2, 500), np.float32), np.array([0, 1]))
    steps = PrivateSteps(
        model, keras.optimizers.SGD(1.0), _settings(2), stays=2, clip=3.0, noise_multiplier=0.5
    )
    steps.epoch(_one_call(pair))
    # 0.5 * 3 in the sum of two stays, half of it in their mean.
    assert model.get_weights()[0].std() == pytest.approx(0.75, rel=0.1)


@pytest.mark.parametrize(
    ("epochs", "noise", "expected"),
    [(1, 2.0, 4.377178095681137), (20, 0.1, 4380.486575805873), (30, 5.0, 11.191738978129102)],
)
def test_epsilon_is_that_of_the_gaussian_mechanism(epochs: int, noise: float, expected: float) -> None:
    # Of dp-accounting 0.6.0: get_epsilon_gaussian(noise / 2 / sqrt(epochs), 1e-5).
    assert epsilon(epochs, noise, 1e-5) == pytest.approx(expected, rel=1e-9)


def test_epsilon_is_nothing_where_noise_drowns_all() -> None:
    assert epsilon(1, 1e9, 1e-5) == 0
