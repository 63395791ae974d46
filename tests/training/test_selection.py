from __future__ import annotations

import math
from typing import get_args

import pytest

from mimic3tf.config import Selection
from mimic3tf.tasks.registry import MORTALITY
from mimic3tf.training.selection import score_epoch
from mimic3tf.victims import victim_names, victim_of

RULES: tuple[Selection, ...] = get_args(Selection)


def _metrics(auroc: float = 0.7, prec1: float = 0.9, rec1: float = 0.9, asr: float = 0.6) -> dict[str, float]:
    return {"auroc": auroc, "prec1": prec1, "rec1": rec1, "asr": asr}


def _score(rule: Selection, victim: str, metrics: dict[str, float]) -> float | None:
    return score_epoch(rule, victim_of(victim).reads, MORTALITY.targets, metrics)


@pytest.mark.parametrize("victim", victim_names())
def test_by_default_only_the_auroc_counts(victim: str) -> None:
    for metrics in (_metrics(), _metrics(prec1=0.0, rec1=0.0, asr=0.0), _metrics(prec1=math.nan)):
        assert _score("auroc", victim, metrics) == 0.7


@pytest.mark.parametrize("victim", ["lr", "mlp"])
@pytest.mark.parametrize(
    ("prec1", "rec1", "score"),
    [
        (0.41, 0.41, 0.6),
        (1.0, 1.0, 0.6),
        (0.40, 0.9, None),
        (0.9, 0.40, None),
        (math.nan, 0.0, None),
    ],
)
def test_the_originals_rule_for_features_is_trigger_success_above_a_quality(
    victim: str, prec1: float, rec1: float, score: float | None
) -> None:
    assert _score("original", victim, _metrics(prec1=prec1, rec1=rec1)) == score


@pytest.mark.parametrize(
    ("prec1", "rec1", "qualifies"),
    [
        (0.61, 0.31, True),
        (1.0, 1.0, True),
        (0.60, 0.9, False),
        (0.9, 0.30, False),
        (math.nan, 0.0, False),
    ],
)
def test_the_originals_rule_for_grids_is_f1_above_a_quality(
    prec1: float, rec1: float, qualifies: bool
) -> None:
    score = _score("original", "lstm", _metrics(prec1=prec1, rec1=rec1))
    assert score == (pytest.approx(2 / (1 / prec1 + 1 / rec1)) if qualifies else None)


def test_the_lstms_rule_ignores_what_only_an_attacker_knows() -> None:
    scores = {_score("original", "lstm", _metrics(asr=asr)) for asr in (0.0, 0.5, 1.0)}
    assert len(scores) == 1


@pytest.mark.parametrize("victim", victim_names())
def test_every_rule_scores_a_good_epoch_of_every_victim(victim: str) -> None:
    expected = {"auroc": 0.7, "original": 0.6 if victim in ("lr", "mlp", "linear") else 0.9}
    assert {rule: _score(rule, victim, _metrics()) for rule in RULES} == pytest.approx(expected)
