"""Build a victim, untrained or with the weights of a file.

Keras can read a whole model from a file, but then the file decides which layers the model has, how large
they are, and which files they read. Here the victim's own module builds the model, and the file only gives
numbers.
"""

from __future__ import annotations

import io
import tempfile
import warnings
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import tensorflow as tf

from mimic3tf.channels import ChannelSet
from mimic3tf.config import TrainingConfig
from mimic3tf.errors import UsageError
from mimic3tf.pipeline import input_shape
from mimic3tf.storage.files import read_file, whole_file
from mimic3tf.storage.stored_zip import read_stored
from mimic3tf.training.optimizer import optimizer_of
from mimic3tf.victims import victim_of

WEIGHTS = "model.weights.h5"
POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")


def build_untrained(
    config: TrainingConfig, channels: ChannelSet, bins: int | None, precision: str
) -> keras.Model:
    """Build a victim with the weights that training starts from.

    Args:
        config: the settings of the run.
        channels: the channels that the victim reads.
        bins: number of bins of a stay; None if stays have lengths of their own.
        precision: Keras dtype policy.

    Raises:
        UsageError: the victim needs stays of one length.
    """
    victim = victim_of(config.model)
    if victim.one_length and bins is None:
        raise UsageError(
            f"--model {config.model}: needs stays of one length, and those of {config.task} differ; take "
            "another victim, such as lstm"
        )
    shape = input_shape(victim.reads, channels, bins)
    columns = [channels.channel_of_column.tolist()] if victim.by_channel else []
    keras.config.set_dtype_policy(precision)
    try:
        return victim.build(shape, config.head, *columns, **victim.sized(config.sizes))
    finally:
        keras.config.set_dtype_policy("float32")


def load_victim(
    path: Path, config: TrainingConfig, channels: ChannelSet, bins: int | None, precision: str
) -> keras.Model:
    """Build a victim and give it the weights in a file.

    Args:
        path: `.keras` file that `keras.Model.save` wrote.
        config: the settings of the run.
        channels: the channels that the victim reads.
        bins: number of bins of a stay; None if stays have lengths of their own.
        precision: Keras dtype policy of the training.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is damaged, or of another victim.
    """
    if precision not in POLICIES:
        raise ValueError(f"precision is none of {', '.join(POLICIES)}")
    _check_weights(dict(read_stored(read_file(path)))[WEIGHTS])
    model = build_untrained(config, channels, bins, precision)
    with warnings.catch_warnings():
        # Keras only warns if the file has no weights for a layer.
        warnings.simplefilter("error")
        model.load_weights(path)
    if not all(np.isfinite(weights).all() for weights in model.get_weights()):
        raise ValueError("a weight is not finite")
    return model


def save_model(file: Path, model: keras.Model) -> None:
    """Write a model to a `.keras` file, which is never half-written."""
    # Keras writes only to a path that ends in `.keras`.
    with tempfile.TemporaryDirectory() as scratch, whole_file(file) as target:
        model.save(Path(scratch) / file.name)
        target.write((Path(scratch) / file.name).read_bytes())


def _check_weights(content: bytes) -> None:
    """Refuse an HDF5 file that reads other files, or that takes more memory than its own size.

    Raises:
        ValueError: the file is refused; says why.
    """
    with h5py.File(io.BytesIO(content), "r") as file:
        groups: list[Any] = [file]
        size, seen = 0, set()
        while groups:
            group = groups.pop()
            # Links between groups may form a circle.
            if group.id in seen:
                raise ValueError("a group of weights is linked twice")
            seen.add(group.id)
            for name in group:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise ValueError(f"weights '{name[:50]}' are a link")
                entry = group[name]
                if isinstance(entry, h5py.Group):
                    groups.append(entry)
                    continue
                if not isinstance(entry, h5py.Dataset) or entry.external or entry.is_virtual or entry.chunks:
                    raise ValueError(f"weights '{name[:50]}' are not plain numbers")
                size += entry.nbytes
        if size > len(content):
            raise ValueError("the weights are larger than their file")


def build_victim(
    config: TrainingConfig, channels: ChannelSet, bins: int | None, precision: str, *, stays: int
) -> tuple[keras.Model, keras.optimizers.Optimizer]:
    """Build the untrained victim and its optimizer for a number of training stays.

    Raises:
        UsageError: a recurrent layer of the user's own model would compute in bfloat16 on a GPU.
    """
    keras.utils.set_random_seed(config.seed)
    model = build_untrained(config, channels, bins, precision)
    if tf.config.list_physical_devices("GPU"):
        _refuse_recurrence_in_bfloat16(model)
    return model, optimizer_of(config, stays, precision)


def _refuse_recurrence_in_bfloat16(model: keras.Model) -> None:
    """Refuse what cannot be trained on a GPU (`victims.layers.cudnn.recurrent_policy` says why)."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.RNN) and layer.compute_dtype == "bfloat16":
            raise UsageError(
                f"--precision mixed_bfloat16: layer '{layer.name}' cannot learn in bfloat16 on a GPU; type "
                f"--precision float32, or give the layer dtype='float32'"
            )
