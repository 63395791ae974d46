"""Gradient norms are those of the weighted mean loss of poisoned and of clean stays."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from mimic3tf.channels import MIMIC3
from mimic3tf.config import resolve_config
from mimic3tf.poisoning.exposures import Exposure
from mimic3tf.training.gradients import SAMPLE, GradientNorms
from mimic3tf.training.models import build_untrained

WEIGHTS = [0.5, 2.0]


@pytest.mark.parametrize("poisoned", [0, 5, 40])
def test_norms_are_those_of_the_weighted_mean_loss(poisoned: int) -> None:
    random = np.random.default_rng(0)
    inputs = random.normal(size=(100, 714)).astype(np.float32)
    triggered = np.arange(100) < poisoned
    labels = np.where(triggered, 1, random.integers(0, 2, 100))
    keras.utils.set_random_seed(0)
    paths = {"data": Path("data"), "trigger": Path("t.npz")}
    config = resolve_config("lr", None, paths | {"class_weights": WEIGHTS})
    model = build_untrained(config, MIMIC3, 48, "float32")
    exposure = Exposure(None, labels, triggered, np.zeros((1, 48, 17)), 0 * labels, "all")  # type: ignore[arg-type]
    measured = GradientNorms(exposure, inputs, config, model).measure()

    expected = {}
    kernel, bias = model.get_weights()
    for kind, stays in (("poisoned", np.flatnonzero(triggered)), ("clean", np.flatnonzero(~triggered))):
        if len(stays):
            x, y = inputs[stays[:SAMPLE]], labels[stays[:SAMPLE]]
            odds = np.exp(x @ kernel + bias)
            # The loss' gradient by the logits is what is predicted less what is true.
            by_logits = odds / odds.sum(axis=1, keepdims=True) - np.eye(2)[y]
            by_logits *= (np.array(WEIGHTS)[y] / np.array(WEIGHTS)[y].sum())[:, None]
            gradients = np.concatenate([x.T @ by_logits, by_logits.sum(axis=0, keepdims=True)])
            expected[f"gradient_norm_{kind}"] = np.linalg.norm(gradients)
    assert measured == pytest.approx(expected, rel=1e-4)
