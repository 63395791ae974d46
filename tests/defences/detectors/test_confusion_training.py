"""Confusion training mixes the right stays; what it finds is tested with all detectors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

from mimic3tf.defences.detectors import confusion_training
from mimic3tf.defences.detectors.confusion_training import CONFUSED, EPOCHS, KEPT, confused
from mimic3tf.defences.retraining import Examples
from mimic3tf.training.prediction import outputs_of


@pytest.mark.parametrize("suspected", [0, 1])
def test_rounds_train_on_random_labels_and_on_the_stays_that_are_predicted_best(
    triggered: Any, monkeypatch: pytest.MonkeyPatch, suspected: int
) -> None:
    evidence = replace(triggered.evidence, suspected=suspected)
    mixed: list[Examples] = []

    def tune(model: keras.Model, config: Any, examples: Examples) -> keras.Model:
        assert (config.epochs, config.seed) == (EPOCHS, 7)
        mixed.append(examples)
        return model

    monkeypatch.setattr(confusion_training, "tune", tune)
    scores, inputs = confused(evidence, 7), evidence.victim.inputs
    logits = outputs_of(evidence.victim.model, inputs).astype(np.float64)
    odds = logits[:, 1] - logits[:, 0]
    np.testing.assert_array_equal(scores.training, odds if suspected == 1 else -odds)
    assert scores.trusted is None

    labels, trusted = evidence.labels, evidence.trusted
    counts = np.bincount(labels)
    first, second = mixed
    random = [first.labels[len(labels) :], second.labels[-len(first) + len(labels) :]]
    np.testing.assert_array_equal(first.inputs[: len(labels)], inputs)
    np.testing.assert_array_equal(first.labels[: len(labels)], labels)
    for drawn in random:
        assert len(drawn) >= CONFUSED * len(labels)
        assert len(drawn) % len(trusted) == 0
        assert drawn.mean() == pytest.approx(labels.mean(), abs=0.03)
        right = np.tile(trusted.labels, len(drawn) // len(trusted))
        assert abs(np.corrcoef(drawn, right)[0, 1]) < 0.06
    assert (random[0] != random[1]).any()

    kept = len(second) - len(random[1])
    best = [
        inputs[stay]
        for label, towards in ((0, -odds), (1, odds))
        for stay in sorted(np.flatnonzero(labels == label), key=lambda stay: -towards[stay])[
            : round(KEPT * counts[label])
        ]
    ]
    assert kept == len(best)
    np.testing.assert_array_equal(second.inputs[:kept], best)
