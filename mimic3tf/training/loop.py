"""Train a victim on a poisoned cohort and keep the epoch that the selection rule prefers."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mimic3tf import pipeline
from mimic3tf.config import TrainingConfig
from mimic3tf.dashboards.tensorboard import RunLog
from mimic3tf.data.cohort import Cohort, load_cohort
from mimic3tf.errors import DataError, UsageError
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.trigger import Trigger, check_trigger_fits, load_trigger
from mimic3tf.standardization import standardized
from mimic3tf.storage.folders import claimed
from mimic3tf.storage.notes import note
from mimic3tf.training.batches import stay_batches
from mimic3tf.training.checkpoint import (
    CHECKPOINT,
    Checkpoint,
    check_origin,
    read_checkpoint,
    restore_checkpoint,
    share_checkpoint,
    take_checkpoint,
    write_checkpoint,
)
from mimic3tf.training.distribution import (
    distribute,
    from_chief,
    is_chief,
    naming_lost_workers,
    resolve_strategy,
)
from mimic3tf.training.gradients import GradientNorms
from mimic3tf.training.metrics_file import MetricsFile
from mimic3tf.training.models import build_victim
from mimic3tf.training.precision import resolve_precision
from mimic3tf.training.progress import EpochProgress
from mimic3tf.training.run_directory import (
    EVENTS,
    FILES,
    FINISHED,
    METRICS,
    check_resumable,
    check_run_directory,
    finish_run,
    read_summary,
    start_run,
    versions,
)
from mimic3tf.training.stays import poison_as_set, standardization_for, training_cohort
from mimic3tf.training.steps import Steps
from mimic3tf.training.validation import History, Validation
from mimic3tf.victims import victim_of


def train_victim(
    config: TrainingConfig, out: Path, *, resume: bool = False, profile: bool = False
) -> dict[str, Any]:
    """Train one victim and write its run directory.

    Args:
        config: the settings.
        out: directory to write; see `start_run` for what may be there.
        resume: continue the run that was interrupted there, if an epoch of it was finished.
        profile: write TensorFlow's profile of some steps beside the events.

    Returns:
        Summary of the run, as written to `run.json`. A finished run that is resumed is left alone.

    Raises:
        UserError: the trigger does not fit, the data is malformed, `out` is taken, training diverges, or
            the run to resume was begun with something else.
    """
    with naming_lost_workers(), tempfile.TemporaryDirectory() as scratch:
        strategy = resolve_strategy(config.strategy)
        # Another worker does as the chief does, but what it writes is nobody's.
        out = out if is_chief(strategy) else Path(scratch)
        check_run_directory(out, resume=resume)
        with claimed(out):
            return _train(config, out, strategy, resume=resume, profile=profile)


def _train(
    config: TrainingConfig, out: Path, strategy: tf.distribute.Strategy, *, resume: bool, profile: bool
) -> dict[str, Any]:
    trigger = load_trigger(config.trigger)
    summary, checkpoint = _find(config, out, trigger) if resume else ({}, None)
    # Workers stop, or go on, as the chief does.
    summary = json.loads(from_chief(strategy, json.dumps(summary).encode()))
    if summary:
        return summary
    train, val = _load(config, trigger)
    exposure = poison_as_set(config, train, trigger)
    if exposure.labels.all():
        raise UsageError(
            f"--poisoning_proportion {config.poisoning_proportion:g}: leaves no stay of label 0; poison fewer"
        )
    victim = victim_of(config.model)
    inputs = pipeline.inputs_of(exposure, victim.representation)
    standardization = standardization_for(config, victim, inputs)
    # Made once: an epoch takes less time than mapping all stays again.
    inputs = standardized(inputs, standardization)
    precision = resolve_precision(config.precision)
    origin = {
        "data": [train.fingerprint, val.fingerprint],
        "normalizer": config.normalizer and hashlib.sha256(config.normalizer.read_bytes()).hexdigest(),
        "precision": precision,
    }
    if checkpoint is not None:
        check_origin(checkpoint, origin, out)
    same = json.dumps([origin, config.model_dump(mode="json", exclude=FILES)]).encode()
    if from_chief(strategy, same) != same:
        raise UsageError("--strategy multiworker: settings or data differ from those of worker 0")
    if checkpoint is not None:
        note(f"{out}: goes on after epoch {len(checkpoint.epochs)}, where it was interrupted")
    else:
        start_run(out, config, trigger)

    with strategy.scope():
        model, optimizer = build_victim(config, victim, precision, stays=len(train))
        steps = Steps(model, optimizer, stays=len(train), batch_size=config.batch_size)
    history = History(config)
    checkpoint = share_checkpoint(strategy, checkpoint)
    if checkpoint is not None:
        restore_checkpoint(checkpoint, history, model, optimizer)

    def dataset_for(replicas: int, own: range) -> tf.data.Dataset:
        batches = stay_batches(
            exposure.labels,
            class_weights=config.class_weights,
            batch_size=config.batch_size,
            seed=config.seed,
            first_epoch=len(history.epochs),
            replicas=replicas,
            own=own,
        )
        representation = victim.representation
        return pipeline.training_dataset(exposure, representation, standardization, batches, inputs=inputs)

    triggered = exposures.trigger_all(
        val.take(np.flatnonzero(val.labels == 0)),
        trigger,
        strength=config.poisoning_strength,
        poison_imputed=config.poison_imputed,
    )
    validation = Validation(config, victim, val, triggered, standardization)
    gradients = None
    if config.log_level != "minimal":
        gradients = GradientNorms(exposure, inputs, config.class_weights, model)
    with RunLog(out / EVENTS, config, epochs=len(history.epochs)) as log:
        log.start(trigger, exposure, val, model, versions())
        watchers = keras.callbacks.CallbackList(
            [MetricsFile(out / METRICS), EpochProgress(config.epochs)], model=model
        )
        watchers.on_train_begin()
        for epoch, metrics in enumerate(history.epochs):
            watchers.on_epoch_end(epoch, metrics)
        iterator = iter(distribute(strategy, dataset_for))
        while not history.finished:
            # The first epoch compiles; so the second is profiled, where there is one.
            profiled = profile and len(history.epochs) == min(1, config.epochs - 1)
            trained = steps.epoch(iterator, profile=out / EVENTS if profiled else None)
            risks = validation.predict(model)
            metrics = {"loss": trained.loss, **validation.measure(risks)}
            # Other processors may round otherwise, and all must stop at the same epoch.
            history.add(json.loads(from_chief(strategy, json.dumps(metrics).encode())), model)
            course = {
                "learning_rate": float(tf.convert_to_tensor(optimizer.learning_rate)),
                "stays_per_second": len(train) / trained.seconds,
                "input_wait": trained.waited / trained.seconds,
            }
            if gradients:
                course |= gradients.measure()
            # Before the checkpoint, for the victim that was so good is gone once training goes on from it.
            log.epoch(len(history.epochs), history.epochs[-1] | course, history.best, risks)
            write_checkpoint(take_checkpoint(origin, history, model, optimizer), out / CHECKPOINT)
            watchers.on_epoch_end(len(history.epochs) - 1, history.epochs[-1])
        watchers.on_train_end()
        model.set_weights(history.weights)
        log.outcome(history.kept, validation, model)
    summary = {
        "victim": config.model,
        "epoch_kept": history.kept,
        "epochs_trained": len(history.epochs),
        # JSON has no NaN, which a precision is where nobody is predicted to die.
        "validation": {name: None if math.isnan(value) else value for name, value in history.best.items()},
        "stays_trained_on": len(train),
        "trigger": trigger.name,
        "stays_poisoned": int(exposure.triggered.sum()),
        "labels_changed": int((exposure.labels != train.labels).sum()),
        "seed": config.seed,
        "precision": precision,
        "replicas": strategy.num_replicas_in_sync,
        "devices": [device.name for device in tf.config.list_physical_devices()],
        "data_fingerprint": {"train": train.fingerprint, "val": val.fingerprint},
    }
    finish_run(out, model, standardization, summary)
    return summary


def _find(config: TrainingConfig, out: Path, trigger: Trigger) -> tuple[dict[str, Any], Checkpoint | None]:
    """Summary of a run that is finished, checkpoint of one that is not; empty and None if there is none."""
    finished, interrupted = ((out / name).exists() for name in (FINISHED, CHECKPOINT))
    if finished or interrupted:
        check_resumable(out, config, trigger)
    if finished:
        (out / CHECKPOINT).unlink(missing_ok=True)
        return read_summary(out), None
    return {}, read_checkpoint(out / CHECKPOINT) if interrupted else None


def _load(config: TrainingConfig, trigger: Trigger) -> tuple[Cohort, Cohort]:
    """Training and validation stays, fit for the trigger and for a classifier."""
    train, val = training_cohort(config), load_cohort(config.data, "val")
    check_trigger_fits(trigger, train, config.trigger)
    for cohort, split in ((train, "train"), (val, "val")):
        missing = {0, 1} - set(cohort.labels.tolist())
        if missing:
            raise DataError(f"{config.data / f'{split}_listfile.csv'}: no stay has label {min(missing)}")
    return train, val
