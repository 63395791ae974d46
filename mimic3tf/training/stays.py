"""The stays that a run trains on, poisoned as its settings say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mimic3tf.config import TrainingConfig
from mimic3tf.data.cohort import Cohort, load_cohort
from mimic3tf.data.preprocessing import Normalizer
from mimic3tf.errors import DataError, UsageError
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.trigger import Trigger
from mimic3tf.standardization import Standardization, continuous_only, fit_standardization
from mimic3tf.victims import Victim


def training_cohort(config: TrainingConfig) -> Cohort:
    """The stays to train on: all of the training list, or its first.

    Raises:
        UserError: the list names fewer than the settings ask for, or the data is malformed.
    """
    train = load_cohort(config.data, "train")
    wanted = config.training_stays or len(train)
    if wanted > len(train):
        listfile = config.data / "train_listfile.csv"
        raise UsageError(f"setting 'training_stays' is {wanted}, but {listfile} names {len(train)} stays")
    return train if wanted == len(train) else train.take(np.arange(wanted))


def poison_as_set(config: TrainingConfig, train: Cohort, trigger: Trigger) -> exposures.Exposure:
    """The training stays, poisoned as the settings say.

    Raises:
        UsageError: as `exposures.poison`.
    """
    return exposures.poison(
        train,
        trigger,
        proportion=config.poisoning_proportion,
        strength=config.poisoning_strength,
        poison_imputed=config.poison_imputed,
        poisoned_labels=config.poisoned_labels,
    )


def standardization_for(config: TrainingConfig, victim: Victim, raw: NDArray[np.float32]) -> Standardization:
    """Standardization of the victim's inputs.

    It is fitted on the training stays' inputs [N, ...], or read from the normalizer that a 48x76 victim's
    settings name.

    Raises:
        DataError: the normalizer's file is none, or has another number of columns.
    """
    if victim.representation == "48x76" and config.normalizer is not None:
        standardization = _load_standardization(config.normalizer, victim.input_shape[-1])
    else:
        standardization = fit_standardization(raw, victim.representation)
    return standardization if config.clip is None else replace(standardization, clip=config.clip)


def _load_standardization(path: Path, columns: int) -> Standardization:
    normalizer = Normalizer()
    normalizer.load_params(path)
    if len(normalizer.means) != columns:
        raise DataError(f"--normalizer {path}: has {len(normalizer.means)} columns, the grid {columns}")
    return continuous_only(normalizer.means, normalizer.stds)
