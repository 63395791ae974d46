"""Victims of hourly grids fit the labels of a synthetic cohort."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from mimic3tf import pipeline
from mimic3tf.channels import MIMIC3
from mimic3tf.data.loading import load_cohort
from mimic3tf.poisoning import exposures
from mimic3tf.standardization import fit_standardization
from mimic3tf.training.optimizer import AdamWithL2
from mimic3tf.victims import victim_names, victim_of

GRID_VICTIMS = [name for name in victim_names() if victim_of(name).reads == "grid"]


@pytest.fixture(scope="module")
def stays(
    small_cohort: Callable[[int, int], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Standardized grids and labels of the 112 training stays of a small cohort."""
    folder = tmp_path_factory.mktemp("learning")
    data = small_cohort(160, 7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMIC3TF_CACHE", str(folder / "cache"))
        train = load_cohort(data, "train")
    grids = pipeline.inputs_of(exposures.clean(train), "grid")
    return fit_standardization(grids, "grid", MIMIC3).apply(grids).numpy(), train.labels


@pytest.mark.parametrize("name", GRID_VICTIMS)
def test_a_few_epochs_tell_deaths_from_survivors(
    name: str,
    stays: tuple[NDArray[np.float32], NDArray[np.int64]],
    build: Callable[..., keras.Model],
) -> None:
    inputs, labels = stays
    keras.utils.set_random_seed(0)
    model = build(name)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=AdamWithL2(1e-2, 0.0), loss=loss, jit_compile=False)
    model.fit(inputs, labels, batch_size=16, epochs=8, verbose=0)
    logits = model.predict(inputs, verbose=0)
    assert roc_auc_score(labels, logits[:, 1] - logits[:, 0]) > 0.9
