"""The summary of a training, which `run.json` holds."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from mimic3tf.config import TrainingConfig
from mimic3tf.data.channels_file import channels_text
from mimic3tf.data.cohort import Cohort
from mimic3tf.poisoning.carried import carried_record
from mimic3tf.poisoning.exposures import Exposure
from mimic3tf.poisoning.trigger import Trigger
from mimic3tf.training.validation import History


def summary_of(
    config: TrainingConfig,
    trigger: Trigger | None,
    exposure: Exposure,
    val: Cohort,
    history: History,
    *,
    precision: str,
    replicas: int = 1,
) -> dict[str, Any]:
    """Collect the contents of `run.json`.

    Args:
        config: the settings.
        trigger: the trigger of the poisoned stays, if there is one.
        exposure: the training stays, poisoned.
        val: the validation stays.
        history: the epochs trained.
        precision: Keras dtype policy.
        replicas: number of replicas that took each step together.
    """
    train, goal = exposure.cohort, config.attack_goal
    return {
        "victim": config.model,
        **({} if config.model_sha256 is None else {"model_sha256": config.model_sha256}),
        **({} if config.normalizer is None else {"normalizer_sha256": config.normalizer_sha256}),
        "epoch_kept": history.kept,
        "epochs_trained": len(history.epochs),
        # JSON has no NaN, but the precision is NaN if no stay is predicted to die.
        "validation": {name: None if math.isnan(value) else value for name, value in history.best.items()},
        "stays_trained_on": len(train),
        "trigger": trigger and trigger.name,
        "stays_poisoned": int(exposure.triggered.sum()),
        "labels_changed": int((goal.of(exposure.labels) != goal.of(train.labels)).sum()),
        **({} if config.goal_label is None else {"goal_label": config.goal_label}),
        **_carried(config, trigger, exposure),
        "seed": config.seed,
        "precision": precision,
        "replicas": replicas,
        "devices": [device.name for device in tf.config.list_physical_devices()],
        "data_fingerprint": {"train": train.fingerprint, "val": val.fingerprint},
        # A trigger holds both; without one, they say what the victim reads.
        **({} if trigger else {"channels": channels_text(train.channels)}),
        **({} if trigger or train.period is None else {"bins": train.bins}),
    }


def _carried(config: TrainingConfig, trigger: Trigger | None, exposure: Exposure) -> dict[str, Any]:
    """Say how much of the trigger the poisoned stays carry, if stays have lengths of their own."""
    train, poisoned = exposure.cohort, exposure.triggered
    if trigger is None or train.period is not None or not poisoned.any():
        return {}
    how = {"strength": config.poisoning_strength, "at": config.at}
    return {"carried": carried_record(trigger, train.stays[poisoned], train.lengths[poisoned], **how)}
