"""The models that are attacked: one page each.

A victim is a module of this folder with `TITLE`, `READS` and `build`, and a file of settings of the same
name in `configs/`: `summary_lstm.py` and `summary-lstm.yaml`. Both are found by their names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module, resources
from typing import TYPE_CHECKING, Literal, get_args

from mimic3tf.errors import UsageError, near

if TYPE_CHECKING:
    import keras

OriginalVictim = Literal["lr", "mlp", "lstm"]
"""Those of Joe et al. 2020."""
Reads = Literal["grid", "features"]
"""What a victim reads of a stay: a grid [T, D], or 42 features a channel [42 * C]."""


@dataclass(frozen=True)
class Victim:
    """A kind of model.

    Attributes:
        name: as `--model` spells it.
        title: name in tables.
        reads: what it reads of a stay.
        build: makes a fresh model from the shape of a stay's input and a `tasks.targets.Head`; one with
            `by_channel` takes the channel of each column [D], too.
        by_channel: whether it treats the columns of a channel together.
    """

    name: str
    title: str
    reads: Reads
    build: Callable[..., keras.Model]
    by_channel: bool


@lru_cache
def victim_names() -> tuple[str, ...]:
    """Names of all victims, the paper's first. Keras is not imported for it."""
    files = resources.files("mimic3tf.configs").iterdir()
    found = {file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")}
    original = get_args(OriginalVictim)
    return (*original, *sorted(found.difference(original)))


def check_victim(name: str) -> str:
    """The name itself, if there is such a victim.

    Raises:
        UsageError: there is none; lists those there are.
    """
    if name not in victim_names():
        known = victim_names()
        raise UsageError(f"'{name}': no such victim; known: {', '.join(known)}{near(name, known)}")
    return name


def victim_of(name: str) -> Victim:
    """Look a victim up.

    Keras is only imported here. With it come the victims' own layers, without which Keras cannot read their
    files.

    Raises:
        UsageError: there is no victim of this name.
    """
    page = import_module(f"mimic3tf.victims.{check_victim(name).replace('-', '_')}")
    return Victim(name, page.TITLE, page.READS, page.build, getattr(page, "BY_CHANNEL", False))
