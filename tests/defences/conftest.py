"""Invented stays of which the poisoned ones are known, and victims trained on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest

from mimic3tf.channels import MIMIC3
from mimic3tf.config import TrainingConfig
from mimic3tf.data.cohort import cohort_of
from mimic3tf.defences.evidence import AuditedVictim, Evidence
from mimic3tf.pipeline import one_hot_grid
from mimic3tf.standardization import Standardization, fit_standardization, standardized
from mimic3tf.tasks.targets import Head
from mimic3tf.victims import Victim

BINS = 48
NUMBERS = np.flatnonzero(~MIMIC3.categorical)
SICK = NUMBERS[0]
"""The channel on which the labels depend."""
SHIFTED = NUMBERS[1:5]
"""The channels that a planted trigger shifts."""


@dataclass(frozen=True)
class Planted:
    """Evidence, and which training stays are poisoned, bool [N]."""

    evidence: Evidence
    poisoned: np.ndarray


def invent(stays: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Invent grids float32 [N, T, C] around the normal values, and labels [N]."""
    random = np.random.default_rng(seed)
    grids = np.tile(MIMIC3.normal, (stays, BINS, 1))
    level = random.normal(size=(stays, 1, len(NUMBERS)))
    grids[..., NUMBERS] += level + 0.5 * random.normal(size=(stays, BINS, len(NUMBERS)))
    severity = level[:, 0, 0] + 0.3 * random.normal(size=stays)
    return grids.astype(np.float32), (severity > 0.9).astype(np.int64)


def evidence_of(grids: np.ndarray, labels: np.ndarray, seed: int) -> Evidence:
    """The evidence of a small network trained on some grids, with 600 trusted stays."""
    trusted, deaths = invent(600, seed + 1)
    everywhere = np.ones_like(grids, bool)
    raw = np.asarray(one_hot_grid(grids, everywhere, MIMIC3))
    standardization: Standardization = fit_standardization(raw, "grid", MIMIC3)
    inputs = standardized(raw, standardization)
    keras.utils.set_random_seed(seed)
    given = keras.Input(inputs.shape[1:])
    hidden = keras.layers.GlobalAveragePooling1D()(given)
    hidden = keras.layers.Dense(16, activation="relu", name="hidden")(hidden)
    model = keras.Model(given, keras.layers.Dense(2, name="logits")(hidden))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(inputs, labels, batch_size=64, epochs=15, verbose=0)
    config = TrainingConfig(
        model="lstm",
        data=Path("invented"),
        trigger=Path("invented.npz"),
        epochs=15,
        patience=15,
        batch_size=64,
        learning_rate=1e-3,
        l2=0.0,
        class_weights=[1.0, 1.0],
    )
    known = cohort_of(
        np.arange(len(trusted)).astype(str),
        deaths,
        trusted,
        np.ones_like(trusted, bool),
        fingerprint="f" * 64,
    )
    return Evidence(
        stays=np.array([f"{stay}_episode1_timeseries.csv" for stay in range(len(grids))]),
        grids=grids,
        masks=everywhere,
        labels=labels,
        suspected=1,
        trusted=known,
        fingerprint="e" * 64,
        model=AuditedVictim(config, "grid", model, standardization, inputs, known),
        source="--data invented",
    )


@pytest.fixture(scope="session")
def triggered() -> Planted:
    """15 of 1000 stays carry an obvious trigger and label 1: fewer stays than `NEIGHBOURS`."""
    grids, labels = invent(1000, 0)
    poisoned = np.arange(1000) < 15
    shift = np.where(np.arange(BINS) % 2, 2.0, 10.0)
    grids[:15, :, SHIFTED] += shift[:, None].astype(np.float32)
    return Planted(evidence_of(grids, np.where(poisoned, 1, labels), 0), poisoned)


@pytest.fixture(scope="session")
def mislabelled() -> Planted:
    """Some of the healthiest of 1000 stays get label 1; nothing else is changed."""
    grids, labels = invent(1000, 10)
    healthiest = np.argsort(grids[..., SICK].mean(axis=1))[:100]
    poisoned = np.isin(np.arange(1000), healthiest[::4])
    return Planted(evidence_of(grids, np.where(poisoned, 1, labels), 10), poisoned)


@pytest.fixture(scope="session")
def untouched() -> Planted:
    """1000 clean stays; every second stay with label 1 is declared poisoned."""
    grids, labels = invent(1000, 20)
    poisoned = np.isin(np.arange(1000), np.flatnonzero(labels)[::2])
    return Planted(evidence_of(grids, labels, 20), poisoned)


def _logistic_regression(input_shape: tuple[int, ...], head: Head) -> keras.Model:
    grid = keras.Input(input_shape)
    return keras.Model(grid, head(keras.layers.Flatten()(grid)))


@pytest.fixture(scope="module")
def small_victims() -> Iterator[None]:
    """Replace the LSTM by a logistic regression on grids wherever a victim is retrained.

    Inversion of this model takes a second, and a trigger in all cells changes its odds alike in every stay.
    """
    victim = Victim("lstm", "Logistic regression", "grid", _logistic_regression, by_channel=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mimic3tf.training.models.victim_of", lambda name: victim)
        yield
