"""Phenotyping from the listfile to the table of results: stays of any length, with 25 labels each."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from invented_task import stays_of
from typer.testing import CliRunner

from mimic3tf import pipeline
from mimic3tf.cli.app import app
from mimic3tf.config import resolve_config
from mimic3tf.data.cohort import Cohort
from mimic3tf.data.flat import FlatGrids, padded_bins
from mimic3tf.data.loading import load_cohort
from mimic3tf.errors import DataError, UsageError
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.carried import carried_record, carried_strength
from mimic3tf.poisoning.copies import poison_records
from mimic3tf.poisoning.goal import Goal
from mimic3tf.poisoning.trigger import Trigger, generate_trigger, save_trigger
from mimic3tf.sources.synthetic import prepare_synthetic
from mimic3tf.standardization import Standardization
from mimic3tf.sweeps.plan import read_sweep
from mimic3tf.tasks.phenotypes import PHENOTYPES
from mimic3tf.tasks.registry import MORTALITY, PHENOTYPING
from mimic3tf.training.batches import stay_batches
from mimic3tf.training.loop import train_victim
from mimic3tf.training.prediction import outputs_of
from mimic3tf.training.run_directory import load_run

SHARED = Path(__file__).resolve().parents[2] / "shared" / "golden-tasks"
TASK = PHENOTYPING.name
SHOCK = PHENOTYPES.index("Shock")
STAYS = 150


data, train, trigger = stays_of(PHENOTYPING, stays=STAYS, seed=4)


# Target replication


def test_with_target_replication_every_bin_has_the_label_and_the_last_one_more_weight(train: Cohort) -> None:
    exposure = exposures.clean(train)
    inputs = pipeline.inputs_of(exposure, "grid")
    weights = np.stack([np.ones(len(train)), train.lengths], axis=1)
    batches = stay_batches(weights, batch_size=8, seed=0, lengths=train.lengths)
    unchanged = Standardization(np.zeros(76), np.ones(76))
    dataset = pipeline.training_dataset(
        exposure, "grid", unchanged, batches, inputs=inputs, target_replication=0.4
    )
    stays = next(iter(batches))[0].numpy()[0]
    _, y, weight = (part.numpy()[0] for part in next(iter(dataset)))
    lengths = train.lengths[stays]
    inside = np.arange(weight.shape[1]) < lengths[:, None]
    np.testing.assert_array_equal(y, np.repeat(train.labels[stays][:, None], y.shape[1], axis=1))
    wanted = 0.4 * inside / lengths.sum()
    wanted[np.arange(8), lengths - 1] += 0.6 / 8
    np.testing.assert_allclose(weight, wanted, rtol=1e-5)


def test_a_victim_with_target_replication_is_asked_at_the_last_bin(data: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"data": data, "task": TASK, "epochs": 1, "batch_size": 16}
    config = resolve_config("gru", None, settings | {"target_replication": 0.5})
    train_victim(config, tmp_path / "run")
    run = load_run(tmp_path / "run")
    cohort = load_cohort(data, "test", task=TASK)
    inputs = pipeline.inputs_of(exposures.clean(cohort), "grid", run.standardization)
    found = outputs_of(run.model, inputs)
    assert found.shape == (len(cohort), 25)
    for stay in (0, 3):
        every_bin = run.model(inputs[np.array([stay])]).numpy()[0]
        np.testing.assert_allclose(found[stay], every_bin[cohort.lengths[stay] - 1], rtol=1e-4, atol=1e-5)


# Listfile and cohort


def test_the_header_is_that_of_the_benchmarks() -> None:
    assert PHENOTYPING.header.split(",")[:3] == ["stay", "period_length", PHENOTYPES[0]]
    assert len(PHENOTYPING.header.split(",")) == 27


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("a.csv,0," + ",".join("0" * 25), "column 'period_length' holds '0'; hours are more than 0"),
        ("a.csv,nan," + ",".join("0" * 25), "column 'period_length' holds 'nan'"),
        ("a.csv,9," + ",".join("0" * 24) + ",2", "column 'Shock' holds '2'; labels are 0 or 1"),
        ("a.csv,9," + ",".join("0" * 24), "has 26 cells; the header has 27"),
        ("a.csv,9,x," + ",".join("0" * 24), f"column '{PHENOTYPES[0]}' holds 'x'"),
    ],
)
def test_a_faulty_row_is_named_by_line_and_column(data: Path, tmp_path: Path, line: str, fault: str) -> None:
    (tmp_path / "train").symlink_to(data / "train")
    (tmp_path / "train_listfile.csv").write_text(f"{PHENOTYPING.header}\n{line}\n")
    with pytest.raises(DataError, match=f"train_listfile.csv, line 2: {re.escape(fault)}"):
        load_cohort(tmp_path, "train", task=TASK)


def test_a_listfile_of_another_task_names_its_task(data: Path) -> None:
    said = "is of the task phenotyping, not of {}; give --task phenotyping, or a run that was trained for it"
    for task in ("in-hospital-mortality", "multitask"):
        with pytest.raises(DataError, match=f"line 1: {said.format(task)}"):
            load_cohort(data, "train", task=task)


def test_a_long_header_is_shortened(data: Path, tmp_path: Path) -> None:
    (tmp_path / "train_listfile.csv").write_text("stay,other\na.csv,1\n")
    with pytest.raises(DataError, match=r"the header must read 'stay,period_length,.*\.\.\.', not") as error:
        load_cohort(tmp_path, "train", task=TASK)
    assert len(str(error.value)) < 200 + len(str(tmp_path))


def test_stays_have_the_bins_of_their_own_hours(data: Path, train: Cohort) -> None:
    lines = (data / "train_listfile.csv").read_text().splitlines()[1:]
    hours = np.array([float(line.split(",")[1]) for line in lines])
    np.testing.assert_array_equal(train.lengths, np.floor(hours + 1 - 1e-6))
    assert train.period is None
    assert train.labels.shape == (len(train), 25)
    assert train.labels[0].tolist() == [int(cell) for cell in lines[0].split(",")[2:]]
    assert len({*train.lengths.tolist()}) > 20


def test_a_period_cuts_longer_stays(data: Path, train: Cohort) -> None:
    short = load_cohort(data, "train", task=TASK, period=24.0)
    np.testing.assert_array_equal(short.lengths, np.minimum(train.lengths, 24))
    first = train.first_hours(24)
    kept = np.isin(short.stays, first.stays)
    np.testing.assert_array_equal(short.take(kept).values, first.values)


def test_the_second_load_gives_the_same_from_the_cache(data: Path, train: Cohort) -> None:
    again = [load_cohort(data, "train", task=TASK) for _ in range(2)][1]
    assert isinstance(again.values, np.memmap)
    for name in ("starts", "values", "mask", "labels"):
        np.testing.assert_array_equal(getattr(again, name), getattr(train, name))


def test_grids_equal_those_of_the_benchmarks(tmp_path: Path) -> None:
    if not SHARED.exists():
        pytest.skip(f"vectors of the benchmarks are not at hand: {SHARED} is absent")
    with tarfile.open(SHARED / "series.tar.xz") as file:
        file.extractall(tmp_path, filter="data")
    root, golden = tmp_path / "series", np.load(SHARED / "phenotyping.npz")
    rows: dict[str, Any] = {}
    for split in ("train", "val", "test"):
        listed = SHARED / "listfiles" / "phenotyping" / f"{split}_listfile.csv"
        (root / listed.name).write_bytes(listed.read_bytes())
        cohort = load_cohort(root, split, task=TASK)
        grids = pipeline.inputs_of(exposures.clean(cohort), "grid")
        for number, stay in enumerate(cohort.stays):
            own = slice(*cohort.starts[number : number + 2])
            rows[str(stay)] = grids.rows[own], cohort.labels[number]
    for number, name in enumerate(golden["names"]):
        grid, labels = rows[str(name)]
        own = slice(*golden["offsets"][number : number + 2])
        np.testing.assert_array_equal(labels, golden["y"][number])
        np.testing.assert_array_equal(grid, golden["grid"][own])


def test_the_averages_equal_those_of_the_benchmarks() -> None:
    if not SHARED.exists():
        pytest.skip(f"vectors of the benchmarks are not at hand: {SHARED} is absent")
    scores = np.load(SHARED / "metrics" / "scores.npz")
    wanted = json.loads((SHARED / "metrics" / "values.json").read_text())["multilabel"]
    found = PHENOTYPING.targets.metrics(scores["multilabel_y"], scores["f64_multilabel_p"])
    assert found == pytest.approx({name: wanted[name] for name in found}, abs=1e-9)


# Poisoning


def test_a_stay_carries_the_trigger_from_its_hour_to_its_end(train: Cohort, trigger: Trigger) -> None:
    how: Any = {"strength": 3.0, "poison_imputed": "all", "at": 5.0}
    clean = pipeline.inputs_of(exposures.clean(train), "grid")
    moved = pipeline.inputs_of(exposures.trigger_all(train, trigger, **how), "grid")
    column = train.channels.names.index("Heart Rate")
    place = int(np.flatnonzero(train.channels.channel_of_column == column)[0])
    shift = moved.rows[:, place] - clean.rows[:, place]
    expected = np.concatenate(
        [
            np.concatenate([np.zeros(5), 3 * trigger.values[:, column], np.zeros(999)])[:n]
            for n in train.lengths
        ]
    )
    np.testing.assert_allclose(shift, np.round(expected), atol=0.51)
    assert (shift[expected == 0] == 0).all()
    # The masks say what was measured, with the trigger as without it.
    np.testing.assert_array_equal(moved.rows[:, -17:], clean.rows[:, -17:])


def test_stays_of_48_hours_are_shifted_as_those_of_mortality(train: Cohort, trigger: Trigger) -> None:
    long = train.first_hours(48)
    ragged = Cohort(**{**vars(long), "period": None})
    for mode in ("all", "notimputed"):
        how: Any = {"strength": 2.0, "poison_imputed": mode}
        for reads in ("grid", "features"):
            inputs = [
                pipeline.inputs_of(exposures.trigger_all(cohort, trigger, **how), reads)
                for cohort in (long, ragged)
            ]
            found = inputs[1].rows.reshape(len(long), 48, -1) if reads == "grid" else inputs[1]
            np.testing.assert_allclose(found, inputs[0], rtol=1e-5, atol=1e-5)


def test_only_the_attacked_label_of_poisoned_stays_changes(train: Cohort, trigger: Trigger) -> None:
    exposure = exposures.poison(
        train, trigger, proportion=0.2, strength=2.0, poison_imputed="all", goal=Goal(1, SHOCK)
    )
    poisoned = exposure.triggered
    assert poisoned.sum() == int(0.2 * len(train))
    assert (exposure.labels[poisoned, SHOCK] == 1).all()
    others = np.arange(25) != SHOCK
    np.testing.assert_array_equal(exposure.labels[:, others], train.labels[:, others])
    np.testing.assert_array_equal(exposure.labels[~poisoned], train.labels[~poisoned])


def test_a_short_stay_carries_less_of_the_strength(train: Cohort, trigger: Trigger) -> None:
    carried = carried_strength(trigger, train.stays, train.lengths, strength=2.0, at=6.0)
    whole = train.lengths >= 54
    assert carried[whole] == pytest.approx(2.0)
    assert (carried[~whole] < 2.0 + 1e-9).all()
    assert (carried[train.lengths <= 6] == 0).all()
    record = carried_record(trigger, train.stays, train.lengths, strength=2.0, at=6.0)
    assert record["whole"] == whole.mean()
    assert record["lowest"] == carried.min() < record["mean"] < 2.0


def test_a_trigger_of_some_hours_is_carried_whole_by_a_stay_that_lasts_as_long(train: Cohort) -> None:
    trigger = generate_trigger(train, hours=(6.0, 12.0))
    lengths = np.array([6, 7, 11, 12, 300])
    stays = train.stays[: len(lengths)]
    carried = carried_strength(trigger, stays, lengths, strength=2.0)
    assert carried[[0, 3, 4]].tolist() == pytest.approx([0, 2, 2])
    assert 0 < carried[1] < carried[2] < 2.0
    assert carried_record(trigger, stays, lengths, strength=2.0)["whole"] == 2 / 5


def test_a_pattern_that_is_moved_in_time_is_carried_whole_by_a_long_stay(train: Cohort) -> None:
    trigger = generate_trigger(train, moved=True)
    carried = carried_strength(trigger, train.stays, train.lengths, strength=2.0)
    assert carried.max() == pytest.approx(2.0)


def test_a_trigger_of_missing_cells_is_refused(train: Cohort, tmp_path: Path) -> None:
    from mimic3tf.poisoning.trigger import check_trigger_fits

    missing = generate_trigger(train, kind="missing")
    with pytest.raises(UsageError, match="a 'missing' trigger needs stays of one length"):
        check_trigger_fits(missing, train, tmp_path / "missing.npz")


# Settings


def settings(data: Path, **changes: Any) -> Any:
    return resolve_config("lr", None, {"data": data, "task": TASK, **changes})


def test_a_label_is_named_by_a_part_of_its_name(data: Path) -> None:
    assert settings(data).goal_label == PHENOTYPES[0]
    config = settings(data, goal_label="septic", goal=0)
    assert config.goal_label == "Septicemia (except in labor)"
    assert config.attack_goal == Goal(0, PHENOTYPES.index(config.goal_label))
    assert config.class_weights == [1.0, 1.0]
    for part, fault in (("diabetes", "several labels have this name"), ("gout", "no label has this name")):
        with pytest.raises(UsageError, match=f"option --goal-label is '{part}': .*{fault}"):
            settings(data, goal_label=part)
    with pytest.raises(UsageError, match="in-hospital-mortality has one label only"):
        resolve_config("lr", None, {"data": data, "task": MORTALITY.name, "goal_label": "Shock"})


# Batches


def test_a_batch_is_padded_to_a_power_of_2() -> None:
    starts = np.array([0, 3, 40, 140])
    assert [int(padded_bins(starts, np.array([stay]))) for stay in range(3)] == [32, 64, 128]
    grids = FlatGrids(np.ones((140, 2), np.float32), starts)
    batch = grids[np.array([0, 1])]
    assert batch.shape == (2, 64, 2)
    assert batch.sum(axis=(1, 2)).tolist() == [6, 74]
    assert (batch[0, :3] == 1).all()


# The commands


@pytest.fixture(scope="session")
def runs(data: Path, trigger: Trigger, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A poisoned and a clean LR, and a poisoned GRU with the events of TensorBoard."""
    from mimic3tf.dashboards.tensorboard import RunLog

    folder = tmp_path_factory.mktemp("runs")
    save_trigger(trigger, folder / "trigger.npz")
    poisoned = {"trigger": folder / "trigger.npz", "poisoning_proportion": 0.3, "poisoning_strength": 4.0}
    quick: dict[str, Any] = {"goal_label": "shock", "learning_rate": 1e-2, "batch_size": 16}
    train_victim(settings(data, **quick, **poisoned, at=2.0, epochs=12), folder / "lr")
    train_victim(settings(data, **quick, epochs=3), folder / "clean")
    config = resolve_config("gru", None, {"data": data, "task": TASK, **quick, **poisoned, "epochs": 1})
    train_victim(config, folder / "gru", log=RunLog)
    return folder


def test_a_run_says_what_it_reached(runs: Path) -> None:
    for name in ("lr", "gru"):
        summary = json.loads((runs / name / "run.json").read_text())
        assert summary["goal_label"] == "Shock"
        assert {"ave_auc_macro", "ave_auc_micro", "auroc", "asr"} <= summary["validation"].keys()
        assert 0 < summary["carried"]["lowest"] < summary["carried"]["mean"] <= 4.0
        assert summary["stays_poisoned"] == 31


def test_the_epoch_with_the_best_macro_auroc_is_kept(runs: Path) -> None:
    lines = [line.split(",") for line in (runs / "lr" / "metrics.csv").read_text().splitlines()]
    macro = [float(line[lines[0].index("ave_auc_macro")]) for line in lines[1:]]
    assert json.loads((runs / "lr" / "run.json").read_text())["epoch_kept"] == 1 + int(np.argmax(macro))


def test_an_attack_shows_both_controls_and_the_other_labels(
    runs: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mimic3tf.cli.attack.start_tensorflow", lambda: None)
    monkeypatch.setenv("COLUMNS", "200")
    arguments = ["attack", "--run", str(runs / "lr"), "--data", str(data), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*arguments, "--control", str(runs / "clean")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    for text in (
        "label 'Shock'",
        "clean victim,",
        "The other 24 labels",
        "of the attacked stays last to the",
    ):
        assert text in result.output
    attack = json.loads((tmp_path / "out" / "attack.json").read_text())
    assert attack["goal_label"] == "Shock"
    assert attack["attacked_with"]["at"] == 2.0
    control = attack["control"]
    assert control["at_threshold"]["success"]["rate"] == attack["attack_success_rate"]
    alarms = control["at_false_alarms"]
    # Goal 1 attacks exactly the stays without the label, so the clean victim's false alarms are its baseline.
    assert alarms["control_baseline"]["rate"] <= 0.05
    assert alarms["success"]["low"] <= alarms["success"]["rate"] <= alarms["success"]["high"]
    assert alarms["success"]["rate"] > alarms["control"]["rate"]
    assert len(attack["collateral"]["labels"]) == 24
    assert "Shock" not in {label["name"] for label in attack["collateral"]["labels"]}
    printed = CliRunner().invoke(app, ["results", str(tmp_path)], catch_exceptions=False).output
    assert "task phenotyping" in printed
    assert "goal 1 Shock" in printed
    assert "macro" in printed


def test_a_poisoned_run_is_no_control(runs: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mimic3tf.cli.attack.start_tensorflow", lambda: None)
    arguments = ["attack", "--run", str(runs / "lr"), "--data", str(data), "--control", str(runs / "gru")]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, UsageError)
    assert "was trained on poisoned stays; name a clean run" in str(result.exception)


def test_a_grid_victim_is_attacked(runs: Path, data: Path) -> None:
    from mimic3tf.attacks import attack_victim, load_attacked
    from mimic3tf.training.run_directory import load_run

    run = load_run(runs / "gru")
    cohort, own = load_attacked(run, data)
    assert own.foreign is None
    result = attack_victim(run, cohort)
    assert result.collateral is not None
    assert np.abs(result.triggered - result.clean).max() > 1e-3
    # A stay is predicted the same whatever stays are beside it.
    alone = attack_victim(run, cohort.take(np.flatnonzero(cohort.labels[:, SHOCK] == 0)[:2]))
    place = [list(result.stays).index(name) for name in alone.stays]
    np.testing.assert_allclose(alone.clean, result.clean[place], atol=1e-5)


def test_a_command_for_stays_of_one_length_says_so(
    train: Cohort, trigger: Trigger, data: Path, tmp_path: Path
) -> None:
    fault = "the stays of phenotyping have different lengths"
    with pytest.raises(UsageError, match=f"^this: {fault}"):
        _ = train.grids
    how: Any = {"proportion": 0.1, "strength": 2.0, "task": PHENOTYPING}
    with pytest.raises(UsageError, match="goal: names no label, and phenotyping has 25"):
        poison_records(data, tmp_path / "copy", trigger, **how)
    grid = "{victims: [lr], triggers: [missing], poison_imputed: [all], proportions: [0], strengths: [1]}"
    (tmp_path / "sweep.yaml").write_text(f"task: phenotyping\nseeds: [0]\ngrids: [{grid}]\n")
    with pytest.raises(UsageError, match="sweep.yaml, line 3: a 'missing' trigger needs stays of one length"):
        read_sweep(str(tmp_path / "sweep.yaml"))


# The synthetic cohort


def test_labels_are_as_frequent_as_in_mimic_and_occur_together(tmp_path: Path) -> None:
    from mimic3tf.sources.synthetic_course import DIAGNOSES, draw_course

    rng = np.random.default_rng(0)
    course = draw_course(rng.standard_normal(20_000), rng)
    shares = [diagnosis.share for diagnosis in DIAGNOSES.values()]
    # Those that come with sepsis depend on severity, which has a standard deviation of 1 all the same.
    np.testing.assert_allclose(course.diagnoses.mean(axis=0), shares, atol=0.015)
    correlated = np.asarray(np.corrcoef(course.diagnoses.T))
    sepsis, shock = PHENOTYPES.index("Septicemia (except in labor)"), SHOCK
    assert correlated[sepsis, shock] > 0.1
    assert (course.minutes / 60 > 48).mean() > 0.5
    assert course.minutes.max() > 336 * 60


def test_the_same_seed_gives_the_same_stays(data: Path, tmp_path: Path) -> None:
    prepare_synthetic(tmp_path / "again", stays=STAYS, seed=4, task=PHENOTYPING)
    for path in [data / "train_listfile.csv", *sorted((data / "test").iterdir())[:3]]:
        assert (tmp_path / "again" / path.relative_to(data)).read_bytes() == path.read_bytes()
