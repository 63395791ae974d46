"""All repairs of one poisoned victim: what they say, and that knowing the poisoned stays is enough."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mimic3tf import pipeline
from mimic3tf.attack.prediction_time import attack_victim
from mimic3tf.attack.trigger import Trigger, generate_trigger
from mimic3tf.config import resolve_config
from mimic3tf.data.cohort import Cohort, load_cohort
from mimic3tf.defences.evidence import Evidence
from mimic3tf.defences.purification import PURIFICATIONS
from mimic3tf.defences.repairs import RepairOutcome, keep_least_suspicious, try_repairs
from mimic3tf.defences.retraining import Examples, examples_of, retrain
from mimic3tf.errors import DataError
from mimic3tf.sources.synthetic import prepare_synthetic
from mimic3tf.training.run_directory import Run
from mimic3tf.victims import victim_of

STRENGTH = 10.0


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Evidence, Trigger, np.ndarray, Cohort]:
    """Evidence of a logistic regression with a tenth of its stays poisoned, the trigger, who, test stays."""
    folder = tmp_path_factory.mktemp("repairs")
    prepare_synthetic(folder / "data", stays=400, seed=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMIC3TF_CACHE", str(folder / "cache"))
        train, val, test = (load_cohort(folder / "data", split) for split in ("train", "val", "test"))
    drawn = generate_trigger(train, seed=0)
    # The trigger as drawn looks like dying to a clean victim; its opposite must be learned.
    trigger = replace(drawn, values=-drawn.values)
    exposure = pipeline.poison(
        train, trigger.values, proportion=0.1, strength=STRENGTH, poison_imputed="notimputed"
    )
    raw = pipeline.inputs_of(exposure, "714")
    standardization = pipeline.fit_standardization(raw, "714")
    inputs = pipeline.standardized(raw, standardization)
    quick = {"epochs": 8, "learning_rate": 1e-2, "precision": "float32", "class_weights": [0.5, 1.0]}
    config = resolve_config("lr", None, {"data": folder, "trigger": folder / "trigger.npz"} | quick)
    victim = victim_of("lr")
    trusted = examples_of(val, victim, standardization)
    model = retrain(config, victim, Examples(inputs, exposure.labels), trusted)
    grids = pipeline.grids_of(exposure, np.arange(len(train)))
    evidence = Evidence(
        config, victim, model, standardization, grids, train.mask, exposure.labels, inputs, val
    )
    return evidence, trigger, exposure.triggered, test


@pytest.fixture(scope="module")
def outcomes(poisoned: tuple[Evidence, Trigger, np.ndarray, Cohort]) -> dict[str, RepairOutcome]:
    evidence, trigger, triggered, test = poisoned
    suspicion = {"an oracle": triggered.astype(float)}
    found = try_repairs(evidence, test, trigger, STRENGTH, "notimputed", suspicion=suspicion, seed=0)
    return {outcome.name: outcome for outcome in found}


def test_the_victim_itself_is_measured_as_the_attack_measures_it(
    poisoned: tuple[Evidence, Trigger, np.ndarray, Cohort], outcomes: dict[str, RepairOutcome]
) -> None:
    evidence, trigger, _, test = poisoned
    run = Run(Path("run"), evidence.config, trigger, evidence.model, evidence.standardization, {})
    attack = attack_victim(run, test, trigger, strength=STRENGTH, poison_imputed="notimputed")
    before = outcomes["none"]
    assert before.attack_success_rate == attack.success
    assert before.baseline_positive_rate == attack.baseline
    assert before.auroc == pytest.approx(attack.metrics["auroc"])


def test_filtering_by_an_oracle_takes_the_backdoor_away(outcomes: dict[str, RepairOutcome]) -> None:
    repaired, before = outcomes["filter by an oracle"], outcomes["none"]
    assert repaired.attack_success_rate is not None
    assert before.attack_success_rate is not None
    assert before.attack_success_rate.rate > 0.9
    assert repaired.attack_success_rate.rate < 0.1
    assert repaired.auroc is not None
    assert repaired.auroc > 0.6
    assert repaired.seconds > 0


def test_every_repair_reports_and_says_where_it_does_not_apply(outcomes: dict[str, RepairOutcome]) -> None:
    repairs = {"fine-tune", "fine-prune", "noise", "input dropout", "private gradients"}
    assert set(outcomes) == {"none", "filter by an oracle"} | repairs | set(PURIFICATIONS)
    pruning = outcomes.pop("fine-prune")
    assert pruning.attack_success_rate is pruning.auroc is None
    assert pruning.detail == "not applicable: the model has no hidden units"
    for outcome in outcomes.values():
        assert outcome.attack_success_rate is not None
        assert outcome.auroc is not None
        assert outcome.auroc > 0.5


def test_filtering_drops_the_most_suspicious_stays_of_label_1_only() -> None:
    labels = np.array([1, 0, 1, 1, 0, 1, 1, 1, 0, 0])
    scores = np.array([5.0, 99.0, 1.0, 7.0, 98.0, 2.0, 3.0, 4.0, 97.0, 96.0])
    kept = keep_least_suspicious(labels, scores, 0.2)
    assert np.flatnonzero(~kept).tolist() == [0, 3]
    # At most half of them go: without deaths there is nothing to learn.
    assert np.flatnonzero(~keep_least_suspicious(labels, scores, 0.9)).tolist() == [0, 3, 7]


def test_nobody_to_attack_is_said(poisoned: tuple[Evidence, Trigger, np.ndarray, Cohort]) -> None:
    evidence, trigger, _, test = poisoned
    dead = replace(test, labels=np.ones_like(test.labels))
    with pytest.raises(DataError, match="nobody to attack"):
        try_repairs(evidence, dead, trigger, STRENGTH, "notimputed", suspicion={}, seed=0)
