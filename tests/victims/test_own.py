"""A function of the user's own code is a victim: how it is named, found, checked and refused."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from mimic3tf.errors import UsageError
from mimic3tf.tasks.registry import MORTALITY
from mimic3tf.tasks.targets import Head
from mimic3tf.victims import check_victim, own, shown_victim, victim_of
from mimic3tf.victims.penultimate import penultimate

SHAPE = (6, 5)
CODE = """
import keras

READS = "features"
TITLE = "Ours"

def build(input_shape, head):
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, head(keras.layers.Dense(3)(inputs)))

def on_grids(input_shape, head):
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, head(keras.layers.Flatten()(inputs)))

on_grids.READS = "grid"
no_function = 3

def wrong(input_shape, head):
    return keras.layers.NoSuchLayer()

def unread(input_shape, head): ...

unread.READS = "images"
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    file = tmp_path / "ours.py"
    file.write_text(CODE)
    return file


def built(build: Callable[..., Any]) -> keras.Model:
    return own.build_model("ours:build", build, SHAPE, MORTALITY.head)


def test_a_file_is_found_by_its_path_and_says_what_it_is(
    code: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    name = check_victim("ours.py:build")
    assert name == f"{code}:build"
    assert own.sha256_of(name) == hashlib.sha256(code.read_bytes()).hexdigest()
    victim = victim_of(name)
    assert (victim.name, victim.title, victim.reads, victim.estimator) == (name, "Ours", "features", False)
    assert victim_of(f"{code}:on_grids").reads == "grid"
    assert shown_victim(name) == "ours.py:build"
    assert victim.build((4,), MORTALITY.head).output_shape == (None, 2)


def test_a_module_is_found_in_the_current_directory_without_running_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "ward_of_tests"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('run')")
    (package / "models.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = check_victim("ward_of_tests.models:build")
    assert own.sha256_of(name) == hashlib.sha256(CODE.encode()).hexdigest()
    assert "ward_of_tests" not in sys.modules
    with pytest.raises(UsageError, match=r"__init__\.py, line 1: SystemExit: run"):
        victim_of(name)
    (package / "__init__.py").write_text("")
    assert victim_of(name).title == "Ours"


def test_a_file_that_has_changed_is_read_anew(code: Path) -> None:
    assert victim_of(f"{code}:build").title == "Ours"
    code.write_text(CODE.replace("Ours", "Others"))
    assert victim_of(f"{code}:build").title == "Others"


@pytest.mark.parametrize("name", [":", "a:", ":b", "a b:c", "a:b c", "a/b:c", "a.py:", "models.py:1"])
def test_a_name_of_no_function_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="package.module:function or path/to/file.py:function"):
        check_victim(name)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("build1", "has no 'build1'; did you mean build?"),
        ("no_function", "is a int and no function"),
        ("unread", "READS is 'images'; write 'grid' or 'features'"),
    ],
)
def test_a_function_that_is_none_is_refused(code: Path, function: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        victim_of(f"{code}:{function}")


def test_what_is_not_there_is_named(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(code.parent)
    with pytest.raises(UsageError, match=r"nosuch\.py:build': no such file"):
        victim_of("nosuch.py:build")
    with pytest.raises(UsageError, match="no module our .*did you mean ours"):
        own.sha256_of("our:build")


def test_an_error_of_the_users_code_names_its_line(code: Path) -> None:
    line = CODE.splitlines().index("    return keras.layers.NoSuchLayer()") + 1
    with pytest.raises(UsageError, match=rf"ours\.py, line {line}: AttributeError"):
        victim_of(f"{code}:wrong").build(SHAPE, MORTALITY.head)


def functional(input_shape: tuple[int, ...], head: Head) -> keras.Model:
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, head(keras.layers.Flatten()(inputs)))


class Subclass(keras.Model):
    def __init__(self, head: Head) -> None:
        super().__init__()
        self.flat, self.head = keras.layers.Flatten(), keras.layers.Dense(2)

    def call(self, inputs: Any) -> Any:
        return self.head(self.flat(inputs))

    def get_config(self) -> dict[str, Any]:
        return {}


def sequential(input_shape: tuple[int, ...], head: Head) -> keras.Model:
    return keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)])


@pytest.mark.parametrize("build", [functional, sequential, lambda shape, head: Subclass(head)])
def test_every_kind_of_keras_model_will_do(build: Callable[..., Any]) -> None:
    model = built(build)
    assert (model.input_shape, model.output_shape) == ((None, *SHAPE), (None, 2))
    assert len(model.trainable_weights) == 2
    rows = np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)
    hidden = np.asarray(penultimate(model)(rows))
    np.testing.assert_array_equal(hidden, rows.reshape(3, -1))


def other_output(input_shape: tuple[int, ...], head: Head) -> keras.Model:
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Flatten()(inputs)))


def other_input(input_shape: tuple[int, ...], head: Head) -> keras.Model:
    inputs = keras.Input((30,))
    return keras.Model(inputs, head(inputs))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda shape, head: None, "returns a NoneType; return an untrained keras.Model"),
        (lambda shape, head: functional, "returns a function"),
        (other_output, r"output of shape \(None, 1\), and not \(None, 2\); use head\(hidden\)"),
        (other_input, r"input of shape \(None, 30\), and not \(None, 6, 5\); use keras.Input"),
        (lambda shape, head: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(build: Callable[..., Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        built(build)


def test_a_function_is_named_so_that_it_is_found_again() -> None:
    assert victim_of(own.name_of(functional)).build.args[1] is functional  # type: ignore[attr-defined]

    def within(input_shape: tuple[int, ...], head: Head) -> keras.Model:
        return functional(input_shape, head)

    for nothing in (within, lambda shape, head: None, 3, None):
        with pytest.raises(UsageError, match="model: is .*a function with a name at the top"):
            own.name_of(nothing)  # type: ignore[arg-type]


def test_a_function_of_a_notebook_is_recorded_by_its_own_text() -> None:
    program = """
import linecache, sys
from mimic3tf.victims import own, victim_of
text = "def make():\\n    return 1\\n"
linecache.cache["cell"] = (len(text), None, text.splitlines(True), "cell")
exec(compile(text, "cell", "exec"))
name = own.name_of(make)
print(name, own.sha256_of(name), victim_of(name).estimator)
del make
try:
    own.sha256_of(name)
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    sha256 = hashlib.sha256(b"def make():\n    return 1\n").hexdigest()
    recorded, missing = done.stdout.splitlines()
    assert recorded == f"__main__:make {sha256} True", done.stderr
    assert "run the cell that defines it" in missing


def test_the_parameters_tell_what_a_function_makes() -> None:
    assert not own.makes_estimator("a:b", functional)
    assert own.makes_estimator("a:b", lambda: None)
    assert own.makes_estimator("a:b", lambda depth=3: None)
    with pytest.raises(UsageError, match=r"takes \(shape\); write build\(input_shape, head\)"):
        own.makes_estimator("a:b", lambda shape: None)
