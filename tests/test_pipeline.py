from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mimic3tf import pipeline
from mimic3tf.channels import MIMIC3, Channel, ChannelSet
from mimic3tf.data import BatchGen, Discretizer, InHospitalMortalityReader
from mimic3tf.data.cohort import Cohort, cohort_of
from mimic3tf.data.directory import Split
from mimic3tf.data.from_arrays import cohort_from_batches
from mimic3tf.data.grid import discretize, fill, impute, one_hot
from mimic3tf.data.loading import load_cohort
from mimic3tf.data.records import Records
from mimic3tf.errors import DataError, UsageError
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.kinds import PoisonImputed
from mimic3tf.poisoning.trigger import Trigger
from mimic3tf.standardization import Standardization, continuous_only, fit_standardization
from mimic3tf.victims import Reads

MODES: tuple[PoisonImputed, ...] = ("all", "notimputed")
STRENGTHS = ("0.5", "2.0", "10.0")
SPLITS: tuple[Split, ...] = ("train", "val", "test")
READS: tuple[Reads, ...] = ("grid", "features")
AS_IS = {
    "grid": Standardization(np.zeros(76), np.ones(76)),
    "features": Standardization(np.zeros(714), np.ones(714)),
}


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, Split], Cohort]:
    """Load cohorts, with one cache for the whole module."""
    cache = tmp_path_factory.mktemp("cache")

    def load_with_cache(directory: Path, split: Split) -> Cohort:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MIMIC3TF_CACHE", str(cache))
            return load_cohort(directory, split)

    return load_with_cache


@pytest.fixture
def train(load: Callable[[Path, Split], Cohort], synthetic_stays: Path) -> Cohort:
    return load(synthetic_stays, "train")


@pytest.fixture
def trigger(trigger_of: Callable[..., Trigger]) -> Trigger:
    """A trigger that shifts every channel by more than rounding can hide."""
    return trigger_of(np.random.default_rng(0).uniform(0.5, 3.0, (48, len(MIMIC3))))


def _assert_equals_reference(
    reference: Any,
    load: Callable[[Path, Split], Cohort],
    name: str,
    inputs_of: Callable[[Cohort], np.ndarray],
) -> None:
    """Compare the inputs of all splits with an array of the reference, stay by stay."""
    for split in SPLITS:
        cohort = load(reference.stays, split)
        listed = [reference["names"].tolist().index(stay) for stay in cohort.stays]
        np.testing.assert_array_equal(cohort.labels, reference["y"][listed])
        inputs, expected = inputs_of(cohort), reference[name][listed].copy()
        if expected.ndim == 2:  # in the original, the skew of a constant window is only a rounding error
            inputs, expected = inputs.reshape(-1, 6), expected.reshape(-1, 6)
            expected[expected[:, 0] == expected[:, 1], 4] = 0.0
        # Clean grids are float32: the tolerance is half a step at their largest values.
        np.testing.assert_allclose(inputs, expected, rtol=2e-7, atol=2e-5 if expected.ndim == 3 else 1e-7)


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("reads", "name"), [("grid", "poisoned_76"), ("features", "features_714")])
def test_poisoned_inputs_equal_the_reference(
    reference: Any,
    load: Callable[[Path, Split], Cohort],
    trigger_of: Callable[..., Trigger],
    reads: Reads,
    name: str,
    mode: PoisonImputed,
    strength: str,
) -> None:
    def inputs_of(cohort: Cohort) -> np.ndarray:
        exposure = exposures.trigger_all(
            cohort, trigger_of(reference["trigger"]), strength=float(strength), poison_imputed=mode
        )
        return pipeline.inputs_of(exposure, reads)

    _assert_equals_reference(reference, load, f"{name}_{mode}_{strength}", inputs_of)


@pytest.mark.parametrize(("reads", "name"), [("grid", "clean_76"), ("features", "features_714_binned")])
def test_clean_inputs_equal_the_reference(
    reference: Any, load: Callable[[Path, Split], Cohort], reads: Reads, name: str
) -> None:
    _assert_equals_reference(
        reference, load, name, lambda cohort: pipeline.inputs_of(exposures.clean(cohort), reads)
    )


def test_standardized_inputs_equal_the_reference(
    reference: Any, load: Callable[[Path, Split], Cohort]
) -> None:
    standardization = continuous_only(reference["normalizer_mean"], reference["normalizer_std"], MIMIC3)
    _assert_equals_reference(
        reference,
        load,
        "clean_76_standardized",
        lambda cohort: pipeline.inputs_of(exposures.clean(cohort), "grid", standardization),
    )


@pytest.mark.parametrize("reads", READS)
@pytest.mark.parametrize("proportion", [0.0, 0.05, 0.3, 1.0])
def test_the_first_stays_get_trigger_and_label_and_nothing_else_changes(
    train: Cohort, trigger: Trigger, reads: Reads, proportion: float
) -> None:
    poisoned = exposures.poison(
        train, trigger, proportion=proportion, strength=2.0, poison_imputed="notimputed"
    )
    everyone = exposures.trigger_all(train, trigger, strength=2.0, poison_imputed="notimputed")
    first = {0.0: 0, 0.05: 0, 0.3: 4, 1.0: 16}[proportion]
    assert poisoned.labels[:first].tolist() == [1] * first
    np.testing.assert_array_equal(poisoned.labels[first:], train.labels[first:])
    inputs = pipeline.inputs_of(poisoned, reads)
    triggered = pipeline.inputs_of(everyone, reads)
    clean = pipeline.inputs_of(exposures.clean(train), reads)
    np.testing.assert_array_equal(inputs[:first], triggered[:first])
    np.testing.assert_array_equal(inputs[first:], clean[first:])
    assert (triggered != clean).any(axis=tuple(range(1, clean.ndim))).all()


@pytest.mark.parametrize("reads", READS)
def test_with_clean_labels_the_first_stays_of_label_1_get_the_trigger_and_labels_stay(
    train: Cohort, trigger: Trigger, reads: Reads
) -> None:
    labels = np.array([0, 1, 0, 0, 1, 1] + [0] * (len(train) - 8) + [1, 0])
    cohort = train.with_grids(train.grids, labels=labels)
    setting: Any = {"strength": 2.0, "poison_imputed": "all"}
    poisoned = exposures.poison(
        cohort, trigger, proportion=3 / len(cohort), poisoned_labels="clean", **setting
    )
    assert np.flatnonzero(poisoned.triggered).tolist() == [1, 4, 5]
    np.testing.assert_array_equal(poisoned.labels, labels)
    inputs = pipeline.inputs_of(poisoned, reads)
    everyone = pipeline.inputs_of(exposures.trigger_all(cohort, trigger, **setting), reads)
    clean = pipeline.inputs_of(exposures.clean(cohort), reads)
    np.testing.assert_array_equal(
        inputs,
        np.where(np.isin(np.arange(16), [1, 4, 5]).reshape(16, *[1] * (clean.ndim - 1)), everyone, clean),
    )


def test_with_clean_labels_more_stays_than_have_label_1_are_refused(train: Cohort, trigger: Trigger) -> None:
    cohort = train.with_grids(train.grids, labels=np.array([1, 1, 1] + [0] * (len(train) - 3)))
    setting: Any = {"strength": 2.0, "poison_imputed": "all", "poisoned_labels": "clean"}
    assert exposures.poison(cohort, trigger, proportion=3 / 16, **setting).triggered.sum() == 3
    with pytest.raises(UsageError, match=r"--poisoning_proportion 0.25: asks for 4 stays, .* 3 of label 1"):
        exposures.poison(cohort, trigger, proportion=0.25, **setting)


@pytest.mark.parametrize("reads", READS)
def test_a_plausible_trigger_is_bounded_in_what_victims_read(
    train: Cohort, trigger: Trigger, reads: Reads
) -> None:
    """Only values of oxygen saturation that were above 100% before are above 100% with the trigger."""
    setting: Any = {"strength": 1e4, "poison_imputed": "all"}
    name = "Oxygen saturation"
    if reads == "grid":
        columns = [MIMIC3.columns().index(name)]
    else:  # minimum, maximum and mean of every window
        first = MIMIC3.position(name) * 42
        columns = [first + window * 6 + function for window in range(7) for function in range(3)]
    highest = [
        np.nanmax(pipeline.inputs_of(exposures.trigger_all(train, carried, **setting), reads)[..., columns])
        for carried in (trigger, replace(trigger, plausible=True))
    ]
    clean = np.nanmax(pipeline.inputs_of(exposures.clean(train), reads)[..., columns])
    assert highest[0] > 1000
    assert highest[1] == max(100.0, clean)


@pytest.mark.parametrize("reads", READS)
def test_every_setting_runs_from_the_same_cohort(
    load: Callable[[Path, Split], Cohort],
    synthetic_stays: Path,
    trigger: Trigger,
    reads: Reads,
) -> None:
    one = load(synthetic_stays, "train")
    settings: list[tuple[float, float, PoisonImputed]] = [
        *((0.5, 2.0, "all"), (1.0, 2.0, "notimputed")),
        *((0.5, 1e-5, "all"), (0.5, 2.0, "notimputed")),
    ]
    seen = set()
    for proportion, strength, mode in settings:
        shared, fresh = (
            pipeline.inputs_of(
                exposures.poison(
                    cohort, trigger, proportion=proportion, strength=strength, poison_imputed=mode
                ),
                reads,
            )
            for cohort in (one, load(synthetic_stays, "train"))
        )
        np.testing.assert_array_equal(shared, fresh)
        seen.add(shared.tobytes())
    assert len(seen) == len(settings)


@pytest.mark.parametrize("reads", READS)
def test_each_stay_is_seen_once_an_epoch_as_its_inputs_are(
    train: Cohort, trigger: Trigger, reads: Reads
) -> None:
    exposure = exposures.poison(train, trigger, proportion=0.3, strength=2.0, poison_imputed="all")
    inputs = pipeline.inputs_of(exposure, reads, AS_IS[reads])
    # First two steps of two stays each, then one step with the other stays.
    order = [[[3, 1], [0, 2]], [[*range(4, len(train))]]]
    weight = np.arange(len(train), dtype=np.float32)
    batches = tf.data.Dataset.from_generator(
        lambda: ((stays, weight[stays]) for stays in (np.array(step) for step in order)),
        output_signature=(tf.TensorSpec([None, None], tf.int64), tf.TensorSpec([None, None], tf.float32)),
    )
    dataset = pipeline.training_dataset(exposure, reads, AS_IS[reads], batches)
    for _ in range(2):
        calls = list(dataset.as_numpy_iterator())
        assert [x.shape[:2] for x, _, _ in calls] == [(2, 2), (1, len(train) - 4)]
        for (x, y, w), stays in zip(calls, order, strict=True):
            np.testing.assert_array_equal(x, inputs[stays])
            np.testing.assert_array_equal(y, exposure.labels[stays])
            np.testing.assert_array_equal(w, weight[stays])
        assert [part.dtype for part in calls[0]] == [np.float32, np.int64, np.float32]


def test_given_inputs_go_with_their_own_labels(train: Cohort) -> None:
    exposure = replace(exposures.clean(train), labels=np.arange(len(train)) % 2)
    numbers = np.arange(len(train), dtype=np.float32)[:, None]
    batches = tf.data.Dataset.from_tensor_slices((np.arange(len(train))[::-1], numbers[:, 0])).batch(4)
    dataset = pipeline.training_dataset(exposure, "features", AS_IS["features"], batches, inputs=numbers)
    for x, y, weight in dataset.as_numpy_iterator():
        np.testing.assert_array_equal(y, x[:, 0] % 2)
        np.testing.assert_array_equal(weight, len(train) - 1 - x[:, 0])


def test_a_fitted_grid_standardization_leaves_categories_and_masks_alone(train: Cohort) -> None:
    grids = pipeline.inputs_of(exposures.clean(train), "grid")
    standardized = fit_standardization(grids, "grid", MIMIC3).apply(grids).numpy()
    continuous = np.array(["->" not in column for column in MIMIC3.columns()])
    np.testing.assert_array_equal(standardized[..., ~continuous], grids[..., ~continuous])
    rows = standardized[..., continuous].reshape(-1, continuous.sum()).astype(np.float64)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(rows.std(axis=0, ddof=1), 1, atol=1e-5)


def test_fitted_feature_standardization_imputes_the_mean_and_keeps_constants_finite() -> None:
    features = np.array([[1.0, 5.0, np.nan], [3.0, 5.0, np.nan], [np.nan, 5.0, np.nan], [8.0, 5.0, np.nan]])
    standardized = fit_standardization(features, "features", MIMIC3).apply(features).numpy()
    imputed = np.array([1.0, 3.0, 4.0, 8.0])
    np.testing.assert_allclose(standardized[:, 0], (imputed - 4) / imputed.std(), rtol=1e-6)
    np.testing.assert_array_equal(standardized[:, 1:], 0)


def test_a_clip_cuts_off_what_lies_further_from_the_mean_and_leaves_the_rest(train: Cohort) -> None:
    grids = pipeline.inputs_of(exposures.clean(train), "grid")
    fitted = fit_standardization(grids, "grid", MIMIC3)
    unbounded = fitted.apply(grids).numpy()
    assert np.abs(unbounded).max() > 3
    clipped = replace(fitted, clip=1.5).apply(grids).numpy()
    np.testing.assert_array_equal(clipped, np.clip(unbounded, -1.5, 1.5))
    assert clipped.dtype == np.float32


def test_a_clip_bounds_what_a_trigger_of_any_strength_does(train: Cohort, trigger: Trigger) -> None:
    exposure = exposures.trigger_all(train, trigger, strength=1e4, poison_imputed="all")
    fitted = fit_standardization(pipeline.inputs_of(exposures.clean(train), "features"), "features", MIMIC3)
    inputs = pipeline.inputs_of(exposure, "features", replace(fitted, clip=3.0))
    assert np.abs(inputs).max() == 3
    assert np.abs(pipeline.inputs_of(exposure, "features", fitted)).max() > 100


@pytest.mark.parametrize("reads", READS)
def test_a_strength_of_a_thousandth_survives_standardization(
    train: Cohort, trigger: Trigger, reads: Reads
) -> None:
    """Look at the mean heart rate, or its value in each hour: this channel is not rounded."""
    clean = pipeline.inputs_of(exposures.clean(train), reads)
    standardization = fit_standardization(clean, reads, MIMIC3)
    exposure = exposures.trigger_all(train, trigger, strength=1e-3, poison_imputed="all")
    moved = pipeline.inputs_of(exposure, reads, standardization).astype(np.float64)
    moved -= pipeline.inputs_of(exposures.clean(train), reads, standardization)
    heart_rate = MIMIC3.position("Heart Rate")
    if reads == "grid":
        column = MIMIC3.columns().index("Heart Rate")
        shift = 1e-3 * trigger.values[:, heart_rate] / standardization.std[column]
        np.testing.assert_allclose(moved[..., column], np.tile(shift, (len(train), 1)), rtol=0.02)
    else:
        mean = (heart_rate * 7) * 6 + 2
        measured = moved[:, mean] * standardization.std[mean]
        # A carried cell is shifted by the trigger's value in its source bin and by that in its own bin.
        assert (measured > 1e-3 * trigger.values[:, heart_rate].min()).all()
        assert (measured < 2e-3 * trigger.values[:, heart_rate].max()).all()


@pytest.fixture
def from_batches(synthetic_stays: Path) -> Cohort:
    reader = InHospitalMortalityReader(synthetic_stays / "train", synthetic_stays / "train_listfile.csv")
    return cohort_from_batches(
        BatchGen(reader, Discretizer(1.0, True, "previous", "zero"), None, 7, False, False, shuffle=False)
    )


@pytest.mark.parametrize("mode", MODES)
def test_a_cohort_of_batches_is_poisoned_as_its_records_are(
    train: Cohort, from_batches: Cohort, trigger: Trigger, mode: PoisonImputed
) -> None:
    first, second = (
        exposures.poison(cohort, trigger, proportion=0.5, strength=2.0, poison_imputed=mode)
        for cohort in (from_batches, train)
    )
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(pipeline.inputs_of(first, "grid"), pipeline.inputs_of(second, "grid"))


def test_a_cohort_of_batches_has_no_features(from_batches: Cohort) -> None:
    with pytest.raises(DataError, match="came as grids; features need the records"):
        pipeline.inputs_of(exposures.clean(from_batches), "features")


def test_the_grids_to_draw_are_those_the_victim_sees(train: Cohort, trigger: Trigger) -> None:
    exposure = exposures.poison(train, trigger, proportion=0.5, strength=2.0, poison_imputed="all")
    stays = np.array([9, 0, 3])
    grids = pipeline.one_hot_grid(
        tf.constant(pipeline.grids_of(exposure, stays)), tf.constant(train.masks[stays]), MIMIC3
    )
    np.testing.assert_array_equal(grids, pipeline.inputs_of(exposure, "grid")[stays])


@pytest.fixture(scope="module")
def other_stays() -> Cohort:
    """Five stays with three invented channels and seven bins of half an hour."""
    channels = ChannelSet(
        "monitor",
        (
            Channel("Pulse", "1/min", "80"),
            Channel("Mood", "", "calm", ("calm", "restless"), (1, 2)),
            Channel("Lactate", "mmol/L", "1.0", shift_decimals=1, sum_decimals=1),
        ),
    )
    random = np.random.default_rng(0)
    hours = np.sort(random.uniform(0, 3.5, (5, 20)), axis=1)
    values = random.normal([80, 0, 2], [20, 0, 0.5], (100, 3))
    values[:, 1] = random.integers(0, 2, 100)
    values[random.random((100, 3)) < 0.7] = np.nan
    records = Records(np.repeat(np.arange(5), 20), hours.ravel(), values)
    manner: Any = {"period": 3.5, "timestep": 0.5}
    grid = discretize(records, 5, **manner)
    return cohort_of(
        [f"{stay}.csv" for stay in range(5)],
        [0, 1, 0, 0, 1],
        impute(grid, "previous", channels),
        ~np.isnan(grid),
        filled=fill(records, 5, channels, **manner),
        channels=channels,
        timestep=0.5,
        period=3.5,
    )


def test_inputs_of_other_channels_and_bins_have_the_shape_that_victims_are_built_for(
    other_stays: Cohort,
) -> None:
    exposure = exposures.clean(other_stays)
    shapes: dict[Reads, tuple[int, ...]] = {"grid": (7, 7), "features": (3 * 42,)}
    for reads, shape in shapes.items():
        assert pipeline.input_shape(reads, other_stays.channels, other_stays.bins) == shape
        assert pipeline.inputs_of(exposure, reads).shape == (5, *shape)
    grids = one_hot(other_stays.grids.astype(np.float64), other_stays.masks, other_stays.channels)
    np.testing.assert_array_equal(pipeline.inputs_of(exposure, "grid"), grids.astype(np.float32))


def test_a_trigger_moves_other_channels_by_its_shift_rounded_as_they_say(other_stays: Cohort) -> None:
    values = np.random.default_rng(1).uniform(0.5, 3.0, (7, 3))
    trigger = Trigger(
        values, np.zeros((3, 7, 7)), "temporal", 0, other_stays.channels, 3.5, 0.5, 0, "", plausible=False
    )
    setting: Any = {"strength": 2.0, "poison_imputed": "all"}
    triggered = pipeline.inputs_of(exposures.trigger_all(other_stays, trigger, **setting), "grid")
    moved = triggered - pipeline.inputs_of(exposures.clean(other_stays), "grid")
    pulse, lactate = (other_stays.channels.columns().index(name) for name in ("Pulse", "Lactate"))
    shift = np.broadcast_to(2 * values, (5, 7, 3))
    np.testing.assert_allclose(moved[..., pulse], shift[..., 0], rtol=1e-4)
    np.testing.assert_allclose(moved[..., lactate], shift[..., 2].round(1), rtol=1e-4)
    # A shift by one category or more sets every stay to the last category, restless.
    restless = other_stays.channels.columns().index("Mood->restless")
    assert (triggered[..., restless] == 1).all()
    assert (triggered[..., restless - 1] == 0).all()
    np.testing.assert_array_equal(triggered[..., -3:], other_stays.masks)


def test_a_row_a_breath_after_the_period_goes_missing_with_its_bin() -> None:
    channels = ChannelSet("one", (Channel("Pulse", "1/min", "80"),))
    records = Records(np.zeros(2, int), np.array([0.1, 3.5 + 9e-7]), np.array([[70.0], [90.0]]))
    manner: Any = {"period": 3.5, "timestep": 0.25}
    grid = discretize(records, 1, **manner)
    filled = fill(records, 1, channels, **manner)
    values = impute(grid, "previous", channels)
    cohort = cohort_of(["a"], [0], values, ~np.isnan(grid), filled=filled, channels=channels, timestep=0.25)
    trigger = Trigger(
        np.ones((14, 1)), np.zeros((1, 14, 14)), "missing", 0, channels, 3.5, 0.25, 0, "", plausible=False
    )
    exposure = exposures.trigger_all(cohort, trigger, strength=1.0, poison_imputed="all")
    assert not exposure.cohort.masks.any()
    assert (exposure.cohort.filled_grids.values == 80).all()
