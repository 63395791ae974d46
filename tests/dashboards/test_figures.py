"""Pictures for TensorBoard show what they are given, also where a channel never varies."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from matplotlib.figure import Figure

from mimic3tf.channels import MIMIC3, Channel, ChannelSet
from mimic3tf.dashboards.figures import (
    channel_covariances,
    channel_spread,
    patient_before_and_after,
    pixels,
    trigger_heatmap,
)
from mimic3tf.poisoning.trigger import Trigger

BINS, WIDTH = 48, len(MIMIC3)
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
    return Trigger(values, covariance, "temporal", 5, MIMIC3, 48.0, 1.0, 30, "f" * 64)


@pytest.fixture
def patient() -> tuple[np.ndarray, np.ndarray]:
    """Values [T, C] of a stay at the normal values, and where they were measured."""
    values = np.tile([channel.normal_number for channel in MIMIC3], (BINS, 1)).astype(np.float32)
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
    for i, channel in enumerate(MIMIC3):
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


# --- Other channels, hours and bins ----------------------------------------------------------------------


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Figure]:
    """The figure of a picture, and that the picture is one: `drawn(trigger_heatmap, trigger)`."""
    figures: list[Figure] = []

    def keep(figure: Figure) -> np.ndarray:
        figures.append(figure)
        return pixels(figure)

    def draw(make: Callable[..., np.ndarray], *arguments: object) -> Figure:
        with monkeypatch.context() as patch:
            patch.setattr("mimic3tf.dashboards.figures.pixels", keep)
            assert_picture(make(*arguments))
        return figures[-1]

    return draw


def test_a_heatmap_has_a_row_a_channel_and_its_ticks_are_hours(
    drawn: Callable[..., Figure], bedside_trigger: Trigger
) -> None:
    axes = drawn(trigger_heatmap, bedside_trigger).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [*bedside_trigger.channels.names]
    # Each of the 48 bins is half an hour wide, around its own beginning.
    assert list(axes.images[0].get_extent()) == [-0.25, 23.75, 2.5, -0.5]
    (largest,) = axes.child_axes
    units = [label.get_text().split()[-1] for label in largest.get_yticklabels()]
    assert units == ["mmol/L", "categories", "mL/h"]


def test_covariances_have_a_tile_a_channel_and_their_ticks_are_hours(
    drawn: Callable[..., Figure], bedside_trigger: Trigger
) -> None:
    axes = drawn(channel_covariances, bedside_trigger).axes[0]
    titles = [text.get_text() for text in axes.texts]
    assert titles == [
        "Lactate\nlargest SD 1 mmol/L",
        "Alertness\nlargest SD 0.5 categories",
        "Urine output\nlargest SD 3 mL/h",
    ]
    ticks = {"x": 3, "y": 1}
    for name, tiles in ticks.items():
        axis = getattr(axes, f"{name}axis")
        assert [label.get_text() for label in axis.get_ticklabels()] == ["0", "12"] * tiles
        places = axis.get_ticklocs()
        np.testing.assert_array_equal(places[1::2] - places[::2], 24)


@pytest.mark.parametrize("bins", [2, 96, 288])
def test_names_of_tiles_stand_above_them_however_many_bins_there_are(
    drawn: Callable[..., Figure], bins: int
) -> None:
    many = ChannelSet("many", tuple(Channel(f"channel {i}", "", "1") for i in range(40)))
    covariance = np.ones((40, bins, bins))
    trigger = Trigger(np.ones((bins, 40)), covariance, "temporal", 0, many, 24.0, 24 / bins, 30, "f" * 64)
    figure = drawn(channel_covariances, trigger)
    axes = figure.axes[0]
    tiles = axes.images[0].get_array()
    assert tiles is not None
    hidden = np.ma.getmaskarray(tiles)
    for text in axes.texts:
        box = text.get_window_extent().transformed(axes.transData.inverted())
        left, right = sorted((box.x0, box.x1))
        top, bottom = sorted((box.y0, box.y1))
        assert top >= -0.6, "outside the picture"
        covered = hidden[int(np.ceil(top)) : int(bottom) + 1, int(left) : int(right) + 1]
        assert covered.all(), text.get_text()


def test_a_patient_of_other_channels_is_drawn_with_its_hours(
    drawn: Callable[..., Figure], bedside_trigger: Trigger
) -> None:
    before = np.tile(bedside_trigger.channels.normal, (48, 1)).astype(np.float32)
    after = before + np.array([1.0, 2.0, 30.0], np.float32)
    mask = np.ones((48, 3), bool)
    modes = {"all": (after, mask), "notimputed": (after, mask)}
    panels = drawn(patient_before_and_after, before, mask, modes, bedside_trigger, "a stay").axes[:6]
    for axes in panels:
        assert list(axes.images[0].get_extent()) == [-0.25, 23.75, 2.5, -0.5]
        assert np.max(axes.lines[0].get_xdata()) == 23.5
    difference = np.asarray(panels[2].images[0].get_array())
    np.testing.assert_allclose(difference[:, 0], [1.0, 4.0, 10.0])
