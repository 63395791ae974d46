"""The victims: the models that are attacked, one module each.

A victim is a module of this folder with `TITLE`, `READS` and `build`, and a settings file of the same name in
`configs/`, such as `summary_lstm.py` and `summary-lstm.yaml`. The package finds both by their names. Another
victim is named by the function that builds it: see `own.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib import import_module, resources
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from mimic3tf.errors import UsageError, near
from mimic3tf.victims import own
from mimic3tf.victims.sizes import Size

if TYPE_CHECKING:
    import keras

OriginalVictim = Literal["lr", "mlp", "lstm"]
"""The three victims of Joe et al. 2020."""
Reads = Literal[
    "grid",
    "features",
    "measured",
    "first4days",
    "first8days",
    "last12hours",
    "first25percent",
    "first50percent",
]
"""What a victim reads of a stay: a grid [T, D], or 42 features for each channel [42 * C]. These are taken of
the filled grid ("features"), or of the measured cells only: of all ("measured"), or of those in a part of
each channel's time."""
OWN_READS = ("grid", "features")
"""What a victim of the user's may read."""


@dataclass(frozen=True)
class Victim:
    """A kind of model.

    Attributes:
        name: the name that `--model` takes.
        title: the name in tables.
        reads: what the model reads of a stay.
        build: function that makes an untrained model from the shape of a stay's input and a
            `tasks.targets.Head`; if `by_channel`, also from the channel of each column of the grid [D].
        by_channel: whether the model groups the columns of the grid by channel.
        one_length: whether the model needs stays of one length.
        estimator: whether `build` makes an estimator of scikit-learn instead: that of the user from nothing,
            those of `linear.py` as it says.
        sizes: settings of the layers that `build` takes by name, with their usual values.
    """

    name: str
    title: str
    reads: Reads
    build: Callable[..., keras.Model]
    by_channel: bool = False
    one_length: bool = False
    estimator: bool = False
    sizes: Mapping[str, Size] = field(default_factory=dict)

    def sized(self, given: Mapping[str, float] | None) -> dict[str, float]:
        """Complete the settings of the layers.

        Raises:
            UsageError: the victim has no such setting, or the setting cannot have this value.
        """
        for name in given or {}:
            if name not in self.sizes:
                known = ", ".join(self.sizes) or "none"
                raise UsageError(f"setting 'sizes': {self.name} has no '{name}'; known: {known}")
        chosen = {name: size.usual for name, size in self.sizes.items()} | {**(given or {})}
        return {name: self.sizes[name].check(name, value) for name, value in chosen.items()}


@lru_cache
def victim_names() -> tuple[str, ...]:
    """List the names of all victims, those of the paper first. This does not import Keras."""
    files = resources.files("mimic3tf.configs").iterdir()
    found = {file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")}
    original = get_args(OriginalVictim)
    return (*original, *sorted(found.difference(original)))


def check_victim(name: str) -> str:
    """Return the name if a victim has it; of a function, with the whole path. This runs no code of the user.

    Raises:
        UsageError: no victim has this name; lists the known names.
    """
    if own.is_own(name):
        return own.full_name(name)
    if name not in victim_names():
        known = victim_names()
        raise UsageError(f"'{name}': no such victim; known: {', '.join(known)}{near(name, known)}")
    return name


def shown_victim(name: str) -> str:
    """Return the name of a victim as tables and sentences show it."""
    return own.short_name(name) if own.is_own(name) else name.upper()


def victim_of(name: str) -> Victim:
    """Look up a victim by its name.

    This function imports Keras and the victim's own layers. Without these layers, Keras cannot read the file
    of a trained victim. For the name of a function, it runs the module that holds the function.

    Raises:
        UsageError: no victim has this name, or the module of a function fails.
    """
    if own.is_own(name):
        return _own_victim(own.full_name(name))
    page = import_module(f"mimic3tf.victims.{check_victim(name).replace('-', '_')}")
    return Victim(
        name,
        page.TITLE,
        page.READS,
        page.build,
        by_channel=getattr(page, "BY_CHANNEL", False),
        one_length=getattr(page, "ONE_LENGTH", False),
        estimator=getattr(page, "ESTIMATOR", False),
        sizes=getattr(page, "SIZES", {}),
    )


def _own_victim(name: str) -> Victim:
    function = own.function_of(name)
    title = own.constant_of(function, "TITLE", own.short_name(name))
    if own.makes_estimator(name, function):
        return Victim(name, title, "features", function, estimator=True)
    reads = own.constant_of(function, "READS", "grid")
    if reads not in OWN_READS:
        raise UsageError(f"'{name}': READS is {reads!r}; write {' or '.join(map(repr, OWN_READS))}")
    return Victim(name, title, cast(Any, reads), partial(own.build_model, name, function))
