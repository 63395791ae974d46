"""The stays that a run trains on, poisoned as its settings say."""

from __future__ import annotations

import numpy as np

from mimic3tf import pipeline
from mimic3tf.attack.trigger import Trigger
from mimic3tf.config import TrainingConfig
from mimic3tf.data.cohort import Cohort, load_cohort
from mimic3tf.errors import UsageError


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


def poison_as_set(config: TrainingConfig, train: Cohort, trigger: Trigger) -> pipeline.Exposure:
    """The training stays, poisoned as the settings say.

    Raises:
        UsageError: as `pipeline.poison`.
    """
    return pipeline.poison(
        train,
        trigger,
        proportion=config.poisoning_proportion,
        strength=config.poisoning_strength,
        poison_imputed=config.poison_imputed,
        poisoned_labels=config.poisoned_labels,
    )
