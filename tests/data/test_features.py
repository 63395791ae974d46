from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import skew

from mimic3tf.channels import MIMIC3
from mimic3tf.data.features import (
    FUNCTIONS,
    WINDOWS,
    extract_features,
    feature_names,
    window_features,
)
from mimic3tf.data.records import read_series


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
