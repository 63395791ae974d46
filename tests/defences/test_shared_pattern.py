"""The patterns found are shown in units, beside the truth."""

from __future__ import annotations

import numpy as np
import pytest

from mimic3tf.channels import MIMIC3
from mimic3tf.data.cohort import Cohort, cohort_of
from mimic3tf.defences.common_pattern.finding import CommonPattern, Pattern
from mimic3tf.defences.shared_pattern import pattern_records, pattern_table

RATE, GLUCOSE = (MIMIC3.position(name) for name in ("Heart Rate", "Glucose"))


def cohort() -> Cohort:
    """Two hundred stays: heart rate is measured in every bin and spreads by 10, glucose in half and by 40."""
    random = np.random.default_rng(0)
    values, mask = np.zeros((200, 6, len(MIMIC3))), np.zeros((200, 6, len(MIMIC3)), bool)
    values[..., RATE], values[..., GLUCOSE] = (
        10 * random.normal(size=(200, 6)),
        40 * random.normal(size=(200, 6)),
    )
    mask[..., RATE], mask[..., GLUCOSE] = True, random.random((200, 6)) < 0.5
    return cohort_of([f"{i}.csv" for i in range(200)], [0, 1] * 100, values, mask, timestep=2.0)


def found(rate: float, glucose: float) -> CommonPattern:
    shift, error = np.zeros((6, len(MIMIC3))), np.zeros((6, len(MIMIC3)))
    shift[2, RATE], shift[4, GLUCOSE] = rate, glucose
    error[:, [RATE, GLUCOSE]] = 0.5
    return CommonPattern(np.zeros(1), np.zeros(1), 0.01, (Pattern(shift, error, 7, 0.01),))


def test_patterns_are_listed_in_units_with_errors_and_the_truth() -> None:
    stays, pattern = cohort(), found(12.3456, 0.0)
    table = pattern_table(pattern, stays, 2 * pattern.patterns[0].shift)
    assert table.height == 2 * stays.bins
    rate = table.filter(channel="Heart Rate")
    assert set(rate["unit"]) == {MIMIC3[RATE].shown_unit}
    assert rate["hour"].to_list() == [0, 2, 4, 6, 8, 10]
    assert rate.select("pattern", "shift", "standard_error", "true_shift").row(2) == (1, 12.35, 0.5, 24.69)
    assert pattern_table(pattern, stays, None)["true_shift"].null_count() == table.height
    nothing = pattern_table(CommonPattern(np.zeros(1), np.zeros(1), 0.5, ()), stays, None)
    assert nothing.height == 0
    assert nothing.schema == table.schema == pattern_table(None, stays, None).schema


def test_a_pattern_is_summarized_by_channel_the_most_shifted_first() -> None:
    stays, pattern = cohort(), found(10.0, -80.0)
    (record,) = pattern_records(pattern, stays, found(10.0, 80.0).patterns[0].shift)
    assert [row["channel"] for row in record["channels"]] == ["Glucose", "Heart Rate"]
    glucose = record["channels"][0]
    assert (glucose["hour"], glucose["shift"], glucose["true_shift"]) == (8.0, -80.0, 80.0)
    assert (record["stays"], record["p_value"]) == (7, 0.01)
    # One spread of a channel that is always measured against two of one that is measured half of the time.
    assert record["cosine"] == pytest.approx((1 - 2**2 / 2) / (1 + 2**2 / 2), abs=0.1)
    assert pattern_records(pattern, stays, None)[0]["cosine"] is None
    assert pattern_records(None, stays, None) == []
