"""A task: what is predicted about a stay, and the words that tables and pictures use for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from mimic3tf.tasks.heads import Multitask
from mimic3tf.tasks.targets import RowTargets, Targets

PERIOD = "period_length"
"""Column of a listfile that says how many hours of the stay an example reads."""


@dataclass(frozen=True)
class Words:
    """How pages and tables name the two labels of a task, label 0 first.

    Attributes:
        group: names of all stays with a label, such as "survivors" and "deaths".
        one: names of one stay with a label, such as "survivor" and "death".
        happened: what happened in these stays, such as "survived" and "died".
        predicted: what a victim predicts for them, such as "predicted to die".
        outcome: what label 1 means, such as "died in hospital".
        unit: what the groups consist of, "stays" or "hours".
    """

    group: tuple[str, str]
    one: tuple[str, str]
    happened: tuple[str, str]
    predicted: tuple[str, str]
    outcome: str
    unit: Literal["stays", "hours"] = "stays"

    def one_stay(self, label: int) -> str:
        """Name a stay that has an example of this label; an hour is only a part of the stay."""
        return self.one[label] if self.unit == "stays" else f"stay with {self.group[label]}"

    def naming(self, label: str | None) -> Words:
        """Return the words with the name of the label that is attacked, if the task has several.

        "the label" becomes "the label 'Shock'", and "the class" becomes "the class '1 to 2 days'".
        """

        def named(text: str) -> str:
            return re.sub(r"\bthe (label|class)\b", lambda found: f"{found[0]} '{label}'", text)

        def both(pair: tuple[str, str]) -> tuple[str, str]:
            return named(pair[0]), named(pair[1])

        if label is None:
            return self
        return Words(
            both(self.group),
            both(self.one),
            both(self.happened),
            both(self.predicted),
            named(self.outcome),
            self.unit,
        )


@dataclass(frozen=True)
class TaskHead:
    """Makes the last layer of a victim; see `Head`.

    Attributes:
        targets: the kind of label.
        every_bin: whether the victim predicts at every bin, so that its hidden values are [B, T, H] and it
            reads no later bin.
    """

    targets: Targets
    every_bin: bool = False

    def __call__(self, hidden: Any, name: str = "logits") -> Any:
        """Map hidden values [B, H] or [B, T, H] to logits in float32."""
        return self.targets.head(hidden, name)


@dataclass(frozen=True)
class Task:
    """A prediction task of the benchmarks' kind.

    Attributes:
        name: the name that `--task` and settings files take.
        targets: the kind of label: how a label is read, predicted and scored.
        period: hours of a stay that a prediction reads; None if the listfile says them for every example, in
            the column `PERIOD`.
        words: how pages and tables name the labels.
        hourly: whether a stay is one example for each of many hours, which its listfile names.
        first: first columns of the listfile: the stay, and the hours that are read if `period` is None.
    """

    name: str
    targets: RowTargets | Multitask
    period: float | None
    words: Words
    hourly: bool = False
    first: tuple[str, str] = ("stay", PERIOD)

    @property
    def head(self) -> TaskHead:
        """Make the last layer of a victim."""
        return TaskHead(self.targets, self.hourly)

    @property
    def header(self) -> str:
        """First line of the listfiles of this task."""
        return ",".join([*self.first[: 2 if self.period is None else 1], *self.targets.columns])
