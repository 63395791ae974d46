"""What a defender has: a victim, the stays it was trained on as it saw them, and stays nobody touched."""

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
    """All that defences may look at. Which stays are poisoned is not in it.

    Two are equal only if they are the same, so that what is derived from one can be cached.

    Attributes:
        config: settings the victim was trained with; the goal is that of the manifest where there is one.
            Defences read those of the training only.
        reads: what the victim reads.
        model: the trained victim: standardized inputs -> logits [N, 2].
        standardization: map of its inputs.
        stays: names [N] of the training stays.
        grids: float32 [N, T, C], training stays in channel units, categories as indices.
        labels: int64 [N], as the victim was shown them.
        suspected: the label that an attacker may have given to poisoned stays. An audit asks about the goal
            of the run, or of the manifest; a defender who does not know it asks about each label.
        inputs: float32 [N, ...], standardized inputs of the training stays.
        trusted: stays the defender vouches for: those of the validation split.
    """

    config: TrainingConfig
    reads: Reads
    model: keras.Model
    standardization: Standardization
    stays: NDArray[np.str_]
    grids: NDArray[np.float32]
    labels: NDArray[np.int64]
    suspected: int
    inputs: NDArray[np.float32]
    trusted: Cohort


@dataclass(frozen=True, repr=False)
class Truth(Described):
    """What an audit is scored against.

    Attributes:
        poisoned: bool [N], the training stays that carry a trigger.
        trigger: what they carry.
    """

    poisoned: NDArray[np.bool_]
    trigger: Trigger


def gather_evidence(
    run: Run,
    data: PathText,
    *,
    manifest: Manifest | None = None,
    trigger: Trigger | None = None,
    follow_links: bool = False,
) -> tuple[Evidence, Truth]:
    """Rebuild what a run was trained on, and keep apart what only its attacker knows.

    Args:
        run: the victim.
        data: the benchmark directory it was trained on; it poisoned those stays on the fly, or not at all.
        manifest: what `mimic3tf poison` did to the directory, for a run that poisoned nothing itself.
        trigger: the true trigger where it is another than the run's.
        follow_links: read links that lead out of the directory, too.

    Raises:
        UsageError: the run was trained on other stays, or poisoned on the fly what a manifest says was
            poisoned before.
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
        labels=exposure.labels,
        suspected=config.goal,
        inputs=standardized(raw, run.standardization),
        trusted=load_split(config, "val"),
    )
    return evidence, Truth(poisoned, trigger or run.trigger)
