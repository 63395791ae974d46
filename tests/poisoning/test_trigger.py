from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic3tf.channels import MIMIC3, ChannelSet
from mimic3tf.data.cohort import Cohort, cohort_of
from mimic3tf.data.from_arrays import cohort_from_grid
from mimic3tf.data.grid import bin_count
from mimic3tf.errors import DataError, UsageError
from mimic3tf.poisoning.kinds import ShiftKind
from mimic3tf.poisoning.patterns import draw_pattern, mahalanobis_length, temporal_covariance
from mimic3tf.poisoning.trigger import (
    Trigger,
    check_trigger_channels,
    check_trigger_fits,
    generate_trigger,
    load_trigger,
    save_trigger,
)

BINS = 48
KINDS: tuple[ShiftKind, ...] = get_args(ShiftKind)
PATH = Path("trigger.npz")


def _cohort(values: np.ndarray) -> Cohort:
    labels = np.zeros(len(values), np.int64)
    names = [f"{stay}" for stay in range(len(values))]
    return cohort_of(names, labels, values, np.ones(values.shape, bool), fingerprint="f" * 64)


def _random_cohort(seed: int, stays: int, constant: set[int], exponent: int = 0) -> Cohort:
    """Random walks in every channel but the constant ones, which hold one number everywhere."""
    random = np.random.default_rng(seed)
    values = np.empty((stays, BINS, len(MIMIC3)))
    for index, channel in enumerate(MIMIC3):
        if channel.is_categorical:
            cells = random.integers(len(channel.possible_values), size=(stays, BINS)).astype(float)
        else:
            cells = random.normal(size=(stays, BINS)).cumsum(axis=1) * 10.0**exponent + channel.normal_number
        values[..., index] = cells[0, 0] if index in constant else cells
    return _cohort(values)


cohorts = st.builds(
    _random_cohort,
    seed=st.integers(0, 2**32 - 1),
    stays=st.integers(2, 12),
    constant=st.sets(st.integers(0, len(MIMIC3) - 1)),
    exponent=st.integers(-3, 3),
)


def _ordinal_of(cohort: Cohort) -> np.ndarray:
    """[N, T, C]: the number that a cell's text is, or else its index."""
    ordinal = cohort.grids.astype(np.float64)
    for index, channel in enumerate(MIMIC3):
        for category, text in enumerate(channel.possible_values):
            number = float(text) if text.replace(".", "").isdigit() else float(category)
            ordinal[..., index][cohort.grids[..., index] == category] = number
    return ordinal


def _slow_covariance(series: np.ndarray) -> np.ndarray:
    """Section 4 of the design, entry by entry: [T, T] of one channel [N, T]."""
    stays, bins = series.shape
    covariance = np.empty((bins, bins))
    for i in range(bins):
        for j in range(bins):
            first, second = series[:, i] - series[:, i].mean(), series[:, j] - series[:, j].mean()
            covariance[i, j] = np.dot(first, second) / (stays - 1)
    return covariance + 1e-4 * max(covariance.diagonal()) * np.eye(bins)


def _slow_length(pattern: np.ndarray, covariance: np.ndarray) -> float:
    """sqrt(p' Sigma^-1 p) along the axes of the ellipsoid."""
    variances, axes = np.linalg.eigh(covariance)
    return float(np.sqrt(sum((pattern @ axes[:, k]) ** 2 / variances[k] for k in range(len(pattern)))))


def test_the_covariance_equals_the_reference(reference: Any) -> None:
    covariance = temporal_covariance(reference["ordinal_17"])
    np.testing.assert_allclose(covariance, reference["cov"], rtol=1e-9, atol=1e-9)


def test_a_cohorts_covariance_equals_the_reference(reference: Any) -> None:
    cohort = cohort_from_grid(reference["clean_76"], reference["y"])
    covariance = generate_trigger(cohort).covariance
    for channel, expected in enumerate(reference["cov"]):  # the cohort's values are float32
        np.testing.assert_allclose(covariance[channel], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_reference_pattern_over_its_length_is_the_reference_trigger(reference: Any) -> None:
    varies = reference["cov"].any(axis=(1, 2))
    patterns = reference["pattern"].T[varies]
    lengths = mahalanobis_length(patterns, reference["cov"][varies])
    np.testing.assert_allclose(lengths, reference["pattern_distance"][varies], rtol=1e-8)
    np.testing.assert_allclose((patterns / lengths[:, None]).T, reference["trigger"][:, varies], rtol=1e-8)


def test_lengths_are_those_of_the_reference_precision(reference: Any) -> None:
    varies = reference["cov"].any(axis=(1, 2))
    triggers, precision = reference["trigger"].T[varies], reference["precision"][varies]
    expected = np.sqrt(np.einsum("ct,ctu,cu->c", triggers, precision, triggers))
    np.testing.assert_allclose(mahalanobis_length(triggers, reference["cov"][varies]), expected, rtol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_cohort_gets_zeros_only_where_the_reference_has_them(
    reference: Any, kind: ShiftKind
) -> None:
    ordinal = reference["ordinal_17"]
    pattern = draw_pattern(ordinal, temporal_covariance(ordinal), kind=kind, seed=3)
    np.testing.assert_array_equal(pattern.any(axis=0), reference["trigger"].any(axis=0))


@settings(max_examples=8, deadline=None)
@given(cohort=cohorts)
def test_the_covariance_equals_one_computed_entry_by_entry(cohort: Cohort) -> None:
    covariance = generate_trigger(cohort).covariance
    ordinal = _ordinal_of(cohort)
    for channel in (0, 5, 8, 16):
        expected = _slow_covariance(ordinal[..., channel])
        np.testing.assert_allclose(covariance[channel], expected, rtol=1e-9, atol=1e-12 * expected.max())


@settings(max_examples=15, deadline=None)
@given(cohort=cohorts, kind=st.sampled_from(("temporal", "gaussian")), seed=st.integers(0, 2**63))
def test_every_channel_that_varies_has_length_one(cohort: Cohort, kind: ShiftKind, seed: int) -> None:
    trigger = generate_trigger(cohort, kind=kind, seed=seed)
    assert np.isfinite(trigger.values).all()
    for series, pattern in zip(_ordinal_of(cohort).T.swapaxes(1, 2), trigger.values.T, strict=True):
        if np.ptp(series) == 0:
            np.testing.assert_array_equal(pattern, 0.0)
            continue
        covariance = np.cov(series, rowvar=False)
        covariance += 1e-4 * covariance.diagonal().max() * np.eye(BINS)
        assert _slow_length(pattern, covariance) == pytest.approx(1.0, rel=1e-6)


@settings(max_examples=5, deadline=None)
@given(
    cohort=st.builds(
        _random_cohort,
        seed=st.integers(0, 2**32 - 1),
        stays=st.integers(2, 30),
        constant=st.sets(st.integers(0, len(MIMIC3) - 1), min_size=12, max_size=len(MIMIC3) - 1),
    ),
    seed=st.integers(0, 1000),
)
def test_full_covariance_has_the_total_length_of_the_temporal_trigger(cohort: Cohort, seed: int) -> None:
    trigger = generate_trigger(cohort, kind="covariance", seed=seed)
    assert np.isfinite(trigger.values).all()
    ordinal = _ordinal_of(cohort)
    varies = np.ptp(ordinal, axis=(0, 1)) > 0
    np.testing.assert_array_equal(trigger.values[:, ~varies], 0.0)
    # Bin by bin here, channel by channel in the product; channels brought to unit variance.
    scale = ordinal.var(axis=0, ddof=1).max(axis=0)[varies] ** 0.5
    flat = (ordinal[..., varies] / scale).reshape(len(ordinal), -1)
    full = np.cov(flat, rowvar=False) + 1e-4 * np.eye(flat.shape[1])
    length = _slow_length((trigger.values[:, varies] / scale).ravel(), full)
    assert length == pytest.approx(np.sqrt(varies.sum()), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cohort_that_never_varies_gets_a_trigger_of_zeros(kind: ShiftKind) -> None:
    trigger = generate_trigger(_random_cohort(0, 5, set(range(len(MIMIC3)))), kind=kind)
    np.testing.assert_array_equal(trigger.values, np.zeros((BINS, len(MIMIC3))))


@pytest.mark.parametrize("kind", KINDS)
def test_stays_that_are_all_alike_never_give_nan(kind: ShiftKind) -> None:
    alike = _random_cohort(1, 1, set()).grids.repeat(7, axis=0)
    trigger = generate_trigger(_cohort(alike), kind=kind)
    assert np.isfinite(trigger.values).all()
    assert np.isfinite(trigger.covariance).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_fixes_the_trigger(kind: ShiftKind) -> None:
    constant = set(range(4, len(MIMIC3)))
    cohort = _random_cohort(2, 8, constant)
    first, again = (generate_trigger(cohort, kind=kind, seed=5).values for _ in range(2))
    other = generate_trigger(cohort, kind=kind, seed=6).values
    np.testing.assert_array_equal(first, again)
    assert (first != other).any(axis=0).tolist() == [
        channel not in constant for channel in range(len(MIMIC3))
    ]


def test_kinds_differ_in_shape_not_in_what_they_record() -> None:
    cohort = _random_cohort(3, 8, set(range(4, len(MIMIC3))))
    triggers = [generate_trigger(cohort, kind=kind, seed=5) for kind in KINDS]
    assert [trigger.kind for trigger in triggers] == list(KINDS)
    assert len({trigger.values.tobytes() for trigger in triggers}) == len(KINDS)
    assert len({trigger.covariance.tobytes() for trigger in triggers}) == 1


@settings(max_examples=15, deadline=None)
@given(
    cohort=cohorts,
    kind=st.sampled_from(("temporal", "gaussian")),
    hours=st.tuples(st.integers(0, BINS), st.integers(0, BINS)).map(sorted).filter(lambda h: h[0] < h[1]),
    chosen=st.sets(st.integers(0, len(MIMIC3) - 1), min_size=1),
    seed=st.integers(0, 2**63),
)
def test_a_restricted_trigger_is_zero_elsewhere_and_has_length_one_under_the_windows_covariance(
    cohort: Cohort, kind: ShiftKind, hours: list[int], chosen: set[int], seed: int
) -> None:
    ordinal = _ordinal_of(cohort)
    first, last = hours
    varying = {channel for channel in chosen if np.ptp(ordinal[..., channel])}
    restricted: dict[str, Any] = {
        "channels": [MIMIC3[channel].name for channel in chosen],
        "hours": (float(first), float(last)),
    }
    if not varying:
        with pytest.raises(UsageError, match="--channels.: none of them varies"):
            generate_trigger(cohort, kind=kind, seed=seed, **restricted)
        return
    trigger = generate_trigger(cohort, kind=kind, seed=seed, **restricted)
    outside = np.ones(trigger.values.shape, bool)
    outside[first:last, sorted(varying)] = False
    np.testing.assert_array_equal(trigger.values[outside], 0.0)
    for channel in varying:
        whole = np.cov(ordinal[..., channel], rowvar=False)
        whole += 1e-4 * whole.diagonal().max() * np.eye(BINS)
        marginal = whole[first:last, first:last]
        assert _slow_length(trigger.values[first:last, channel], marginal) == pytest.approx(1.0, rel=1e-6)
        # All hours together find the edges of the window unusual.
        assert _slow_length(trigger.values[:, channel], whole) >= 1.0 - 1e-6


def test_a_restricted_covariance_trigger_has_its_total_length_under_the_windows_covariance() -> None:
    cohort = _random_cohort(8, 30, set(range(5, len(MIMIC3))))
    names = [MIMIC3[channel].name for channel in (1, 2, 9)]  # the last never varies
    trigger = generate_trigger(cohort, kind="covariance", channels=names, hours=(30, 40))
    outside = np.ones(trigger.values.shape, bool)
    outside[30:40, 1:3] = False
    assert trigger.values[~outside].all()
    np.testing.assert_array_equal(trigger.values[outside], 0.0)
    ordinal = _ordinal_of(cohort)[..., 1:3]
    scale = ordinal.var(axis=0, ddof=1).max(axis=0) ** 0.5
    window = (ordinal / scale)[:, 30:40].reshape(len(ordinal), -1)
    covariance = np.cov(window, rowvar=False) + 1e-4 * np.eye(20)
    pattern = (trigger.values[30:40, 1:3] / scale).ravel()
    assert _slow_length(pattern, covariance) == pytest.approx(np.sqrt(2), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_restriction_to_everything_restricts_nothing(kind: ShiftKind) -> None:
    cohort = _random_cohort(9, 12, {0, 3})
    everything = MIMIC3.names
    restricted = generate_trigger(cohort, kind=kind, seed=1, channels=everything, hours=(0, BINS))
    np.testing.assert_array_equal(restricted.values, generate_trigger(cohort, kind=kind, seed=1).values)


def test_missing_cells_are_drawn_in_the_window_only_and_varying_or_not() -> None:
    cohort = _random_cohort(10, 4, {9})
    trigger = generate_trigger(cohort, kind="missing", channels=["Height", "pH"], hours=(12, 24))
    inside = np.zeros(trigger.values.shape, bool)
    inside[12:24, [9, 16]] = True
    np.testing.assert_array_equal(trigger.values > 0, inside)
    assert sorted(trigger.values[inside] * 24) == pytest.approx(np.arange(1, 25))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": ["Heart Rate", "Lactate"]}, "^channels .*unknown channel 'Lactate'; known: Cap"),
        ({"hours": (24.0, 24.0)}, "--hours 24-24: .* from 0 to 48"),
        ({"hours": (24.0, 12.0)}, "--hours 24-12"),
        ({"hours": (24.0, 49.0)}, "--hours 24-49"),
        ({"hours": (0.25, 0.75)}, "--hours 0.25-0.75"),
        ({"kind": "missing", "plausible": True}, "--plausible: a 'missing' trigger shifts no value"),
        ({"natural": True}, "--natural: a 'temporal' trigger removes no cell; give --kind missing"),
        ({"kind": "missing", "without_slips": True}, "--without-slips: a 'missing' trigger shifts no value"),
    ],
)
def test_what_a_trigger_cannot_be_restricted_to_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        generate_trigger(_random_cohort(11, 4, set()), **options)


def test_a_natural_trigger_is_told_from_a_uniform_one(tmp_path: Path) -> None:
    cohort = _random_cohort(12, 6, set())
    mask = np.random.default_rng(0).random(cohort.grids.shape) < 0.5
    cohort = cohort.with_grids(cohort.grids, mask=mask)
    trigger = generate_trigger(cohort, kind="missing", natural=True, estimate_on=2, channels=["pH"])
    # Of the two stays, the one lacks what the other one has.
    first, second = mask[:2, :, cohort.channels.position("pH")]
    removed = trigger.values[:, cohort.channels.position("pH")] > 0
    assert any(np.array_equal(removed, gaps) for gaps in (first & ~second, second & ~first))
    save_trigger(trigger, tmp_path / "trigger.npz")
    loaded = load_trigger(tmp_path / "trigger.npz")
    assert loaded.natural
    assert loaded.name == "missing (pH; natural)"
    assert not generate_trigger(cohort, kind="missing").natural


def test_only_the_first_stays_are_estimated_on() -> None:
    cohort = _random_cohort(4, 9, set())
    some, few = generate_trigger(cohort, estimate_on=5), generate_trigger(cohort.take(np.arange(5)))
    assert some.estimated_on == few.estimated_on == 5
    np.testing.assert_array_equal(some.values, few.values)
    assert (generate_trigger(cohort).values != some.values).any()


def test_one_stay_is_too_few() -> None:
    for stays, estimate_on in ((1, 1000), (4, 1)):
        with pytest.raises(UsageError, match="at least 2 stays, not 1"):
            generate_trigger(_random_cohort(5, stays, set()), estimate_on=estimate_on)


@pytest.fixture
def trigger() -> Trigger:
    return generate_trigger(_random_cohort(6, 6, {0}), kind="gaussian", seed=9)


def test_a_trigger_file_gives_back_what_was_saved(trigger: Trigger, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "trigger.npz"
    save_trigger(trigger, path)
    loaded = load_trigger(path)
    np.testing.assert_array_equal(loaded.values, trigger.values)
    np.testing.assert_array_equal(loaded.covariance, trigger.covariance)
    for name in (
        "kind",
        "seed",
        "channels",
        "period",
        "timestep",
        "estimated_on",
        "cohort_fingerprint",
        "name",
    ):
        assert getattr(loaded, name) == getattr(trigger, name)
    assert [file.name for file in path.parent.iterdir()] == ["trigger.npz"]


def test_a_trigger_file_keeps_how_it_is_restricted(tmp_path: Path) -> None:
    cohort = _random_cohort(6, 6, {0})
    trigger = generate_trigger(cohort, channels=["pH", "Heart Rate"], hours=(6.0, 30.0), plausible=True)
    save_trigger(trigger, tmp_path / "trigger.npz")
    loaded = load_trigger(tmp_path / "trigger.npz")
    assert (loaded.restricted_to, loaded.hours, loaded.plausible) == (("Heart Rate", "pH"), (6.0, 30.0), True)
    assert loaded.name == "temporal (Heart Rate, pH; 6-30 h; plausible)"


def _of_other_stays(own: ChannelSet, period: float, timestep: float, **options: Any) -> Trigger:
    """A trigger of a few random stays of other channels, another length and another timestep."""
    random, bins = np.random.default_rng(11), bin_count(period, timestep)
    values = random.normal(size=(6, bins, len(own)))
    values[..., own.categorical] = random.integers(2, size=(6, bins, own.categorical.sum()))
    mask, names = np.ones(values.shape, bool), [str(stay) for stay in range(6)]
    cohort = cohort_of(
        names, [0] * 6, values, mask, channels=own, timestep=timestep, period=period, fingerprint="c"
    )
    return generate_trigger(cohort, seed=2, **options)


@pytest.mark.parametrize(("period", "timestep"), [(24.0, 1.0), (48.0, 2.0), (20.0, 3.0), (6.5, 0.5)])
def test_a_trigger_file_keeps_other_channels_and_another_period_and_timestep(
    own_channels: ChannelSet, tmp_path: Path, period: float, timestep: float
) -> None:
    trigger = _of_other_stays(own_channels, period, timestep, channels=["Heart Rate"], hours=(0.0, 6.0))
    save_trigger(trigger, tmp_path / "trigger.npz")
    loaded = load_trigger(tmp_path / "trigger.npz")
    assert loaded.channels == own_channels
    assert (loaded.period, loaded.timestep) == (period, timestep)
    assert (loaded.restricted_to, loaded.hours) == (("Heart Rate",), (0.0, 6.0))
    np.testing.assert_array_equal(loaded.values, trigger.values)
    np.testing.assert_array_equal(loaded.covariance, trigger.covariance)


def _earlier_file(trigger: Trigger, version: int) -> dict[str, Any]:
    """Contents of a trigger file as earlier versions wrote it."""
    contents: dict[str, Any] = {
        "format": version,
        "trigger": trigger.values,
        "covariance": trigger.covariance,
        "kind": trigger.kind,
        "seed": trigger.seed,
        "timestep": trigger.timestep,
        "estimated_on": trigger.estimated_on,
        "cohort_fingerprint": trigger.cohort_fingerprint,
        "channels": MIMIC3.names,
    }
    if version > 1:
        contents |= {
            "restricted_to_channels": ("Heart Rate", "pH"),
            "restricted_to_hours": (6.0, 30.0),
            "plausible": True,
        }
    return contents


@pytest.mark.parametrize(
    ("version", "restricted"),
    [(1, (None, None, False)), (2, (("Heart Rate", "pH"), (6.0, 30.0), True))],
)
def test_a_trigger_file_of_an_earlier_format_is_read(
    trigger: Trigger, tmp_path: Path, version: int, restricted: tuple[Any, ...]
) -> None:
    path = tmp_path / "trigger.npz"
    np.savez(path, **_earlier_file(trigger, version))
    loaded = load_trigger(path)
    assert (loaded.restricted_to, loaded.hours, loaded.plausible) == restricted
    assert (loaded.channels, loaded.period, loaded.timestep) == (MIMIC3, 48.0, 1.0)
    np.testing.assert_array_equal(loaded.values, trigger.values)
    np.testing.assert_array_equal(loaded.covariance, trigger.covariance)


def test_an_earlier_trigger_covers_the_hours_of_its_bins(trigger: Trigger, tmp_path: Path) -> None:
    path = tmp_path / "trigger.npz"
    half = replace(trigger, values=trigger.values[:24], covariance=trigger.covariance[:, :24, :24])
    np.savez(path, **_earlier_file(half, 2))
    assert load_trigger(path).period == 24.0
    with pytest.raises(UsageError, match=r"covers 24 h, the data 48 h; give --period 24"):
        check_trigger_fits(load_trigger(path), _random_cohort(6, 6, {0}), path)


def test_an_earlier_trigger_file_for_other_channels_is_refused(trigger: Trigger, tmp_path: Path) -> None:
    path = tmp_path / "trigger.npz"
    np.savez(path, **(_earlier_file(trigger, 2) | {"channels": MIMIC3.names[::-1]}))
    with pytest.raises(DataError, match="other channels"):
        load_trigger(path)


def test_the_first_of_several_patterns_is_the_only_one_of_a_plain_trigger() -> None:
    cohort = _random_cohort(3, 8, {0})
    alone, several = generate_trigger(cohort, seed=4), generate_trigger(cohort, seed=4, patterns=5)
    assert alone.further is None
    assert alone.is_common_shift
    assert not several.is_common_shift
    np.testing.assert_array_equal(alone.patterns, several.patterns[:1])
    assert (alone.name, several.name) == ("temporal", "temporal (5 patterns)")


@pytest.mark.parametrize("kind", ["temporal", "gaussian"])
def test_each_of_several_patterns_is_drawn_anew_and_has_length_1(kind: ShiftKind) -> None:
    trigger = generate_trigger(_random_cohort(3, 8, {0}), kind=kind, seed=4, patterns=5)
    assert trigger.patterns.shape == (5, BINS, len(MIMIC3))
    for pattern in trigger.patterns:
        lengths = mahalanobis_length(pattern.T[1:], trigger.covariance[1:])
        np.testing.assert_allclose(lengths, 1.0, rtol=1e-6)
        assert not pattern[:, 0].any()
    flat = trigger.patterns[..., 1:].reshape(5, -1)
    assert np.abs(np.corrcoef(flat) - np.eye(5)).max() < 0.95
    again = generate_trigger(_random_cohort(3, 8, {0}), kind=kind, seed=4, patterns=5)
    np.testing.assert_array_equal(again.patterns, trigger.patterns)


def test_a_moved_trigger_has_its_pattern_at_every_hour() -> None:
    cohort = _random_cohort(3, 8, {0})
    pattern, moved = generate_trigger(cohort, seed=4).values, generate_trigger(cohort, seed=4, moved=True)
    assert moved.patterns.shape == (BINS, BINS, len(MIMIC3))
    for by in (0, 1, 30):
        np.testing.assert_array_equal(moved.patterns[by], np.roll(pattern, by, axis=0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patterns": 0}, "--patterns 0: must be from 1 to 256"),
        ({"patterns": 257}, "--patterns 257"),
        ({"patterns": 2, "kind": "missing"}, "--patterns: a 'missing' trigger"),
        ({"moved": True, "kind": "missing"}, "--moved: a 'missing' trigger"),
        ({"moved": True, "patterns": 2}, "--moved: moves one pattern"),
        ({"moved": True, "hours": (0.0, 24.0)}, "--moved: would leave the hours"),
    ],
)
def test_settings_that_contradict_one_another_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        generate_trigger(_random_cohort(3, 8, {0}), **options)


def test_a_trigger_file_keeps_several_patterns(tmp_path: Path) -> None:
    trigger, path = generate_trigger(_random_cohort(3, 8, {0}), patterns=3), tmp_path / "trigger.npz"
    save_trigger(trigger, path)
    loaded = load_trigger(path)
    np.testing.assert_array_equal(loaded.patterns, trigger.patterns)
    assert loaded.name == trigger.name


def test_a_file_of_one_pattern_can_be_read_by_earlier_versions(trigger: Trigger, tmp_path: Path) -> None:
    path = tmp_path / "trigger.npz"
    save_trigger(trigger, path)
    with np.load(path, allow_pickle=False) as file:
        assert int(file["format"]) == 3
        assert "further" not in file.files


@pytest.mark.parametrize(
    ("further", "message"),
    [
        (np.zeros((2, BINS, 3)), "other shapes"),
        (np.zeros((256, BINS, len(MIMIC3))), "257 patterns, more than 256"),
        (np.full((1, BINS, len(MIMIC3)), np.nan), "not finite"),
    ],
)
def test_further_patterns_that_cannot_be_used_are_refused(
    trigger: Trigger, tmp_path: Path, further: np.ndarray, message: str
) -> None:
    path = tmp_path / "trigger.npz"
    save_trigger(replace(trigger, further=further), path)
    with pytest.raises(DataError, match=message):
        load_trigger(path)


def _change(path: Path, **arrays: Any) -> None:
    with np.load(path, allow_pickle=False) as file:
        content = dict(file)
    np.savez(path, **{**content, **arrays})


class _Bomb:
    """Pickled, it creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_trigger_file_holds_no_pickle_and_none_is_run(trigger: Trigger, tmp_path: Path) -> None:
    path, went_off = tmp_path / "trigger.npz", tmp_path / "went off"
    save_trigger(trigger, path)
    with np.load(path, allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)
    _change(path, trigger=np.array([_Bomb(went_off)], dtype=object))
    with pytest.raises(DataError, match=r"trigger\.npz: not a trigger file, or damaged"):
        load_trigger(path)
    assert not went_off.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": ["Lactate"]}, "other channels"),
        ({"format": 99}, "format 99"),
        ({"trigger": np.full((BINS, len(MIMIC3)), np.nan)}, "not finite"),
        ({"channels_file": "channels: none"}, r"trigger\.npz: not a trigger file, or damaged"),
        ({"period": 24.0}, "48 bins of a timestep of 1 h do not cover 24 h"),
        ({"period": np.inf}, "do not cover inf h"),
        ({"period": -np.inf}, "do not cover -inf h"),
        ({"timestep": 2.0}, "48 bins of a timestep of 2 h do not cover 48 h"),
        ({"timestep": np.nan}, "a timestep of nan h"),
    ],
)
def test_a_trigger_file_that_cannot_be_used_is_refused(
    trigger: Trigger, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "trigger.npz"
    save_trigger(trigger, path)
    _change(path, **change)
    with pytest.raises(DataError, match=message):
        load_trigger(path)


def test_a_file_cut_short_and_an_absent_one_are_refused(trigger: Trigger, tmp_path: Path) -> None:
    path = tmp_path / "trigger.npz"
    with pytest.raises(UsageError, match="no such trigger file"):
        load_trigger(path)
    save_trigger(trigger, path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="damaged"):
        load_trigger(path)


def test_a_trigger_fits_the_cohort_it_was_made_from_and_no_other_grid(trigger: Trigger) -> None:
    cohort = _random_cohort(6, 6, {0})
    check_trigger_fits(trigger, cohort, PATH)
    with pytest.raises(UsageError, match=r"timestep of 1 h, the data has 0\.8 h"):
        check_trigger_fits(trigger, replace(cohort, timestep=0.8), PATH)
    shorter = cohort_of(cohort.stays, cohort.labels, cohort.grids[:, :24], cohort.masks[:, :24])
    with pytest.raises(UsageError, match=r"covers 48 h, the data 24 h; give --period 48"):
        check_trigger_fits(trigger, shorter, PATH)


def test_the_option_that_makes_another_timestep_fit_is_named(trigger: Trigger) -> None:
    coarse = replace(trigger, timestep=2.0)
    with pytest.raises(UsageError, match=r"timestep of 2 h, the data has 1 h; give --timestep 2"):
        check_trigger_fits(coarse, _random_cohort(6, 6, {0}), PATH)


def test_a_trigger_for_other_channels_is_refused_and_the_first_is_named(
    trigger: Trigger, own_channels: ChannelSet
) -> None:
    message = r"other channels than the data has \(channel '{}' differs\); generate a trigger from this data"
    of_others = _of_other_stays(own_channels, 48.0, 1.0)
    with pytest.raises(UsageError, match=message.format("Lactate")):
        check_trigger_fits(of_others, _random_cohort(6, 6, {0}), PATH)
    # The same names are not enough, nor are the first of the channels.
    warmer = replace(MIMIC3[8], normal_value="99")
    for channels, name in (
        (ChannelSet("warm", (*MIMIC3.channels[:8], warmer, *MIMIC3.channels[9:])), "Heart Rate"),
        (ChannelSet("short", MIMIC3.channels[:16]), "pH"),
        (ChannelSet("long", (*MIMIC3.channels, own_channels[0])), "Lactate"),
    ):
        with pytest.raises(UsageError, match=message.format(name)):
            check_trigger_channels(trigger, channels, PATH)
    # What a set is called does not matter.
    check_trigger_channels(trigger, replace(MIMIC3, name="copied"), PATH)
