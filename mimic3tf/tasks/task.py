"""What is predicted about a stay: a task, and the words in which people speak of it."""

from __future__ import annotations

from dataclasses import dataclass

from mimic3tf.tasks.targets import Targets


@dataclass(frozen=True)
class Words:
    """How pages and tables name the two labels of a task, label 0 first.

    Attributes:
        group: the stays of a label, such as "survivors" and "deaths".
        one: one stay of a label.
        happened: what happened to them.
        predicted: what a victim predicts.
        outcome: what label 1 means.
    """

    group: tuple[str, str]
    one: tuple[str, str]
    happened: tuple[str, str]
    predicted: tuple[str, str]
    outcome: str


@dataclass(frozen=True)
class Task:
    """A prediction task of the benchmarks' kind.

    Attributes:
        name: as `--task` and settings spell it.
        targets: what a listfile says of a stay, what a victim's head gives, and how both are compared.
        period: hours of a stay that a prediction reads.
        words: how people speak of it.
    """

    name: str
    targets: Targets
    period: float
    words: Words

    @property
    def header(self) -> str:
        """First line of this task's listfiles."""
        return ",".join(["stay", *self.targets.columns])
