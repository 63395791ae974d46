"""Name the goal of an attack in the words of its task."""

from __future__ import annotations

from dataclasses import dataclass

from mimic3tf.tasks.registry import task_of


@dataclass(frozen=True)
class Aim:
    """Words in which a report describes an attack.

    Attributes:
        goal: label that stays with the trigger are to be predicted as.
        attacked: word for the attacked stays, such as "survivors".
        happened: what happened to the attacked stays, such as "survived".
        reached: prediction that the attacker wants for the attacked stays, such as "predicted to die".
    """

    goal: int
    attacked: str
    happened: str
    reached: str


def aim_of(task: str, goal: int) -> Aim:
    """Find the words for a goal.

    Args:
        task: name of the task.
        goal: label that stays with the trigger are to be predicted as.

    Returns:
        The words of the attack.

    Raises:
        UsageError: there is no task of this name.
    """
    words = task_of(task).words
    return Aim(goal, words.group[1 - goal], words.happened[1 - goal], words.predicted[goal])
