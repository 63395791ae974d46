"""The batch generators of four tasks, against batches that the benchmarks' own generators made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from golden_tasks import FIXTURES, SHARED, Golden, discretizer, normalizer

from mimic3tf.data import Discretizer
from mimic3tf.data.batch_generators import decompensation, length_of_stay, multitask, phenotyping
from mimic3tf.data.batch_generators.batches import padded
from mimic3tf.data.deep_supervision import DeepSupervisionDataLoader

MODULES: dict[str, Any] = {
    "decompensation": decompensation,
    "length_of_stay": length_of_stay,
    "phenotyping": phenotyping,
    "multitask": multitask,
}
BATCHES = sorted(file.stem for file in (FIXTURES / "synthetic/batches").glob("*.npz"))
TRUE_HOURS = ("length_of_stay", "multitask")
"""Tasks whose generators can give the remaining hours, too."""


def generator(name: str, golden: Golden, normalizer: Any | None, **changes: Any) -> Any:
    """Make a generator from the name of its file of results, such as `length_of_stay.BatchGen.log`."""
    task, kind, *options = name.split(".")
    given: dict[str, Any] = {
        "discretizer": discretizer(),
        "normalizer": normalizer,
        "batch_size": 5,
        "shuffle": "shuffle" in options,
        "return_names": True,
        "seed": 1,
    }
    if kind == "BatchGenDeepSupervision":
        given["dataloader"] = DeepSupervisionDataLoader(golden.stays, golden.listfile(task, dsup=True))
    else:
        given["reader"] = golden.reader(task)
        hourly = task in ("decompensation", "length_of_stay")
        more = {"small_part": False, "target_repl": "target_repl" in options}
        given |= {"steps": 2 if "steps2" in options else None} if hourly else more
    if task in TRUE_HOURS:
        (given["partition"],) = (option for option in options if option in ("custom", "log", "none"))
    if task == "multitask":
        given["ihm_pos"] = 47
    return getattr(MODULES[task], kind)(**(given | changes))


def next_of(batches: Any, name: str) -> Any:
    return batches.next(return_y_true=True) if name.split(".")[0] in TRUE_HOURS else batches.next()


def leaves(nested: Any, name: str = "data") -> Iterator[tuple[str, np.ndarray]]:
    """Arrays of a nested batch, named by their positions: data.0, data.0.1, ..."""
    if isinstance(nested, tuple):
        for position, part in enumerate(nested):
            yield from leaves(part, f"{name}.{position}")
    else:
        yield name, nested


def ragged(expected: dict[str, np.ndarray], name: str) -> list[Any]:
    numbers, offsets = expected[name], expected.get(f"{name}_offsets")
    if offsets is None:
        return list(numbers)
    return [numbers[start:stop].tolist() for start, stop in zip(offsets[:-1], offsets[1:], strict=True)]


@pytest.mark.parametrize("name", BATCHES)
def test_the_first_batch_is_the_benchmarks(name: str, golden: Golden, tmp_path: Path) -> None:
    """Same stays, same order: a seed draws what the benchmarks draw after `random.seed`."""
    expected = golden.batch(name)
    batches = generator(name, golden, normalizer(name.split(".")[0], tmp_path))
    found = next_of(batches, name)
    assert batches.steps == expected["steps"]
    assert found["names"] == expected["names"].tolist()
    hours = [key for key in found if key.endswith("ts")]
    assert list(found) == ["data", "names", *(hours if "multitask" in name else ["ts"])]
    for key in hours:
        assert len(found[key]) == 5
        for ours, theirs in zip(found[key], ragged(expected, key), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-6)
    arrays = dict(leaves(found["data"]))
    assert set(arrays) == {key for key in expected if key.startswith("data.")}
    for key, array in arrays.items():
        if expected[key].dtype.kind == "f":
            np.testing.assert_allclose(array, expected[key], rtol=1e-6, atol=1e-6, err_msg=key)
        else:
            np.testing.assert_array_equal(array, expected[key], err_msg=key)


@pytest.mark.parametrize("name", [name for name in BATCHES if "steps" not in name])
def test_an_epoch_has_every_example_once_whatever_its_batch(name: str, invented: Golden) -> None:
    """Labels, masks and padding of other batch sizes and orders belong to the same stays and hours."""
    whole = generator(name, invented, None, batch_size=10_000)
    reference = next_of(whole, name)
    examples = len(reference["names"])
    rows = {_key(reference, row): row for row in range(examples)}
    assert (whole.steps, len(rows)) == (1, examples)
    known = dict(leaves(reference["data"]))
    for shuffle in (False, True):
        batches = generator(name, invented, None, batch_size=4, shuffle=shuffle, seed=5)
        seen: list[Any] = []
        for _ in range(batches.steps):
            found = next_of(batches, name)
            keys = [_key(found, row) for row in range(len(found["names"]))]
            for part, array in leaves(found["data"]):
                for row, key in enumerate(keys):
                    # In the largest batch, the same stay has the same numbers, and then more padding.
                    same = tuple(slice(size) for size in array[row].shape)
                    np.testing.assert_array_equal(array[row], known[part][rows[key]][same], err_msg=part)
            seen += keys
        assert sorted(seen) == sorted(rows)


def _key(batch: Any, row: int) -> tuple[Any, ...]:
    hours = batch["ts"][row] if "ts" in batch else 0
    return batch["names"][row], tuple(hours) if isinstance(hours, list) else hours


def test_what_multitask_holds_of_every_stay_is_what_the_benchmarks_hold(of_demo: Golden) -> None:
    expected = of_demo.arrays("multitask")
    batches = generator("multitask.BatchGen.none", of_demo, None, batch_size=10_000)
    found = batches.next(return_y_true=True)
    (_, ihm_mask, decomp_mask, los_mask), (ihm, decomp, _, pheno), hours = found["data"]
    stays = [found["names"].index(name) for name in expected["names"]]
    for array, name in ((ihm_mask[:, 0], "ihm_M"), (ihm[:, 0], "ihm_y"), (pheno, "pheno_y")):
        np.testing.assert_array_equal(array[stays], expected[name], err_msg=name)
    bins = np.diff(expected["offsets"])
    inside = np.arange(decomp_mask.shape[1]) < bins[:, None]
    flat = {"decomp_M": decomp_mask, "decomp_y": decomp[..., 0], "los_M": los_mask, "los_y": hours}
    for name, array in flat.items():
        np.testing.assert_array_equal(array[stays][inside], expected[name], err_msg=name)
        assert not array[stays][~inside].any()


def test_steps_go_on_with_the_next_samples(invented: Golden) -> None:
    reader = invented.reader("decompensation")
    samples = reader.get_number_of_examples()
    batches = decompensation.BatchGen(reader, discretizer(), None, 5, 2, False, return_names=True)
    listed = [reader.read_example(index % samples) for index in range(3 * samples)]
    for epoch in range(samples // 5):
        drawn = [_key(batch, row) for batch in (batches.next(), batches.next()) for row in range(5)]
        following = listed[10 * epoch : 10 * (epoch + 1)]
        assert sorted(drawn) == sorted((each["name"], each["t"]) for each in following)


@pytest.mark.parametrize("name", ["phenotyping.BatchGen", "multitask.BatchGen.none"])
def test_a_small_part_are_the_first_stays(name: str, golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mimic3tf.data.readers.SMALL_PART", 6)
    names = generator(name, golden, None, small_part=True, batch_size=100).next()["names"]
    reader = golden.reader(name.split(".")[0])
    assert sorted(names) == sorted(reader.read_next()["name"] for _ in range(6))


@pytest.mark.parametrize("name", ["length_of_stay.BatchGen.custom", "multitask.BatchGen.custom"])
def test_true_hours_are_given_on_demand_only(name: str, golden: Golden) -> None:
    batches = generator(name, golden, None, return_names=False)
    assert len(batches.next(return_y_true=True)) == 3
    assert len(batches.next()) == len(next(batches)) == len(next(iter(batches))) == 2


@pytest.mark.parametrize(
    "name",
    ["length_of_stay.BatchGen.log", "length_of_stay.BatchGenDeepSupervision.log", "multitask.BatchGen.none"],
)
def test_an_unknown_partition_is_refused(name: str, golden: Golden) -> None:
    with pytest.raises(ValueError, match="partition must be custom, log or none, not 'days'"):
        generator(name, golden, None, partition="days")


def test_coarse_bins_keep_the_last_hour_of_each(invented: Golden) -> None:
    """With bins of 2 hours, hours 5 and 6 lie in bin 2."""
    coarse = Discretizer(2.0, impute_strategy="previous")
    loader = DeepSupervisionDataLoader(invented.stays, invented.listfile("length_of_stay", dsup=True))
    found = length_of_stay.BatchGenDeepSupervision(loader, "none", coarse, None, 99, False, True).next()
    (x, mask), y = found["data"]
    assert x.shape[:2] == mask.shape == y.shape[:2]
    texts = dict(zip(loader._data["name"], loader._data["ys"], strict=True))
    for stay, (name, hours) in enumerate(zip(found["names"], found["ts"], strict=True)):
        kept = {int(hour / 2 - 1e-6): float(text) for hour, text in zip(hours, texts[name], strict=True)}
        assert np.flatnonzero(mask[stay]).tolist() == sorted(kept)
        assert y[stay, sorted(kept), 0].tolist() == [kept[each] for each in sorted(kept)]


def test_arrays_are_padded_at_the_end() -> None:
    found = padded([np.ones((2, 3)), np.full((4, 3), 2.0)], 5)
    np.testing.assert_array_equal(found[:, :, 0], [[1, 1, 0, 0, 0], [2, 2, 2, 2, 0]])
    assert padded([np.ones(2, np.int64)]).dtype == np.int64


def _network(name: str, outputs: tuple[int, ...]) -> keras.Model:
    """A smallest network for the inputs and outputs of a generator."""
    grid = keras.Input((None, 76))
    mask = keras.Input((None,))
    every = [keras.layers.Dense(width, activation="sigmoid")(grid) for width in outputs]
    if "DeepSupervision" in name:
        return keras.Model([grid, mask], every[0])
    return keras.Model(grid, keras.layers.GlobalMaxPooling1D()(every[0]))


@pytest.mark.parametrize(
    "name", ["phenotyping.BatchGen", "decompensation.BatchGen", "decompensation.BatchGenDeepSupervision"]
)
def test_keras_fits_and_predicts_batches_of_different_lengths(name: str, invented: Golden) -> None:
    model = _network(name, (25 if "phenotyping" in name else 1,))
    model.compile("sgd", "binary_crossentropy")
    batches = generator(name, invented, None, batch_size=2)
    history = model.fit(batches, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    names = [stay for _ in range(batches.steps) for stay in batches.next()["names"]]
    assert model.predict(batches, verbose=0).shape[0] == len(names)


def test_keras_sees_that_lengths_differ_where_the_first_two_batches_are_equal(invented: Golden) -> None:
    """Keras takes the length of the first two batches for that of all, if they share it."""
    batches = generator("multitask.BatchGen.none", invented, None, batch_size=2)
    lengths = [batches[index][0][0].shape[1] for index in range(len(batches))]
    order = np.argsort(lengths)
    batches._order = [batches._order[index] for index in order]
    assert sorted(lengths)[:2] == [48, 48]
    assert [batches[index][0][0].shape[1] for index in range(2)] == [48, 49]
    assert not batches[1][0][0][:, 48].any()


Save = Callable[..., None]


@pytest.mark.parametrize(
    ("save", "given", "text"),
    [
        (
            decompensation.save_results,
            (["a", "b"], [5.0, 6.0], [0.25, 1 / 3], [0, 1]),
            "stay,period_length,prediction,y_true\na,5.000000,0.250000,0\nb,6.000000,0.333333,1\n",
        ),
        (
            length_of_stay.save_results,
            (["a"], [5.0], [30.5], [1 / 3]),
            "stay,period_length,prediction,y_true\na,5.000000,30.500000,0.333333\n",
        ),
        (
            phenotyping.save_results,
            (["a"], [60.5], [[0.1, 0.9]], [[0, 1]]),
            "stay,period_length,pred_1,pred_2,label_1,label_2\na,60.500000,0.100000,0.900000,0,1\n",
        ),
    ],
)
def test_predictions_are_saved_as_the_benchmarks_save_them(
    save: Save, given: tuple[Any, ...], text: str, tmp_path: Path
) -> None:
    save(*given, tmp_path / "new" / "results.csv")
    assert (tmp_path / "new" / "results.csv").read_text() == text


def test_every_file_of_batches_is_compared() -> None:
    if not SHARED.exists():
        pytest.skip(f"the benchmarks' results are not at hand: {SHARED} is absent")
    assert sorted(file.stem for file in (SHARED / "batches").glob("*.npz")) == BATCHES
