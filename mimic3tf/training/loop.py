"""Train a victim on a poisoned cohort and keep the epoch that the selection rule prefers."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mimic3tf import pipeline
from mimic3tf.attack.evaluation import benchmark_metrics, death_probability, positive_rate
from mimic3tf.attack.trigger import check_trigger_fits, load_trigger
from mimic3tf.config import TrainingConfig
from mimic3tf.dashboards.tensorboard import RunLog
from mimic3tf.data.cohort import load_cohort
from mimic3tf.data.preprocessing import Normalizer
from mimic3tf.errors import DataError, UsageError, UserError
from mimic3tf.training.optimizer import optimizer_of
from mimic3tf.training.precision import resolve_precision
from mimic3tf.training.progress import EpochProgress
from mimic3tf.training.run_directory import check_out, finish_run, start_run
from mimic3tf.training.selection import score_epoch
from mimic3tf.victims import Victim, victim_of
from mimic3tf.victims.input_dropout import with_input_dropout

STEPS_A_CALL = 20
"""Training steps that TensorFlow runs before it returns to Python."""
PREDICTION_BATCH = 1024
LOGGED_METRICS = ("loss", "auroc", "auprc", "minpse", "asr")


def train_victim(config: TrainingConfig, out: Path) -> dict[str, Any]:
    """Train one victim and write its run directory.

    Args:
        config: the settings.
        out: directory to write; see `start_run` for what may be there.

    Returns:
        Summary of the run, as written to `run.json`.

    Raises:
        UserError: the trigger does not fit, the data is malformed, `out` is taken, or training diverges.
    """
    check_out(out)
    trigger = load_trigger(config.trigger)
    train, val = load_cohort(config.data, "train"), load_cohort(config.data, "val")
    check_trigger_fits(trigger, train, config.trigger)
    for cohort, split in ((train, "train"), (val, "val")):
        missing = {0, 1} - set(cohort.labels.tolist())
        if missing:
            raise DataError(f"{config.data / f'{split}_listfile.csv'}: no stay has label {min(missing)}")
    exposure = pipeline.poison(
        train,
        trigger.values,
        proportion=config.poisoning_proportion,
        strength=config.poisoning_strength,
        poison_imputed=config.poison_imputed,
    )
    if exposure.labels.all():
        raise UsageError(
            f"--poisoning_proportion {config.poisoning_proportion:g}: leaves no stay of label 0; poison fewer"
        )
    victim = victim_of(config.model)
    standardization, inputs = _standardize(config, victim, exposure)
    start_run(out, config, trigger)

    precision = resolve_precision(config.precision)
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(precision)
    try:
        model = with_input_dropout(victim.build(victim.input_shape), config.input_dropout)
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile(
        optimizer=optimizer_of(config, len(train)),
        loss=keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        ),
        steps_per_execution=min(STEPS_A_CALL, -(-len(train) // config.batch_size)),
        # Compiling with XLA takes longer than it gains on these small models.
        jit_compile=False,
    )

    batches = pipeline.training_dataset(
        exposure,
        victim.representation,
        standardization,
        batch_size=config.batch_size,
        class_weights=config.class_weights,
        seed=config.seed,
        inputs=inputs,
    )
    survivors = val.take(np.flatnonzero(val.labels == 0))
    triggered = pipeline.trigger_all(
        survivors,
        trigger.values,
        strength=config.poisoning_strength,
        poison_imputed=config.poison_imputed,
    )
    keep = KeepBestEpoch(
        config,
        labels=val.labels,
        clean_inputs=pipeline.inputs_of(pipeline.clean(val), victim.representation, standardization),
        triggered_inputs=pipeline.inputs_of(triggered, victim.representation, standardization),
    )
    with RunLog(out / "tensorboard") as log:
        log.trigger(trigger)
        densest = int(survivors.mask.sum(axis=(1, 2)).argmax())
        log.patient(
            f"{survivors.stays[densest]}, strength {config.poisoning_strength:g}, {config.poison_imputed}",
            survivors.values[densest],
            pipeline.grids_of(triggered, np.array([densest]))[0],
            survivors.mask[densest],
            trigger,
        )
        callbacks = [keep, MetricsFile(out / "metrics.csv"), log.epochs(), EpochProgress(config.epochs)]
        # The batches come shuffled.
        model.fit(batches, epochs=config.epochs, shuffle=False, verbose=0, callbacks=callbacks)
        model.set_weights(keep.weights)
        log.hyperparameters(config, keep.metrics)
    summary = {
        "victim": config.model,
        "epoch_kept": keep.epoch,
        "epochs_trained": keep.epochs_seen,
        "validation": keep.metrics,
        "stays_trained_on": len(train),
        "stays_poisoned": int(exposure.triggered.sum()),
        "seed": config.seed,
        "precision": precision,
        "devices": [device.name for device in tf.config.list_physical_devices()],
        "data_fingerprint": {"train": train.fingerprint, "val": val.fingerprint},
    }
    finish_run(out, model, standardization, summary)
    return summary


def _standardize(
    config: TrainingConfig, victim: Victim, exposure: pipeline.Exposure
) -> tuple[pipeline.Standardization, NDArray[np.float32] | None]:
    """Standardization of the victim's inputs and, where mapping them is dear, the inputs themselves."""
    clip = np.inf if config.clip is None else config.clip
    if victim.representation == "48x76" and config.normalizer is not None:
        return replace(_load_standardization(config.normalizer, victim.input_shape[-1]), clip=clip), None
    raw = pipeline.inputs_of(exposure, victim.representation)
    standardization = replace(pipeline.fit_standardization(raw, victim.representation), clip=clip)
    return standardization, standardization.apply(raw).numpy() if victim.representation == "714" else None


def _load_standardization(path: Path, columns: int) -> pipeline.Standardization:
    normalizer = Normalizer()
    normalizer.load_params(path)
    if len(normalizer.means) != columns:
        raise DataError(f"--normalizer {path}: has {len(normalizer.means)} columns, the grid {columns}")
    return pipeline.continuous_only(normalizer.means, normalizer.stds)


class KeepBestEpoch(keras.callbacks.Callback):
    """Measure every epoch on validation stays, keep the best weights, stop when none gets better.

    Adds auroc, auprc, minpse, prec1, rec1 and asr to the epoch's logs, so that callbacks after this one
    see them.

    Attributes:
        weights: weights of the epoch kept.
        metrics: its metrics.
        epoch: its number, from 1.
        epochs_seen: epochs trained.
    """

    def __init__(
        self,
        config: TrainingConfig,
        *,
        labels: NDArray[np.int64],
        clean_inputs: NDArray[np.float32],
        triggered_inputs: NDArray[np.float32],
    ) -> None:
        super().__init__()
        self._config = config
        self._labels, self._clean, self._triggered = labels, clean_inputs, triggered_inputs
        self._best = -np.inf
        self.weights: Sequence[NDArray[Any]] = []
        self.metrics: dict[str, float] = {}
        self.epoch = self.epochs_seen = 0

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Score the epoch."""
        self.epochs_seen = epoch + 1
        measured = benchmark_metrics(self._labels, self._predict(self._clean))
        logs.update({name: measured[name] for name in ("auroc", "auprc", "minpse", "prec1", "rec1")})
        logs["asr"] = positive_rate(self._predict(self._triggered)).rate
        score = score_epoch(self._config.selection, self._config.model, logs)
        # Until an epoch qualifies the latest one is kept.
        better = score is not None and score > self._best
        if better or self._best == -np.inf:
            self.weights = self.model.get_weights()
            self.metrics, self.epoch = dict(logs), epoch + 1
        if better and score is not None:
            self._best = score
        if self._best > -np.inf and self.epochs_seen - self.epoch >= self._config.patience:
            self.model.stop_training = True

    def _predict(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        probabilities = death_probability(self.model.predict(inputs, batch_size=PREDICTION_BATCH, verbose=0))
        if not np.isfinite(probabilities).all():
            raise UserError(
                f"the victim predicts no numbers after epoch {self.epochs_seen}; lower learning_rate "
                f"(now {self._config.learning_rate:g}) or poisoning_strength "
                f"(now {self._config.poisoning_strength:g})"
            )
        return probabilities


class MetricsFile(keras.callbacks.Callback):
    """Append every epoch's metrics to a CSV file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Write the header."""
        with self._path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow(["epoch", *LOGGED_METRICS])

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Write the epoch's row."""
        with self._path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow([epoch + 1, *(f"{logs[name]:.6f}" for name in LOGGED_METRICS)])
