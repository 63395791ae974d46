"""Train a victim on a poisoned cohort and keep the epoch that the selection rule prefers."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from rich.console import Console

from mimic3tf import pipeline
from mimic3tf.config import TrainingConfig
from mimic3tf.data.cohort import Cohort
from mimic3tf.data.directory import Split
from mimic3tf.data.flat import FlatGrids
from mimic3tf.poisoning.exposures import Exposure
from mimic3tf.poisoning.trigger import Trigger, load_trigger
from mimic3tf.standardization import Standardization, standardized
from mimic3tf.storage.files import PathText
from mimic3tf.storage.folders import claimed
from mimic3tf.storage.notes import note
from mimic3tf.tasks.heads import stay_weights
from mimic3tf.tasks.registry import task_of
from mimic3tf.training.batches import stay_batches, steps_a_call
from mimic3tf.training.checkpoint import (
    Checkpoint,
    check_origin,
    read_checkpoint,
    restore_checkpoint,
    share_checkpoint,
    take_checkpoint,
    write_checkpoint,
)
from mimic3tf.training.determinism import require_determinism
from mimic3tf.training.distribution import (
    Workers,
    distribute,
    is_chief,
    naming_lost_workers,
    resolve_strategy,
)
from mimic3tf.training.estimators import fit_estimator, make_estimator
from mimic3tf.training.gradients import GradientNorms
from mimic3tf.training.log import MakeLog, NoLog, TrainingLog
from mimic3tf.training.metrics_file import MetricsFile
from mimic3tf.training.models import build_victim
from mimic3tf.training.optimizer import optimizer_of
from mimic3tf.training.precision import resolve_precision
from mimic3tf.training.progress import EpochProgress
from mimic3tf.training.run_directory import (
    check_resumable,
    check_same_data,
    finish_run,
    start_run,
    versions,
)
from mimic3tf.training.run_files import (
    CHECKPOINT,
    FILES,
    FINISHED,
    METRICS,
    check_run_directory,
    read_summary,
)
from mimic3tf.training.stays import (
    exposure_for,
    load_split,
    samples_of_epoch,
    standardization_for,
    training_cohort,
)
from mimic3tf.training.steps import Steps
from mimic3tf.training.summary import summary_of
from mimic3tf.training.validation import History, Validation
from mimic3tf.victims import Reads, victim_of


def train_victim(
    config: TrainingConfig,
    out: PathText,
    *,
    resume: bool = False,
    fresh: bool = False,
    profile: bool = False,
    log: MakeLog = NoLog,
    trigger: Trigger | None = None,
) -> dict[str, Any]:
    """Train one victim and write its run directory.

    Args:
        config: the settings.
        out: directory to write; `start_run` says what it may hold.
        resume: continue the interrupted run in `out`, if it has finished at least one epoch.
        fresh: delete the interrupted run in `out`, and begin anew.
        profile: write TensorFlow's profile of some steps into the run's TensorBoard folder.
        log: makes the training log, such as `dashboards.tensorboard.RunLog`.
        trigger: the trigger; if not given, it is read from the file that the settings name, if they name one.

    Returns:
        Summary of the run, as written to `run.json`. If a finished run is resumed, it is not changed.

    Raises:
        UserError: the trigger does not fit, the data is malformed, `out` is taken, training diverges, or
            the run to resume was begun with other settings or inputs.
    """
    out = Path(out)
    with naming_lost_workers(), tempfile.TemporaryDirectory() as scratch:
        strategy = resolve_strategy(config.strategy)
        # The other workers do the same as the chief, but nobody needs the files that they write.
        out = out if is_chief(strategy) else Path(scratch)
        check_run_directory(out, resume=resume, fresh=fresh)
        require_determinism(config)
        with claimed(out):
            if trigger is None and config.trigger is not None:
                trigger = load_trigger(config.trigger)
            return _train(config, trigger, out, strategy, resume=resume, profile=profile, log=log)


def fit_victim(config: TrainingConfig, exposure: Exposure, val: Cohort) -> tuple[Any, Standardization]:
    """Train a victim in memory, without a run directory.

    Args:
        config: the settings.
        exposure: the training stays, poisoned or not.
        val: the validation stays, which choose the epoch.

    Returns:
        The victim of the kept epoch, and the map of its inputs.

    Raises:
        UserError: training diverges.
    """
    ready = _ready(config, exposure, val, None)
    if victim_of(config.model).estimator:
        assert not isinstance(ready.inputs, FlatGrids)
        estimator = make_estimator(config, ready.inputs.shape[-1])
        fitted = fit_estimator(config, estimator, ready.inputs, exposure.labels)
        return fitted, ready.standardization
    strategy = resolve_strategy("none")
    training = _begin(config, ready, strategy)
    validation = Validation(config, ready.reads, val, None, ready.standardization)
    batches = _batches(config, strategy, ready, first_epoch=0)
    while not training.history.finished:
        loss = training.steps.epoch(batches).loss
        measured = validation.measure(validation.predict(training.model))
        training.history.add({"loss": loss, **measured}, training.model)
    training.model.set_weights(training.history.weights)
    return training.model, ready.standardization


def tune_victim(
    config: TrainingConfig, exposure: Exposure, model: keras.Model, standardization: Standardization
) -> keras.Model:
    """Train a copy of a victim for all epochs on some stays, and keep the weights of the last epoch.

    Args:
        config: the settings.
        exposure: the stays to train on.
        model: the victim.
        standardization: map of its inputs.
    """
    ready = _ready(config, exposure, exposure.cohort, None, standardization)
    keras.utils.set_random_seed(config.seed)  # of dropout
    tuned = keras.models.clone_model(model)
    tuned.set_weights(model.get_weights())
    optimizer = optimizer_of(config, samples_of_epoch(config, ready.exposure.cohort), ready.precision)
    steps = _steps(config, ready, tuned, optimizer)
    batches = _batches(config, resolve_strategy("none"), ready, first_epoch=0)
    for _ in range(config.epochs):
        steps.epoch(batches)
    return tuned


@dataclass(frozen=True)
class _Prepared:
    """Everything that a training reads.

    Attributes:
        trigger: the trigger of the poisoned stays, if there is one.
        exposure: the training stays, poisoned.
        val: the validation stays, clean.
        reads: what the victim reads.
        standardization: map of the victim's inputs.
        inputs: standardized inputs of the training stays.
        precision: Keras dtype policy.
        origin: fingerprint of each input of the run, by the option that names the input.
    """

    trigger: Trigger | None
    exposure: Exposure
    val: Cohort
    reads: Reads
    standardization: Standardization
    inputs: pipeline.Inputs
    precision: str
    origin: dict[str, Any]


@dataclass(frozen=True)
class _Training:
    """The parts of a training that change from epoch to epoch."""

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    steps: Steps
    history: History


def _train(
    config: TrainingConfig,
    trigger: Trigger | None,
    out: Path,
    strategy: tf.distribute.Strategy,
    *,
    resume: bool,
    profile: bool,
    log: MakeLog,
) -> dict[str, Any]:
    workers = Workers(strategy)
    summary, checkpoint = _find(config, out, trigger) if resume else ({}, None)
    summary = workers.agree_on(summary)
    if summary:
        return summary
    ready = _prepare(config, trigger)
    if checkpoint is not None:
        check_origin(checkpoint, ready.origin, out)
    workers.refuse_others([ready.origin, config.model_dump(mode="json", exclude=FILES)])
    if checkpoint is not None:
        note(f"{out}: goes on after epoch {len(checkpoint.epochs)}, where it was interrupted")
    if victim_of(config.model).estimator:
        return _train_estimator(config, ready, out, strategy, log)
    # A model that cannot be built leaves no directory.
    training = _begin(config, ready, strategy)
    if checkpoint is None:
        start_run(out, config, trigger)
    checkpoint = share_checkpoint(strategy, checkpoint)
    if checkpoint is not None:
        restore_checkpoint(checkpoint, training.history, training.model, training.optimizer)
    validation = Validation(config, ready.reads, ready.val, trigger, ready.standardization)
    with log(out, config, epochs=len(training.history.epochs)) as told:
        told.start(trigger, ready.exposure, ready.val, training.model, versions())
        _run_epochs(config, out, strategy, ready, training, validation, told, profile=profile)
        training.model.set_weights(training.history.weights)
        told.outcome(training.history.kept, validation, training.model)
    summary = _summary(config, ready, training.history, strategy)
    finish_run(out, training.model, ready.standardization, summary)
    return summary


def _train_estimator(
    config: TrainingConfig, ready: _Prepared, out: Path, strategy: tf.distribute.Strategy, log: MakeLog
) -> dict[str, Any]:
    """Fit estimators of scikit-learn and keep the best; a fit counts as an epoch."""
    exposure, history = ready.exposure, History(config)
    assert not isinstance(ready.inputs, FlatGrids)
    tried = [config]
    if config.linear is not None:
        tried = [config.model_copy(update={"linear": each}) for each in config.linear.tried()]
    estimators = [make_estimator(each, ready.inputs.shape[-1]) for each in tried]
    start_run(out, config, ready.trigger)
    validation = Validation(config, ready.reads, ready.val, ready.trigger, ready.standardization)
    metrics = MetricsFile(out / METRICS, task_of(config.task).targets.followed)
    metrics.on_train_begin()
    with log(out, config, epochs=0) as told:
        for number, estimator in enumerate(estimators):
            begun = time.perf_counter()
            with Console(stderr=True).status(f"Fitting {type(estimator).__name__} ..."):
                model = fit_estimator(config, estimator, ready.inputs, exposure.labels)
            speed = len(exposure) / (time.perf_counter() - begun)
            if number == 0:
                told.start(ready.trigger, exposure, ready.val, model, versions())
            risks = validation.predict(model)
            loss = validation.loss(model, ready.inputs, exposure.labels)
            history.add({"loss": loss, **validation.measure(risks)}, model)
            course = history.epochs[-1] | {"stays_per_second": speed}
            told.epoch(number + 1, course, history.best, risks)
            metrics.on_epoch_end(number, history.epochs[-1])
            if history.kept == number + 1:
                kept = model
        told.outcome(history.kept, validation, kept)
    summary = _summary(config, ready, history, strategy) | {"estimator": type(kept.estimator).__name__}
    chosen = tried[history.kept - 1].linear
    if len(tried) > 1 and chosen is not None:
        summary["linear"] = {"penalty": chosen.penalty, "C": chosen.C}
    finish_run(out, kept, ready.standardization, summary)
    return summary


def _find(
    config: TrainingConfig, out: Path, trigger: Trigger | None
) -> tuple[dict[str, Any], Checkpoint | None]:
    """Find the run to resume in `out`.

    Returns:
        Summary of a finished run, empty if there is none; checkpoint of an interrupted run, None if there is
        none.
    """
    finished, interrupted = ((out / name).exists() for name in (FINISHED, CHECKPOINT))
    if finished or interrupted:
        check_resumable(out, config, trigger)
    if finished:
        summary = read_summary(out)
        stays: dict[Split, Cohort] = {"train": training_cohort(config), "val": load_split(config, "val")}
        fingerprints = {split: cohort.fingerprint for split, cohort in stays.items()}
        check_same_data(summary, fingerprints, config.normalizer_sha256, out)
        (out / CHECKPOINT).unlink(missing_ok=True)
        return summary, None
    return {}, read_checkpoint(out / CHECKPOINT) if interrupted else None


def _prepare(config: TrainingConfig, trigger: Trigger | None) -> _Prepared:
    """Read and poison the stays, and compute the inputs of the victim.

    Raises:
        UserError: the trigger does not fit, the data is malformed, or a split lacks one of the labels.
    """
    train, val = training_cohort(config), load_split(config, "val")
    return _ready(config, exposure_for(config, train, val, trigger), val, trigger)


def _ready(
    config: TrainingConfig,
    exposure: Exposure,
    val: Cohort,
    trigger: Trigger | None,
    standardization: Standardization | None = None,
) -> _Prepared:
    """Compute the inputs of the victim from poisoned stays; their map is fitted if none is given."""
    reads, train = config.reads, exposure.cohort
    inputs = pipeline.inputs_of(exposure, reads)
    standardization = standardization or standardization_for(config, reads, inputs, train.channels)
    precision = "float32" if victim_of(config.model).estimator else resolve_precision(config.precision)
    origin = {
        "data": [train.fingerprint, val.fingerprint],
        "normalizer": config.normalizer_sha256,
        "precision": precision,
    }
    # Standardized once: to map all stays again would take longer than an epoch.
    inputs = standardized(inputs, standardization)
    return _Prepared(trigger, exposure, val, reads, standardization, inputs, precision, origin)


def _begin(config: TrainingConfig, ready: _Prepared, strategy: tf.distribute.Strategy) -> _Training:
    """Build the untrained victim on all replicas."""
    train, stays = ready.exposure.cohort, samples_of_epoch(config, ready.exposure.cohort)
    with strategy.scope():
        bins = None if train.period is None else train.bins
        model, optimizer = build_victim(config, train.channels, bins, ready.precision, stays=stays)
        steps = _steps(config, ready, model, optimizer)
    return _Training(model, optimizer, steps, History(config))


def _steps(
    config: TrainingConfig, ready: _Prepared, model: keras.Model, optimizer: keras.optimizers.Optimizer
) -> Steps:
    a_call = steps_a_call(_lengths(config, ready))
    return Steps(
        model, optimizer, config, stays=samples_of_epoch(config, ready.exposure.cohort), steps_a_call=a_call
    )


def _run_epochs(
    config: TrainingConfig,
    out: Path,
    strategy: tf.distribute.Strategy,
    ready: _Prepared,
    training: _Training,
    validation: Validation,
    log: TrainingLog,
    *,
    profile: bool,
) -> None:
    """Train until the history is finished; write the results of each epoch at its end."""
    model, history = training.model, training.history
    gradients = None
    if config.log_level != "minimal" and not config.head.every_bin:
        gradients = GradientNorms(ready.exposure, ready.inputs, config, model)
    watchers = keras.callbacks.CallbackList(
        [MetricsFile(out / METRICS, task_of(config.task).targets.followed), EpochProgress(config.epochs)],
        model=model,
    )
    watchers.on_train_begin()
    for epoch, metrics in enumerate(history.epochs):
        watchers.on_epoch_end(epoch, metrics)
    batches = _batches(config, strategy, ready, first_epoch=len(history.epochs))
    while not history.finished:
        # The first epoch includes compilation, so the second epoch is profiled if there is one.
        profiled = profile and len(history.epochs) == min(1, config.epochs - 1)
        trained = training.steps.epoch(batches, profile=out if profiled else None)
        risks = validation.predict(model)
        measured = {"loss": trained.loss, **validation.measure(risks)}
        # Workers on other processors may round differently, but all workers must stop at the same epoch.
        history.add(Workers(strategy).agree_on(measured), model)
        course = {
            "learning_rate": float(tf.convert_to_tensor(training.optimizer.learning_rate)),
            "stays_per_second": len(ready.exposure) / trained.seconds,
            "input_wait": trained.waited / trained.seconds,
        }
        if gradients:
            course |= gradients.measure()
        # The log comes before the checkpoint: a run that resumes from the checkpoint trains on, and can no
        # longer log the victim of this epoch.
        log.epoch(len(history.epochs), history.epochs[-1] | course, history.best, risks)
        checkpoint = take_checkpoint(ready.origin, history, model, training.optimizer)
        write_checkpoint(checkpoint, out / CHECKPOINT)
        watchers.on_epoch_end(len(history.epochs) - 1, history.epochs[-1])
    watchers.on_train_end()


def _lengths(config: TrainingConfig, ready: _Prepared) -> NDArray[np.int64] | None:
    """Return the number of bins of all inputs that share batches; None if all have the same shape."""
    cohort = ready.exposure.cohort
    if not isinstance(ready.inputs, FlatGrids):
        return None
    return cohort.examples.end.astype(np.int64) if config.one_sample_an_hour else cohort.lengths


def _batches(
    config: TrainingConfig, strategy: tf.distribute.Strategy, ready: _Prepared, *, first_epoch: int
) -> Any:
    """Make the iterator over the batches of all further epochs, for all replicas."""
    exposure = ready.exposure
    task = task_of(config.task)
    of_examples = weights = task.targets.weights(exposure.labels, config.class_weights)
    if config.target_replication:
        weights = np.stack([np.ones(len(exposure)), exposure.cohort.lengths], axis=1)
    elif task.hourly and not config.one_sample_an_hour:
        # Every hour of a batch weighs the same, as in the benchmarks.
        weights = stay_weights(pipeline.by_stay(exposure.cohort, of_examples))
    lengths = _lengths(config, ready)

    def dataset_for(replicas: int, own: range) -> tf.data.Dataset:
        batches = stay_batches(
            weights,
            batch_size=config.batch_size,
            seed=config.seed,
            first_epoch=first_epoch,
            replicas=replicas,
            own=own,
            lengths=lengths,
        )
        return pipeline.training_dataset(
            exposure,
            ready.reads,
            ready.standardization,
            batches,
            inputs=ready.inputs,
            example_weights=of_examples,
            head_weights=config.head_weights,
            target_replication=config.target_replication,
            one_sample_an_hour=config.one_sample_an_hour,
        )

    return iter(distribute(strategy, dataset_for))


def _summary(
    config: TrainingConfig, ready: _Prepared, history: History, strategy: tf.distribute.Strategy
) -> dict[str, Any]:
    return summary_of(
        config,
        ready.trigger,
        ready.exposure,
        ready.val,
        history,
        precision=ready.precision,
        replicas=strategy.num_replicas_in_sync,
    )
