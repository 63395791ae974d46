"""Train many victims of one shape together, with the results of training each of them alone.

A small victim keeps neither a GPU nor a core busy: most of its time goes to what surrounds its arithmetic.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from mimic3tf import pipeline
from mimic3tf.config import OF_A_STACK, TrainingConfig
from mimic3tf.data.cohort import Cohort
from mimic3tf.errors import UserError
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.trigger import Trigger, load_trigger
from mimic3tf.standardization import Standardization, fit_standardization
from mimic3tf.storage.folders import claimed
from mimic3tf.training.determinism import require_determinism
from mimic3tf.training.log import MakeLog, NoLog, TrainingLog
from mimic3tf.training.metrics_file import MetricsFile
from mimic3tf.training.models import build_victim
from mimic3tf.training.precision import resolve_precision
from mimic3tf.training.run_directory import finish_run, start_run, versions
from mimic3tf.training.run_files import METRICS, check_run_directory
from mimic3tf.training.stacked_steps import StackedInputs, StackedSteps, Weights
from mimic3tf.training.stays import exposure_for, load_split, standardization_for, training_cohort
from mimic3tf.training.summary import summary_of
from mimic3tf.training.validation import History, Risks, Validation


@dataclass
class _Member:
    """A victim of a stack.

    Attributes:
        config: its settings.
        out: its run directory.
        trigger: the trigger of its poisoned stays.
        exposure: the training stays, poisoned.
        rows: int64 [N], row of the table of each training stay.
        standardization: map of its inputs.
        validation: the validation stays.
        tested: int64 [K], row of the table of each validation stay: all clean, then those with the trigger.
        history: its epochs.
        fault: why its training ended early.
    """

    config: TrainingConfig
    out: Path
    trigger: Trigger | None
    exposure: exposures.Exposure
    rows: NDArray[np.int64]
    standardization: Standardization
    validation: Validation
    tested: NDArray[np.int64]
    history: History
    log: TrainingLog = field(init=False)
    metrics: MetricsFile = field(init=False)
    fault: UserError | None = None

    @property
    def training(self) -> bool:
        """Whether the victim needs further epochs."""
        return self.fault is None and not self.history.finished


def train_stacked(
    configs: Sequence[TrainingConfig],
    outs: Sequence[Path],
    *,
    log: MakeLog = NoLog,
    inputs: pipeline.RememberedInputs | None = None,
) -> list[dict[str, Any] | UserError]:
    """Train victims together, and write the run directory of each of them.

    They read the same stays in batches of the same size. Weights, order of the stays, dropout and metrics of
    each victim are those of `loop.train_victim`, up to the rounding of float32. No checkpoint is written: an
    interrupted stack begins anew.

    Args:
        configs: the settings, equal but for `config.OF_A_STACK`.
        outs: a new directory for each victim, or that of an interrupted training, which is deleted.
        log: makes the training log of each victim.
        inputs: remembers the raw inputs, if the caller needs them, too.

    Returns:
        For each victim the contents of its `run.json`, or why it has none.

    Raises:
        UserError: the data is malformed.
        ValueError: the settings differ in more, or the precision needs a loss scale for each victim.
    """
    shared: Any = {"exclude": OF_A_STACK}
    if any(config.model_dump(**shared) != configs[0].model_dump(**shared) for config in configs):
        raise ValueError("the settings of a stack differ in more than seed and poisoning")
    precision = resolve_precision(configs[0].precision)
    if precision == "mixed_float16":
        raise ValueError("under mixed_float16 every victim has its own loss scale")
    require_determinism(configs[0])
    with ExitStack() as stack:
        for out in outs:
            check_run_directory(out, fresh=True)
            stack.enter_context(claimed(out))
        train, val = training_cohort(configs[0]), load_split(configs[0], "val")
        found, table = _members(configs, outs, train, val, inputs or pipeline.RememberedInputs())
        members = [member for member in found if isinstance(member, _Member)]
        if members:
            _train(members, table, train, val, precision, stack, log)
    return [
        member
        if isinstance(member, UserError)
        else member.fault
        or summary_of(
            member.config, member.trigger, member.exposure, val, member.history, precision=precision
        )
        for member in found
    ]


class _Table:
    """Rows of inputs that victims share, in standard deviations from the mean of the clean training stays."""

    def __init__(self, reference: Standardization) -> None:
        self.reference = reference
        self.count = 0
        self._parts: list[NDArray[np.float32]] = []
        self._first: dict[object, int] = {}

    def add(self, key: object, raw: NDArray[np.floating]) -> int:
        """Add raw inputs [K, ...] under a key, unless they are there; return their first row."""
        if key not in self._first:
            self._first[key] = self.count
            # Not by `Standardization.apply`, which gives an empty feature (NaN) the mean of these stays.
            part = (np.asarray(raw, np.float64) - self.reference.mean) / self.reference.std
            self._parts.append(part.astype(np.float32))
            self.count += len(raw)
        return self._first[key]

    def rows(self) -> NDArray[np.float32]:
        """Return all rows [R, ...]."""
        return np.concatenate(self._parts)


def _members(
    configs: Sequence[TrainingConfig],
    outs: Sequence[Path],
    train: Cohort,
    val: Cohort,
    inputs: pipeline.RememberedInputs,
) -> tuple[list[_Member | UserError], _Table]:
    """Poison the stays for each victim; a setting that cannot be trained costs only its own victim."""
    reads = configs[0].reads
    clean = inputs.raw(exposures.clean(train), reads).astype(np.float32)
    table = _Table(fit_standardization(clean, reads, train.channels))
    table.add("train", clean)
    paths = {config.trigger for config in configs}
    triggers = {path: None if path is None else load_trigger(path) for path in paths}
    found: dict[int, _Member | UserError] = {}
    poisoned: dict[object, tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = {}
    # Of victims that differ only in their proportion, that with most poisoned stays has those of the others.
    for place in sorted(range(len(configs)), key=lambda place: -configs[place].poisoning_proportion):
        config, trigger = configs[place], triggers[configs[place].trigger]
        try:
            exposure = exposure_for(config, train, val, trigger)
            stays, rows = np.flatnonzero(exposure.triggered), np.arange(len(train))
            setting = config.trigger, config.poisoning_strength, config.poison_imputed
            if len(stays) and setting not in poisoned:
                raw = inputs.raw(exposure.take(stays), reads).astype(np.float32)
                poisoned[setting] = stays, table.add(setting, raw) + np.arange(len(stays)), raw
            kept = clean[stays]
            if len(stays):
                known, places, raw = poisoned[setting]
                chosen = np.searchsorted(known, stays)
                rows[stays], clean[stays] = places[chosen], raw[chosen]
            standardization = standardization_for(config, reads, clean, train.channels)
            clean[stays] = kept
            validation = Validation(config, reads, val, trigger, standardization)
            tested = [
                table.add(part.digest(), inputs.raw(part, reads)) + np.arange(len(part))
                for part in (validation.clean, validation.triggered)
                if part is not None
            ]
            found[place] = _Member(
                config,
                outs[place],
                trigger,
                exposure,
                rows,
                standardization,
                validation,
                np.concatenate(tested),
                History(config),
            )
        except UserError as error:
            found[place] = error
    return [found[place] for place in range(len(configs))], table


def _train(
    members: list[_Member],
    table: _Table,
    train: Cohort,
    val: Cohort,
    precision: str,
    stack: ExitStack,
    log: MakeLog,
) -> None:
    """Train the victims, and write their directories."""
    models = {}
    for member in members:
        if member.config.seed not in models:
            # Names of layers are then as in a new process.
            keras.backend.clear_session()
            models[member.config.seed], _ = build_victim(
                member.config, train.channels, train.bins, precision, stays=len(train)
            )
    own = [models[member.config.seed] for member in members]
    reference, maps = table.reference, [member.standardization for member in members]
    inputs = StackedInputs(
        table.rows(),
        np.stack([member.rows for member in members]),
        np.stack([reference.std / each.std for each in maps]).astype(np.float32),
        np.stack([(reference.mean - each.mean) / each.std for each in maps]).astype(np.float32),
        maps[0].clip,
    )
    labels = np.stack([member.exposure.labels for member in members])
    steps = StackedSteps(own, [member.config for member in members], inputs, labels)
    for member, model in zip(members, own, strict=True):
        start_run(member.out, member.config, member.trigger)
        member.metrics = MetricsFile(member.out / METRICS)
        member.metrics.on_train_begin()
        member.log = stack.enter_context(log(member.out, member.config, epochs=0))
        member.log.start(member.trigger, member.exposure, val, model, versions())
    _run_epochs(members, steps)
    for index, (member, model) in enumerate(zip(members, own, strict=True)):
        if member.fault is None:
            # A victim's file holds the state of its dropout after the last epoch.
            steps.load(index, model)
            model.set_weights(member.history.weights)
            member.log.outcome(member.history.kept, member.validation, model)
            summary = summary_of(
                member.config, member.trigger, member.exposure, val, member.history, precision=precision
            )
            finish_run(member.out, model, member.standardization, summary)


def _run_epochs(members: list[_Member], steps: StackedSteps) -> None:
    """Train until every victim's history is finished; write the results of each epoch at its end."""
    tested = np.stack([member.tested for member in members])
    number = 0
    while any(member.training for member in members):
        begun = time.perf_counter()
        losses = steps.epoch(number)
        seconds = time.perf_counter() - begun
        outputs, weights = steps.outputs(tested), steps.weights()
        number += 1
        for member, loss, logits, own in zip(members, losses, outputs, weights, strict=True):
            if not member.training:
                continue
            course = {
                "learning_rate": steps.learning_rate,
                # All victims of the stack share the time.
                "stays_per_second": len(member.exposure) * len(members) / seconds,
                "input_wait": 0.0,
            }
            try:
                _end_epoch(member, number, float(loss), logits, own, course)
            except UserError as error:
                member.fault = error


def _end_epoch(
    member: _Member,
    number: int,
    loss: float,
    logits: NDArray[np.floating],
    weights: Weights,
    course: dict[str, float],
) -> None:
    """Measure a victim after an epoch, and log it.

    Raises:
        UserError: training diverged.
    """
    validation, history = member.validation, member.history
    clean = len(validation.clean)
    risks: Risks = validation.risks(logits[:clean], None if validation.triggered is None else logits[clean:])
    history.add({"loss": loss, **validation.measure(risks)}, weights)
    member.log.epoch(number, history.epochs[-1] | course, history.best, risks)
    member.metrics.on_epoch_end(number - 1, history.epochs[-1])
