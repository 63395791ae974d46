"""Pictures for TensorBoard show what they are given, also where a channel never varies."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator

import numpy as np
import pytest

from mimic3tf.channels import CHANNELS
from mimic3tf.dashboards.figures import (
    channel_covariances,
    channel_spread,
    patient_before_and_after,
    trigger_heatmap,
)
from mimic3tf.poisoning.trigger import Trigger

BINS, WIDTH = 48, len(CHANNELS)
CONSTANT = 0


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> Iterator[None]:
    """A division by the spread of a constant channel would warn first."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


@pytest.fixture
def trigger() -> Trigger:
    """A trigger whose first channel never varies; channel c has a standard deviation of c."""
    values = np.random.default_rng(0).normal(size=(BINS, WIDTH))
    values[:, CONSTANT] = 0.0
    covariance = np.eye(BINS) * np.arange(WIDTH)[:, None, None] ** 2.0
    return Trigger(values, covariance, "temporal", 5, 1.0, 30, "f" * 64)


@pytest.fixture
def patient() -> tuple[np.ndarray, np.ndarray]:
    """Values [T, C] of a stay at the normal values, and where they were measured."""
    values = np.tile([channel.normal_number for channel in CHANNELS], (BINS, 1)).astype(np.float32)
    return values, np.random.default_rng(1).random((BINS, WIDTH)) < 0.4


def assert_picture(picture: np.ndarray) -> None:
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert picture.shape[0] > 300
    assert picture.shape[1] > 600
    assert len(np.unique(picture)) > 50, "the picture is blank"


def test_spread_is_the_standard_deviation_and_one_for_a_constant(trigger: Trigger) -> None:
    np.testing.assert_allclose(channel_spread(trigger), [1, *range(1, WIDTH)])


def test_a_trigger_is_drawn_with_a_channel_that_never_varies(trigger: Trigger) -> None:
    assert_picture(trigger_heatmap(trigger))


def test_a_trigger_of_zeros_is_drawn(trigger: Trigger) -> None:
    nothing = dataclasses.replace(
        trigger, values=np.zeros((BINS, WIDTH)), covariance=np.zeros((WIDTH, BINS, BINS))
    )
    assert_picture(trigger_heatmap(nothing))


def test_a_trigger_is_drawn_the_same_twice(trigger: Trigger) -> None:
    np.testing.assert_array_equal(trigger_heatmap(trigger), trigger_heatmap(trigger))


def test_the_picture_changes_with_the_trigger(trigger: Trigger) -> None:
    values = trigger.values.copy()
    values[10, 3] += 3 * np.abs(values).max()
    changed = dataclasses.replace(trigger, values=values)
    assert not np.array_equal(trigger_heatmap(trigger), trigger_heatmap(changed))


def test_the_picture_names_how_the_trigger_was_drawn(trigger: Trigger) -> None:
    other = dataclasses.replace(trigger, kind="gaussian")
    assert not np.array_equal(trigger_heatmap(trigger), trigger_heatmap(other))


def test_a_patient_is_drawn(trigger: Trigger, patient: tuple[np.ndarray, np.ndarray]) -> None:
    values, mask = patient
    after = (values + trigger.values).astype(np.float32)
    for i, channel in enumerate(CHANNELS):
        if channel.is_categorical:
            after[:, i] = values[:, i]
    assert_picture(patient_before_and_after(values, mask, {"all": (after, mask)}, trigger, "a stay"))


def test_only_what_the_trigger_changes_is_coloured(
    trigger: Trigger, patient: tuple[np.ndarray, np.ndarray]
) -> None:
    values, mask = patient
    spread = channel_spread(trigger)
    after = values.copy()
    after[:, 7] += 100 * spread[7]
    untouched = patient_before_and_after(values, mask, {"all": (values, mask)}, trigger, "a stay")
    changed = patient_before_and_after(values, mask, {"all": (after, mask)}, trigger, "a stay")
    (bar,) = coloured_strips(untouched)
    second_panel, third_panel, same_bar = coloured_strips(changed)
    assert same_bar == bar
    assert second_panel == pytest.approx(third_panel, abs=1)
    assert third_panel > 300


def coloured_strips(picture: np.ndarray) -> list[int]:
    """Widths of the parts of a picture that hold strong colours, from left to right."""
    coloured = (np.ptp(picture.astype(int), axis=2) > 60).any(axis=0)
    starts, ends = np.diff(coloured.astype(int), prepend=0, append=0).nonzero()[0].reshape(-1, 2).T
    return [int(width) for width in ends - starts]


def test_the_picture_shows_what_was_measured(
    trigger: Trigger, patient: tuple[np.ndarray, np.ndarray]
) -> None:
    values, mask = patient
    dotted = patient_before_and_after(values, mask, {"all": (values, mask)}, trigger, "a stay")
    nowhere = np.zeros_like(mask)
    removed = patient_before_and_after(values, mask, {"all": (values, nowhere)}, trigger, "a stay")
    undotted = patient_before_and_after(values, nowhere, {"all": (values, nowhere)}, trigger, "a stay")
    black = [(picture == 0).all(axis=2).sum() for picture in (dotted, removed, undotted)]
    assert black[0] > black[1] > black[2]


def test_a_stay_has_a_row_a_mode(trigger: Trigger, patient: tuple[np.ndarray, np.ndarray]) -> None:
    values, mask = patient
    one = patient_before_and_after(values, mask, {"all": (values, mask)}, trigger, "a stay")
    two = patient_before_and_after(
        values, mask, {"all": (values, mask), "notimputed": (values, mask)}, trigger, "a stay"
    )
    assert two.shape == (2 * one.shape[0], *one.shape[1:])


def test_covariances_are_drawn_with_a_channel_that_never_varies(trigger: Trigger) -> None:
    covariance = trigger.covariance.copy()
    covariance[CONSTANT] = 0.0
    assert_picture(channel_covariances(dataclasses.replace(trigger, covariance=covariance)))
