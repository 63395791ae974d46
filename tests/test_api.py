"""What `import mimic3tf` offers to a script or a notebook."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mimic3tf
from mimic3tf.data.cohort import Cohort
from mimic3tf.data.loading import load_cohort
from mimic3tf.described import Described
from mimic3tf.errors import UsageError
from mimic3tf.poisoning.trigger import load_trigger, save_trigger
from mimic3tf.training.run_directory import Run


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter, without the setting that silences TensorFlow."""
    told = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=told)


@pytest.fixture(scope="module")
def data(small_cohort: Callable[[int, int], Path]) -> Path:
    return small_cohort(160, 7)


@pytest.fixture(scope="module")
def cohort(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMIC3TF_CACHE", str(tmp_path_factory.mktemp("cache")))
        return load_cohort(data, "train")


@pytest.fixture(scope="module")
def run(data: Path, cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMIC3TF_CACHE", str(folder / "cache"))
        trigger = mimic3tf.generate_trigger(cohort)
        return mimic3tf.train(
            "lr", data=str(data), trigger=trigger, out=str(folder / "lr"), epochs=2, log_level="minimal"
        )


def test_every_public_name_is_there_and_documented() -> None:
    assert set(mimic3tf.__all__) <= set(dir(mimic3tf))
    for name in mimic3tf.__all__:
        assert getattr(mimic3tf, name).__doc__, name
    with pytest.raises(AttributeError, match="nosuch"):
        _ = mimic3tf.nosuch


def test_the_import_starts_nothing_and_prints_nothing() -> None:
    done = python(
        "import sys, mimic3tf; mimic3tf.Trigger, mimic3tf.poison, mimic3tf.train;"
        "print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@pytest.fixture(scope="module")
def saved_victims(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of all victims with random weights, and their outputs for the same inputs."""
    import keras

    from mimic3tf.channels import MIMIC3
    from mimic3tf.pipeline import input_shape
    from mimic3tf.tasks.registry import MORTALITY
    from mimic3tf.victims import victim_names, victim_of

    folder, outputs = tmp_path_factory.mktemp("victims"), {}
    for name in victim_names():
        victim = victim_of(name)
        if victim.estimator:
            continue
        columns = [MIMIC3.channel_of_column.tolist()] if victim.by_channel else []
        shape = input_shape(victim.reads, MIMIC3, 8)
        model = victim.build(shape, MORTALITY.head, *columns, **victim.sized(None))
        model.save(folder / f"{name}.keras")
        outputs[name] = keras.ops.convert_to_numpy(model(np.full((1, *shape), 0.1, np.float32)))
    np.savez(folder / "outputs.npz", **outputs)
    return folder


@pytest.mark.parametrize(
    "order",
    [
        "import mimic3tf, keras",
        pytest.param("import keras, mimic3tf", marks=pytest.mark.slow),
        pytest.param("import mimic3tf.victims.layers.recurrence, keras", marks=pytest.mark.slow),
        pytest.param(
            "import mimic3tf, importlib.util; importlib.util.find_spec('keras'); import keras",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_keras_reads_every_victim_after_the_import(order: str, saved_victims: Path) -> None:
    done = python(
        f"{order}\n"
        "import numpy as np, pathlib\n"
        f"folder = pathlib.Path({str(saved_victims)!r})\n"
        "for name, expected in np.load(folder / 'outputs.npz').items():\n"
        "    model = keras.saving.load_model(folder / f'{name}.keras')\n"
        "    found = model(np.full((1, *model.input_shape[1:]), 0.1, np.float32))\n"
        "    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)\n"
        "    print(name)\n"
    )
    saved = sorted(file.stem for file in saved_victims.glob("*.keras"))
    assert sorted(done.stdout.split()) == saved, done.stderr


def test_a_trigger_goes_through_training_attack_and_back(data: Path, run: Run) -> None:
    result = mimic3tf.attack(run, str(data))
    again = mimic3tf.attack(mimic3tf.load_run(str(run.path)), load_cohort(data, "test"), strength=2.0)
    assert np.array_equal(result.triggered, again.triggered)
    assert result.success.rate > result.baseline.rate
    none = mimic3tf.attack(run, data, strength=0.0)
    assert np.array_equal(none.clean, none.triggered)
    with pytest.raises(UsageError, match="strength -1"):
        mimic3tf.attack(run, data, strength=-1)


def test_a_function_goes_where_a_run_goes_but_not_with_its_options(
    data: Path, cohort: Cohort, run: Run
) -> None:
    attack: Any = mimic3tf.attack
    with pytest.raises(UsageError, match="goal: a run has its own goal"):
        attack(run, data, goal=0)
    with pytest.raises(UsageError, match="not arrays"):
        attack(run, (cohort.grids, cohort.labels))


def test_a_script_on_own_arrays_starts_no_tensorflow() -> None:
    """`mypy --strict` checks the script, as it checks all files of tests/."""
    script = Path(__file__).with_name("own_arrays.py").read_text(encoding="utf-8")
    done = python(
        f"{script}\nimport sys; print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    assert (done.stdout.splitlines()[-1:], done.stderr) == (["[]"], "")


def test_a_trigger_given_itself_names_period_and_timestep(data: Path, tmp_path: Path) -> None:
    short = load_cohort(data, "train", period=24, timestep=2)
    trigger = mimic3tf.generate_trigger(short)
    quick: Any = {"data": data, "trigger": trigger, "epochs": 1, "log_level": "minimal"}
    run = mimic3tf.train("lr", out=tmp_path / "run", **quick)
    assert (run.config.period, run.config.timestep) == (24, 2)
    with pytest.raises(UsageError, match="24"):
        mimic3tf.train("lr", out=tmp_path / "other", period=48, **quick)


def test_a_trigger_given_itself_does_not_cut_whole_stays(
    data: Path, tmp_path: Path, cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(
        "mimic3tf.training.loop.train_victim", lambda config, *_, **__: asked.append(config.period)
    )
    monkeypatch.setattr("mimic3tf.api.load_run", lambda *_, **__: None)
    trigger = mimic3tf.generate_trigger(cohort)
    for task in ("in-hospital-mortality", "phenotyping"):
        label: Any = {"goal_label": "Shock"} if task == "phenotyping" else {}
        mimic3tf.train("lr", data=data, out=tmp_path, trigger=trigger, task=task, **label)
    assert asked == [trigger.period, None]


def test_a_wrong_setting_is_refused_by_its_name(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="epoch"):
        mimic3tf.train("lr", data=data, trigger="t.npz", out=tmp_path / "run", epoch=1)


def test_the_calls_print_no_start_up_notes(data: Path, run: Run) -> None:
    done = python(
        f"import mimic3tf; run = mimic3tf.load_run({str(run.path)!r});"
        f"print(mimic3tf.attack(run, {str(data)!r}).success.stays)"
    )
    assert int(done.stdout) > 0
    assert "oneDNN" not in done.stderr
    assert "cuda" not in done.stderr.lower()


# Reprs.


def test_a_repr_is_one_line_without_stays_and_values(data: Path, cohort: Cohort, run: Run) -> None:
    result = mimic3tf.attack(run, data)
    assert run.trigger is not None
    poisoned = mimic3tf.poison(cohort, run.trigger, proportion=0.1, strength=1.0, poison_imputed="all")
    secret = str(cohort.stays[0])
    cell = repr(float(cohort.values[cohort.mask][0]))
    for shown in (cohort, run.trigger, run, result, poisoned, cohort.examples, cohort.filled):
        text = repr(shown)
        assert "\n" not in text
        assert "episode" not in text
        assert secret not in text
        assert cell not in text
    assert len(repr(cohort)) < 120
    assert "112 stays" in repr(cohort)
    assert "temporal" in repr(run.trigger)
    assert repr(run) == f"<Run {run.path}: lr for in-hospital-mortality, trigger {run.trigger.name}>"
    assert repr(result).startswith(f"<AttackResult: success {result.success}, without the trigger")


def test_a_report_and_its_verdict_are_printed_as_one_line(own_report: Any) -> None:
    assert str(own_report.verdict) == own_report.verdict.sentence
    assert f"{own_report!r}".startswith(f"<AuditReport: {own_report.verdict.level}, ")
    assert len(f"{own_report!r}") < 100


@pytest.mark.parametrize("split", ["validation", "Train"])
def test_an_unknown_split_is_refused(data: Path, split: Any) -> None:
    with pytest.raises(UsageError, match=f"no split '{split}'; known: train, val, test"):
        load_cohort(data, split)


def test_no_data_class_with_arrays_of_stays_shows_them() -> None:
    found = 0
    for info in walk_packages(mimic3tf.__path__, "mimic3tf."):
        if info.name.endswith(("on_ray", "__main__")):
            continue
        for thing in vars(import_module(info.name)).values():
            if not (dataclasses.is_dataclass(thing) and isinstance(thing, type)):
                continue
            if "stays" in {field.name for field in dataclasses.fields(thing) if "NDArray" in str(field.type)}:
                found += 1
                assert issubclass(thing, Described) or thing is Cohort, thing
    assert found


# Trigger.from_array.


@given(seed=st.integers(0, 99), scale=st.floats(0.01, 100))
def test_a_pattern_of_unit_length_does_not_depend_on_its_scale(
    cohort: Cohort, seed: int, scale: float
) -> None:
    pattern = np.random.default_rng(seed).normal(size=(48, 17))
    first, second = (mimic3tf.Trigger.from_array(values, cohort) for values in (pattern, scale * pattern))
    np.testing.assert_allclose(first.values, second.values, rtol=1e-9)
    for channel in range(17):
        column = first.values[:, channel]
        length = np.sqrt(column @ np.linalg.solve(first.covariance[channel], column))
        assert length == pytest.approx(1)


def test_an_array_is_kept_as_it_is_where_asked(cohort: Cohort, tmp_path: Path) -> None:
    values = np.zeros((48, 17), np.float32)
    values[10:20, 8] = 25.0
    trigger = mimic3tf.Trigger.from_array(values, cohort, unit_length=False)
    assert np.array_equal(trigger.values, values)
    save_trigger(trigger, tmp_path / "own.npz")
    read = load_trigger(tmp_path / "own.npz")
    assert np.array_equal(read.values, values)
    assert (read.kind, read.channels) == ("array", cohort.channels)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((24, 17)), r"\(24, 17\).*\(48, 17\)"),
        (np.full((48, 17), np.nan), "not finite"),
        (np.zeros(48), r"\(48,\)"),
    ],
)
def test_an_array_that_is_no_pattern_is_refused(cohort: Cohort, values: np.ndarray, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        mimic3tf.Trigger.from_array(values, cohort)


def test_a_still_channel_has_no_unit_length(cohort: Cohort) -> None:
    grids = cohort.grids.copy()
    grids[..., 8] = 80
    still = cohort.with_grids(grids)
    with pytest.raises(UsageError, match="Heart Rate"):
        mimic3tf.Trigger.from_array(np.ones((48, 17)), still)
    mimic3tf.Trigger.from_array(np.ones((48, 17)), still, unit_length=False)


def test_a_run_that_is_not_there_is_told_before_tensorflow_starts() -> None:
    ended = python(
        "import sys, mimic3tf\n"
        "try:\n    mimic3tf.load_run('nowhere')\n"
        "except ValueError as error:\n    print(error, 'tensorflow' in sys.modules)"
    )
    assert ended.stdout == "--run nowhere: no such directory; train a victim with 'mimic3tf train' False\n"


def test_an_attack_on_other_data_than_the_runs_says_so(
    small_cohort: Callable[[int, int], Path], data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    mimic3tf.attack(run, data)
    assert "not known to be" not in capsys.readouterr().err
    other = small_cohort(60, 8)
    mimic3tf.attack(run, other)
    said = capsys.readouterr().err
    assert f"warning: data {other.name}: not known to be what {run.path} was trained for" in said


def test_a_model_that_is_no_run_is_refused_in_one_sentence(data: Path) -> None:
    calls: list[Any] = [mimic3tf.attack, mimic3tf.audit.run]
    for call in calls:
        with pytest.raises(UsageError, match="run: is a str; give a run"):
            call("model.keras", data)


def test_a_rate_is_printed_with_its_interval(data: Path, run: Run) -> None:
    success = mimic3tf.attack(run, data).success
    assert str(success) == f"{success.rate:.3f} ({success.low:.3f} to {success.high:.3f})"
