"""What detectors read of stays in bins of another timestep."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from mimic3tf.channels import MIMIC3
from mimic3tf.data.cohort import cohort_of
from mimic3tf.data.features import window_features
from mimic3tf.defences.detectors import views
from mimic3tf.defences.evidence import Evidence

WINDOWS = [("first", share) for share in (1.0, 0.1, 0.25, 0.5)]
WINDOWS += [("last", share) for share in (0.1, 0.25, 0.5)]
TRAINING, TRUSTED = 12, 9


def evidence_in_bins(bins: int, timestep: float) -> Evidence:
    """Random stays, and no model."""
    random = np.random.default_rng(0)
    grids = MIMIC3.normal + random.normal(size=(TRAINING + TRUSTED, bins, len(MIMIC3)))
    grids[..., MIMIC3.categorical] = random.integers(2, size=grids[..., MIMIC3.categorical].shape)
    training, trusted = np.split(grids.astype(np.float32), [TRAINING])
    names = [str(stay) for stay in range(TRUSTED)]
    labels = np.arange(TRAINING) % 2
    return Evidence(
        stays=np.arange(TRAINING).astype(str),
        grids=training,
        masks=np.ones_like(training, bool),
        labels=labels,
        suspected=1,
        fingerprint="",
        model=None,
        source="",
        trusted=cohort_of(names, labels[:TRUSTED], trusted, np.ones(trusted.shape, bool), timestep=timestep),
    )


def features_by_hand(course: np.ndarray, hours: np.ndarray) -> list[float]:
    """The 42 features of one channel's course, window by window."""
    features = []
    for end, share in WINDOWS:
        length = share * (hours[-1] - hours[0])
        inside = hours <= hours[0] + length + 1e-9 if end == "first" else hours >= hours[-1] - length - 1e-9
        x = course[inside]
        deviations = x - x.mean()
        skew = (deviations**3).mean() / x.std() ** 3 if x.std() > 0 else 0.0
        features += [x.min(), x.max(), x.mean(), x.std(), skew, len(x)]
    return features


@pytest.mark.parametrize(("bins", "timestep"), [(24, 2.0), (48, 1.0), (48, 0.5), (7, 3.0)])
def test_features_of_grids_are_taken_at_the_hours_of_their_bins(
    monkeypatch: pytest.MonkeyPatch, bins: int, timestep: float
) -> None:
    times: list[np.ndarray] = []

    def spy(values: tf.Tensor, present: tf.Tensor, hours: tf.Tensor) -> tf.Tensor:
        times.append(hours.numpy())
        return window_features(values, present, hours)

    monkeypatch.setattr(views, "window_features", spy)
    evidence = evidence_in_bins(bins, timestep)
    view = views.features(evidence)

    hours = timestep * np.arange(bins)
    for seen, stays in zip(times, (TRAINING, TRUSTED), strict=True):
        np.testing.assert_allclose(seen, np.tile(hours, (stays, 1)))
    glucose = MIMIC3.position("Glucose")
    courses = np.concatenate([evidence.grids, evidence.trusted.grids])[..., glucose].astype(np.float64)
    expected = np.array([features_by_hand(course, hours) for course in courses])
    spread = expected.std(axis=0)
    expected = (expected - expected.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
    columns = slice(42 * glucose, 42 * (glucose + 1))
    np.testing.assert_allclose(np.concatenate(view)[:, columns], expected, rtol=1e-6, atol=1e-6)


def test_grids_are_read_with_categories_as_numbers_whatever_the_timestep() -> None:
    evidence = evidence_in_bins(24, 2.0)
    view = views.grids(evidence)
    assert [part.shape for part in view] == [(TRAINING, 24, 17), (TRUSTED, 24, 17)]
    eyes, total = (MIMIC3.position(f"Glascow coma scale {name}") for name in ("eye opening", "total"))
    # "11" and "10" are numbers; what is no number is its place in the list.
    np.testing.assert_array_equal(view.training[..., total], 11.0 - evidence.grids[..., total])
    np.testing.assert_array_equal(view.training[..., eyes], evidence.grids[..., eyes])
