"""Simulated attacks are planted in sound stays, and those that raise an alarm are counted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mimic3tf.channels import MIMIC3
from mimic3tf.data.cohort import Cohort, cohort_of
from mimic3tf.defences.common_pattern.finding import CommonPattern, Stays
from mimic3tf.defences.power import SHARES, STRENGTHS, simulate_power

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

    def found(training: Stays, trusted: Stays, label: int, usable: np.ndarray, seed: int) -> CommonPattern:
        planted = training.labels != given.labels
        assert (given.labels[planted] == 1 - suspected).all()
        assert (training.labels[planted] == suspected).all()
        changed = training.values != given.grids
        assert not changed[~planted].any()
        assert not changed[~given.masks].any()
        assert changed[planted][..., RATE].any(axis=1).mean() > 0.5
        seen.append((planted.sum(), np.abs(training.values - given.grids)[changed].mean()))
        suspects = np.flatnonzero(training.labels == label)
        odds = np.where(planted[suspects], np.resize([1.0, -1.0], len(suspects)), 1.0)
        # p below .01 / 4 is an alarm; the first of two attacks raises one.
        return CommonPattern(odds, np.zeros(1), 0.0024 if seed == 7 else 0.0026, ())

    monkeypatch.setattr("mimic3tf.defences.power.find_common_pattern", found)
    power = simulate_power(given, 2, tests=4, seed=7)
    assert [(each.strength, each.share) for each in power] == [(s, p) for s in STRENGTHS for p in SHARES]
    assert {each.simulated for each in power} == {2}
    assert {each.found for each in power} == {1}
    # Clopper and Pearson, 1 of 2.
    assert power[0].low == pytest.approx(0.0126, abs=1e-4)
    assert power[0].high == pytest.approx(0.9874, abs=1e-4)
    assert all(0.2 < each.flagged < 0.8 for each in power[1::2])
    sizes, shifts = np.transpose(seen[: len(power)])
    assert sizes.tolist() == [int(400 * share) for _ in STRENGTHS for share in SHARES]
    assert shifts[4:].mean() > 2 * shifts[:2].mean()


def test_nothing_is_simulated_unasked_or_where_nothing_can_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    given = evidence(1)
    assert simulate_power(given, 0, tests=7, seed=0) == []
    monkeypatch.setattr("mimic3tf.defences.power.find_common_pattern", lambda *_: None)
    assert simulate_power(given, 1, tests=7, seed=0) == []
