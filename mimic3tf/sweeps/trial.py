"""Run one trial of a sweep: train a victim and attack it."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from mimic3tf.config import TrainingConfig
from mimic3tf.errors import UserError
from mimic3tf.poisoning.kinds import TriggerKind
from mimic3tf.sweeps.outcomes import ROWS, processor_name, write_rows
from mimic3tf.sweeps.plan import Attack, Trial, shortest
from mimic3tf.tables.columns import AT_PREVALENCE

ATTEMPTS = 2


@dataclass(frozen=True)
class Job:
    """A trial, and what a worker needs to run it.

    Attributes:
        trial: the trial.
        config: settings of the training.
        triggers: kind of trigger -> its file, for every kind in the attacks.
        folder: the run directory to write.
        data_fingerprint: fingerprint of the stays.
    """

    trial: Trial
    config: TrainingConfig
    triggers: dict[TriggerKind, Path]
    folder: Path
    data_fingerprint: str


class Board(Protocol):
    """Receives the progress of a sweep."""

    def started(self, job: Job) -> None:
        """Receive that a worker has begun a trial."""

    def ended(self, job: Job) -> None:
        """Receive that a trial has finished or failed; its rows are written already."""


class Trained(NamedTuple):
    """A victim that has been trained, and how its attacks get their inputs.

    Attributes:
        run: contents of its `run.json`.
        seconds: duration of the training.
        load: reads the attacked stays, as `attacks.load_attacked` does.
        inputs: computes their inputs, as `pipeline.inputs_of` does.
    """

    run: dict[str, Any]
    seconds: float
    load: Callable[..., Any]
    inputs: Callable[..., Any]


def run_trial(job: Job, train: Callable[[Job], Trained] | None = None) -> None:
    """Run a trial and record how it ended, even if it failed.

    After an error the trial runs a second time, unless settings or data are at fault: such an error would
    come again. An interrupted training is resumed.

    Args:
        job: the trial.
        train: trains the victim; if not given, `train_alone`.
    """
    forget_rows(job)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            write_rows(
                job.folder, job.trial, job.data_fingerprint, _train_and_attack(job, train or train_alone)
            )
            return
        except UserError as error:
            fault = str(error)
            break
        except Exception as error:
            print(f"{job.trial.name}, attempt {attempt}:", file=sys.stderr)
            traceback.print_exc()
            fault = f"{type(error).__name__}: {error}"
    write_rows(job.folder, job.trial, job.data_fingerprint, error=" ".join(fault.split()))


def forget_rows(job: Job) -> None:
    """Delete the rows of an earlier call; with them, the folder would not be accepted as a run directory."""
    for name in (ROWS, f"{ROWS}.partial"):
        (job.folder / name).unlink(missing_ok=True)


def train_alone(job: Job) -> Trained:
    """Train the victim of a trial, or go on with its interrupted training."""
    import keras

    from mimic3tf.attacks import load_attacked
    from mimic3tf.dashboards.tensorboard import RunLog
    from mimic3tf.pipeline import inputs_of
    from mimic3tf.training.loop import train_victim

    # Names of layers and use of memory are then as in a new process.
    keras.backend.clear_session()
    begun = time.perf_counter()
    run = train_victim(job.config, job.folder, resume=True, log=RunLog)
    return Trained(run, time.perf_counter() - begun, load_attacked, inputs_of)


def _train_and_attack(job: Job, train: Callable[[Job], Trained]) -> list[dict[str, Any]]:
    """Train the victim and attack it; return the measured columns of every attack."""
    from mimic3tf.attacks import attack_victim, summarize_attack, write_attack
    from mimic3tf.poisoning.trigger import load_trigger
    from mimic3tf.training.run_directory import load_run

    run, seconds_training, load, inputs = train(job)
    # The sweep file that the user gave has named the code.
    victim = load_run(job.folder, trust_model=True)
    cohort, data = load(victim, job.config.data, follow_links=job.config.follow_links)
    measured = []
    for attack in job.trial.attacks:
        begun = time.perf_counter()
        trigger = load_trigger(job.triggers[attack.trigger])
        setting: Any = {"strength": attack.poisoning_strength, "poison_imputed": attack.poison_imputed}
        result = attack_victim(victim, cohort, trigger, inputs=inputs, **setting)
        summary = summarize_attack(victim, data, result)
        write_attack(_attack_folder(job, attack), summary, result)
        low, high = summary["attack_success_rate_ci95"]
        measured.append(
            {
                **{key: summary[key] for key in ("attack_success_rate", "baseline_positive_rate")},
                **{key: summary[key] for key in ("stays_attacked", "test_stays")},
                **{column: summary["at_prevalence"][name] for column, name in AT_PREVALENCE.items()},
                "ci95_low": low,
                "ci95_high": high,
                **{f"clean_{name}": value for name, value in summary["clean"].items()},
                "task": job.config.task,
                "goal": job.config.goal,
                "goal_label": job.config.goal_label,
                "poisoned_labels": job.config.poisoned_labels,
                "validation_auroc": run["validation"]["auroc"],
                "epoch_kept": run["epoch_kept"],
                "epochs_trained": run["epochs_trained"],
                "seconds_training": seconds_training,
                "seconds_attack": time.perf_counter() - begun,
                "precision": run["precision"],
                "device": _device(),
            }
        )
    return measured


def _attack_folder(job: Job, attack: Attack) -> Path:
    """Return the run directory itself or, if there are several attacks, a folder in it for this one."""
    if len(job.trial.attacks) == 1:
        return job.folder
    return job.folder / f"{attack.trigger}-{attack.poison_imputed}-s{shortest(attack.poisoning_strength)}"


def _device() -> str:
    """Return the name of the first GPU, if there is one, and of the processor."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus[:1]]
    return "; ".join([*names, processor_name()])
