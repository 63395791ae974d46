"""`mimic3tf audit`: what it writes are the detectors' own numbers, and mistakes get one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

USAGE, FAILURE = 2, 1
QUICK = ("activation clustering", "model disagreement", "isolation forest")
Command = Callable[..., Any]


@dataclass(frozen=True)
class Audited:
    """A run that poisoned its stays itself, another on a poisoned copy, and an audit of the first."""

    data: Path
    trigger: Path
    run: Path
    copy: Path
    manifest: Path
    run_on_copy: Path


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Audited:
    from mimic3tf.config import resolve_config
    from mimic3tf.data.loading import load_cohort
    from mimic3tf.poisoning.copies import poison_records
    from mimic3tf.poisoning.manifest import write_manifest
    from mimic3tf.poisoning.trigger import generate_trigger, load_trigger, save_trigger
    from mimic3tf.sources.synthetic import prepare_synthetic
    from mimic3tf.training.loop import train_victim

    folder = tmp_path_factory.mktemp("audited")
    made = Audited(
        *(folder / name for name in ("data", "trigger.npz", "run", "copy", "manifest.json", "run-on-copy"))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMIC3TF_CACHE", str(folder / "cache"))
        prepare_synthetic(made.data, stays=1200, seed=0)
        save_trigger(generate_trigger(load_cohort(made.data, "train")), made.trigger)
        trigger = load_trigger(made.trigger)
        changed = poison_records(made.data, made.copy, trigger, proportion=0.05, strength=2.0)
        write_manifest(made.manifest, changed, made.trigger)
        for data, out, proportion in ((made.data, made.run, 0.05), (made.copy, made.run_on_copy, 0.0)):
            options = {"data": data, "trigger": made.trigger, "epochs": 2, "poisoning_proportion": proportion}
            train_victim(resolve_config("mlp", None, options), out)
    return made


@pytest.fixture
def audit(mimic3tf: Command, audited: Audited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`mimic3tf audit` with three detectors into `tmp_path / "audit"`, unless options change."""
    from mimic3tf.defences.detectors.registry import DETECTORS

    monkeypatch.setenv("MIMIC3TF_CACHE", str(audited.data.parent / "cache"))
    monkeypatch.setattr("mimic3tf.defences.detection.DETECTORS", {name: DETECTORS[name] for name in QUICK})
    monkeypatch.setattr("mimic3tf.defences.inspection.model_inspection.REFERENCES", 2)
    monkeypatch.setattr("mimic3tf.defences.inspection.trigger_inversion.STEPS", 3)
    options = {"run": audited.run, "data": audited.data, "out": tmp_path / "audit"}

    def run(*, repairs: bool = False, **changes: object) -> Any:
        given = {name: value for name, value in (options | changes).items() if value is not None}
        texts = [text for name, value in given.items() for text in (f"--{name}", value)]
        return mimic3tf("audit", *texts, "--repairs" if repairs else "--no-repairs")

    return run


def test_an_audit_writes_the_detectors_own_numbers(audit: Command, audited: Audited, tmp_path: Path) -> None:
    from mimic3tf.defences.detectors.registry import DETECTORS
    from mimic3tf.defences.evidence import gather_evidence
    from mimic3tf.training.run_directory import load_run

    events = tmp_path / "audit" / "tensorboard"
    events.mkdir(parents=True)
    for name in ("events.out.tfevents.1.host.1.0.audit", "events.out.tfevents.1.host"):
        (events / name).touch()
    outcome = audit()
    assert outcome.status == 0, outcome.err
    record = json.loads((tmp_path / "audit" / "audit.json").read_text())
    run = load_run(audited.run)
    evidence, truth = gather_evidence(run, audited.data)
    suspects = evidence.labels == 1
    assert record["suspects"] == suspects.sum()
    assert record["attack"]["stays_poisoned"] == truth.poisoned.sum() == run.summary["stays_poisoned"]
    assert [detector["detector"] for detector in record["detectors"]] == list(QUICK)
    table = pl.read_csv(tmp_path / "audit" / "suspects.csv")
    assert len(table) == suspects.sum()
    for detector in record["detectors"]:
        scores = DETECTORS[detector["detector"]].score(evidence, run.config.seed)
        expected = roc_auc_score(truth.poisoned[suspects], scores.training[suspects])
        assert detector["performance"]["auroc"]["value"] == pytest.approx(expected)
        np.testing.assert_allclose(
            np.sort(table[detector["detector"]].to_numpy()), np.sort(scores.training[suspects])
        )
        assert detector["calibrated"] == (scores.trusted is not None)
        if scores.trusted is not None:
            trusted = scores.trusted[evidence.trusted.labels == 1]
            threshold = np.sort(trusted)[-((len(trusted) + 1) // 20)]
            assert detector["alarm"]["flagged"] == (scores.training[suspects] > threshold).sum()
    assert record["verdict"]["poisoned_stays"] in " ".join(outcome.out.split())
    # Instead of an earlier audit's events, beside those of a training.
    assert (events / "events.out.tfevents.1.host").exists()
    (written,) = events.glob("events.*.audit")
    assert written.stat().st_size


def test_a_manifest_tells_which_stays_of_a_copy_are_poisoned(
    audit: Command, audited: Audited, tmp_path: Path
) -> None:
    from mimic3tf.defences.evidence import gather_evidence
    from mimic3tf.poisoning.manifest import read_manifest
    from mimic3tf.training.run_directory import load_run

    outcome = audit(run=audited.run_on_copy, data=audited.copy, manifest=audited.manifest)
    assert outcome.status == 0, outcome.err
    record = json.loads((tmp_path / "audit" / "audit.json").read_text())
    poisoned = len(json.loads(audited.manifest.read_text())["stays"])
    assert record["attack"]["stays_poisoned"] == poisoned
    assert record["attack"]["poison_imputed"] == "records"
    assert all(detector["performance"] for detector in record["detectors"])
    _, truth = gather_evidence(
        load_run(audited.run_on_copy), audited.copy, manifest=read_manifest(audited.manifest)
    )
    np.testing.assert_array_equal(np.flatnonzero(truth.poisoned), np.arange(poisoned))


def test_the_model_is_inspected_and_repairs_are_attacked(
    audit: Command, audited: Audited, mimic3tf: Command, tmp_path: Path
) -> None:
    outcome = audit(repairs=True)
    assert outcome.status == 0, outcome.err
    record = json.loads((tmp_path / "audit" / "audit.json").read_text())
    inspection = record["model_inspection"]
    assert [target["target"] for target in inspection["targets"]] == [0, 1]
    assert all(len(target["reference_lengths"]) == 2 for target in inspection["targets"])
    channels = np.count_nonzero(np.load(audited.trigger)["trigger"].any(axis=0))
    for target in inspection["targets"]:
        # Its covariance is the trigger's own, so every channel has length 2.
        assert target["true_trigger"]["true_length"] == pytest.approx(2 * channels**0.5)
        assert -1 <= target["true_trigger"]["correlation"] <= 1
    assert record["superposition"]["recall_at_1"] <= record["superposition"]["recall_at_5"]
    repairs = {repair["repair"]: repair for repair in record["repairs"]}
    # The victim as it is has the metrics of its own attack.
    assert mimic3tf("attack", "--run", audited.run, "--data", audited.data, "--out", tmp_path).status == 0
    attack = json.loads((tmp_path / "attack.json").read_text())
    assert repairs["none"]["attack_success_rate"] == pytest.approx(attack["attack_success_rate"])
    assert repairs["none"]["baseline_positive_rate"] == pytest.approx(attack["baseline_positive_rate"])
    assert repairs["none"]["auroc"] == pytest.approx(attack["clean"]["auroc"])
    filters = [name for name in repairs if name.startswith("filter by ")]
    clearest = record["verdict"]["clearest"]
    assert filters == ([f"filter by {clearest}"] if clearest else [])
    assert {"fine-tune", "fine-prune", "noise", "private gradients"} < set(repairs)
    out = " ".join(outcome.out.split())
    assert inspection["verdict"] in out
    assert "fine-prune" in out


def test_nobody_knows_of_a_copy_without_its_manifest(
    audit: Command, audited: Audited, tmp_path: Path
) -> None:
    assert audit(run=audited.run_on_copy, data=audited.copy).status == 0
    record = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert record["attack"] is None
    assert "repairs" not in record
    assert "superposition" not in record
    assert all("true_trigger" not in target for target in record["model_inspection"]["targets"])
    assert all(detector["performance"] is None for detector in record["detectors"])
    # The verdict needs no truth.
    assert any(detector["alarm"] for detector in record["detectors"])


# --- Mistakes -----------------------------------------------------------------------------------------


def test_data_that_the_run_was_not_trained_on_are_refused(audit: Command, audited: Audited) -> None:
    audit(data=audited.copy).fails(USAGE, "--data", audited.copy, "trained on other stays")


def test_a_manifest_of_a_run_that_poisoned_itself_is_refused(audit: Command, audited: Audited) -> None:
    audit(manifest=audited.manifest).fails(USAGE, "--manifest", "poisoned its stays itself")


def test_a_manifest_of_other_data_is_refused(audit: Command, audited: Audited, tmp_path: Path) -> None:
    contents = json.loads(audited.manifest.read_text()) | {"copy_fingerprint": "0" * 64}
    (tmp_path / "other.json").write_text(json.dumps(contents))
    outcome = audit(run=audited.run_on_copy, data=audited.copy, manifest=tmp_path / "other.json")
    outcome.fails(USAGE, "--manifest", audited.copy)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"stays": 1}'])
def test_a_file_that_is_no_manifest_is_named(audit: Command, tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    audit(manifest=tmp_path / "manifest.json").fails(FAILURE, tmp_path / "manifest.json", "not a manifest")


def test_a_missing_manifest_run_or_trigger_is_named(audit: Command, tmp_path: Path) -> None:
    for option in ("manifest", "run", "trigger"):
        audit(**{option: tmp_path / "nothing"}).fails(USAGE, tmp_path / "nothing")


def test_a_lost_trigger_of_a_copy_has_to_be_given(audit: Command, audited: Audited, tmp_path: Path) -> None:
    contents = json.loads(audited.manifest.read_text())
    contents["trigger"]["file"] = str(tmp_path / "lost.npz")
    (tmp_path / "manifest.json").write_text(json.dumps(contents))
    options = {"run": audited.run_on_copy, "data": audited.copy, "manifest": tmp_path / "manifest.json"}
    audit(**options).fails(USAGE, tmp_path / "lost.npz", "--trigger")
    assert audit(**options, trigger=audited.trigger).status == 0


def test_too_few_stays_are_refused(audit: Command, prepared: Any) -> None:
    audit(run=prepared.run, data=prepared.data).fails(USAGE, "--data", "at least 10")


def test_a_failed_audit_leaves_no_audit(audit: Command, audited: Audited, tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("mine")
    assert audit().status == FAILURE
    assert (tmp_path / "audit").read_text() == "mine"
    assert not list(tmp_path.glob("**/audit.json"))


def test_the_table_shows_every_audit(
    audit: Command, audited: Audited, mimic3tf: Command, tmp_path: Path
) -> None:
    assert audit(out=tmp_path / "audits" / "poisoned").status == 0
    copy = {"run": audited.run_on_copy, "data": audited.copy}
    assert audit(**copy, out=tmp_path / "audits" / "unknown").status == 0
    outcome = mimic3tf("audit-table", tmp_path / "audits", "--out", tmp_path)
    assert outcome.status == 0, outcome.err
    table = pl.read_csv(tmp_path / "detectors.csv")
    assert table["attack"].to_list() == ["temporal notimputed, 5% at 2"] * 3 + ["none known"] * 3
    record = json.loads((tmp_path / "audits" / "poisoned" / "audit.json").read_text())
    assert table["auroc"].to_list()[:3] == pytest.approx(
        [detector["performance"]["auroc"]["value"] for detector in record["detectors"]]
    )
    assert table["auroc"].to_list()[3:] == [None] * 3


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"attack": null, "detectors": [{}]}'])
def test_a_damaged_audit_is_named(mimic3tf: Command, tmp_path: Path, content: str) -> None:
    (tmp_path / "audit.json").write_text(content)
    mimic3tf("audit-table", tmp_path).fails(FAILURE, tmp_path / "audit.json", "audit again")


def test_a_folder_without_audits_is_refused(mimic3tf: Command, tmp_path: Path) -> None:
    mimic3tf("audit-table", tmp_path).fails(USAGE, tmp_path, "mimic3tf audit")
