"""One function for each step of a notebook: train a victim, read it, attack it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from numpy.typing import ArrayLike

from mimic3tf.config import resolve_config
from mimic3tf.errors import UsageError
from mimic3tf.poisoning.kinds import PoisonImputed
from mimic3tf.poisoning.trigger import Trigger, check_trigger_fits
from mimic3tf.startup import start_tensorflow
from mimic3tf.storage.files import PathText
from mimic3tf.storage.notes import warn
from mimic3tf.tasks.registry import MORTALITY, task_of
from mimic3tf.training.run_files import TRIGGER, check_run
from mimic3tf.victims.own import name_of

if TYPE_CHECKING:
    from mimic3tf.data.cohort import Cohort
    from mimic3tf.poisoning.any_model import Predict
    from mimic3tf.poisoning.outcome import AttackResult
    from mimic3tf.training.run_directory import Run


def train(
    model: str | Callable[..., Any],
    *,
    data: PathText,
    out: PathText,
    trigger: Trigger | PathText | None = None,
    resume: bool = False,
    fresh: bool = False,
    follow_links: bool = False,
    patient: bool = True,
    **settings: Any,
) -> Run:
    """Train a victim on poisoned or clean stays, as `mimic3tf train` does.

    Args:
        model: name of the victim, such as "lr"; or a function `build(input_shape, head)` that returns an
            untrained Keras model, or `make()` that returns an unfitted estimator of scikit-learn; or the name
            of such a function, such as "package.module:build" or "path/to/file.py:build".
        data: benchmark directory.
        out: directory of the run.
        trigger: the trigger of the poisoned stays, or its file; if not given, all stays are clean. If a
            `Trigger` is given, the run uses its timestep and, if the task reads stays of one length, its
            period, unless `settings` name others.
        resume: continue an interrupted run in `out`; a finished run is only read.
        fresh: delete an interrupted run in `out`, and start again.
        follow_links: read links that lead out of the benchmark directory, too.
        patient: whether TensorBoard shows a validation stay without and with the trigger.
        settings: settings of `config.TrainingConfig`, such as `poisoning_proportion=0.05` or `seed=1`.

    Returns:
        The finished run.

    Raises:
        UsageError: a setting is unknown or out of range, the trigger does not fit, or `out` cannot be used.
        DataError: the data is malformed.
    """
    model, out = model if isinstance(model, str) else name_of(model), Path(out)
    own, file = None, None if trigger is None else out / TRIGGER
    if isinstance(trigger, Trigger):
        # `file` names the copy that the run keeps of its trigger.
        own, usual = trigger, {"timestep": trigger.timestep}
        if task_of(settings.get("task", MORTALITY.name)).period is not None:
            usual["period"] = trigger.period
        settings = usual | settings
    elif trigger is not None:
        file = Path(trigger)
    config = resolve_config(model, None, {"data": Path(data), "trigger": file, **settings}).following(
        follow_links
    )
    start_tensorflow()
    from mimic3tf.dashboards.tensorboard import RunLog
    from mimic3tf.training.loop import train_victim

    log = partial(RunLog, patient=patient)
    train_victim(config, out, resume=resume, fresh=fresh, log=log, trigger=own)
    return load_run(out, trust_model=True)


def load_run(path: PathText, *, trust_model: bool = False) -> Run:
    """Read a finished run; no code in its files is executed.

    Args:
        path: directory of the run.
        trust_model: whether to run the code that the run names, if the victim is none of the package's.

    Raises:
        UsageError: the directory holds no run, the run is not finished, or it names code that is not trusted.
        DataError: a file of the run is damaged.
    """
    check_run(Path(path), trust_model=trust_model)
    start_tensorflow()
    from mimic3tf.training import run_directory

    return run_directory.load_run(Path(path), trust_model=trust_model)


@overload
def attack(
    run: Run,
    data: PathText | Cohort,
    trigger: Trigger | None = None,
    *,
    strength: float | None = None,
    poison_imputed: PoisonImputed | None = None,
    threshold: float = 0.5,
    follow_links: bool = False,
) -> AttackResult: ...


@overload
def attack(
    predict: Predict,
    /,
    data: Cohort | tuple[ArrayLike, ArrayLike],
    trigger: Trigger,
    *,
    strength: float | None = None,
    goal: int = 1,
    threshold: float = 0.5,
) -> AttackResult: ...


def attack(
    run: Run | Predict,
    data: PathText | Cohort | tuple[ArrayLike, ArrayLike],
    trigger: Trigger | None = None,
    *,
    strength: float | None = None,
    poison_imputed: PoisonImputed | None = None,
    goal: int | None = None,
    threshold: float = 0.5,
    follow_links: bool = False,
) -> AttackResult:
    """Give test stays the trigger, and count how many are then predicted as the attacker wants.

    The model is a run, or any function. A function gets the measured cells of all stays at once: an array
    [N, T, C] of the type of x, in the channels' units, NaN where not measured; so its own imputation and
    standardization follow. It is called without the trigger, and with the trigger added to all measured
    cells. It returns the probability of label 1, [N] or [N, 1], or probabilities of K labels, [N, K].

    Args:
        run: the run of the victim; or the function.
        data: for a run, the benchmark directory whose test stays are attacked (one line on standard error
            warns if it may not be the run's own data), or their cohort. For a function, the cohort, or a pair
            of arrays (x, y): x [N, T, C] with NaN where not measured, labels y [N].
        trigger: the trigger; for a run, its own if not given.
        strength: Mahalanobis length of the trigger; if not given, that of the training, or 2 for a function.
        poison_imputed: for a run, "notimputed" shifts measured cells only, "all" shifts imputed cells, too;
            as in the training if not given.
        goal: for a function, the label that the trigger is to cause; 1 if not given.
        threshold: predicted risk above which a stay is predicted 1.
        follow_links: for a run, read links that lead out of the benchmark directory, too.

    Returns:
        Predictions [N] with and without the trigger, the attack success rate, and the clean metrics with 95%
        bootstrap intervals of AUROC and AUPRC.

    Raises:
        UsageError: the trigger does not fit or is too strong, or an argument is for the other kind of model.
        DataError: the data is malformed, no test stay has the attacked label, or the function returns no
            probabilities.
    """
    if not 0 <= threshold <= 1:
        raise UsageError(f"threshold {threshold:g}: must be from 0 to 1")
    if callable(run):
        if poison_imputed == "all":
            raise UsageError("poison_imputed 'all': a function gets no imputed cells; leave it out")
        if isinstance(data, (str, os.PathLike)) or trigger is None:
            raise UsageError("attack(predict, data, trigger): give a cohort or a pair (x, y), and a trigger")
        return _attack_function(run, data, trigger, strength, 1 if goal is None else goal, threshold)
    check_is_run(run)
    if goal is not None:
        raise UsageError("goal: a run has its own goal; leave it out")
    if strength is not None and not strength >= 0:
        raise UsageError(f"strength {strength:g}: must be 0 or more")
    attacked = _attacked(run, data, follow_links=follow_links)
    from mimic3tf.attacks import attack_victim, trigger_for

    check_trigger_fits(trigger_for(run, trigger), attacked, run.path / TRIGGER)

    setting: Any = {"strength": strength, "poison_imputed": poison_imputed}
    return attack_victim(run, attacked, trigger, threshold=threshold, **setting)


def _attacked(
    run: Run, data: PathText | Cohort | tuple[ArrayLike, ArrayLike], *, follow_links: bool
) -> Cohort:
    if isinstance(data, tuple):
        raise UsageError("attack(run, data): give a benchmark directory or a cohort, not arrays")
    start_tensorflow()
    from mimic3tf.attacks import load_attacked
    from mimic3tf.data.cohort import Cohort

    if isinstance(data, Cohort):
        return data
    cohort, named = load_attacked(run, Path(data), follow_links=follow_links)
    warn(named.caution(run.path))
    return cohort


def _attack_function(
    predict: Predict,
    data: Cohort | tuple[ArrayLike, ArrayLike],
    trigger: Trigger,
    strength: float | None,
    goal: int,
    threshold: float,
) -> AttackResult:
    from mimic3tf.data.arrays import array_of_cohort
    from mimic3tf.data.cohort import Cohort
    from mimic3tf.poisoning.any_model import attack_model
    from mimic3tf.poisoning.arrays import check_setting, cohort_for, floats
    from mimic3tf.poisoning.goal import Goal

    strength = 2.0 if strength is None else strength
    check_setting(strength, goal)
    if isinstance(data, Cohort):
        check_trigger_fits(trigger, data, "trigger")
        cohort, cells = data, array_of_cohort(data)
    elif isinstance(data, tuple) and len(data) == 2:
        cohort, cells = cohort_for(trigger, *data), floats(data[0])
    else:
        raise UsageError(f"data: is a {type(data).__name__}; give a cohort or a pair of arrays (x, y)")
    return attack_model(
        predict, cohort, cells, trigger, strength=strength, goal=Goal(goal), threshold=threshold
    )


def check_is_run(run: object) -> None:
    """Refuse a model that no run holds.

    Raises:
        UsageError: `run` is no run.
    """
    if not (hasattr(run, "config") and hasattr(run, "standardization")):
        raise UsageError(
            f"run: is a {type(run).__name__}; give a run, as mimic3tf.train and mimic3tf.load_run return it"
        )
