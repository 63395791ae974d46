"""The tasks by name. A new task is a row in `TASKS`; a new kind of label is a class as `targets.Targets`."""

from __future__ import annotations

from mimic3tf.errors import UsageError, near
from mimic3tf.tasks.heads import Multitask
from mimic3tf.tasks.phenotypes import PHENOTYPES
from mimic3tf.tasks.remaining import Classes, Hours
from mimic3tf.tasks.targets import Binary, MultiLabel
from mimic3tf.tasks.task import Task, Words

MORTALITY_HOURS = 48.0
"""Hours of a stay from which in-hospital mortality is predicted."""
MORTALITY = Task(
    name="in-hospital-mortality",
    targets=Binary(),
    period=MORTALITY_HOURS,
    words=Words(
        group=("survivors", "deaths"),
        one=("survivor", "death"),
        happened=("survived", "died"),
        predicted=("predicted to survive", "predicted to die"),
        outcome="died in hospital",
    ),
)
"""Predict death in hospital from the first 48 hours of the ICU stay (Harutyunyan et al. 2019)."""

PHENOTYPING = Task(
    name="phenotyping",
    targets=MultiLabel(PHENOTYPES),
    period=None,
    words=Words(
        group=("stays without the label", "stays with the label"),
        one=("stay without the label", "stay with the label"),
        happened=("do not have the label", "have the label"),
        predicted=("predicted not to have the label", "predicted to have the label"),
        outcome="with the label",
    ),
)
"""Predict 25 groups of diagnoses from the whole ICU stay (Harutyunyan et al. 2019)."""

DECOMPENSATION = Task(
    name="decompensation",
    targets=Binary(),
    period=None,
    words=Words(
        group=("quiet hours", "hours before a death"),
        one=("quiet hour", "hour before a death"),
        happened=("have no death within 24 h", "have a death within 24 h"),
        predicted=("called quiet", "given an alarm"),
        outcome="with a death within 24 h",
        unit="hours",
    ),
    hourly=True,
)
"""Predict at every hour of the ICU stay whether the patient dies within 24 h (Harutyunyan et al. 2019)."""

_REMAINING = Words(
    group=("hours of another class", "hours of the class"),
    one=("hour of another class", "hour of the class"),
    happened=("are of another class", "are of the class"),
    predicted=("predicted to be of another class", "predicted to be of the class"),
    outcome="of the class",
    unit="hours",
)
LENGTH_OF_STAY = Task("length-of-stay", Classes(), period=None, words=_REMAINING, hourly=True)
"""Predict at every hour how long the stay will still last, in ten classes (Harutyunyan et al. 2019)."""

LENGTH_OF_STAY_LOG = Task("length-of-stay-log", Classes("log"), period=None, words=_REMAINING, hourly=True)
"""The same in ten classes of the logarithm of the hours; the listfiles are the same."""

LENGTH_OF_STAY_HOURS = Task("length-of-stay-hours", Hours(), period=None, words=_REMAINING, hourly=True)
"""The same as a number of hours; the listfiles are the same."""

MULTITASK = Task(
    name="multitask",
    targets=Multitask(),
    period=None,
    words=PHENOTYPING.words,
    hourly=True,
    first=("filename", "length of stay"),
)
"""Predict mortality at hour 48, decompensation and length of stay at every hour, and phenotypes at the last
hour, by one victim with four heads (Harutyunyan et al. 2019)."""

TASKS = {
    task.name: task
    for task in (
        *(MORTALITY, PHENOTYPING, DECOMPENSATION),
        *(LENGTH_OF_STAY, LENGTH_OF_STAY_LOG, LENGTH_OF_STAY_HOURS),
        MULTITASK,
    )
}


def task_of(name: str) -> Task:
    """Look up a task by its name.

    Raises:
        UsageError: no task has this name; lists the known names.
    """
    if name not in TASKS:
        raise UsageError(f"'{name}': no such task; known: {', '.join(TASKS)}{near(name, TASKS)}")
    return TASKS[name]


def check_one_length(task: Task, what: str) -> None:
    """Refuse a task whose stays have lengths of their own, where stays of one length are needed.

    Args:
        task: the task.
        what: what needs them, such as "poison".

    Raises:
        UsageError: the task is such a task; names the commands that take it.
    """
    if task.period is None:
        raise UsageError(
            f"{what}: the stays of {task.name} have different lengths, and this needs stays of one length; "
            f"take the task {MORTALITY.name}, or 'train --trigger' and 'attack', which take any stays"
        )
