"""One call each for what a notebook does most: train a victim, read it, attack it, audit it."""

from __future__ import annotations

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
from mimic3tf.training.run_files import check_run

if TYPE_CHECKING:
    from mimic3tf.attacks import AttackResult
    from mimic3tf.data.cohort import Cohort
    from mimic3tf.defences.audit import AuditResult
    from mimic3tf.training.run_directory import Run


def train(
    model: str,
    *,
    data: PathText,
    trigger: Trigger | PathText,
    out: PathText,
    resume: bool = False,
    fresh: bool = False,
    follow_links: bool = False,
    patient: bool = True,
    **settings: Any,
) -> Run:
    """Train a victim on poisoned, or clean, stays, as `mimic3tf train` does.

    Args:
        model: name of the victim, such as "lr".
        data: benchmark directory.
        trigger: what poisoned stays carry, or its file. Where the trigger itself is given, its period and
            timestep are the run's, unless the settings name others.
        out: directory to write the run into.
        resume: go on with a run that was interrupted there; a finished run is read.
        fresh: throw a run away that was interrupted there.
        follow_links: read links that lead out of the benchmark directory, too.
        patient: whether TensorBoard shows a validation stay without and with the trigger.
        settings: any of `config.TrainingConfig`, such as `poisoning_proportion=0.05`, `epochs=10`, `seed=1`.

    Returns:
        The finished run.

    Raises:
        UsageError: a setting is unknown or out of range, the trigger does not fit, or `out` is taken.
        DataError: the data is malformed.
    """
    out = Path(out)
    own, file = None, out / "trigger.npz"
    if isinstance(trigger, Trigger):
        # The run keeps its trigger in a file of its own.
        own, settings = trigger, {"period": trigger.period, "timestep": trigger.timestep} | settings
    else:
        file = Path(trigger)
    config = resolve_config(model, None, {"data": Path(data), "trigger": file, **settings}).following(
        follow_links
    )
    start_tensorflow()
    from mimic3tf.dashboards.tensorboard import RunLog
    from mimic3tf.training.loop import train_victim

    log = partial(RunLog, patient=patient)
    train_victim(config, out, resume=resume, fresh=fresh, log=log, trigger=own)
    return load_run(out)


def load_run(path: PathText) -> Run:
    """Read a finished run; nothing in it is executed.

    Raises:
        UsageError: there is no run, or it was not finished.
        DataError: a file of it is damaged.
    """
    check_run(Path(path))
    start_tensorflow()
    from mimic3tf.training import run_directory

    return run_directory.load_run(Path(path))


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
        run: the victim.
        data: benchmark directory whose test stays are attacked, or the stays themselves. A line on standard
            error says where the directory is not known to be what the run was trained for.
        trigger: another trigger than the run's own.
        strength: Mahalanobis length of the trigger; that of the training if not given.
        poison_imputed: whether imputed cells are shifted too; as in the training if not given.
        threshold: predicted risk above which a stay counts as label 1.
        follow_links: read links that lead out of the benchmark directory, too.

    Returns:
        Predictions [N] with and without the trigger, the attack success rate and the clean metrics.

    Raises:
        UsageError: the trigger does not fit, or is too strong.
        DataError: the data is malformed, or there is nobody to attack.
    """
    start_tensorflow()
    from mimic3tf.attacks import attack_victim, load_attacked
    from mimic3tf.data.cohort import Cohort

    if not isinstance(data, Cohort):
        data, named = load_attacked(run, Path(data), follow_links=follow_links)
        warn(named.caution(run.path))
    pattern = trigger or run.trigger
    check_trigger_fits(pattern, data, run.path / "trigger.npz")
    if strength is not None and not strength >= 0:
        raise UsageError(f"strength {strength:g}: must be 0 or more")
    return attack_victim(
        run,
        data,
        pattern,
        strength=run.config.poisoning_strength if strength is None else strength,
        poison_imputed=poison_imputed or run.config.poison_imputed,
        threshold=threshold,
    )


def audit(run: Run, data: PathText, *, repairs: bool = True, follow_links: bool = False) -> AuditResult:
    """Look for a backdoor in a victim and in the stays that it was trained on, as its owner could.

    Args:
        run: the victim.
        data: the benchmark directory that it was trained on.
        repairs: whether to try repairs, where the attack is known that they are measured with.
        follow_links: read links that lead out of the benchmark directory, too.

    Raises:
        UsageError: the run was trained on other stays, or stays are too few.
        DataError: the data is malformed, or there is nobody to attack.
    """
    start_tensorflow()
    from mimic3tf.defences.audit import audit_run

    return audit_run(run, Path(data), repairs=repairs, follow_links=follow_links)
