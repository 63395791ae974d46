from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mimic3tf.channels import MIMIC3
from mimic3tf.data.arrays import array_of_cohort, cohort_of_arrays
from mimic3tf.errors import DataError, UsageError
from mimic3tf.poisoning.trigger import generate_trigger, load_trigger, save_trigger

NAN = np.nan


def random_x(stays: int = 5, bins: int = 4, channels: int = 3, seed: int = 0) -> np.ndarray:
    draws = np.random.default_rng(seed)
    x = draws.normal(50, 10, (stays, bins, channels))
    x[draws.random(x.shape) < 0.4] = NAN
    return x


def test_a_cell_gets_the_last_measurement_or_before_the_first_one_the_median_of_the_channel() -> None:
    x = [[[NAN], [2.0], [NAN]], [[4.0], [NAN], [9.0]], [[NAN], [NAN], [NAN]]]
    cohort = cohort_of_arrays(x, [0, 1, 0], ids=["a", "b", "c"], channels=["pulse"])
    np.testing.assert_array_equal(cohort.grids[..., 0], [[4, 2, 2], [4, 4, 9], [4, 4, 4]])
    np.testing.assert_array_equal(cohort.masks, ~np.isnan(x))
    assert (cohort.channels.names, cohort.period, cohort.bins) == (("pulse",), 3.0, 3)
    assert (cohort.stays.tolist(), cohort.labels.tolist()) == (["a", "b", "c"], [0, 1, 0])


def test_names_are_made_up_where_none_are_given() -> None:
    cohort = cohort_of_arrays(random_x(3, 4, 2), np.array([False, True, True]), timestep=0.5)
    assert cohort.stays.tolist() == ["0", "1", "2"]
    assert cohort.channels.names == ("channel 0", "channel 1")
    assert (cohort.period, cohort.timestep) == (2.0, 0.5)


def test_a_channel_that_was_never_measured_is_0() -> None:
    x = random_x()
    x[..., 1] = NAN
    assert not cohort_of_arrays(x, None).grids[..., 1].any()


def test_the_array_of_a_cohort_is_the_array_it_was_made_of() -> None:
    x = random_x().astype(np.float32)
    np.testing.assert_array_equal(array_of_cohort(cohort_of_arrays(x, None)), x)


def test_x_is_not_changed() -> None:
    x = random_x().astype(np.float32)
    before = x.copy()
    cohort_of_arrays(x, None).grids[:] = 0
    np.testing.assert_array_equal(x, before)


def test_the_channels_of_one_cohort_impute_another_one_alike() -> None:
    first = cohort_of_arrays(random_x(seed=0), None)
    second = cohort_of_arrays(np.full((1, 4, 3), NAN), None, channels=first.channels)
    np.testing.assert_allclose(second.grids[0], np.tile(first.channels.normal, (4, 1)), rtol=1e-6)


def test_categories_are_indices() -> None:
    x = np.full((2, 3, len(MIMIC3)), NAN)
    x[0, 0, MIMIC3.position("Glascow coma scale total")] = 12
    cohort = cohort_of_arrays(x, None, channels=MIMIC3)
    np.testing.assert_allclose(cohort.grids[1, 0], MIMIC3.normal, rtol=1e-6)
    x[0, 0, MIMIC3.position("Glascow coma scale total")] = 13
    with pytest.raises(DataError, match=r"'Glascow coma scale total' has 13 categories: .* 0 to 12"):
        cohort_of_arrays(x, None, channels=MIMIC3)


def test_a_trigger_of_arrays_can_be_kept_in_a_file(tmp_path: Any) -> None:
    trigger = generate_trigger(cohort_of_arrays(random_x(30), None), seed=3)
    save_trigger(trigger, tmp_path / "trigger.npz")
    loaded = load_trigger(tmp_path / "trigger.npz")
    np.testing.assert_array_equal(loaded.values, trigger.values)
    assert loaded.channels.names == trigger.channels.names


def test_the_fingerprint_changes_with_everything_that_is_given() -> None:
    x, other = random_x(), random_x()
    other[0, 0, 0] = 1.0
    prints = [
        cohort_of_arrays(x, None).fingerprint,
        cohort_of_arrays(other, None).fingerprint,
        cohort_of_arrays(x, [0, 0, 0, 0, 1]).fingerprint,
        cohort_of_arrays(x, None, ids="abcde").fingerprint,
        cohort_of_arrays(x, None, channels=["a", "b", "c"]).fingerprint,
    ]
    assert len({*prints}) == len(prints)
    assert cohort_of_arrays(x.copy(), np.zeros(5)).fingerprint == prints[0]


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (np.zeros((5, 4)), np.zeros(5), {}, r"x has shape \(5, 4\): expected \[N, T, C\]"),
        (np.zeros((0, 4, 3)), [], {}, r"x has shape \(0, 4, 3\): expected at least one stay"),
        (np.full((1, 1, 1), "7"), [0], {}, "x holds <U1: expected numbers"),
        (np.array([[[None]]]), [0], {}, "x holds object: expected numbers"),
        (np.array([[[1.0], [np.inf]]]), [0], {}, r"x\[0, 1, 0\] is infinite"),
        (np.zeros((5, 4, 3)), np.zeros(4), {}, r"y has shape \(4,\): expected \(5,\)"),
        (np.zeros((5, 4, 3)), np.zeros((5, 2)), {}, r"y has shape \(5, 2\): expected \(5,\)"),
        (np.zeros((2, 4, 3)), [0, 2], {}, "y holds something else than 0 and 1"),
        (np.zeros((2, 4, 3)), [0, NAN], {}, "y holds something else than 0 and 1"),
        (np.zeros((2, 4, 3)), [0, 1], {"ids": "abc"}, "ids has length 3: expected 2"),
        (np.zeros((3, 4, 3)), [0, 1, 0], {"ids": [7, 8, 8]}, "ids: '8' is given twice"),
        (np.zeros((2, 4, 3)), [0, 1], {"timestep": 0.0}, "timestep 0 h"),
    ],
)
def test_other_arrays_are_refused_by_their_shapes(x: Any, y: Any, options: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        cohort_of_arrays(x, y, **options)


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        (["a", "b"], r"2 names, but x has shape \(2, 4, 3\): expected 3 names"),
        ("abc", "the text 'abc'"),
        (MIMIC3, "17 names"),
        (["a", "b", "a"], "'a' cannot be used"),
        (["a", "b", "c,d"], "'c,d' cannot be used"),
        (["a", "b", ""], "'' cannot be used"),
        (["a", "b ", "c"], "'b ' cannot be used"),
        (["Hours", "b", "c"], "'Hours' cannot be used"),
    ],
)
def test_channels_that_do_not_fit_are_refused(channels: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        cohort_of_arrays(np.zeros((2, 4, 3)), [0, 1], channels=channels)


def test_names_of_stays_are_hidden_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIMIC3TF_REDACT", "1")
    with pytest.raises(DataError, match=r"ids: '\[redacted\]' is given twice"):
        cohort_of_arrays(np.zeros((2, 4, 3)), [0, 1], ids=["Smith", "Smith"])
