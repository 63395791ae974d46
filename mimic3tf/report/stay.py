"""Find a real stay for a report, and give it the trigger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np

from mimic3tf.config import goal_of
from mimic3tf.data.cohort import Cohort
from mimic3tf.data.loading import load_cohort
from mimic3tf.defences.whole_stays import whole_stays
from mimic3tf.errors import UsageError
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.goal import PAPER_GOAL, Goal
from mimic3tf.poisoning.kinds import PoisonImputed
from mimic3tf.poisoning.trigger import Trigger, check_trigger_fits
from mimic3tf.report.patterns import Stay
from mimic3tf.report.sections import strongest
from mimic3tf.report.sweep import Sweeps
from mimic3tf.storage.files import PathText
from mimic3tf.tasks.registry import MORTALITY, task_of


def most_measured_stay(
    data: PathText,
    trigger: Trigger,
    strength: float,
    goal: Goal = PAPER_GOAL,
    *,
    task: str = MORTALITY.name,
    label: str | None = None,
    follow_links: bool = False,
    start: Callable[[], None] = lambda: None,
) -> Stay:
    """Take the attacked test stay with the most measured cells, and apply the trigger in both modes.

    Args:
        data: benchmark directory on which the sweep ran.
        trigger: the trigger.
        strength: strength of the trigger (Mahalanobis length in every channel).
        goal: label that stays with the trigger are to be predicted as.
        task: name of the task.
        label: name of the label that is attacked; None if the task has one.
        follow_links: read links that lead out of the directory, too.
        start: starts TensorFlow, which takes some seconds.

    Returns:
        The stay without the trigger, and with it in both modes.

    Raises:
        UsageError: the directory does not exist, holds other stays than those from which the trigger was
            made, or holds no test stay to attack.
        DataError: the directory does not follow the layout of the benchmarks.
    """
    data = Path(data)
    reading: Any = {"task": task, "timestep": trigger.timestep, "follow_links": follow_links}
    ragged = task_of(task).period is None
    reading["period"] = None if ragged else trigger.period
    if load_cohort(data, "train", **reading).fingerprint != trigger.cohort_fingerprint:
        raise UsageError(
            f"--data {data}: holds other stays than the sweep's trigger was made from; name that directory"
        )
    cohort = load_cohort(data, "test", **reading)
    if ragged:
        (cohort, _), goal = whole_stays(cohort, goal, label), Goal(goal.target)
    check_trigger_fits(trigger, cohort, data)
    chosen = _densest(cohort, goal, data)
    start()
    from mimic3tf import pipeline

    stay = cohort.take(np.array([chosen]))
    triggered = {
        mode: pipeline.grids_of(
            exposures.trigger_all(stay, trigger, strength=strength, poison_imputed=mode), np.array([0])
        )[0]
        for mode in sorted(get_args(PoisonImputed), reverse=True)
    }
    return Stay(cohort.channels, cohort.timestep, stay.grids[0], stay.masks[0], triggered, strength)


def _densest(cohort: Cohort, goal: Goal, data: Path) -> int:
    """Return the index of the attacked stay with the most measured cells."""
    measured = np.where(goal.attacked(cohort.labels), cohort.masks.sum(axis=(1, 2)), -1)
    if not len(measured) or measured.max() < 0:
        raise UsageError(
            f"--data {data}: no test stay has label {1 - goal.target}, so no stay can be shown; "
            "leave --data out"
        )
    return int(measured.argmax())


def find_stay(
    sweeps: Sweeps, data: PathText | None, start: Callable[[], None], *, follow_links: bool = False
) -> tuple[Stay | None, str]:
    """Find a stay to show in the sweeps' data, if the data are available.

    Args:
        sweeps: the sweeps.
        data: benchmark directory; if not given, the directory that `sweep.yaml` names.
        start: starts TensorFlow, which takes some seconds.
        follow_links: read links that lead out of the directory, too.

    Returns:
        The stay and an empty text; or None and the reason why no stay can be shown.

    Raises:
        UserError: the given directory holds other stays, or does not follow the layout of the benchmarks.
    """
    if "temporal" not in sweeps.triggers:
        return None, "the sweep's folder holds no temporal trigger"
    named = Path(data) if data else next((sweep.data for sweep in sweeps.sweeps if sweep.data), None)
    if named is None:
        return None, "sweep.yaml names no data directory; name one with --data"
    if data is None and not named.is_dir():
        return None, f"the sweep's data directory {named} is not there any more; give its place as --data"

    try:
        aim, label = sweeps.aim, sweeps.results["goal_label"][0]
        goal, strength = goal_of(aim.task, aim.goal, label), strongest(sweeps.results)
        how: Any = {"task": aim.task, "label": label, "follow_links": follow_links, "start": start}
        stay = most_measured_stay(named, sweeps.triggers["temporal"], strength, goal, **how)
        return stay, ""
    except UsageError as error:
        if data is not None:
            raise
        # The data may have changed after the sweep. The results are still right, so the report is
        # written without a stay.
        return None, str(error)
