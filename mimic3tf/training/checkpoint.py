"""The state of a run between two epochs, in one file."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mimic3tf.errors import DataError, UsageError
from mimic3tf.storage.files import parse_json, whole_file
from mimic3tf.storage.stored_zip import read_arrays
from mimic3tf.training.distribution import from_chief
from mimic3tf.training.run_files import CHECKPOINT
from mimic3tf.training.validation import History

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after an epoch: what the next epoch needs and does not get from seed and epoch.

    Keras' `BackupAndRestore` is not used: it writes two files, and a kill between them leaves the weights of
    one epoch with the number of another. It also stores neither the epoch kept nor the metrics.
    `tf.train.Checkpoint` writes several files, too.

    Attributes:
        origin: fingerprints of the run's inputs; see `check_origin`.
        epochs: metrics of every epoch trained.
        kept: number of the epoch kept, from 1.
        score: score of the epoch kept, None if no epoch has qualified.
        weights: weights of the epoch kept.
        variables: current weights, seeds of dropout, and the optimizer's step, moments and loss scale.
    """

    origin: dict[str, Any]
    epochs: list[dict[str, float]]
    kept: int
    score: float | None
    weights: Sequence[NDArray[Any]]
    variables: Sequence[NDArray[Any]]


def take_checkpoint(
    origin: dict[str, Any], history: History, model: keras.Model, optimizer: keras.optimizers.Optimizer
) -> Checkpoint:
    """Copy the current state of a run."""
    variables = [variable.numpy() for variable in _variables(model, optimizer)]
    return Checkpoint(origin, history.epochs, history.kept, history.score, history.weights, variables)


def restore_checkpoint(
    checkpoint: Checkpoint, history: History, model: keras.Model, optimizer: keras.optimizers.Optimizer
) -> None:
    """Set a run that has just begun to the state of a checkpoint.

    Raises:
        UsageError: the checkpoint has variables of other shapes than the model and the optimizer.
    """
    variables = _variables(model, optimizer)
    if [variable.shape for variable in variables] != [array.shape for array in checkpoint.variables]:
        raise UsageError("--resume: another version of mimic3tf began this run; train it without --resume")
    for variable, array in zip(variables, checkpoint.variables, strict=True):
        variable.assign(array)
    history.epochs, history.kept = list(checkpoint.epochs), checkpoint.kept
    history.score, history.weights = checkpoint.score, checkpoint.weights


def _variables(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> list[Any]:
    # `model.variables` includes the seed generators of dropout; `model.weights` does not.
    return [*model.variables, *optimizer.variables]


def write_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint beside `path` and rename it, so that `path` always holds a complete checkpoint."""
    record = {
        "format": FORMAT,
        "origin": checkpoint.origin,
        "epochs": checkpoint.epochs,
        "kept": checkpoint.kept,
        "score": checkpoint.score,
    }
    arrays: Mapping[str, Any] = {
        "record": np.array(json.dumps(record)),
        **{f"weights/{i}": array for i, array in enumerate(checkpoint.weights)},
        **{f"variables/{i}": array for i, array in enumerate(checkpoint.variables)},
    }
    with whole_file(path) as file:
        np.savez(file, allow_pickle=False, **arrays)
        # If the machine crashes, the disk must not have the new name without the contents.
        file.flush()
        os.fsync(file.fileno())


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; nothing in it is executed.

    Raises:
        DataError: the file is damaged.
    """
    try:
        arrays = read_arrays(path)
        record = parse_json(str(arrays.pop("record")))
        if record["format"] != FORMAT:
            raise ValueError(f"format {record['format']}")
        groups: dict[str, list[NDArray[Any]]] = {"weights": [], "variables": []}
        for name, array in arrays.items():
            groups[name.split("/")[0]].append(array)
        epochs = [{name: float(epoch[name]) for name in epoch} for epoch in record["epochs"]]
        score = None if record["score"] is None else float(record["score"])
        return Checkpoint(dict(record["origin"]), epochs, int(record["kept"]), score, **groups)
    except Exception as error:  # a damaged archive can raise many kinds of errors
        fault = f"damaged ({type(error).__name__})"
        raise DataError(f"{path}: {fault}; train the run again without --resume") from error


def share_checkpoint(strategy: tf.distribute.Strategy, checkpoint: Checkpoint | None) -> Checkpoint | None:
    """Give the chief's checkpoint to every worker, because only the chief sees the run directory."""
    if not strategy.cluster_resolver:
        return checkpoint
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / CHECKPOINT
        if checkpoint is not None:
            write_checkpoint(checkpoint, file)
        content = from_chief(strategy, file.read_bytes() if checkpoint is not None else b"")
        file.write_bytes(content)
        return read_checkpoint(file) if content else None


def check_origin(checkpoint: Checkpoint, origin: Mapping[str, Any], path: Path) -> None:
    """Refuse to continue a run with other inputs.

    Args:
        checkpoint: checkpoint of the interrupted run.
        origin: fingerprint of each input of this run, by the option that names the input.
        path: run directory, for the message.

    Raises:
        UsageError: an input differs; names the option.
    """
    for name, value in origin.items():
        if checkpoint.origin.get(name) != value:
            raise UsageError(
                f"--{name}: not what the interrupted run in {path} was begun with; give the same, or train "
                f"it again without --resume"
            )
