from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from mimic3tf.data import BatchGen, Discretizer, InHospitalMortalityReader, load_data


@pytest.fixture
def reader(synthetic_stays: Path) -> InHospitalMortalityReader:
    return InHospitalMortalityReader(synthetic_stays / "train", synthetic_stays / "train_listfile.csv")


@pytest.fixture
def validation(synthetic_stays: Path) -> InHospitalMortalityReader:
    return InHospitalMortalityReader(synthetic_stays / "train", synthetic_stays / "val_listfile.csv")


def _discretizer() -> Discretizer:
    return Discretizer(1.0, store_masks=True, impute_strategy="previous", start_time="zero")


def _model(*, replicated: bool) -> keras.Model:
    """A logistic regression at every bin, whose last one is also the stay's."""
    keras.utils.set_random_seed(0)
    grid = keras.Input((48, 76))
    risks = keras.layers.Dense(1, activation="sigmoid")(grid)
    last = keras.layers.Lambda(lambda each: each[:, -1], output_shape=(1,))(risks)
    model = keras.Model(grid, [last, risks] if replicated else last)
    loss = "binary_crossentropy"
    model.compile("sgd", [loss, loss] if replicated else loss, run_eagerly=True)
    return model


class _Seen(keras.callbacks.Callback):
    """Counts what a model was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.batches += 1


def test_batches_cover_every_stay_once_an_epoch(reader: InHospitalMortalityReader) -> None:
    X, y = load_data(reader, _discretizer(), None)
    batches = BatchGen(reader, _discretizer(), None, 5, False, False, shuffle=True, return_names=True, seed=1)
    assert batches.steps == -(-len(y) // 5)
    drawn = [next(batches) for _ in range(batches.steps)]
    order = [reader_name for batch in drawn for reader_name in batch["names"]]
    names = load_data(reader, _discretizer(), None, return_names=True)["names"]
    assert sorted(order) == sorted(names)
    assert order != names
    rows = [names.index(name) for name in order]
    np.testing.assert_array_equal(np.concatenate([batch["data"][0] for batch in drawn]), X[rows])
    np.testing.assert_array_equal(np.concatenate([batch["data"][1] for batch in drawn]), np.array(y)[rows])
    assert drawn[0]["ts"] == [48.0] * 5


def test_target_replication_repeats_the_label_at_every_bin(reader: InHospitalMortalityReader) -> None:
    batches = BatchGen(reader, _discretizer(), None, 4, False, True, shuffle=False)
    x, (y, repeated) = batches.next()
    assert repeated.shape == (4, x.shape[1], 1)
    np.testing.assert_array_equal(repeated[:, :, 0], np.repeat(y[:, None], x.shape[1], axis=1))


@pytest.mark.parametrize("replicated", [False, True])
def test_keras_fits_evaluates_and_predicts_them(
    reader: InHospitalMortalityReader, validation: InHospitalMortalityReader, replicated: bool
) -> None:
    given: Any = {"small_part": False, "target_repl": replicated}
    batches = BatchGen(reader, _discretizer(), None, 5, shuffle=True, **given)
    others = BatchGen(validation, _discretizer(), None, 3, shuffle=False, **given)
    model, seen = _model(replicated=replicated), _Seen()
    history = model.fit(batches, epochs=2, validation_data=others, callbacks=[seen], verbose=0)
    assert seen.batches == 2 * batches.steps
    X, y = load_data(validation, _discretizer(), None)
    labels = np.array(y, np.float32)[:, None]
    expected = [labels, np.repeat(labels[:, None], 48, axis=1)] if replicated else labels
    measured = np.atleast_1d(model.evaluate(others, verbose=0))[0]
    # Weighted by stays, so that a smaller last batch makes no difference.
    np.testing.assert_allclose(measured, np.atleast_1d(model.evaluate(X, expected, verbose=0))[0], rtol=1e-5)
    np.testing.assert_allclose(measured, history.history["val_loss"][-1], rtol=1e-5)
    found, known = (model.predict(given, verbose=0) for given in (others, X))
    for ours, theirs in zip(*((found, known) if replicated else ([found], [known])), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize("replicated", [False, True])
def test_keras_also_fits_what_is_iterated_over(reader: InHospitalMortalityReader, replicated: bool) -> None:
    batches = BatchGen(reader, _discretizer(), None, 5, False, replicated, shuffle=True)
    seen = _Seen()
    _model(replicated=replicated).fit(
        iter(batches), steps_per_epoch=batches.steps, epochs=2, callbacks=[seen], verbose=0
    )
    assert seen.batches == 2 * batches.steps


def test_every_epoch_of_keras_has_every_stay_once_and_an_order_of_its_own(
    reader: InHospitalMortalityReader,
) -> None:
    X, _ = load_data(reader, _discretizer(), None)
    batches = BatchGen(reader, _discretizer(), None, 5, False, False, shuffle=True, seed=1)
    epochs = []
    for _ in range(3):
        x = np.concatenate([batches[index][0] for index in range(len(batches))])
        epochs.append([int(np.flatnonzero((stay == X).all(axis=(1, 2)))[0]) for stay in x])
        batches.on_epoch_end()
    assert all(sorted(epoch) == list(range(len(X))) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    again = BatchGen(reader, _discretizer(), None, 5, False, False, shuffle=True, seed=1)
    np.testing.assert_array_equal(again[0][0], X[epochs[0][:5]])


def test_batches_with_names_are_fitted_without_them(reader: InHospitalMortalityReader) -> None:
    batches = BatchGen(reader, _discretizer(), None, 5, False, False, shuffle=False, return_names=True)
    _model(replicated=False).fit(batches, verbose=0)
    assert next(batches)["names"][0] == "9000_episode1_timeseries.csv"


def test_a_normalizer_is_applied(reader: InHospitalMortalityReader) -> None:
    class Halves:
        def transform(self, X: np.ndarray) -> np.ndarray:
            return X / 2

    X, _ = load_data(reader, _discretizer(), None)
    batches = BatchGen(reader, _discretizer(), Halves(), 5, False, False, shuffle=False)
    np.testing.assert_array_equal(batches[0][0], X[:5] / 2)


def test_the_other_classes_start_no_keras() -> None:
    code = (
        "import sys, mimic3tf.data\n"
        "from mimic3tf.data import InHospitalMortalityReader, Discretizer, Normalizer, load_data\n"
        "from mimic3tf.data import DecompensationReader, LengthOfStayReader\n"
        "from mimic3tf.data import MultitaskReader, PhenotypingReader\n"
        "from mimic3tf.data import DeepSupervisionDataLoader\n"
        "print({'tensorflow', 'keras'} & set(sys.modules))\n"
        "mimic3tf.data.no_such_name"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.stdout == "set()\n"
    assert "AttributeError: module 'mimic3tf.data' has no attribute 'no_such_name'" in ended.stderr
