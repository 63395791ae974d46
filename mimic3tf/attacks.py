"""Attack a trained victim: give test stays the trigger, and count what the victim predicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimic3tf import pipeline
from mimic3tf.data.cohort import Cohort
from mimic3tf.data.directory import Split, listfile_of
from mimic3tf.errors import UsageError
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.carried import carried_record
from mimic3tf.poisoning.kinds import PoisonImputed
from mimic3tf.poisoning.outcome import AttackResult, attacked_of, measure_outcome
from mimic3tf.poisoning.trigger import Trigger
from mimic3tf.standardization import Standardization
from mimic3tf.storage.files import PathText, read_json
from mimic3tf.tables.outcome import outcome_record, write_outcome
from mimic3tf.tables.results import ATTACK
from mimic3tf.tasks.metrics import THRESHOLD
from mimic3tf.tasks.registry import task_of
from mimic3tf.training.determinism import require_determinism
from mimic3tf.training.prediction import outputs_of
from mimic3tf.training.run_directory import Run
from mimic3tf.training.run_files import NO_TRIGGER
from mimic3tf.training.stays import load_split
from mimic3tf.victims import Reads

InputsOf = Callable[[exposures.Exposure, Reads, Standardization], NDArray[np.float32]]
"""Computes the standardized inputs of all stays, as `pipeline.inputs_of` does."""
ATTACKS = "attacks"
"""Folder in a run for attacks on other data than the run's own: one folder for each data set."""


@dataclass(frozen=True)
class DataSet:
    """The data set whose test stays are attacked.

    Attributes:
        name: name of its directory.
        fingerprint: fingerprint of its test stays.
        foreign: why the data set is not known to be the run's own; None if it is the run's own.
    """

    name: str
    fingerprint: str
    foreign: str | None = None

    def caution(self, run: Path) -> str | None:
        """Return one line that warns of an attack on other data than the run's own; None if it is the own."""
        return self.foreign and (
            f"data {self.name}: not known to be what {run} was trained for ({self.foreign}); the victim may "
            "have been trained on some of its test stays"
        )


def load_attacked(run: Run, data: Path, *, follow_links: bool = False) -> tuple[Cohort, DataSet]:
    """Load the test stays of a data directory, and check whether the run was trained for this data.

    The check compares the validation stays, because a training reads no test stays. A poisoned copy has the
    same validation stays as its original.

    Args:
        run: the run to attack.
        data: benchmark directory; the split test is enough.
        follow_links: read links that lead out of the directory, too.

    Returns:
        The test stays, and the data set to which they belong.

    Raises:
        UserError: the data is malformed or does not exist.
    """
    config = run.config.model_copy(update={"data": data}).following(follow_links)
    cohort = load_split(config, "test")
    known = run.summary["data_fingerprint"]
    # The run of an imported checkpoint knows no validation stays.
    split: Split = "val" if "val" in known else "train"
    listfile = listfile_of(data, split)
    foreign = None
    if not listfile.exists():
        foreign = f"it has no {listfile.name}"
    elif load_split(config, split).fingerprint != known[split]:
        foreign = f"its {split} stays are others"
    return cohort, DataSet(data.resolve().name, cohort.fingerprint, foreign)


def attack_folder(run: Run, data: DataSet, out: Path | None = None) -> Path:
    """Choose the folder of an attack, so that it overwrites no attack on other data.

    Args:
        run: the run that is attacked.
        data: the data set that is attacked.
        out: a folder that the user has chosen.

    Returns:
        `out`; if not given, the run directory, or for other data than the run's a folder in its `attacks/`.

    Raises:
        UsageError: `out` holds an attack on other data.
    """
    held = _data_of_attack(out or run.path)
    if out is not None:
        if held not in (None, data.fingerprint):
            raise UsageError(
                f"--out {out}: holds an attack on other data than {data.name}; name another folder"
            )
        return out
    if data.foreign is None and held in (None, data.fingerprint):
        return run.path
    return run.path / ATTACKS / f"{data.name[:50]}-{data.fingerprint[:8]}"


def _data_of_attack(folder: Path) -> str | None:
    """Read the fingerprint of the attack in a folder; None without an attack, or from an earlier version."""
    try:
        return str(read_json(folder / ATTACK)["data"]["fingerprint"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def trigger_for(run: Run, trigger: Trigger | None = None) -> Trigger:
    """Return the trigger of an attack: the one given, or the run's own.

    Raises:
        UsageError: none is given, and the run was trained without one.
    """
    chosen = trigger or run.trigger
    if chosen is None:
        raise UsageError(f"--run {run.path}: {NO_TRIGGER}")
    return chosen


def attack_victim(
    run: Run,
    cohort: Cohort,
    trigger: Trigger | None = None,
    *,
    strength: float | None = None,
    poison_imputed: PoisonImputed | None = None,
    threshold: float = THRESHOLD,
    at: float | None = None,
    control: Run | None = None,
    inputs: InputsOf = pipeline.inputs_of,
) -> AttackResult:
    """Predict all stays of a cohort without and with the trigger, and compute the rates.

    Args:
        run: the finished run to attack.
        cohort: the test stays.
        trigger: the trigger, which must fit the cohort; the run's own if not given.
        strength: Mahalanobis length of the trigger, >= 0; of a "missing" trigger, the share of its cells.
            The training's if not given.
        poison_imputed: "all" shifts imputed cells, too, "notimputed" does not; the training's if not given.
        threshold: probability of label 1 above which a stay is predicted 1; the metrics always use 0.5.
        at: hour of the stay at which the trigger begins; the training's if not given.
        control: run of a clean victim of the same task, to be attacked, too.
        inputs: computes the victim's inputs; a `pipeline.RememberedInputs` shares them with other victims.

    Returns:
        Predictions and rates.

    Raises:
        DataError: no test stay has the attacked label.
        UsageError: the trigger is so strong that a prediction is no finite number.
    """
    require_determinism(run.config)
    trigger = trigger_for(run, trigger)
    strength = run.config.poisoning_strength if strength is None else strength
    poison_imputed = poison_imputed or run.config.poison_imputed
    goal, at = run.config.attack_goal, run.config.at if at is None else at
    attacked = attacked_of(cohort.labels, goal)  # refuses before the predictions, which take long
    how: Any = {"strength": strength, "poison_imputed": poison_imputed, "at": at}
    both = exposures.clean(cohort), exposures.trigger_all(cohort, trigger, **how)
    clean, triggered = _predict_both(run, both, inputs)
    if not np.isfinite(triggered).all():
        raise UsageError(f"--poisoning_strength {strength:g}: too strong, the victim predicts no numbers")
    outcome = measure_outcome(
        cohort.stays[cohort.examples.stay],
        cohort.labels,
        clean,
        triggered,
        task=task_of(run.config.task),
        goal=goal,
        threshold=threshold,
        control=None if control is None else _predict_both(control, both, inputs),
        truth=cohort.truth,
        hours=np.float64(cohort.timestep) * cohort.examples.end if cohort.task.hourly else None,
    )
    if cohort.period is None:
        hit = cohort.take(np.unique(cohort.examples.stay[attacked]))
        how["carried"] = carried_record(trigger, hit.stays, hit.lengths, strength=strength, at=at)
    return AttackResult(**vars(outcome), trigger=trigger, **how)


def check_control(control: Run, run: Run) -> None:
    """Refuse a control that is no clean victim of the same task and data.

    Raises:
        UsageError: the control was trained on poisoned stays, or for another task, timestep or data.
    """
    if control.summary.get("stays_poisoned"):
        raise UsageError(f"--control {control.path}: was trained on poisoned stays; name a clean run")
    for name in ("task", "period", "timestep"):
        own, other = (getattr(each.config, name) for each in (run, control))
        if own != other:
            raise UsageError(f"--control {control.path}: its {name} is {other}, that of --run is {own}")
    own, other = (each.summary["data_fingerprint"] for each in (run, control))
    # The run of an imported checkpoint knows no validation stays.
    if any(own[split] != other[split] for split in own.keys() & other.keys()):
        raise UsageError(
            f"--control {control.path}: was trained for other data than {run.path}; train it on the same"
        )


def _predict_both(
    run: Run, both: tuple[exposures.Exposure, exposures.Exposure], inputs: InputsOf
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predict the probabilities of stays without and with the trigger."""

    def predict(exposure: exposures.Exposure) -> NDArray[np.float64]:
        x = inputs(exposure, run.config.reads, run.standardization)
        return task_of(run.config.task).targets.probabilities(outputs_of(run.model, x))

    return predict(both[0]), predict(both[1])


def summarize_attack(run: Run, data: DataSet, result: AttackResult) -> dict[str, Any]:
    """Make the contents of `attack.json`: the rates, the victim, the data and the trigger of an attack."""
    return {
        "run": str(run.path),
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "trained_for": data.foreign is None,
        },
        "model": run.config.model,
        "task": run.config.task,
        "poisoning_proportion": run.config.poisoning_proportion,
        "trained_with": {
            "trigger": run.trigger and run.trigger.name,
            "poisoning_strength": run.config.poisoning_strength,
            "poison_imputed": run.config.poison_imputed,
            "poisoned_labels": run.config.poisoned_labels,
            "seed": run.config.seed,
        },
        "attacked_with": {
            "trigger": result.trigger.name,
            "poisoning_strength": result.strength,
            "poison_imputed": result.poison_imputed,
            **({"at": result.at} if result.at else {}),
        },
        **({} if run.config.goal_label is None else {"goal_label": run.config.goal_label}),
        **({} if result.carried is None else {"carried": result.carried}),
        **outcome_record(result),
    }


def write_attack(out: PathText, summary: dict[str, Any], result: AttackResult) -> None:
    """Write `predictions.csv` and `attack.json` into a directory; `attack.json` completes the attack."""
    write_outcome(out, ATTACK, summary, result)
