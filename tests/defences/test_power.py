"""Simulated attacks are planted in sound stays, and those that raise an alarm are counted."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from mimic3tf.channels import MIMIC3
from mimic3tf.data.cohort import Cohort, cohort_of
from mimic3tf.defences import power
from mimic3tf.defences.common_pattern.finding import CommonPattern, Stays
from mimic3tf.defences.detectors.common_pattern import pattern_among
from mimic3tf.defences.power import SHARES, STRENGTHS, Power, simulate_power
from mimic3tf.defences.verdict import FEWEST_TRUSTED

RATE = MIMIC3.position("Heart Rate")


def cohort(stays: int, seed: int) -> Cohort:
    random = np.random.default_rng(seed)
    values, mask = np.zeros((stays, 4, len(MIMIC3))), np.zeros((stays, 4, len(MIMIC3)), bool)
    values[..., RATE] = 80 + 10 * random.normal(size=(stays, 4))
    mask[..., RATE] = random.random((stays, 4)) < 0.5
    return cohort_of([str(i) for i in range(stays)], np.arange(stays) % 5 == 0, values, mask)


def evidence(suspected: int) -> Any:
    training = cohort(400, 0)
    return SimpleNamespace(
        grids=training.grids,
        masks=training.masks,
        labels=training.labels,
        suspected=suspected,
        trusted=cohort(100, 1),
    )


@pytest.mark.parametrize("suspected", [0, 1])
def test_attacks_are_planted_in_stays_of_the_other_label(
    suspected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = evidence(suspected)
    seen = []

    def found(training: Stays, trusted: Stays, of: Any, seed: int) -> CommonPattern:
        assert of is given
        planted = training.labels != given.labels
        assert (given.labels[planted] == 1 - suspected).all()
        assert (training.labels[planted] == suspected).all()
        changed = training.values != given.grids
        assert not changed[~planted].any()
        assert not changed[~given.masks].any()
        assert changed[planted][..., RATE].any(axis=1).mean() > 0.5
        seen.append((planted.sum(), np.abs(training.values - given.grids)[changed].mean()))
        suspects = np.flatnonzero(training.labels == suspected)
        odds = np.where(planted[suspects], np.resize([1.0, -1.0], len(suspects)), 1.0)
        # p below .01 / 4 is an alarm; the first of two attacks raises one.
        return CommonPattern(odds, np.full(1000, -1.0), 0.0024 if seed == 7 else 0.0026, ())

    monkeypatch.setattr("mimic3tf.defences.power.pattern_among", found)
    table = simulate_power(given, 2, tests=4, seed=7)
    assert not isinstance(table, str)
    assert [(each.strength, each.share) for each in table] == [(s, p) for s in STRENGTHS for p in SHARES]
    assert {each.simulated for each in table} == {2}
    assert {each.found for each in table} == {1}
    # Clopper and Pearson, 1 of 2.
    assert table[0].low == pytest.approx(0.0126, abs=1e-4)
    assert table[0].high == pytest.approx(0.9874, abs=1e-4)
    assert all(0.2 < each.flagged < 0.8 for each in table[1::2])
    sizes, shifts = np.transpose(seen[: len(table)])
    assert sizes.tolist() == [int(400 * share) for _ in STRENGTHS for share in SHARES]
    assert shifts[4:].mean() > 2 * shifts[:2].mean()


def test_nothing_is_simulated_unasked_or_where_nothing_can_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    given = evidence(1)
    assert simulate_power(given, 0, tests=7, seed=0) == []
    for nothing in (None, CommonPattern(np.ones(80), np.ones(FEWEST_TRUSTED - 1), 0.0001, ())):
        monkeypatch.setattr("mimic3tf.defences.power.pattern_among", lambda *_, nothing=nothing: nothing)
        needed = simulate_power(given, 1, tests=7, seed=0)
        assert str(needed).startswith(
            "the search for a common pattern needs 200 survivors, 19 trusted deaths, and channels"
        )


@pytest.mark.parametrize(("flagged", "alarms"), [(1, 0), (10, 1)])
def test_an_attack_counts_only_if_the_verdict_would_raise_an_alarm(
    flagged: int, alarms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One flagged stay of 84 is no excess that matters, however small p is."""
    odds = np.where(np.arange(400) < flagged, 1.0, -1.0)
    certain = CommonPattern(odds, np.full(1000, -1.0), 1e-4, ())

    def found(training: Stays, *_: Any) -> CommonPattern:
        return replace(certain, training=np.resize(odds, (training.labels == 1).sum()))

    monkeypatch.setattr("mimic3tf.defences.power.pattern_among", found)
    table = simulate_power(evidence(1), 1, tests=4, seed=0)
    assert {each.found for each in cast(list[Power], table)} == {alarms}


def test_attacks_on_a_table_are_searched_as_an_audit_searches_a_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = SimpleNamespace(suspected=1, trusted=SimpleNamespace(bins=1))
    stays = Stays(np.zeros((3, 1, 2)), np.ones((3, 1, 2), bool), np.zeros(3, np.int64))
    shift = CommonPattern(np.zeros(1), np.zeros(1), 1.0, ())
    module = "mimic3tf.defences.detectors.common_pattern"
    monkeypatch.setattr(f"{module}.find_common_shift", lambda *_: shift)
    monkeypatch.setattr(f"{module}.find_common_pattern", lambda *_: pytest.fail("a table has no time"))
    # The same function as in an audit.
    assert vars(power)["pattern_among"] is pattern_among
    assert pattern_among(stays, stays, cast(Any, table), 0) is shift
