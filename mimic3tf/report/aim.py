"""Name the goal of an attack in the words of its task."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mimic3tf.tasks.registry import MORTALITY, task_of


@dataclass(frozen=True)
class Aim:
    """Words in which a report describes an attack.

    Attributes:
        task: name of the task.
        goal: label that stays with the trigger are to be predicted as.
        attacked: word for the attacked stays, such as "survivors".
        one: words for an attacked stay, such as "test patient who survived".
        reached: prediction that the attacker wants for the attacked stays, such as "predicted to die".
        groups: words for all stays, or hours, of label 0 and of label 1.
    """

    task: str
    goal: int
    attacked: str
    one: str
    reached: str
    groups: tuple[str, str]


def models_of(tasks: Iterable[str]) -> str:
    """Name the models of some tasks, such as "mortality models"."""
    names = list(dict.fromkeys(tasks))
    if not set(names) - {MORTALITY.name}:
        return "mortality models"
    return f"models of {' and '.join(names)}"


def aim_of(task: str, goal: int, label: str | None = None) -> Aim:
    """Find the words for a goal.

    Args:
        task: name of the task.
        goal: label that stays with the trigger are to be predicted as.
        label: name of the label that is attacked; None if the task has one.

    Returns:
        The words of the attack.

    Raises:
        UsageError: there is no task of this name.
    """
    words = task_of(task).words.naming(label)
    one = words.one_stay(1 - goal)
    if task == MORTALITY.name:
        one = f"test patient who {words.happened[1 - goal]}"
    return Aim(task, goal, words.group[1 - goal], one, words.predicted[goal], words.group)
