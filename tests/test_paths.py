"""A file or folder may be given as text, or as anything else that names one, to every public function."""

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
    """Names a file, and is neither text nor a path."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __fspath__(self) -> str:
        return self.text


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Public functions, and classes to call, that take a file or a folder."""
    for module in walk_packages(mimic3tf.__path__, "mimic3tf."):
        if ".cli" in module.name or module.name.endswith("on_ray"):
            continue  # options; an extra that may be absent
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
"""Arguments by name; what is not here is made up."""


def outcome(function: Callable[..., Any], folder: Path, as_given: Callable[[str], Any]) -> str:
    """How a call ends in which every path leads to nothing, below a folder."""
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
    # What is made up shows itself with a number of its own.
    return re.sub(r"\d{9,}", "N", f"{told} {written}".replace(str(folder), "FOLDER"))


def test_the_front_door_is_among_them() -> None:
    assert {"mimic3tf.data.loading.load_cohort", "mimic3tf.api.train", "mimic3tf.api.audit"} <= set(FUNCTIONS)
    assert len(FUNCTIONS) > 40


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_public_function_takes_text_as_it_takes_a_path(name: str, tmp_path: Path) -> None:
    ends = []
    for number, as_given in enumerate((Path, str, Named)):
        (tmp_path / str(number)).mkdir()
        ends.append(outcome(FUNCTIONS[name], tmp_path / str(number), as_given))
    assert ends[0] == ends[1] == ends[2]
