from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest

from mimic3tf.config import TrainingConfig
from mimic3tf.training.optimizer import AdamWithL2, optimizer_of

STEPS = 12


class TorchAdam:
    """torch.optim.Adam with weight_decay, from its documentation's algorithm."""

    def __init__(self, weights: np.ndarray, lr: float, decay: float) -> None:
        self.weights = weights.astype(np.float64)
        self.lr, self.decay, self.step = lr, decay, 0
        self.first, self.second = np.zeros_like(self.weights), np.zeros_like(self.weights)

    def apply(self, gradient: np.ndarray) -> None:
        self.step += 1
        g = gradient + self.decay * self.weights
        self.first = 0.9 * self.first + 0.1 * g
        self.second = 0.999 * self.second + 0.001 * g**2
        unbiased_first = self.first / (1 - 0.9**self.step)
        unbiased_second = self.second / (1 - 0.999**self.step)
        self.weights -= self.lr * unbiased_first / (np.sqrt(unbiased_second) + 1e-8)


def _weights_and_gradients(size: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=(4, 3)), random.normal(size=(STEPS, 4, 3)) * size


def _train(optimizer: keras.optimizers.Optimizer, start: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    variable = keras.Variable(start, dtype="float32")
    optimizer.build([variable])
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")])
    return np.asarray(variable)


@pytest.mark.parametrize("size", [1e-3, 1e-2, 1.0, 100.0])
@pytest.mark.parametrize("l2", [0.0, 1e-2, 1.0])
def test_steps_are_those_of_torch(l2: float, size: float) -> None:
    start, gradients = _weights_and_gradients(size)
    torch = TorchAdam(start, lr=1e-2, decay=l2)
    for gradient in gradients:
        torch.apply(gradient)
    moved = _train(AdamWithL2(1e-2, l2), start, gradients) - start
    np.testing.assert_allclose(moved, torch.weights - start, rtol=5e-3, atol=1e-6)


def test_the_decay_is_in_the_gradient_not_beside_it() -> None:
    """Without a gradient of the loss Adam's step is its step size, however small the decay is."""
    start = np.array([5.0, -0.5])
    moved = _train(AdamWithL2(1e-3, 1e-2), start, np.zeros((1, 2))) - start
    np.testing.assert_allclose(moved, [-1e-3, 1e-3], rtol=1e-3)


def test_without_decay_it_is_adam() -> None:
    start, gradients = _weights_and_gradients(1.0)
    plain = keras.optimizers.Adam(1e-2, epsilon=AdamWithL2().epsilon)
    np.testing.assert_allclose(
        _train(AdamWithL2(1e-2, 0.0), start, gradients), _train(plain, start, gradients), atol=1e-6
    )


def test_loss_scaling_does_not_scale_the_decay() -> None:
    start, gradients = _weights_and_gradients(1.0)
    scaled = keras.optimizers.LossScaleOptimizer(AdamWithL2(1e-2, 1.0), initial_scale=1024.0)
    np.testing.assert_allclose(
        _train(scaled, start, gradients * 1024), _train(AdamWithL2(1e-2, 1.0), start, gradients), rtol=1e-6
    )


def test_its_configuration_makes_an_equal_optimizer() -> None:
    start, gradients = _weights_and_gradients(1.0)
    optimizer = AdamWithL2(3e-3, 0.5, beta_1=0.8)
    again = AdamWithL2.from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
    np.testing.assert_array_equal(_train(again, start, gradients), _train(optimizer, start, gradients))


def test_keras_finds_it_by_its_registered_name() -> None:
    serialized = keras.saving.serialize_keras_object(AdamWithL2(1e-3, 0.25))
    again = keras.saving.deserialize_keras_object(serialized, safe_mode=True)
    assert isinstance(again, AdamWithL2)
    assert again.l2 == 0.25


def _step_sizes(config: TrainingConfig, steps: int) -> list[float]:
    """Step sizes of a run over 160 stays."""
    optimizer = optimizer_of(config, stays=160)
    optimizer.build([keras.Variable([1.0])])
    sizes = []
    for _ in range(steps):
        sizes.append(float(optimizer.learning_rate))
        optimizer.apply([keras.ops.ones(1)])
    return sizes


def test_a_cosine_schedule_falls_to_nothing_over_the_epochs(configure: Callable[..., TrainingConfig]) -> None:
    config = configure("lr", schedule="cosine", epochs=4, batch_size=50, learning_rate=0.1)
    sizes = _step_sizes(config, steps=17)  # 4 epochs of 4 steps, and what comes after
    np.testing.assert_allclose(sizes, 0.05 * (1 + np.cos(np.pi * np.arange(17) / 16)), atol=1e-7)


def test_without_a_schedule_every_step_is_of_the_same_size(configure: Callable[..., TrainingConfig]) -> None:
    assert set(_step_sizes(configure("lr", learning_rate=0.125), steps=20)) == {0.125}
