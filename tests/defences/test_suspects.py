"""Suspects are ranked, and each row says why in words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from mimic3tf.defences.detection import Detection, DetectionResult
from mimic3tf.defences.detectors.registry import DETECTORS
from mimic3tf.defences.suspects import scores_table, suspects_table
from mimic3tf.defences.verdict import Alarm, LabelShare, Verdict
from mimic3tf.tasks.registry import MORTALITY

NAMES = np.array(["d.csv", "c.csv", "b.csv", "a.csv", "e.csv"])
SUSPECTS = np.array([0, 1, 2, 3])
ALARM = Alarm(0.5, 2, 0.2, 0.01, 0.02, 1.8, 1.0, 2.0, 0.45)


def log_odds(*risks: float) -> np.ndarray:
    given = np.array(risks)
    return np.log(given / (1 - given))


def found(leading: str, scores: dict[str, Any], trusted: Any = (-1.0, 0.0, 1.0, 2.0)) -> DetectionResult:
    detections = {
        name: Detection(np.asarray(of, float), np.asarray(trusted, float), 0.0, None, None)
        for name, of in scores.items()
    }
    share = LabelShare(4, 5, 4, 5, 0.5, 1.0)
    alarms = {name: ALARM for name in scores if len(trusted)}
    return DetectionResult(SUSPECTS, detections, {}, Verdict(share, alarms, leading, None))


def evidence(label: int = 1) -> Any:
    return SimpleNamespace(trusted=SimpleNamespace(task=MORTALITY), stays=NAMES, suspected=label)


def test_rows_are_ranked_by_the_leading_detector_and_equals_by_flags_then_name() -> None:
    scores = {"isolation forest": [1.0, 3.0, 1.0, 1.0], "Mahalanobis": [0.0, 0.0, 9.0, 0.0]}
    table = suspects_table(found("isolation forest", scores), evidence())
    assert table.columns == ["rank", "stay", "percentile", "flagged_by", "reason"]
    # The listfile has d before a: its order may be that of the poisoning.
    assert table["stay"].to_list() == ["c.csv", "b.csv", "a.csv", "d.csv"]
    assert table["rank"].to_list() == [1, 2, 3, 4]
    # Of the trusted scores -1, 0, 1 and 2 two are below 1.
    assert table["percentile"].to_list() == [100.0, 50.0, 50.0, 50.0]
    assert table["flagged_by"].to_list() == [1, 2, 1, 1]


@pytest.mark.parametrize(("label", "died"), [(1, "1 (died)"), (0, "0 (survived)")])
def test_labels_that_do_not_fit_are_given_as_risks(label: int, died: str) -> None:
    """A risk is always that of death, whatever label is suspected."""
    trusted, training = np.array([0.04, 0.5, 0.3, 0.2]), np.array([0.91, 0.5, 0.4, 0.3])
    if label == 0:
        trusted, training = 1 - trusted, 1 - training
    towards = 1 if label else -1
    scores = {
        "unexpected death": -towards * log_odds(*trusted),
        "easy to learn": towards * log_odds(*training),
    }
    scores["model disagreement"] = scores["unexpected death"] + scores["easy to learn"]
    by_trusted = f"a model of the trusted stays gives a risk of {trusted[0]:.2f}"
    by_training = f"a model of the other training stays gives a risk of {training[0]:.2f}"
    expected = {
        "unexpected death": f"{by_trusted}; the training label is {died}",
        "easy to learn": f"{by_training}; the training label is {died}",
        "model disagreement": f"{by_trusted}, {by_training}; the training label is {died}",
    }
    for name, reason in expected.items():
        table = suspects_table(found(name, scores), evidence(label))
        assert table.row(0, named=True)["stay"] == "d.csv"
        assert table["reason"][0] == reason


def test_neighbours_are_counted() -> None:
    table = suspects_table(found("neighbours survived", {"neighbours survived": [0.9, 0, 0, 0]}), evidence())
    assert (
        table["reason"][0] == "18 of the 20 stays most like it are survivors; the training label is 1 (died)"
    )


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_gives_a_reason(name: str) -> None:
    table = suspects_table(found(name, {name: [0.1, 0.5, 0.2, 1.5] for name in DETECTORS}), evidence())
    assert min(table["reason"].str.len_chars()) > 20
    assert not table["reason"].str.contains("{", literal=True).any()
    if name == "Mahalanobis":
        assert table["reason"][0] == (
            "features far from those of trusted stays: more so than 75.0% of the trusted deaths; "
            "the training label is 1 (died)"
        )


def test_raw_scores_stand_in_a_table_of_their_own_with_four_digits() -> None:
    scores = {"Mahalanobis": [1234.5678912345, 0.000123456789, -9.87654321, 5.0]}
    table = scores_table(found("Mahalanobis", scores), evidence())
    expected = pl.DataFrame({"stay": NAMES[SUSPECTS], "Mahalanobis": [1235.0, 0.0001235, -9.877, 5.0]})
    assert table.equals(expected)
    assert max(len(cell) for line in table.write_csv().splitlines()[1:] for cell in line.split(",")) <= 9
