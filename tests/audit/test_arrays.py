"""An audit of a user's own arrays: what it finds, what it refuses, and what it writes."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import polars as pl
import pytest
from invented_arrays import NAMES, PATTERN, Own, invent

import mimic3tf
from mimic3tf.audit import AuditReport
from mimic3tf.defences.array_evidence import stays_of_arrays
from mimic3tf.defences.equal_stays import cautions_of_equal_stays
from mimic3tf.errors import DataError, UsageError


def schema() -> Any:
    text = resources.files("mimic3tf.defences").joinpath("audit.schema.json").read_text(encoding="utf-8")
    return json.loads(text)


def test_a_planted_pattern_is_found_without_a_model(own: Own, own_report: AuditReport) -> None:
    assert own_report.verdict.level == "suspicious"
    assert own_report.verdict.p_value < 0.01
    assert own_report.verdict.poisoned is not None
    estimate, low, high = own_report.verdict.poisoned
    assert low <= own.poisoned.sum() <= high
    assert abs(estimate - own.poisoned.sum()) < 15
    first = own_report.suspects["stay"].head(50).to_list()
    assert np.mean([own.poisoned[int(stay.split()[1])] for stay in first]) > 0.9
    shared = own_report.result.shared
    assert shared is not None
    found = shared.patterns[0].shift
    assert (found * PATTERN).sum() / np.linalg.norm(found) / np.linalg.norm(PATTERN) > 0.9
    assert own_report.record["patterns"][0]["channels"][0]["channel"] in ("pressure", "glucose")


def test_what_was_not_given_is_a_row_that_was_not_run(own_report: AuditReport) -> None:
    outcomes = {check.name: check.outcome for check in own_report.verdict.checks}
    assert outcomes["inverted triggers"] == outcomes["response to the pattern"] == "not run"
    rows = {row["detector"]: row["not_run"] for row in own_report.record["detectors"]}
    assert rows["activation clustering"] == "needs activations"
    assert rows["common pattern"] is None
    assert len(rows) == 6
    assert own_report.cleaned is None
    assert own_report.repaired is None


def test_clean_arrays_raise_no_alarm() -> None:
    clean = invent(0, seed=4)
    found = mimic3tf.audit.training_set(clean.x, clean.y, trusted=clean.trusted)
    assert found.verdict.level != "suspicious"
    assert found.verdict.p_value > 0.01
    said = "no shared change can be told from chance (p "
    assert found.record["pattern_doubt"].startswith(said)
    assert said in found.to_html()


def test_the_same_stays_give_the_same_findings_in_any_form(own: Own, own_report: AuditReport) -> None:
    cells = np.asarray(own.x, np.float32)
    others = (own.trusted[0].tolist(), own.trusted[1].astype(bool))
    again = mimic3tf.audit.training_set(cells, own.y.astype(float), trusted=others, channels=NAMES)
    assert again.verdict == own_report.verdict
    for name, detection in again.result.found.detections.items():
        np.testing.assert_array_equal(detection.scores, own_report.result.found.detections[name].scores)


def test_a_table_is_audited_without_time(own: Own) -> None:
    table = own.table
    found = mimic3tf.audit.training_set(table.x, table.y, trusted=table.trusted)
    assert found.verdict.level == "suspicious"
    rows = {row["detector"]: row["not_run"] for row in found.record["detectors"]}
    assert rows["moving pattern"] == "needs several bins"
    assert rows["common pattern"] is None
    assert {row["hour"] for row in found.record["patterns"][0]["channels"]} == {0.0}
    jsonschema.validate(found.record, schema())
    assert "data:image/svg+xml" in found.to_html()


def test_one_class_of_many_and_one_label_of_many_are_audited_like_label_1(
    own: Own, own_report: AuditReport
) -> None:
    xt, yt = own.trusted
    # Class 2 takes the place of label 1; classes 0 and 1 share label 0.
    split = np.arange(len(own.y)) % 2
    classes, others = np.where(own.y == 1, 2, split), np.where(yt == 1, 2, np.arange(len(yt)) % 2)
    columns = np.stack([split, own.y], axis=1), np.stack([np.arange(len(yt)) % 2, yt], axis=1)
    for y, known, target, name, group in (
        (classes, others, 2, "class 2", "stays of class 2"),
        (*columns, 1, "1 in column 1", "stays labelled 1 in column 1"),
    ):
        found = mimic3tf.audit.training_set(own.x, y, trusted=(xt, known), channels=NAMES, target=target)
        assert found.verdict.p_value == own_report.verdict.p_value
        assert found.verdict.poisoned == own_report.verdict.poisoned
        # Everything names the label as the user counts it.
        assert found.record["target"] == name
        jsonschema.validate(found.record, schema())
        share, detectors = (check.found for check in found.verdict.checks[:2])
        assert group in share
        assert group in detectors
        assert found.suspects["reason"].str.ends_with(f"the training label is {name}").all()
    assert "target" not in own_report.record
    assert own_report.suspects["reason"].str.ends_with("the training label is 1").all()
    with pytest.raises(UsageError, match="y has 3 classes; name the one to audit, 0 to 2"):
        mimic3tf.audit.training_set(own.x, classes, trusted=(xt, others))
    with pytest.raises(UsageError, match="0 to 1, not 5"):
        mimic3tf.audit.training_set(own.x, own.y, trusted=own.trusted, target=5)


def test_label_0_can_be_the_suspected_one(own: Own, own_report: AuditReport) -> None:
    xt, yt = own.trusted
    found = mimic3tf.audit.training_set(own.x, 1 - own.y, trusted=(xt, 1 - yt), channels=NAMES, target=0)
    assert found.verdict.level == "suspicious"
    for name, detection in found.result.found.detections.items():
        np.testing.assert_allclose(
            detection.scores, own_report.result.found.detections[name].scores, rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros(5)}, r"x has shape \(5,\); expected \[N, T, C\] or \[N, D\]"),
        ({"x": np.full((700, 8, 5), np.inf)}, "infinite"),
        ({"x": np.zeros((700, 8, 4))}, r"x and trusted x have shapes \(700, 8, 4\) and \(500, 8, 5\)"),
        ({"y": np.zeros(699)}, r"y has shape \(699,\); expected \(700,\)"),
        ({"y": np.full(700, 0.5)}, "expected whole numbers"),
        ({"y": np.full(700, np.inf)}, "y holds float64; expected whole numbers"),
        ({"x": [[1, 2], [3]]}, "x: its parts have different shapes; give one array"),
        ({"target": "1"}, "target: is the str '1'; give a whole number"),
        ({"target": 1.0}, "target: is the float 1.0; give a whole number"),
        ({"seed": -1}, "seed: is -1; give a whole number from 0 to 4294967295"),
        ({"seed": 2**32}, "seed: is 4294967296; give"),
        ({"power": -1}, "power: is -1; give a whole number from 0 on"),
        ({"channels": 5}, r"channels: 5, but x has shape \(700, 8, 5\): expected 5 names"),
        (
            {"y": np.full((700, 2), 3), "trusted": (np.zeros((500, 8, 5)), np.zeros((500, 2)))},
            "more than 0 and 1",
        ),
        ({"trusted": np.zeros((500, 8, 5))}, r"give the arrays of the trusted stays as a pair"),
        ({"ids": ["one"]}, "ids has length 1: expected 700"),
        ({"channels": ["a"]}, r"expected 5 names"),
        (
            {"y": np.zeros(700)},
            "x and trusted: 0 of the training stays are stays labelled 1; an audit needs at least 10",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused_with_their_shapes(
    own: Own, change: dict[str, Any], message: str
) -> None:
    given: dict[str, Any] = {"x": own.x, "y": own.y, "trusted": own.trusted}
    with pytest.raises((DataError, UsageError), match=message):
        mimic3tf.audit.training_set(**(given | change))


def test_stays_that_are_equal_are_counted_and_training_stays_are_not_trusted(own: Own) -> None:
    xt, yt = own.trusted[0].copy(), own.trusted[1]
    x = own.x.copy()
    x[:2], x[5] = np.nan, x[4]
    # Of 500 trusted stays, two are training stays and three repeat one of these.
    xt[0], xt[1:5] = x[7], x[8]

    def said(x: Any, y: Any, trusted: tuple[Any, Any]) -> list[str]:
        stays = stays_of_arrays(x, y, trusted, ids=None, channels=None, target=None)
        return cautions_of_equal_stays(stays.evidence(None, "x and trusted"))

    shared, training, others = said(x, own.y, (xt, yt))
    assert shared.startswith("5 of 500 trusted stays are equal to training stays in every measurement")
    assert training.startswith("1 of 698 training stays repeat another one")
    assert others.startswith("3 of 500 trusted stays repeat another one")
    assert said(own.x, own.y, own.trusted) == []
    with pytest.raises(UsageError, match="x and trusted: all 300 trusted stays are training stays"):
        mimic3tf.audit.training_set(own.x, own.y, trusted=(own.x[:300], own.y[:300]))
    # Rows of two answers are equal by coincidence.
    few = np.arange(700)[:, None] // [1, 2] % 2
    assert len(said(few, own.y, (few[:300], own.y[:300]))) == 3


def test_an_audit_is_written_whole(own_report: AuditReport, tmp_path: Path) -> None:
    (tmp_path / "audit").mkdir()
    for old in ("cleaned_listfile.csv", "repaired.keras"):
        (tmp_path / "audit" / old).touch()
    own_report.save(tmp_path / "audit")
    names = {path.name for path in (tmp_path / "audit").iterdir()}
    assert {"audit.json", "audit.html", "suspects.csv", "scores.csv", "pattern.csv"} <= names
    # What an earlier audit dropped and trained is not this one's.
    assert not {"cleaned_listfile.csv", "repaired.keras"} & names
    record = json.loads((tmp_path / "audit" / "audit.json").read_text())
    jsonschema.validate(record, schema())
    assert record["format"] == 6
    assert record["run"] is None
    cautioned = replace(
        own_report.result, record=own_report.record | {"cautions": ["3 stays repeat"], "target": "class 2"}
    )
    html = AuditReport(cautioned).to_html()
    assert "3 stays repeat" in html
    assert "the suspected label (class 2)" in html
    doubtful = replace(own_report.result, record=own_report.record | {"pattern_doubt": "p 0.3"})
    assert "suspects carry this change" in html
    assert "suspects carry this change" not in AuditReport(doubtful).to_html()
    page = (tmp_path / "audit" / "audit.html").read_text()
    assert own_report.verdict.sentence.split(":")[1][:40] in page
    assert "Suspicious: do not rely on this training set yet" in page
    assert pl.read_csv(tmp_path / "audit" / "suspects.csv")["stay"][0] in page
    for words in ("at most 1 audit in 100", "What to do next", "not run: needs activations"):
        assert words in page


def test_a_folder_that_cannot_be_made_is_named(own_report: AuditReport, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file/audit: the audit cannot be written \(.*\); name another"):
        own_report.save(tmp_path / "file" / "audit")


def test_the_schema_refuses_what_is_not_in_it(own_report: AuditReport) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    for change in ({"format": 4}, {"surplus": 1}, {"suspects": "many"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(own_report.record | change, schema())


def test_a_repr_shows_no_stay(own_report: AuditReport) -> None:
    assert "stay 1" not in repr(own_report)
    assert len(repr(own_report)) < 2000
