"""The stays that a run reads, poisoned as its settings say, and the standardization of their inputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from mimic3tf.channels import ChannelSet
from mimic3tf.config import TrainingConfig
from mimic3tf.data.cohort import Cohort
from mimic3tf.data.directory import Split, lacking, listfile_of
from mimic3tf.data.loading import load_cohort
from mimic3tf.data.preprocessing import Normalizer
from mimic3tf.errors import DataError, UsageError
from mimic3tf.pipeline import Inputs
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.trigger import Trigger, check_trigger_fits
from mimic3tf.standardization import Standardization, continuous_only, fit_standardization
from mimic3tf.victims import Reads


def load_split(config: TrainingConfig, split: Split) -> Cohort:
    """Read all stays of a split as the settings say.

    Raises:
        UserError: the data is malformed or missing.
    """
    return load_cohort(
        config.data,
        split,
        task=config.task,
        period=config.period,
        timestep=config.timestep,
        follow_links=config.follow_links,
    )


def training_cohort(config: TrainingConfig) -> Cohort:
    """Read the stays to train on: the first `training_stays` of the training listfile, or all.

    Raises:
        UserError: the listfile names fewer stays than the settings ask for, or the data is malformed.
    """
    train = load_split(config, "train")
    wanted = config.training_stays or len(train)
    if wanted > len(train):
        listfile = listfile_of(config.data, "train")
        raise UsageError(f"setting 'training_stays' is {wanted}, but {listfile} names {len(train)} stays")
    return train if wanted == len(train) else train.take(np.arange(wanted))


def samples_of_epoch(config: TrainingConfig, train: Cohort) -> int:
    """Count the training stays, or their hours if a batch holds single hours."""
    return len(train.examples) if config.one_sample_an_hour else len(train)


def poison_as_set(config: TrainingConfig, train: Cohort, trigger: Trigger | None) -> exposures.Exposure:
    """Poison the training stays as the settings say; without a trigger they stay clean.

    Raises:
        UsageError: as `exposures.poison`.
    """
    if trigger is None:
        return exposures.clean(train)
    return exposures.poison(
        train,
        trigger,
        proportion=config.poisoning_proportion,
        strength=config.poisoning_strength,
        poison_imputed=config.poison_imputed,
        poisoned_labels=config.poisoned_labels,
        goal=config.attack_goal,
        at=config.at,
    )


def exposure_for(
    config: TrainingConfig, train: Cohort, val: Cohort, trigger: Trigger | None
) -> exposures.Exposure:
    """Poison the training stays as `poison_as_set` does, and check that a victim can be trained on them.

    Raises:
        UserError: the trigger does not fit, a split lacks one of the labels, or all stays get one label.
    """
    if trigger is not None:
        check_trigger_fits(trigger, train, config.trigger or "trigger")
    stays: dict[Split, Cohort] = {"train": train, "val": val}
    goal = config.attack_goal
    named = "label" if config.goal_label is None else f"in '{config.goal_label}' the label"
    for split, cohort in stays.items():
        missing = {0, 1} - set(np.unique(goal.of(cohort.labels)).tolist())
        if missing:
            fault = f"no stay has {named} {min(missing)}"
            if split == "train" and config.training_stays is not None:
                raise UsageError(
                    f"setting 'training_stays': of the first {config.training_stays} {fault}; give more"
                )
            raise DataError(lacking(config.data, split, fault))
    exposure = poison_as_set(config, train, trigger)
    if not goal.attacked(exposure.labels).any():
        raise UsageError(
            f"--poisoning_proportion {config.poisoning_proportion:g}: leaves no stay of label "
            f"{1 - config.goal}; poison fewer"
        )
    if trigger is None and config.selection == "original" and config.reads != "grid":
        raise UsageError(
            "--selection original: chooses by the attack success rate, which needs a trigger; give --trigger "
            "or --selection auroc"
        )
    return exposure


def standardization_for(
    config: TrainingConfig, reads: Reads, inputs: Inputs, channels: ChannelSet
) -> Standardization:
    """Make the standardization of a victim's inputs.

    If the settings name a normalizer, the standardization is read from this file; the victim must read grids.
    Otherwise it is fitted on `inputs`, the inputs of the training stays.

    Raises:
        UsageError: the settings name a normalizer, but the victim reads features.
        DataError: the file is no normalizer, or has another number of columns.
    """
    if config.normalizer is not None:
        if reads != "grid":
            raise UsageError(
                f"--normalizer: is for victims that read grids; {config.model} reads features, leave it out"
            )
        standardization = _load_standardization(config.normalizer, channels)
    else:
        standardization = fit_standardization(inputs, reads, channels)
    return standardization if config.clip is None else replace(standardization, clip=config.clip)


def _load_standardization(path: Path, channels: ChannelSet) -> Standardization:
    normalizer = Normalizer()
    normalizer.load_params(path)
    columns = len(channels.columns())
    if len(normalizer.means) != columns:
        raise DataError(f"--normalizer {path}: has {len(normalizer.means)} columns, the grid {columns}")
    return continuous_only(normalizer.means, normalizer.stds, channels)
