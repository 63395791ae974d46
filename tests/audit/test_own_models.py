"""Models of a user's own libraries, clean and poisoned: the attack works, and an audit notices."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.own_models import audited, boosting, conv1d, gru, predict_with
from invented_arrays import NAMES, PATTERN, Own, invent

import mimic3tf


@pytest.fixture(scope="module")
def clean() -> Own:
    """The stays of `own` before somebody poisoned them."""
    return invent(0)


@pytest.mark.parametrize(
    "train",
    [pytest.param(conv1d, marks=pytest.mark.slow), boosting, pytest.param(gru, marks=pytest.mark.slow)],
    ids=["keras", "scikit-learn", "pytorch"],
)
def test_a_poisoned_model_is_suspicious_and_obeys_a_clean_one_does_neither(
    own: Own, clean: Own, train: Any
) -> None:
    if train is gru:
        pytest.importorskip("torch", reason="PyTorch is not installed")
    test = invent(0, seed=1)
    cohort = mimic3tf.cohort_of_arrays(clean.x, clean.y, channels=NAMES)
    trigger = mimic3tf.Trigger.from_array(PATTERN, cohort, unit_length=False)
    reports, attacks = [], []
    for stays in (clean, own):
        model = train(stays.x.astype(np.float32), stays.y)
        reports.append(audited(model, stays.x, stays.y, trusted=stays.trusted, channels=NAMES))
        attacks.append(mimic3tf.attack(predict_with(model), (test.x, test.y), trigger, strength=1.0))
    assert [report.verdict.level for report in reports] == ["no sign", "suspicious"]
    assert reports[1].record["pattern_response"]["with_pattern"] > 0.5
    sound, obeys = (result.success for result in attacks)
    assert obeys.low > sound.high
    assert obeys.rate > 0.5
    # Both models are good ones: nobody who looks at AUROC alone would see a difference.
    assert min(result.metrics["auroc"] for result in attacks) > 0.75


def test_a_script_of_ten_lines_attacks_and_audits(capsys: pytest.CaptureFixture[str]) -> None:
    """`mypy --strict` checks the script, as it checks all files of tests/."""
    names = runpy.run_path(str(Path(__file__).parents[1] / "own_audit.py"))
    assert names["level"] == "suspicious"
    assert names["result"].success.low > names["result"].baseline.high
    assert capsys.readouterr().out.startswith("suspicious ")
