"""Import a victim that the original attack trained in PyTorch, as a finished run."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from mimic3tf import pipeline
from mimic3tf.channels import MIMIC3
from mimic3tf.config import TrainingConfig
from mimic3tf.errors import DataError, UsageError
from mimic3tf.pipeline import input_shape
from mimic3tf.poisoning.trigger import check_trigger_fits, load_trigger
from mimic3tf.storage.files import PathText, read_file
from mimic3tf.storage.torch_checkpoint import read_state_dict
from mimic3tf.training.models import build_untrained
from mimic3tf.training.run_directory import finish_run, start_run
from mimic3tf.training.run_files import check_run_directory
from mimic3tf.training.stays import poison_as_set, standardization_for, training_cohort
from mimic3tf.victims import victim_of
from mimic3tf.victims.mlp import HALVES, UNITS

LARGEST_CHECKPOINT = 2**24
"""Largest checkpoint in bytes; that of the largest victim has 1.1 MB."""
DENSE_LAYERS: dict[str, dict[str, str]] = {
    "lr": {"logits": "fc1"},
    "mlp": {"logits": "fc2"},
    "lstm": {"head": "fc1", "logits": "fc2"},
}
"""Victim -> name of its dense layer here -> name in PyTorch, for layers that correspond one to one."""
LSTM_LAYERS = {
    "bidirectional_1": ("l0", "l0_reverse"),
    "lstm_2_forward": ("l1",),
    "lstm_2_backward": ("l1_reverse",),
}
"""Recurrent layer of the LSTM victim here -> PyTorch's names of its directions, in the layer's order."""
BINS = 48
"""Bins of a stay: the original uses hourly bins, and the channels of the MIMIC-III benchmarks."""
Tensors = Mapping[str, NDArray[np.float32]]


def import_checkpoint(checkpoint: PathText, config: TrainingConfig, out: PathText) -> dict[str, Any]:
    """Read a checkpoint of the original and write a run directory, which `attack` can read.

    Args:
        checkpoint: file of a state dict, as `torch.save` writes it.
        config: the settings of the training, as far as they are known. The standardization is fitted on the
            training stays of `data`, poisoned as the settings say, or read from `normalizer`.
        out: directory to write; `start_run` says what it may hold.

    Returns:
        Summary of the run, as written to `run.json`.

    Raises:
        UserError: the checkpoint is of another victim, the trigger does not fit, the data is malformed, or
            `out` is taken.
    """
    checkpoint, out = Path(checkpoint), Path(out)
    check_run_directory(out)
    content = _read_file(checkpoint)
    try:
        model = build_imported(config, content)
    except ValueError as error:
        raise DataError(f"{checkpoint}: no checkpoint of --model {config.model}: {error}") from None
    if config.trigger is None:
        raise UsageError("--trigger: is missing; give the file of 'mimic3tf generate-trigger' to attack with")
    trigger = load_trigger(config.trigger)
    train = training_cohort(config)
    check_trigger_fits(trigger, train, config.trigger)
    if train.channels != MIMIC3 or train.bins != BINS:
        raise UsageError(
            f"--data {config.data}: the original's victims read {BINS} hourly bins of the MIMIC-III "
            "benchmarks' channels; name a directory that has these"
        )
    reads = config.reads
    exposure = poison_as_set(config, train, trigger)
    inputs = pipeline.inputs_of(exposure, reads)
    standardization = standardization_for(config, reads, inputs, train.channels)
    start_run(out, config, trigger)
    summary = {
        "victim": config.model,
        "imported": {
            "file": checkpoint.name,
            "sha256": hashlib.sha256(content).hexdigest(),
            "settings": "as given or assumed at import; the file does not record them",
        },
        "stays_poisoned": int(exposure.triggered.sum()),
        "seed": config.seed,
        "precision": "float32",
        "data_fingerprint": {"train": train.fingerprint},
    }
    finish_run(out, model, standardization, summary)
    return summary


def build_imported(config: TrainingConfig, content: bytes) -> keras.Model:
    """Build a victim with the weights of a PyTorch checkpoint.

    Args:
        config: the settings; `model` names a victim of the original.
        content: the checkpoint file.

    Returns:
        The model; its logits equal the original's to float32 rounding.

    Raises:
        ValueError: the file does not hold exactly this victim's float32 weights; says what is wrong.
    """
    name = config.model
    if name not in DENSE_LAYERS:
        raise ValueError("the original has no such victim")
    tensors = read_state_dict(content, tensor_shapes(name))
    model = build_untrained(config, MIMIC3, BINS, "float32")
    for layer, weights in keras_weights(name, tensors).items():
        model.get_layer(layer).set_weights(weights)
    return model


def tensor_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """List the shape of every tensor in a victim's PyTorch state dict, by the tensor's name."""
    inputs = input_shape(victim_of(name).reads, MIMIC3, BINS)[-1]
    if name == "lr":
        return _dense_shapes("fc1", inputs, 2)
    if name == "mlp":
        return _dense_shapes("fc1", inputs, UNITS) | _dense_shapes("fc2", UNITS, 2)
    units = 16
    shapes: dict[str, tuple[int, ...]] = {}
    for direction in (direction for layer in LSTM_LAYERS.values() for direction in layer):
        # The second layer reads both directions of the first.
        width = inputs if direction.startswith("l0") else 2 * units
        shapes |= {
            f"lstm.weight_ih_{direction}": (4 * units, width),
            f"lstm.weight_hh_{direction}": (4 * units, units),
            f"lstm.bias_ih_{direction}": (4 * units,),
            f"lstm.bias_hh_{direction}": (4 * units,),
        }
    return shapes | _dense_shapes("fc1", 2 * units, 10) | _dense_shapes("fc2", 10, 2)


def keras_weights(name: str, tensors: Tensors) -> dict[str, list[NDArray[np.float32]]]:
    """Convert a state dict to the weights that `set_weights` takes, by the name of the Keras layer.

    Args:
        name: name of the victim.
        tensors: its state dict, with the shapes of `tensor_shapes`.

    Raises:
        ValueError: the sum of two biases is not finite.
    """
    weights = {
        layer: [tensors[f"{dense}.weight"].T, tensors[f"{dense}.bias"]]
        for layer, dense in DENSE_LAYERS[name].items()
    }
    if name == "mlp":
        halves = (np.split(tensors[f"fc1.{kind}"], len(HALVES)) for kind in ("weight", "bias"))
        weights |= {layer: [kernel.T, bias] for layer, kernel, bias in zip(HALVES, *halves, strict=True)}
    if name == "lstm":
        weights |= {
            layer: [array for direction in directions for array in _lstm_weights(tensors, direction)]
            for layer, directions in LSTM_LAYERS.items()
        }
    return weights


def _lstm_weights(tensors: Tensors, direction: str) -> list[NDArray[np.float32]]:
    """Return kernel [D, 64], recurrent kernel [16, 64] and bias [64] of one direction.

    Both libraries order the gates as input, forget, cell, output. PyTorch has two biases and adds them.
    """
    with np.errstate(over="ignore"):
        bias = tensors[f"lstm.bias_ih_{direction}"] + tensors[f"lstm.bias_hh_{direction}"]
    if not np.isfinite(bias).all():
        raise ValueError(f"tensor 'lstm.bias_hh_{direction}': its sum with the other bias is not finite")
    return [tensors[f"lstm.weight_ih_{direction}"].T, tensors[f"lstm.weight_hh_{direction}"].T, bias]


def _dense_shapes(layer: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{layer}.weight": (outputs, inputs), f"{layer}.bias": (outputs,)}


def _read_file(path: Path) -> bytes:
    try:
        return read_file(path, LARGEST_CHECKPOINT)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise DataError(f"{path}: larger than the checkpoint of any victim") from None
        raise UsageError(f"{path}: checkpoint cannot be read: {error.strerror}") from None
