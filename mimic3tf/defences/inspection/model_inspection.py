"""Does a model look backdoored? Its inverted triggers beside those of models that cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from rich.console import Console
from rich.progress import track
from sklearn.model_selection import StratifiedShuffleSplit

from mimic3tf.defences.evidence import Evidence
from mimic3tf.defences.inspection.trigger_inversion import WANTED, Inversion, invert_trigger
from mimic3tf.defences.retraining import examples_of, retrain

REFERENCES = 4
TARGETS = (0, 1)
SUSPICIOUS = 2.0
"""Anomaly index from which Wang et al. 2019 call a label infected."""
LEAST_SPREAD = 0.3
"""Of the logarithms of lengths: a few references may lie together by luck."""


@dataclass(frozen=True)
class TargetFinding:
    """What was found for one target.

    Attributes:
        inversion: the model's shortest pattern towards it.
        reference_lengths: lengths that the clean reference models need; infinite where none was found.
        anomaly_index: by how many deviations the model's length is below the references' median, both as
            logarithms; the deviation is 1.4826 times the median absolute one. Negative for a longer one.
    """

    inversion: Inversion
    reference_lengths: tuple[float, ...]
    anomaly_index: float


@dataclass(frozen=True)
class ModelFindings:
    """What an inspection found, and what that means.

    Attributes:
        targets: by target, 0 and 1.
        looks_backdoored: whether a target's pattern is suspiciously short.
        in_words: the same, with its uncertainty; no sentence of its own.
    """

    targets: tuple[TargetFinding, ...]
    looks_backdoored: bool
    in_words: str


def inspect_model(evidence: Evidence, *, seed: int) -> ModelFindings:
    """Invert triggers towards both labels, of the model and of references trained on trusted stays.

    Each reference is trained as the model was, on a random half of the trusted stays; the other half
    chooses its epoch.

    Args:
        evidence: what the defender has; the training stays are not looked at.
        seed: fixes halves, trainings and inversions.
    """
    config, trusted = evidence.config, evidence.trusted
    examples = examples_of(trusted, evidence.reads, evidence.standardization)
    halves = StratifiedShuffleSplit(REFERENCES, train_size=0.5, random_state=seed)
    splits = list(halves.split(examples.labels, examples.labels))

    def inversions(model: keras.Model) -> list[Inversion]:
        return [
            invert_trigger(model, config, evidence.standardization, trusted, target=target, seed=seed)
            for target in TARGETS
        ]

    found: list[list[Inversion]] = []
    progress = Console(stderr=True)
    for number in track(range(1 + len(splits)), "Inverting triggers", console=progress, transient=True):
        if number == 0:
            found.append(inversions(evidence.model))
            continue
        train, judge = splits[number - 1]
        settings = config.model_copy(update={"seed": (config.seed + number) % 2**32})
        reference = retrain(settings, examples.take(train), examples.take(judge))
        found.append(inversions(reference))
    targets = tuple(
        TargetFinding(
            own, tuple(map(_length, others)), anomaly_index(_length(own), list(map(_length, others)))
        )
        for own, *others in zip(*found, strict=True)
    )
    suspects = [finding for finding in targets if finding.anomaly_index > SUSPICIOUS]
    return ModelFindings(targets, bool(suspects), _in_words(suspects))


def anomaly_index(length: float, references: Sequence[float]) -> float:
    """Index of `TargetFinding`; 0 where the model needs no finite length, or most references do not."""
    logs = np.log(references)
    middle = np.median(logs)
    if not np.isfinite([length, middle]).all():
        return 0.0
    deviation = 1.4826 * np.median(np.abs(logs - middle))
    return float((middle - np.log(length)) / max(deviation, LEAST_SPREAD))


def _length(inversion: Inversion) -> float:
    # A model that needs no pattern to predict the target is a poor one, not a backdoored one.
    return inversion.length if inversion.reached and inversion.baseline < WANTED else np.inf


def _in_words(suspects: Sequence[TargetFinding]) -> str:
    if not suspects:
        return "no pattern is much shorter than those that clean models need"
    reasons = " and ".join(
        f"a pattern of length {finding.inversion.length:.2g} makes it predict {finding.inversion.target}, "
        f"clean models need {np.median(finding.reference_lengths):.2g} "
        f"(anomaly index {finding.anomaly_index:.1f})"
        for finding in suspects
    )
    return (
        f"{reasons}, as in a backdoored model; a clean model that learned from more stays than its "
        f"{REFERENCES} references can look like that, too"
    )
