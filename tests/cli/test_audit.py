"""`mimic3tf audit`: what it writes are the detectors' own numbers, and mistakes get one line."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import fisher_exact
from sklearn.metrics import roc_auc_score

from mimic3tf.cli.main import main
from mimic3tf.data.slips import Slips, dominating_slips
from mimic3tf.defences.detectors.registry import DETECTORS
from mimic3tf.defences.evidence import Evidence, Truth, gather_evidence
from mimic3tf.defences.inspection.model_inspection import ModelFindings, TargetFinding
from mimic3tf.defences.inspection.trigger_inversion import Inversion
from mimic3tf.errors import UsageError
from mimic3tf.poisoning.trigger import Trigger
from mimic3tf.training.run_directory import load_run

USAGE, FAILURE = 2, 1
QUICK = ("activation clustering", "unexpected death", "model disagreement")
EARLIER = ("events.out.tfevents.1.host.1.0.audit", "events.out.tfevents.1.host")
"""Events of an earlier audit, and of a training."""
Command = Callable[..., Any]


@dataclass(frozen=True)
class Audited:
    """A run that poisoned its stays itself, and another without a trigger on a poisoned copy."""

    data: Path
    trigger: Path
    run: Path
    copy: Path
    manifest: Path
    run_on_copy: Path


@pytest.fixture(scope="module")
def audited(small_cohort: Callable[[int, int], Path], tmp_path_factory: pytest.TempPathFactory) -> Audited:
    from mimic3tf.config import resolve_config
    from mimic3tf.data.loading import load_cohort
    from mimic3tf.poisoning.copies import poison_records
    from mimic3tf.poisoning.manifest import write_manifest
    from mimic3tf.poisoning.trigger import generate_trigger, load_trigger, save_trigger
    from mimic3tf.training.loop import train_victim

    folder = tmp_path_factory.mktemp("audited")
    names = ("trigger.npz", "run", "copy", "manifest.json", "run-on-copy")
    # A seed with 19 deaths or more among the validation stays: fewer calibrate no detector.
    made = Audited(small_cohort(1200, 3), *(folder / name for name in names))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMIC3TF_CACHE", str(folder / "cache"))
        save_trigger(generate_trigger(load_cohort(made.data, "train")), made.trigger)
        trigger = load_trigger(made.trigger)
        changed = poison_records(made.data, made.copy, trigger, proportion=0.05, strength=2.0)
        write_manifest(made.manifest, changed, made.trigger)
        for data, out, own in ((made.data, made.run, made.trigger), (made.copy, made.run_on_copy, None)):
            train_victim(resolve_config("mlp", None, {"data": data, "trigger": own, "epochs": 2}), out)
    return made


@dataclass(frozen=True)
class Whole:
    """An audit with everything in it: what was printed, and the folder it was written into."""

    out: str
    folder: Path
    record: dict[str, Any]


@pytest.fixture(scope="module")
def quick(audited: Audited) -> Iterator[pytest.MonkeyPatch]:
    """Three detectors, and inversions that hardly search, for all tests of this file."""
    with pytest.MonkeyPatch.context() as patch:
        detectors = {name: DETECTORS[name] for name in QUICK}
        patch.setattr("mimic3tf.defences.detection.DETECTORS", detectors)
        patch.setattr("mimic3tf.defences.inspection.model_inspection.REFERENCES", 1)
        patch.setattr("mimic3tf.defences.inspection.trigger_inversion.STEPS", 3)
        yield patch


@pytest.fixture(scope="module")
def whole(quick: pytest.MonkeyPatch, audited: Audited, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The run that poisoned its stays itself, audited once with all repairs, where an audit has been."""
    folder = tmp_path_factory.mktemp("whole") / "audit"
    folder.mkdir(parents=True)
    for name in EARLIER:
        (folder / name).touch()
    printed = io.StringIO()
    options = {"run": audited.run, "data": audited.data, "out": folder}
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setenv("MIMIC3TF_CACHE", str(audited.run.parent / "cache"))
        patch.setattr(sys, "argv", ["mimic3tf", "audit", *words])
        with pytest.raises(SystemExit) as end:
            main()
    assert not end.value.code
    return Whole(printed.getvalue(), folder, json.loads((folder / "audit.json").read_text()))


@pytest.fixture
def audit(
    mimic3tf: Command, audited: Audited, quick: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """`mimic3tf audit` into `tmp_path / "audit"`, unless options change.

    The model's inspection, superposition and repairs, which take longest, are looked at in `whole`.
    """
    inversion = Inversion(0, np.zeros((48, 17)), np.zeros(17), 1.0, True, 0.9, 0.1)
    targets = tuple(TargetFinding(replace(inversion, target=target), (1.0, 1.0), 0.0) for target in (0, 1))
    monkeypatch.setenv("MIMIC3TF_CACHE", str(audited.run.parent / "cache"))
    monkeypatch.setattr(
        "mimic3tf.defences.audit.inspect_model", lambda _, seed: ModelFindings(targets, False, "as given")
    )
    superposition = dict.fromkeys(("auroc", "recall_at_5", "false_positives_at_5"), 0.5)
    monkeypatch.setattr("mimic3tf.defences.audit.superposition_record", lambda *_, **__: superposition)
    options = {"run": audited.run, "data": audited.data, "out": tmp_path / "audit"}

    def run(**changes: object) -> Any:
        given = {name: value for name, value in (options | changes).items() if value is not None}
        texts = [text for name, value in given.items() for text in (f"--{name}", value)]
        return mimic3tf("audit", *texts, "--no-repairs")

    return run


@pytest.fixture
def evidence(audited: Audited, monkeypatch: pytest.MonkeyPatch) -> tuple[Evidence, Truth]:
    """What the whole audit looks at, and what is true."""
    monkeypatch.setenv("MIMIC3TF_CACHE", str(audited.run.parent / "cache"))
    return gather_evidence(load_run(audited.run), audited.data)


def test_an_audit_writes_the_detectors_own_numbers(
    whole: Whole, audited: Audited, evidence: tuple[Evidence, Truth]
) -> None:
    stays, truth = evidence
    run, record = load_run(audited.run), whole.record
    suspects = stays.labels == 1
    assert record["suspects"] == suspects.sum()
    assert record["attack"]["stays_poisoned"] == truth.poisoned.sum() == run.summary["stays_poisoned"]
    assert [detector["detector"] for detector in record["detectors"]] == list(QUICK)
    table = pl.read_csv(whole.folder / "scores.csv")
    assert table["stay"].to_list() == stays.stays[suspects].tolist()
    for detector in record["detectors"]:
        scores = DETECTORS[detector["detector"]].score(stays, run.config.seed)
        expected = roc_auc_score(truth.poisoned[suspects], scores.training[suspects])
        assert detector["performance"]["auroc"]["value"] == pytest.approx(expected)
        np.testing.assert_allclose(
            table[detector["detector"]].to_numpy(), scores.training[suspects], rtol=1e-3, atol=1e-12
        )
        assert detector["calibrated"] == (scores.trusted is not None)
        if scores.trusted is not None:
            trusted = scores.trusted[stays.trusted.labels == 1]
            threshold = np.sort(trusted)[-((len(trusted) + 1) // 20)]
            assert detector["alarm"]["flagged"] == (scores.training[suspects] > threshold).sum()
    # Instead of an earlier audit's events, beside those of a training.
    (kept,) = EARLIER[1:]
    events = whole.folder
    assert (events / kept).exists()
    (written,) = events.glob("events.*.audit")
    assert written.stat().st_size


def test_one_conclusion_comes_first(whole: Whole) -> None:
    conclusion = whole.record["conclusion"]
    assert list(whole.record)[:2] == ["format", "conclusion"]
    first = " ".join(whole.out.split())
    assert first.startswith(conclusion["sentence"])
    assert [check["name"] for check in conclusion["checks"]] == [
        "share of deaths",
        "detectors",
        "inverted triggers",
        "response to the pattern",
    ]
    for check in conclusion["checks"]:
        assert check["name"] in first
    # Nothing else speaks for the whole.
    assert "verdict" not in json.dumps(whole.record)


def test_the_share_of_deaths_is_tested(whole: Whole, evidence: tuple[Evidence, Truth]) -> None:
    training, trusted = evidence[0].labels, evidence[0].trusted.labels
    counts = [[int(labels.sum()), int((1 - labels).sum())] for labels in (training, trusted)]
    share, check = whole.record["label_share"], whole.record["conclusion"]["checks"][0]
    assert share["p_value"] == pytest.approx(fisher_exact(counts, alternative="greater").pvalue)
    assert (share["training"], share["trusted"]) == pytest.approx((training.mean(), trusted.mean()))
    assert (check["outcome"] == "alarm") == share["raised"]
    for labels in (training, trusted):
        assert f"{labels.mean():.1%}" in check["found"]
        assert f"({labels.sum():,} of {len(labels):,})" in check["found"]


def test_slips_are_those_of_the_stays_that_the_victim_saw(
    whole: Whole, evidence: tuple[Evidence, Truth]
) -> None:
    stays = evidence[0]
    slips = dominating_slips(stays.grids, stays.masks, stays.trusted.channels)
    assert [Slips(**found).in_words for found in whole.record["slips"]] == [found.in_words for found in slips]
    assert all(found.in_words in " ".join(whole.out.split()) for found in slips)


def test_suspects_are_ranked_with_their_reasons(whole: Whole, evidence: tuple[Evidence, Truth]) -> None:
    stays = evidence[0]
    table = pl.read_csv(whole.folder / "suspects.csv")
    assert table.columns == ["rank", "stay", "percentile", "flagged_by", "reason"]
    assert sorted(table["stay"]) == sorted(stays.stays[stays.labels == 1])
    scores = pl.read_csv(whole.folder / "scores.csv").select("stay", whole.record["suspects_ranked_by"])
    ranked = table.join(scores, on="stay", how="left", maintain_order="left").to_series(-1)
    assert ranked.is_sorted(descending=True)
    assert max(map(len, table["percentile"].cast(pl.String))) <= len("100.0")
    for stay, reason in table.head(10).select("stay", "reason").iter_rows():
        assert stay in whole.out
        assert " ".join(reason.split()[:3]) in whole.out
    assert table["stay"][10] not in whole.out


@pytest.mark.slow
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
    whole: Whole, audited: Audited, mimic3tf: Command, tmp_path: Path
) -> None:
    record = whole.record
    inspection = record["model_inspection"]
    assert [target["target"] for target in inspection["targets"]] == [0, 1]
    assert all(len(target["reference_lengths"]) == 1 for target in inspection["targets"])
    channels = np.count_nonzero(np.load(audited.trigger)["trigger"].any(axis=0))
    for target in inspection["targets"]:
        # Its covariance is the trigger's own, so every channel has length 2.
        assert target["true_trigger"]["true_length"] == pytest.approx(2 * channels**0.5)
        assert -1 <= target["true_trigger"]["correlation"] <= 1
    weak = record["conclusion"]["checks"][2]["outcome"] == "weak"
    assert weak == inspection["looks_backdoored"]
    assert record["superposition"]["recall_at_1"] <= record["superposition"]["recall_at_5"]
    repairs = {repair["repair"]: repair for repair in record["repairs"]}
    # The victim as it is has the metrics of its own attack.
    assert mimic3tf("attack", "--run", audited.run, "--data", audited.data, "--out", tmp_path).status == 0
    attack = json.loads((tmp_path / "attack.json").read_text())
    assert repairs["none"]["attack_success_rate"] == pytest.approx(attack["attack_success_rate"])
    assert repairs["none"]["baseline_positive_rate"] == pytest.approx(attack["baseline_positive_rate"])
    assert repairs["none"]["auroc"] == pytest.approx(attack["clean"]["auroc"])
    filters = [name for name in repairs if name.startswith("filter by ")]
    clearest = record["clearest_detector"]
    assert filters == ([f"filter by {clearest}"] if clearest else [])
    assert list(repairs) == ["none", *(filters or ["filter"]), "fine-tune", "fine-prune"]
    assert "fine-prune" in whole.out


@pytest.mark.slow
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
    # The conclusion needs no truth.
    assert record["conclusion"]["sentence"]
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


def test_a_lost_trigger_of_a_copy_has_to_be_given(
    audit: Command, audited: Audited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = json.loads(audited.manifest.read_text())
    contents["trigger"]["file"] = str(tmp_path / "lost.npz")
    (tmp_path / "manifest.json").write_text(json.dumps(contents))
    options = {"run": audited.run_on_copy, "data": audited.copy, "manifest": tmp_path / "manifest.json"}
    audit(**options).fails(USAGE, tmp_path / "lost.npz", "--trigger")
    seen = {}

    def stop(*_: object, trigger: Trigger, **__: object) -> None:
        seen["trigger"] = trigger.values
        raise UsageError("far enough")

    monkeypatch.setattr("mimic3tf.defences.audit.gather_evidence", stop)
    audit(**options, trigger=audited.trigger).fails(USAGE, "far enough")
    np.testing.assert_array_equal(seen["trigger"], np.load(audited.trigger)["trigger"])


def test_too_few_stays_are_refused(audit: Command, prepared: Any) -> None:
    audit(run=prepared.run, data=prepared.data).fails(USAGE, "--data", "at least 10")


def test_a_failed_audit_leaves_no_audit(audit: Command, audited: Audited, tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("mine")
    audit().fails(USAGE, "--out", tmp_path / "audit")
    assert (tmp_path / "audit").read_text() == "mine"
    assert not list(tmp_path.glob("**/audit.json"))


def test_the_table_shows_every_audit(whole: Whole, mimic3tf: Command, tmp_path: Path) -> None:
    detectors = [detector | {"performance": None} for detector in whole.record["detectors"]]
    unknown = whole.record | {"attack": None, "detectors": detectors}
    (tmp_path / "audit.json").write_text(json.dumps(unknown))
    outcome = mimic3tf("audit-table", whole.folder, tmp_path, "--out", tmp_path)
    assert outcome.status == 0, outcome.err
    conclusions = pl.read_csv(tmp_path / "conclusions.csv")
    assert conclusions["attack"].to_list() == ["none known", "temporal notimputed, 5% at 2"]
    assert conclusions["in_words"][1] == whole.record["conclusion"]["sentence"]
    printed = outcome.out.split()
    assert printed.index("Conclusions") < printed.index("detector")
    table = pl.read_csv(tmp_path / "detectors.csv")
    assert table["attack"].to_list() == ["none known"] * 3 + ["temporal notimputed, 5% at 2"] * 3
    assert table["auroc"].to_list()[:3] == [None] * 3
    assert table["auroc"].to_list()[3:] == pytest.approx(
        [detector["performance"]["auroc"]["value"] for detector in whole.record["detectors"]]
    )


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"attack": null, "detectors": [{}]}'])
def test_a_damaged_audit_is_named(mimic3tf: Command, tmp_path: Path, content: str) -> None:
    (tmp_path / "audit.json").write_text(content)
    mimic3tf("audit-table", tmp_path).fails(FAILURE, tmp_path / "audit.json", "audit again")


def test_a_folder_without_audits_is_refused(mimic3tf: Command, tmp_path: Path) -> None:
    mimic3tf("audit-table", tmp_path).fails(USAGE, tmp_path, "mimic3tf audit")
