"""Numbers at the edge of what there is give the right result, or one line; never NaN, a warning or less."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic3tf.channels import MIMIC3
from mimic3tf.data import Discretizer
from mimic3tf.errors import DataError
from mimic3tf.training.run_directory import load_run

USAGE, FAILURE = 2, 1
Command = Callable[..., Any]
NORMAL = ["0.0", "59", "0.21", "4 Spontaneously", "6 Obeys Commands", "15", "5 Oriented", "128", "86", "170"]
NORMAL += ["77", "98", "19", "118", "36.6", "81", "7.4"]


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        for kind in (RuntimeWarning, UserWarning):
            warnings.simplefilter("error", kind)
        yield


@pytest.fixture
def poison(mimic3tf: Command, prepared: Any, tmp_path: Path) -> Command:
    def run(data: Path, trigger: Path, strength: object) -> Any:
        options = ["--data", data, "--trigger", trigger, "--out", tmp_path / "copy"]
        return mimic3tf("poison", *options, "--poisoning_strength", strength, "--poisoning_proportion", 0.5)

    return run


@pytest.fixture
def quick(train: Command) -> Command:
    """`mimic3tf train` without pictures, which take longer than the training."""
    return lambda *more, **changes: train("--log-level", "minimal", *more, **changes)


def rewrite(data: Path, cells: Callable[[int], list[str]]) -> None:
    """Put other cells, a list for every row number, into all stays; times stay."""
    for path in data.glob("*/*_timeseries.csv"):
        _, *rows = path.read_text().splitlines()
        hours = [row.split(",")[0] for row in rows]
        lines = [",".join([hour, *cells(number)]) for number, hour in enumerate(hours)]
        path.write_text("\n".join([",".join(MIMIC3.header), *lines]) + "\n")


def assert_finite(folder: Path) -> None:
    """No file that a command wrote holds a number that is none."""

    def refuse(text: str) -> None:
        raise AssertionError(text)

    for path in folder.glob("*.json"):
        json.loads(path.read_text(), parse_constant=refuse)
    for path in folder.glob("*.csv"):
        header, *rows = path.read_text().splitlines()
        cells = [cell for row in rows for cell in row.split(",") if not cell.endswith(".csv")]
        assert all(math.isfinite(float(cell)) for cell in cells), path
    model = load_run(folder).model
    assert all(np.isfinite(weights).all() for weights in model.get_weights())


# --- Strengths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", ["1e308", "1e30"])
def test_a_strength_beyond_all_measurements_is_refused_before_work(
    quick: Command, attack: Command, poison: Command, prepared: Any, tmp_path: Path, strength: str
) -> None:
    for outcome in (
        quick(poisoning_strength=strength, poison_imputed="all"),
        attack(poisoning_strength=strength),
        poison(prepared.data, prepared.trigger, strength),
    ):
        outcome.fails(USAGE, "--poisoning_strength", "too strong")
    assert not any((tmp_path / name).exists() for name in ("run", "attack", "copy"))


def test_a_strength_that_can_be_computed_with_gives_numbers(
    quick: Command, attack: Command, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert quick(poisoning_strength="1e15", poison_imputed="all").status == 0
    assert attack(run=run, out=run).status == 0
    assert_finite(run)


def test_a_strength_smaller_than_every_number_changes_no_record(
    poison: Command, prepared: Any, tmp_path: Path
) -> None:
    assert "0 cells" in poison(prepared.data, prepared.trigger, "5e-324").out


# --- Stays --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "mode"), [("constant", "all"), ("nothing measured", "notimputed")])
def test_stays_that_never_vary_get_no_trigger_and_numbers(
    generate: Command,
    quick: Command,
    attack: Command,
    poison: Command,
    data: Path,
    tmp_path: Path,
    kind: str,
    mode: str,
) -> None:
    rewrite(data, lambda _: NORMAL if kind == "constant" else [""] * len(MIMIC3))
    trigger, run = tmp_path / "t.npz", tmp_path / "run"
    assert generate(data=data, out=trigger).status == 0
    with np.load(trigger) as file:
        assert not file["trigger"].any()
    assert "0 cells" in poison(data, trigger, 2.0).out
    assert quick(data=data, trigger=trigger, poison_imputed=mode).status == 0
    assert attack(run=run, data=data, out=run).status == 0
    assert_finite(run)
    found = json.loads((run / "attack.json").read_text())
    assert found["attack_success_rate"] == found["baseline_positive_rate"]


def test_an_audit_of_nothing_measured_says_so(
    mimic3tf: Command, quick: Command, data: Path, tmp_path: Path
) -> None:
    rewrite(data, lambda _: [""] * len(MIMIC3))
    assert quick(data=data).status == 0
    outcome = mimic3tf("audit", "--run", tmp_path / "run", "--data", data, "--out", tmp_path / "audit")
    outcome.fails(USAGE, "--data", data, "no channel varies")


def test_the_largest_measurements_give_numbers_and_larger_ones_a_line(
    generate: Command, quick: Command, attack: Command, data: Path, tmp_path: Path
) -> None:
    def cells(value: str) -> Callable[[int], list[str]]:
        heart_rate = MIMIC3.position("Heart Rate")
        return lambda row: [*NORMAL[:heart_rate], f"{'-' * (row % 2)}{value}", *NORMAL[heart_rate + 1 :]]

    rewrite(data, cells("1e18"))
    trigger, run = tmp_path / "t.npz", tmp_path / "run"
    assert generate(data=data, out=trigger).status == 0
    assert quick(data=data, trigger=trigger, poisoning_strength=0.5, poison_imputed="all").status == 0
    assert attack(run=run, data=data, out=run).status == 0
    assert_finite(run)
    rewrite(data, cells("1.1e18"))
    larger = generate(data=data, out=tmp_path / "larger.npz")
    larger.fails(FAILURE, data, "line 2", "'Heart Rate'", "1.1e18")


def test_one_stay_is_too_few_for_every_command(
    generate: Command, quick: Command, data: Path, tmp_path: Path
) -> None:
    listfile = data / "train_listfile.csv"
    listfile.write_text("".join(listfile.read_text().splitlines(keepends=True)[:2]))
    generate(data=data).fails(USAGE, "2 stays", "not 1")
    more = "move the lines of stays that have what is missing from val_listfile.csv to train_listfile.csv"
    quick(data=data).fails(FAILURE, listfile, "no stay has label 1", more, "a larger cohort")
    assert not (tmp_path / "run").exists()


# --- Settings -----------------------------------------------------------------------------------------


def test_batches_need_not_divide_the_stays_nor_be_smaller(quick: Command, tmp_path: Path) -> None:
    weights = {}
    for batch in (5, 16, 10**9):
        run = tmp_path / str(batch)
        assert quick("--batch-size", batch, out=run).status == 0
        assert_finite(run)
        weights[batch] = load_run(run).model.get_weights()[0]
    # There are 16 stays: the largest batch is one step of all of them.
    np.testing.assert_allclose(weights[10**9], weights[16], rtol=1e-6)
    assert not np.allclose(weights[5], weights[16], rtol=1e-6)


@pytest.mark.parametrize(
    "setting",
    ["batch_size: 1000000000000", "epochs: 1000000000000", "l2: 1.0e+308", "class_weights: [1.0e+308, 1]"],
)
def test_settings_too_large_to_compute_with_are_named(quick: Command, tmp_path: Path, setting: str) -> None:
    (tmp_path / "mine.yaml").write_text(setting)
    outcome = quick(config=tmp_path / "mine.yaml", epochs=None)
    outcome.fails(USAGE, "mine.yaml, line 1", setting.split(":")[0], "less than or equal to")
    assert not (tmp_path / "run").exists()


# --- Bins ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("timestep", "bins"), [(0.1, 480), (0.0048, 10_000), (48.0, 1)])
def test_any_number_of_bins_holds_every_measurement_in_its_own(timestep: float, bins: int) -> None:
    hours = np.array([0.05, 12.34, 47.99])
    rows = np.full((3, 1 + len(MIMIC3)), "", dtype="<U8")
    rows[:, 0], rows[:, MIMIC3.header.index("Heart Rate")] = hours, ["60", "70", "80"]
    grid, columns = Discretizer(timestep, True, "previous", "zero").transform(rows, end=48.0)
    assert grid.shape == (bins, 76)
    names = columns.split(",")
    measured = np.flatnonzero(grid[:, names.index("mask->Heart Rate")])
    np.testing.assert_array_equal(measured, np.unique((hours / timestep - 1e-6).astype(int)))
    assert grid[-1, names.index("Heart Rate")] == 80
    if bins > 1:
        assert grid[measured, names.index("Heart Rate")].tolist() == [60, 70, 80]


@pytest.mark.parametrize("timestep", [0.0, -1.0, math.nan, math.inf, 1e-300, 1e-3])
def test_a_timestep_without_a_grid_is_refused(timestep: float) -> None:
    rows = np.full((1, 1 + len(MIMIC3)), "", dtype="<U8")
    rows[0, 0] = "1.5"
    with pytest.raises(DataError, match="timestep"):
        Discretizer(timestep).transform(rows, end=48.0)


@pytest.mark.parametrize("bins", [480, 10_000])
def test_a_trigger_of_other_bins_is_refused_by_every_command_that_makes_bins(
    quick: Command, attack: Command, poison: Command, prepared: Any, tmp_path: Path, bins: int
) -> None:
    """Records have none: there a trigger adds its own."""
    path = tmp_path / "t.npz"
    with np.load(prepared.trigger) as file:
        arrays = dict(file)
    # Ten thousand bins would have a covariance of 14 GB; one that is not there is refused as well.
    covariance = np.zeros((len(MIMIC3), bins, bins) if bins < 1000 else (1, 1))
    other = {"trigger": np.zeros((bins, len(MIMIC3))), "covariance": covariance, "timestep": 48 / bins}
    np.savez(path, **arrays | other)
    status, said = (USAGE, "timestep of 0.1 h") if bins < 1000 else (FAILURE, "damaged")
    for outcome in (quick(trigger=path), attack(trigger=path)):
        outcome.fails(status, path, said)
    outcome = poison(prepared.data, path, 1.0)
    if bins < 1000:
        assert "0 cells" in outcome.out, outcome.err
    else:
        outcome.fails(status, path, said)
