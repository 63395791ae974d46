"""All repairs of one poisoned victim: what they say, and that knowing the poisoned stays is enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from mimic3tf import pipeline
from mimic3tf.attacks import attack_victim
from mimic3tf.channels import MIMIC3
from mimic3tf.config import resolve_config
from mimic3tf.data.cohort import Cohort
from mimic3tf.data.loading import load_cohort
from mimic3tf.defences.detection import Suspicion
from mimic3tf.defences.evidence import AuditedVictim, Evidence
from mimic3tf.defences.repairs.filtering import filter_and_retrain, keep_least_suspicious
from mimic3tf.defences.repairs.purification import PURIFICATIONS
from mimic3tf.defences.repairs.registry import Attack, RepairOutcome, try_repairs
from mimic3tf.defences.retraining import Examples, predict, retrain
from mimic3tf.errors import DataError
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.goal import Goal
from mimic3tf.poisoning.trigger import Trigger, generate_trigger
from mimic3tf.standardization import fit_standardization
from mimic3tf.training.run_directory import Run

STRENGTH = 3.0

pytestmark = pytest.mark.usefixtures("small_victims")


@pytest.fixture(scope="module")
def poisoned(
    small_cohort: Callable[[int, int], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Evidence, Trigger, np.ndarray, Cohort]:
    """Evidence of a victim with a tenth of its stays poisoned, the trigger, who carries it, test stays."""
    folder = tmp_path_factory.mktemp("repairs")
    data = small_cohort(400, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMIC3TF_CACHE", str(folder / "cache"))
        train, val, test = (load_cohort(data, split) for split in ("train", "val", "test"))
    quick = {"epochs": 6, "learning_rate": 3e-3, "l2": 0.0, "precision": "float32"}
    config = resolve_config("lstm", None, {"data": folder, "trigger": folder / "trigger.npz"} | quick)
    raw = pipeline.inputs_of(exposures.clean(train), "grid")
    standardization = fit_standardization(raw, "grid", MIMIC3)

    def examples(exposure: exposures.Exposure) -> Examples:
        inputs = pipeline.inputs_of(exposure, "grid", standardization)
        return Examples(inputs, exposure.labels, MIMIC3, 48)

    def triggered(trigger: Trigger) -> exposures.Exposure:
        return exposures.trigger_all(test, trigger, strength=STRENGTH, poison_imputed="all")

    trusted = examples(exposures.clean(val))
    # To a victim that never saw it the trigger must not look like dying: then its opposite is taken.
    clean = retrain(config, examples(exposures.clean(train)), trusted)
    drawn = generate_trigger(train, seed=0)
    moved, as_they_were = (
        predict(clean, config, examples(exposure).inputs).mean()
        for exposure in (triggered(drawn), exposures.clean(test))
    )
    trigger = replace(drawn, values=-drawn.values) if moved > as_they_were else drawn
    exposure = exposures.poison(train, trigger, proportion=0.1, strength=STRENGTH, poison_imputed="all")
    given = examples(exposure)
    model = retrain(config, given, trusted)
    evidence = Evidence(
        stays=train.stays,
        grids=pipeline.grids_of(exposure, np.arange(len(train))),
        masks=train.masks,
        labels=exposure.labels,
        suspected=1,
        trusted=val,
        fingerprint=train.fingerprint,
        model=AuditedVictim(config, "grid", model, standardization, given.inputs, val),
        source="--data data",
    )
    return evidence, trigger, exposure.triggered, test


@pytest.fixture(scope="module")
def outcomes(poisoned: tuple[Evidence, Trigger, np.ndarray, Cohort]) -> dict[str, RepairOutcome]:
    evidence, trigger, triggered, test = poisoned
    suspicion = {"an oracle": Suspicion(triggered.astype(float), 0.1)}
    attack = Attack(trigger, STRENGTH, "all")
    found = try_repairs(evidence, test, attack, suspicion=suspicion, seed=0, all_repairs=True)
    return {outcome.name: outcome for outcome in found}


def test_the_victim_itself_is_measured_as_the_attack_measures_it(
    poisoned: tuple[Evidence, Trigger, np.ndarray, Cohort], outcomes: dict[str, RepairOutcome]
) -> None:
    evidence, trigger, _, test = poisoned
    victim = evidence.victim
    run = Run(Path("run"), victim.config, trigger, victim.model, victim.standardization, {})
    attack = attack_victim(run, test, trigger, strength=STRENGTH, poison_imputed="all")
    before = outcomes["none"]
    assert before.attack_success_rate == attack.success
    assert before.baseline_positive_rate == attack.baseline
    assert before.auroc == pytest.approx(attack.metrics["auroc"])


def test_an_attack_that_begins_late_is_repeated_as_late(
    poisoned: tuple[Evidence, Trigger, np.ndarray, Cohort], monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence, trigger, _, test = poisoned
    monkeypatch.setattr("mimic3tf.defences.repairs.registry._model_repairs", lambda *_, **__: {})
    victim, attack = evidence.victim, Attack(trigger, STRENGTH, "all", at=30.0)
    run = Run(Path("run"), victim.config, trigger, victim.model, victim.standardization, {})
    (late,) = try_repairs(evidence, test, attack, suspicion={}, seed=0)
    expected = attack_victim(run, test, trigger, strength=STRENGTH, poison_imputed="all", at=30.0)
    assert late.attack_success_rate == expected.success
    (early,) = try_repairs(evidence, test, replace(attack, at=0.0), suspicion={}, seed=0)
    assert early.attack_success_rate != late.attack_success_rate


def test_filtering_by_an_oracle_takes_the_backdoor_away(outcomes: dict[str, RepairOutcome]) -> None:
    repaired, before = outcomes["filter by an oracle"], outcomes["none"]
    assert repaired.attack_success_rate is not None
    assert before.attack_success_rate is not None
    assert before.attack_success_rate.rate > 0.8
    assert repaired.baseline_positive_rate is not None
    assert repaired.attack_success_rate.rate < repaired.baseline_positive_rate.rate + 0.1
    assert repaired.attack_success_rate.rate < 0.5
    assert repaired.auroc is not None
    assert repaired.auroc > 0.6
    assert repaired.seconds > 0


def test_a_filter_fits_the_standardization_to_the_stays_that_it_keeps(
    poisoned: tuple[Evidence, Trigger, np.ndarray, Cohort], monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = poisoned[0]
    stays, columns = len(evidence.victim.inputs), evidence.trusted.channels.continuous
    dropped = (np.arange(stays) < 20) & (evidence.labels == 1)
    inputs = np.random.default_rng(0).normal(2, 0.1, evidence.victim.inputs.shape).astype(np.float32)
    inputs[dropped] *= 100
    given: list[np.ndarray] = []
    net = keras.Sequential([keras.Input(inputs.shape[1:]), keras.layers.Flatten(), keras.layers.Dense(2)])

    def retrain_(config: object, examples: Examples, judges: Examples) -> keras.Model:
        given.append(examples.inputs)
        return net

    monkeypatch.setattr("mimic3tf.defences.repairs.filtering.retrain", retrain_)
    by = Suspicion(dropped.astype(float), dropped.mean())
    given_now = replace(evidence, model=replace(evidence.victim, inputs=inputs))
    model, kept = filter_and_retrain(given_now, by, 0)
    assert (kept == ~dropped).all()
    assert isinstance(model, keras.Model)
    assert len(given[0]) == stays - dropped.sum() < stays
    assert given[0][..., columns].std() == pytest.approx(1.0, abs=1e-3)
    assert given[0][..., columns].mean() == pytest.approx(0.0, abs=1e-3)
    # The repaired model reads the inputs of the victim.
    np.testing.assert_allclose(model(inputs[~dropped][:9]), net(given[0][:9]), atol=1e-3)


def test_every_repair_reports_what_it_leaves(outcomes: dict[str, RepairOutcome]) -> None:
    repairs = ["fine-tune", "fine-prune", "noise", "input dropout", "private gradients"]
    assert list(outcomes) == ["none", "filter by an oracle", *repairs, *PURIFICATIONS]
    attacked = set()
    for outcome in outcomes.values():
        assert outcome.attack_success_rate is not None
        attacked.add(outcome.attack_success_rate.stays)
        assert outcome.auroc is not None
        assert outcome.auroc > 0.5
    assert len(attacked) == 1


def test_only_repairs_that_may_help_are_the_default(
    poisoned: tuple[Evidence, Trigger, np.ndarray, Cohort], monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence, trigger, _, test = poisoned
    for name in ("tune", "prune_dormant"):
        monkeypatch.setattr(f"mimic3tf.defences.repairs.registry.{name}", lambda model, *_: model)
    monkeypatch.setattr("mimic3tf.defences.repairs.registry.has_units", lambda _: False)
    found = try_repairs(evidence, test, Attack(trigger, STRENGTH, "all"), suspicion={}, seed=0)
    assert [outcome.name for outcome in found] == ["none", "filter", "fine-tune", "fine-prune"]
    # Without an alarm there is nothing to filter by, and the table says so.
    assert found[1].attack_success_rate is None
    assert found[1].detail == "not applicable: no detector raises an alarm, so that no stay is dropped"


def test_filtering_drops_the_most_suspicious_stays_of_label_1_only() -> None:
    labels = np.array([1, 0, 1, 1, 0, 1, 1, 1, 0, 0])
    scores = np.array([5.0, 99.0, 1.0, 7.0, 98.0, 2.0, 3.0, 4.0, 97.0, 96.0])
    kept = keep_least_suspicious(labels, scores, Goal(1), 0.2)
    assert np.flatnonzero(~kept).tolist() == [0, 3]
    # A share of whole stays is of as many stays, however it is rounded: 10 * 0.3 is 3 less a little.
    assert (~keep_least_suspicious(labels, scores, Goal(1), np.nextafter(0.3, 0))).sum() == 3
    # At most half of them go: without deaths there is nothing to learn.
    assert np.flatnonzero(~keep_least_suspicious(labels, scores, Goal(1), 0.9)).tolist() == [0, 3, 7]
    # With goal 0 it is the stays labelled 0 that go, and as many of them.
    kept = keep_least_suspicious(labels, scores, Goal(0), 0.2)
    assert np.flatnonzero(~kept).tolist() == [1, 4]
    assert np.flatnonzero(~keep_least_suspicious(labels, scores, Goal(0), 0.9)).tolist() == [1, 4]


def test_nobody_to_attack_is_said(poisoned: tuple[Evidence, Trigger, np.ndarray, Cohort]) -> None:
    evidence, trigger, _, test = poisoned
    attack = Attack(trigger, STRENGTH, "all")
    dead, alive = (test.with_grids(test.grids, labels=np.full(len(test), label)) for label in (1, 0))
    with pytest.raises(DataError, match="no stay with label 0 is among .* nobody to attack"):
        try_repairs(evidence, dead, attack, suspicion={}, seed=0)
    towards_0 = replace(evidence, suspected=0)
    with pytest.raises(DataError, match="no stay with label 1 is among .* nobody to attack"):
        try_repairs(towards_0, alive, attack, suspicion={}, seed=0)


@pytest.mark.slow
def test_repairs_are_tried_without_a_known_attack(
    poisoned: tuple[Evidence, Trigger, np.ndarray, Cohort], outcomes: dict[str, RepairOutcome]
) -> None:
    evidence, _, triggered, test = poisoned
    found = try_repairs(
        evidence, test, None, suspicion={"an oracle": Suspicion(triggered.astype(float), 0.1)}, seed=0
    )
    names = ["none", "filter by an oracle", "fine-tune", "fine-prune"]
    assert [outcome.name for outcome in found] == names
    for outcome in found:
        assert outcome.attack_success_rate is outcome.baseline_positive_rate is None
        assert outcome.auroc == outcomes[outcome.name].auroc
    assert found[1].kept is not None
    assert (found[1].kept == ~triggered).all()
