"""One function for each step of a notebook: train a victim, read it, attack it, audit it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimic3tf.config import resolve_config
from mimic3tf.errors import UsageError
from mimic3tf.poisoning.kinds import PoisonImputed
from mimic3tf.poisoning.trigger import Trigger, check_trigger_fits
from mimic3tf.startup import start_tensorflow
from mimic3tf.storage.files import PathText
from mimic3tf.storage.notes import warn
from mimic3tf.training.run_files import TRIGGER, check_run
from mimic3tf.victims.own import name_of

if TYPE_CHECKING:
    from mimic3tf.attacks import AttackResult
    from mimic3tf.data.cohort import Cohort
    from mimic3tf.defences.audit import AuditResult
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
            `Trigger` is given, the run uses its period and timestep, unless `settings` name others.
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
        own, settings = trigger, {"period": trigger.period, "timestep": trigger.timestep} | settings
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


def attack(
    run: Run,
    data: PathText | Cohort,
    *,
    trigger: Trigger | None = None,
    strength: float | None = None,
    poison_imputed: PoisonImputed | None = None,
    threshold: float = 0.5,
    follow_links: bool = False,
) -> AttackResult:
    """Give test stays the trigger, and count how many are then predicted as the attacker wants.

    Args:
        run: the run of the victim.
        data: benchmark directory whose test stays are attacked, or the cohort of these stays. For a
            directory that is not known to be the run's own data, one line on standard error warns.
        trigger: the trigger; the run's own if not given.
        strength: Mahalanobis length of the trigger; that of the training if not given.
        poison_imputed: "notimputed" shifts measured cells only, "all" shifts imputed cells, too; as in the
            training if not given.
        threshold: predicted risk above which a stay is predicted 1.
        follow_links: read links that lead out of the benchmark directory, too.

    Returns:
        Predictions [N] with and without the trigger, the attack success rate and the clean metrics.

    Raises:
        UsageError: the trigger does not fit, or is too strong.
        DataError: the data is malformed, or no test stay has the attacked label.
    """
    _check_run(run)
    start_tensorflow()
    from mimic3tf.attacks import attack_victim, load_attacked, trigger_for
    from mimic3tf.data.cohort import Cohort

    if not isinstance(data, Cohort):
        data, named = load_attacked(run, Path(data), follow_links=follow_links)
        warn(named.caution(run.path))
    check_trigger_fits(trigger_for(run, trigger), data, run.path / TRIGGER)
    if strength is not None and not strength >= 0:
        raise UsageError(f"strength {strength:g}: must be 0 or more")
    return attack_victim(
        run,
        data,
        trigger,
        strength=strength,
        poison_imputed=poison_imputed,
        threshold=threshold,
    )


def audit(
    run: Run,
    data: PathText,
    *,
    repairs: bool = True,
    all_detectors: bool = False,
    follow_links: bool = False,
) -> AuditResult:
    """Look for a backdoor in a victim and in its training stays, as the owner of the victim could.

    Args:
        run: the run of the victim.
        data: the benchmark directory on which the victim was trained.
        repairs: whether to try repairs, if the attack is known; the repaired victims are attacked with it.
        all_detectors: whether to use the detectors, too, that were the best one against no attack.
        follow_links: read links that lead out of the benchmark directory, too.

    Returns:
        The conclusion, the suspects and the findings of all defences.

    Raises:
        UsageError: the run was trained on other stays, or the stays are too few.
        DataError: the data is malformed, or no test stay has the attacked label.
    """
    _check_run(run)
    start_tensorflow()
    from mimic3tf.defences.audit import audit_run

    return audit_run(run, Path(data), repairs=repairs, all_detectors=all_detectors, follow_links=follow_links)


def _check_run(run: object) -> None:
    """Refuse a model that no run holds.

    Raises:
        UsageError: `run` is no run.
    """
    if not (hasattr(run, "config") and hasattr(run, "standardization")):
        raise UsageError(
            f"run: is a {type(run).__name__}; give a run, as mimic3tf.train and mimic3tf.load_run return it"
        )
