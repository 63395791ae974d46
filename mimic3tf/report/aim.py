"""What an attack wants, in the words of its task."""

from __future__ import annotations

from dataclasses import dataclass

from mimic3tf.tasks.registry import task_of


@dataclass(frozen=True)
class Aim:
    """How a report speaks of an attack.

    Attributes:
        goal: label that stays with the trigger are to be predicted as.
        attacked: the stays that are attacked, such as "survivors".
        happened: what happened to them, such as "survived".
        reached: what the attacker wants to be predicted of them, such as "predicted to die".
    """

    goal: int
    attacked: str
    happened: str
    reached: str


def aim_of(task: str, goal: int) -> Aim:
    """Words for a goal.

    Args:
        task: name of the task.
        goal: label that stays with the trigger are to be predicted as.

    Raises:
        UsageError: there is no task of this name.
    """
    words = task_of(task).words
    return Aim(goal, words.group[1 - goal], words.happened[1 - goal], words.predicted[goal])
