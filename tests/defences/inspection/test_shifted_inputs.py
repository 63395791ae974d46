"""The differentiable map beside the attack's own, where that one does not round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from mimic3tf import pipeline
from mimic3tf.channels import MIMIC3
from mimic3tf.data.cohort import Cohort
from mimic3tf.data.flat import FlatGrids
from mimic3tf.data.loading import load_cohort
from mimic3tf.defences.inspection.shifted_inputs import shifted_inputs
from mimic3tf.errors import DataError
from mimic3tf.poisoning import exposures
from mimic3tf.standardization import Standardization
from mimic3tf.victims import Reads

READS: tuple[Reads, ...] = ("grid", "features")
ROUNDED = np.array([channel.sum_decimals is not None for channel in MIMIC3])
CATEGORICAL = MIMIC3.categorical
COLUMN_CHANNELS = {
    "grid": [column.removeprefix("mask->").split("->")[0] for column in MIMIC3.columns()],
    "features": [name for name in MIMIC3.names for _ in range(42)],
}


@pytest.fixture
def cohort(synthetic_stays: Path) -> Cohort:
    return load_cohort(synthetic_stays, "train")


@pytest.fixture
def of_any_length(small_task: Callable[[str], Path]) -> Cohort:
    return load_cohort(small_task("phenotyping"), "val", task="phenotyping")


def _standardization(reads: Reads) -> Standardization:
    width = len(COLUMN_CHANNELS[reads])
    return Standardization(np.linspace(-1, 1, width), np.linspace(1, 2, width))


@pytest.mark.parametrize("stays", ["cohort", "of_any_length"])
@pytest.mark.parametrize("reads", READS)
def test_agrees_with_the_attack_where_nothing_is_rounded(
    stays: str, reads: Reads, request: pytest.FixtureRequest
) -> None:
    cohort: Cohort = request.getfixturevalue(stays)
    random = np.random.default_rng(0)
    patterns = random.normal(size=(2, 48, 17)) * 3.0
    patterns[..., CATEGORICAL] = random.integers(-2, 3, size=(2, 48, CATEGORICAL.sum()))
    standardization = _standardization(reads)
    inputs = shifted_inputs(cohort, reads, standardization)
    given = inputs(tf.range(len(cohort)), tf.constant(patterns)).numpy()

    rounded = [channel.name for channel, rounds in zip(MIMIC3, ROUNDED, strict=True) if rounds]
    exact = ~np.isin(COLUMN_CHANNELS[reads], rounded)
    assert exact.sum() > 0.7 * len(exact)
    for pattern, part in zip(patterns, np.split(given, 2), strict=True):
        exposure = exposures.shift_all(cohort, pattern, "all")
        expected = pipeline.inputs_of(exposure, reads, standardization)
        if isinstance(expected, FlatGrids):
            expected = expected[np.arange(len(cohort))]
        np.testing.assert_allclose(part[..., exact], expected[..., exact], rtol=1e-5, atol=1e-5)


def test_an_index_between_two_categories_is_a_mixture_of_both(cohort: Cohort) -> None:
    total = MIMIC3.position("Glascow coma scale total")
    pattern = np.zeros((1, 48, 17))
    pattern[..., total] = 5.25 - cohort.grids[0, :, total]
    as_is = Standardization(np.zeros(76), np.ones(76))
    given = shifted_inputs(cohort, "grid", as_is)(tf.constant([0]), tf.constant(pattern)).numpy()[0]
    columns = [
        i for i, column in enumerate(MIMIC3.columns()) if column.startswith("Glascow coma scale total")
    ]
    expected = np.zeros(13)
    expected[[5, 6]] = 0.75, 0.25
    np.testing.assert_allclose(given[:, columns], np.tile(expected, (48, 1)), atol=1e-6)


@pytest.mark.parametrize("reads", READS)
def test_every_gradient_is_a_number(cohort: Cohort, reads: Reads) -> None:
    inputs = shifted_inputs(cohort, reads, _standardization(reads))
    for size in (0.0, 1.0):
        pattern = tf.constant(size * np.random.default_rng(0).normal(size=(1, 48, 17)))
        with tf.GradientTape() as tape:
            tape.watch(pattern)
            total = tf.reduce_sum(inputs(tf.range(len(cohort)), pattern))
        assert np.isfinite(tape.gradient(total, pattern)).all()


def test_features_need_records(cohort: Cohort) -> None:
    with pytest.raises(DataError, match="load_cohort"):
        shifted_inputs(replace(cohort, filled=None), "features", _standardization("features"))
