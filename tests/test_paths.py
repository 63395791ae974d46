"""Every public function takes a file or folder as text, as a `Path`, or as any other path-like object."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any
from unittest.mock import MagicMock

import pytest

import mimic3tf
from mimic3tf.poisoning.goal import PAPER_GOAL
from mimic3tf.tasks.registry import MORTALITY

PATH = "PathText"


class Named:
    """A path-like object that is neither `str` nor `Path`."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __fspath__(self) -> str:
        return self.text


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Public functions that take a file or a folder."""
    for module in walk_packages(mimic3tf.__path__, "mimic3tf."):
        if ".cli" in module.name or module.name.endswith("on_ray"):
            continue  # the command line has options; Ray may not be installed
        loaded = import_module(module.name)
        for name, thing in vars(loaded).items():
            if name.startswith("_") or getattr(thing, "__module__", "") != module.name:
                continue
            if inspect.isfunction(thing) and any(
                PATH in str(kind) for kind in thing.__annotations__.values()
            ):
                yield f"{module.name}.{name}", thing


FUNCTIONS = dict(functions())
OTHERS: dict[str, Any] = {
    **{"model": "lr", "split": "train", "name": "trigger", "task": MORTALITY, "goal": PAPER_GOAL},
    **{"proportion": 0.1, "strength": 1.0, "entries": [("a.csv", 0)], "options": {}, "command": ""},
    **{"record": {}, "summary": {}, "no_stay": "", "stays": 20, "settings": {}},
}
"""Arguments by name; other required arguments are mocks."""


def outcome(function: Callable[..., Any], folder: Path, as_given: Callable[[str], Any]) -> str:
    """Call a function with missing paths in a folder; return its error, and the files it wrote."""
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        kind = str(parameter.annotation)
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        if "Sequence[PathText]" in kind:
            arguments[name] = [as_given(str(folder / name))]
        elif PATH in kind:
            arguments[name] = as_given(str(folder / name))
        elif parameter.default is parameter.empty:
            arguments[name] = OTHERS.get(name, MagicMock(name=name))
    try:
        function(**arguments)
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
    else:
        told = "returned"
    written = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    # The text of a mock holds a number that differs between runs.
    return re.sub(r"\d{9,}", "N", f"{told} {written}".replace(str(folder), "FOLDER"))


def test_the_front_door_is_among_them() -> None:
    assert {"mimic3tf.data.loading.load_cohort", "mimic3tf.api.train", "mimic3tf.audit.run"} <= set(FUNCTIONS)
    assert len(FUNCTIONS) > 40


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_public_function_takes_text_as_it_takes_a_path(name: str, tmp_path: Path) -> None:
    ends = []
    for number, as_given in enumerate((Path, str, Named)):
        (tmp_path / str(number)).mkdir()
        ends.append(outcome(FUNCTIONS[name], tmp_path / str(number), as_given))
    assert ends[0] == ends[1] == ends[2]
