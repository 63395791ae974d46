from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import tensorflow as tf
from golden_tasks import Golden
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import skew

from mimic3tf.channels import MIMIC3, FeatureSet, Period
from mimic3tf.data.features import (
    FUNCTIONS,
    WINDOWS,
    extract_features,
    feature_names,
    window_features,
)
from mimic3tf.data.records import Records, parse_rows, read_series


def test_features_of_unfilled_records_equal_the_reference(reference: Any) -> None:
    records, _ = read_series(reference.paths, MIMIC3)
    features = extract_features(records, len(reference.paths), MIMIC3)
    np.testing.assert_allclose(features, reference["features_714"], rtol=2e-7, atol=1e-7, equal_nan=True)


def test_there_is_a_name_for_every_feature() -> None:
    names = feature_names(MIMIC3)
    assert len(names) == len(set(names)) == 714
    assert names[:2] == ["Capillary refill rate|first 100%|min", "Capillary refill rate|first 100%|max"]


def _features_of_one_channel(values: np.ndarray, times: np.ndarray) -> list[float]:
    """The six functions in the seven windows, written out."""
    features: list[float] = []
    for end, share in WINDOWS:
        if not len(values):
            features += [np.nan] * len(FUNCTIONS)
            continue
        length = times[-1] - times[0]
        inside = (
            times < times[0] + length * share + 1e-6
            if end == "first"
            else times > times[-1] - length * share - 1e-6
        )
        window = values[inside]
        if not len(window):
            features += [np.nan] * len(FUNCTIONS)
            continue
        lopsided = 0.0 if window.min() == window.max() else float(skew(window))
        features += [window.min(), window.max(), window.mean(), window.std(), lopsided, len(window)]
    return features


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 48), st.one_of(st.none(), st.integers(-200, 200).map(lambda n: n / 4))),
        min_size=1,
        max_size=12,
    )
)
def test_window_features_equal_one_channel_at_a_time(rows: list[tuple[float, float | None]]) -> None:
    rows = sorted(rows, key=lambda row: row[0])
    times = np.array([time for time, _ in rows])
    values = np.array([np.nan if value is None else value for _, value in rows])
    present = ~np.isnan(values)
    features = window_features(
        tf.constant(np.where(present, values, 0.0)[None, :, None]),
        tf.constant(present[None, :, None]),
        tf.constant(times[None]),
    )
    expected = _features_of_one_channel(values[present], times[present])
    np.testing.assert_allclose(features[0], expected, rtol=1e-6, atol=1e-6, equal_nan=True)


def test_the_gradient_is_the_same_every_time() -> None:
    """To the last digit, also where two cores work on it."""
    values = tf.constant(np.random.default_rng(0).normal(size=(32, 48, 17)))
    times = tf.constant(np.tile(np.arange(1.0, 49.0), (32, 1)))

    @tf.function  # type: ignore[untyped-decorator]
    def gradient() -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(values)
            total = tf.reduce_sum(window_features(values, tf.ones([32, 48, 1], tf.bool), times) ** 2)
        return tape.gradient(total, values)

    first = gradient().numpy()
    assert np.abs(first).max() > 0
    for _ in range(100):
        np.testing.assert_array_equal(gradient(), first)


def _records(rows: list[np.ndarray]) -> Records:
    """The rows of several stays, as readers give them, in one table."""
    parsed = [parse_rows(each, MIMIC3) for each in rows]
    stay = np.repeat(np.arange(len(rows)), [len(each) for each in rows])
    hours, values = (np.concatenate([getattr(each, name) for each in parsed]) for name in ("hours", "values"))
    return Records(stay, hours, values)


@pytest.mark.parametrize("task", ["decompensation", "length_of_stay", "phenotyping"])
def test_features_up_to_an_hour_are_the_benchmarks(task: str, golden: Golden) -> None:
    reader = golden.reader(task)
    rows = [reader.read_example(index)["X"] for index in range(reader.get_number_of_examples())]
    found = extract_features(_records(rows), len(rows), MIMIC3)
    expected = golden.arrays(task)["features_714"]
    np.testing.assert_allclose(found, expected, rtol=2e-7, atol=1e-6, equal_nan=True)


def test_features_of_every_period_are_the_benchmarks(of_demo: Golden) -> None:
    expected = of_demo.arrays("features_periods")
    reader = of_demo.reader("phenotyping")
    examples = [reader.read_example(index) for index in range(reader.get_number_of_examples())]
    rows = {example["name"]: example["X"] for example in examples}
    records = _records([rows[name] for name in expected["names"]])
    for period in get_args(Period):
        for kind in get_args(FeatureSet):
            found = extract_features(records, len(expected["names"]), MIMIC3, period, kind)
            np.testing.assert_allclose(
                found, expected.pop(f"{period}|{kind}"), rtol=2e-7, atol=1e-6, err_msg=f"{period} {kind}"
            )
    assert set(expected) == {"names"}


@pytest.mark.parametrize(
    ("period", "counted"),
    [
        ("all", 6),
        ("first4days", 5),
        ("first8days", 6),
        ("last12hours", 2),
        ("first25percent", 3),
        ("first50percent", 4),
    ],
)
def test_a_period_is_a_part_of_the_channels_own_time(period: Period, counted: int) -> None:
    """Six values from hour 4 to hour 104; the last one alone is later than four days after the first."""
    hours = np.array([4.0, 5.0, 29.0, 54.0, 92.0, 104.0])
    values = np.full((6, 17), np.nan)
    values[:, MIMIC3.names.index("Heart Rate")] = np.arange(6.0)
    found = extract_features(Records(np.zeros(6, np.int64), hours, values), 1, MIMIC3, period, "len")
    assert found[0, 7 * MIMIC3.names.index("Heart Rate")] == counted
    assert found.shape == (1, 119)
