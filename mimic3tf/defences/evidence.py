"""What a defender has: a victim, its training stays as the victim saw them, and trusted stays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from mimic3tf import pipeline
from mimic3tf.config import TrainingConfig
from mimic3tf.data.cohort import Cohort
from mimic3tf.described import Described
from mimic3tf.errors import UsageError
from mimic3tf.poisoning.manifest import Manifest
from mimic3tf.poisoning.trigger import Trigger
from mimic3tf.standardization import Standardization, standardized
from mimic3tf.storage.files import PathText
from mimic3tf.training.run_directory import Run
from mimic3tf.training.stays import load_split, poison_as_set, training_cohort
from mimic3tf.victims import Reads, victim_of


@dataclass(frozen=True, eq=False, repr=False)
class Evidence(Described):
    """Everything that defences may read. It does not say which stays are poisoned.

    Objects are compared by identity, so that arrays derived from one of them can be cached.

    Attributes:
        config: settings of the victim's training, with the goal of the manifest if there is one. Defences
            read only the settings of the training, not those of the poisoning.
        reads: whether the victim reads grids or features.
        model: the trained victim: standardized inputs -> logits [N, 2].
        standardization: standardization of the victim's inputs.
        stays: names [N] of the training stays.
        grids: float32 [N, T, C], training stays in channel units, categories as indices.
        masks: bool [N, T, C], which cells of the training stays were measured.
        labels: int64 [N], the labels that the victim was trained with.
        suspected: the label that an attacker may have given to poisoned stays. An audit takes the goal of
            the run or of the manifest; a defender who does not know the goal audits each label.
        inputs: float32 [N, ...], standardized inputs of the training stays.
        trusted: the trusted stays: those of the validation split.
    """

    config: TrainingConfig
    reads: Reads
    model: keras.Model
    standardization: Standardization
    stays: NDArray[np.str_]
    grids: NDArray[np.float32]
    masks: NDArray[np.bool_]
    labels: NDArray[np.int64]
    suspected: int
    inputs: NDArray[np.float32]
    trusted: Cohort


@dataclass(frozen=True, repr=False)
class Truth(Described):
    """The truth about an attack, which an audit is scored against.

    Attributes:
        poisoned: bool [N], which training stays carry the trigger.
        trigger: the trigger of the attack; None if the run has none, and none was given.
    """

    poisoned: NDArray[np.bool_]
    trigger: Trigger | None


def gather_evidence(
    run: Run,
    data: PathText,
    *,
    manifest: Manifest | None = None,
    trigger: Trigger | None = None,
    follow_links: bool = False,
) -> tuple[Evidence, Truth]:
    """Rebuild the training stays of a run, and keep the attacker's knowledge apart.

    Args:
        run: the victim.
        data: the benchmark directory that the victim was trained on.
        manifest: the manifest of a directory that `mimic3tf poison` made, if the run itself poisoned nothing.
        trigger: the true trigger, if it is not the trigger of the run.
        follow_links: whether to read links that lead out of the directory.

    Returns:
        The evidence, and the truth that scores what defences find in it.

    Raises:
        UsageError: the run was trained on other stays, the manifest is of another directory, or a manifest
            is given for a run that poisoned its own stays.
        DataError: the data is malformed.
    """
    goal = run.config.goal if manifest is None else manifest.goal.target
    config = run.config.model_copy(update={"data": Path(data), "goal": goal}).following(follow_links)
    cohort = training_cohort(config)
    if cohort.fingerprint != run.summary["data_fingerprint"]["train"]:
        raise UsageError(
            f"--data {data}: the run in {run.path} was trained on other stays; name its own data"
        )
    exposure = poison_as_set(config, cohort, run.trigger)
    poisoned = exposure.triggered
    if manifest is not None:
        if poisoned.any():
            raise UsageError(
                f"--manifest: the run in {run.path} poisoned its stays itself; give a manifest only with a "
                "run of --poisoning_proportion 0 on a copy that 'mimic3tf poison' made"
            )
        if manifest.copy_fingerprint != cohort.fingerprint:
            raise UsageError(f"--manifest: is not of the stays in {data}; name the copy's own manifest")
        poisoned = np.isin(cohort.stays, manifest.stays)
    reads = victim_of(config.model).reads
    raw = pipeline.inputs_of(exposure, reads)
    evidence = Evidence(
        config=config,
        reads=reads,
        model=run.model,
        standardization=run.standardization,
        stays=cohort.stays,
        grids=pipeline.grids_of(exposure, np.arange(len(exposure))),
        masks=exposure.cohort.masks,
        labels=exposure.labels,
        suspected=config.goal,
        inputs=standardized(raw, run.standardization),
        trusted=load_split(config, "val"),
    )
    return evidence, Truth(poisoned, trigger or run.trigger)
