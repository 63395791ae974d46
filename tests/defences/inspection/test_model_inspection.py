"""Verdicts about a model that is clean and one with a planted shortcut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from mimic3tf import pipeline
from mimic3tf.channels import MIMIC3
from mimic3tf.config import resolve_config
from mimic3tf.data.loading import load_cohort
from mimic3tf.defences.evidence import AuditedVictim, Evidence
from mimic3tf.defences.inspection import model_inspection, trigger_inversion
from mimic3tf.defences.inspection.model_inspection import ModelFindings, anomaly_index, inspect_model
from mimic3tf.defences.retraining import examples_of, retrain
from mimic3tf.poisoning import exposures
from mimic3tf.standardization import fit_standardization

pytestmark = pytest.mark.usefixtures("small_victims")


@pytest.fixture(scope="module")
def evidence(small_cohort: Callable[[int, int], Path], tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """A clean model that learned from as many stays as its references do."""
    folder = tmp_path_factory.mktemp("inspection")
    data = small_cohort(500, 11)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMIC3TF_CACHE", str(folder / "cache"))
        stays = load_cohort(data, "train")
    trusted, train = stays.take(np.arange(230)), stays.take(np.arange(230, 345))
    options = {"data": folder, "trigger": Path("trigger.npz"), "precision": "float32", "epochs": 5}
    config = resolve_config("lstm", None, options)
    raw = pipeline.inputs_of(exposures.clean(train), "grid")
    standardization = fit_standardization(raw, "grid", MIMIC3)
    examples = examples_of(train, "grid", standardization)
    model = retrain(config, examples, examples_of(trusted, "grid", standardization))
    return Evidence(
        stays=train.stays,
        grids=train.grids,
        masks=train.masks,
        labels=train.labels,
        suspected=1,
        trusted=trusted,
        fingerprint=train.fingerprint,
        model=AuditedVictim(config, "grid", model, standardization, examples.inputs, trusted),
        source="--data data",
    )


def found_in(evidence: Evidence) -> ModelFindings:
    found = inspect_model(evidence, seed=0)
    assert found is not None
    return found


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_inspection, "REFERENCES", 3)
    monkeypatch.setattr(trigger_inversion, "STEPS", 40)
    monkeypatch.setattr(trigger_inversion, "RESTARTS", 1)


@pytest.mark.slow
def test_a_clean_model_is_not_called_backdoored(evidence: Evidence) -> None:
    found = found_in(evidence)
    assert not found.looks_backdoored, found.in_words
    assert found.in_words == "no pattern is much shorter than those that clean models need"
    assert [finding.inversion.target for finding in found.targets] == [0, 1]
    assert all(len(finding.reference_lengths) == 3 for finding in found.targets)


def test_a_planted_shortcut_to_death_is_called_one(evidence: Evidence) -> None:
    model = keras.models.clone_model(evidence.victim.network)
    kernel, bias = evidence.victim.network.get_weights()
    weights = kernel.reshape(48, 76, 2).copy()
    # Three hours of pH that no clean model cares for.
    weights[[5, 17, 31], MIMIC3.columns().index("pH"), 1] += [8.0, -8.0, 8.0]
    model.set_weights([weights.reshape(kernel.shape), bias])
    found = found_in(replace(evidence, model=replace(evidence.victim, model=model)))
    towards_death = found.targets[1]
    assert found.looks_backdoored
    assert "makes it predict 1" in found.in_words
    assert "can look like that, too" in found.in_words
    assert towards_death.inversion.reached
    assert towards_death.inversion.length < min(towards_death.reference_lengths)
    lengths = dict(zip(MIMIC3.names, towards_death.inversion.lengths, strict=True))
    assert max(lengths, key=lengths.__getitem__) == "pH"


def test_anomaly_index_with_known_answers() -> None:
    # Logarithms 0, 1, 2: median 1, median absolute deviation 1.
    references = list(np.exp([0.0, 1.0, 2.0]))
    assert anomaly_index(np.exp(-2.0), references) == pytest.approx(3.0 / 1.4826)
    assert anomaly_index(np.exp(2.0), references) < 0
    # References that agree by luck: a deviation is assumed.
    assert anomaly_index(np.exp(-0.3), [1.0, 1.0, 1.0]) == pytest.approx(1.0)
    assert anomaly_index(np.inf, references) == 0.0
    assert anomaly_index(1.0, [np.inf, np.inf, 2.0]) == 0.0
