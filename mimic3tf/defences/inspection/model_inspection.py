"""Compare the inverted triggers of a model with those of clean reference models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedShuffleSplit

from mimic3tf.defences.evidence import Evidence, Gradients
from mimic3tf.defences.inspection.trigger_inversion import WANTED, Inversion, invert_trigger
from mimic3tf.progress import track

REFERENCES = 4
"""Number of clean reference models."""
TARGETS = (0, 1)
"""Labels towards which triggers are inverted."""
SUSPICIOUS = 2.0
"""Anomaly index from which Wang et al. 2019 call a label infected."""
LEAST_SPREAD = 0.3
"""Least deviation of log lengths: those of a few references may be close together by chance."""


@dataclass(frozen=True)
class TargetFinding:
    """The finding for one target label.

    Attributes:
        inversion: the shortest pattern that makes the model predict the target.
        reference_lengths: lengths of the patterns of the clean reference models; infinite if no pattern
            leads a model to the target; none if no reference could be trained.
        anomaly_index: by how many deviations the model's log length lies below the median of the references'
            log lengths; a deviation is 1.4826 times the median absolute deviation. Negative if the model's
            pattern is longer; None without references.
    """

    inversion: Inversion
    reference_lengths: tuple[float, ...]
    anomaly_index: float | None


@dataclass(frozen=True)
class ModelFindings:
    """The findings of a model inspection.

    Attributes:
        targets: the finding for each target, 0 and 1.
        looks_backdoored: whether the pattern of a target is suspiciously short.
        in_words: the result and its uncertainty in words, as a part of a sentence.
    """

    targets: tuple[TargetFinding, ...]
    looks_backdoored: bool
    in_words: str

    @property
    def compared(self) -> bool:
        """Whether there were reference models to compare with."""
        return all(finding.reference_lengths for finding in self.targets)


def inspect_model(evidence: Evidence, *, seed: int) -> ModelFindings | None:
    """Invert triggers of the model and of clean reference models, towards both labels.

    Each reference is trained with the model's settings on a random half of the trusted stays; the other half
    chooses its epoch. Source: Wang et al. 2019, Neural Cleanse, who compare labels; here models are compared.

    Args:
        evidence: the model and the trusted stays; the training stays are not read.
        seed: fixes halves, trainings and inversions.

    Returns:
        The findings for both labels; None if the model cannot be differentiated.
    """
    model, trusted = evidence.model, evidence.trusted
    own = None if model is None else model.gradients()
    if model is None or own is None:
        return None
    halves = StratifiedShuffleSplit(REFERENCES, train_size=0.5, random_state=seed)
    splits = list(halves.split(trusted.labels, trusted.labels))
    found: list[list[Inversion]] = []
    for number in track(range(1 + len(splits)), "Inverting triggers"):
        tried: Gradients | None = own
        if number:
            train, judge = splits[number - 1]
            tried = model.reference(train, judge, (seed + number) % 2**32)
        if tried is None:
            break
        found.append([invert_trigger(tried, trusted, target=target, seed=seed) for target in TARGETS])
    targets = tuple(_compared(*inversions) for inversions in zip(*found, strict=True))
    suspects = [finding for finding in targets if (finding.anomaly_index or 0.0) > SUSPICIOUS]
    return ModelFindings(targets, bool(suspects), _in_words(targets, suspects))


def _compared(own: Inversion, *references: Inversion) -> TargetFinding:
    lengths = [_length(reference) for reference in references]
    return TargetFinding(own, tuple(lengths), anomaly_index(_length(own), lengths) if lengths else None)


def anomaly_index(length: float, references: Sequence[float]) -> float:
    """Compute the index of `TargetFinding`; 0 if the model's length, or the median length, is infinite."""
    logs = np.log(references)
    middle = np.median(logs)
    if not np.isfinite([length, middle]).all():
        return 0.0
    deviation = 1.4826 * np.median(np.abs(logs - middle))
    return float((middle - np.log(length)) / max(deviation, LEAST_SPREAD))


def _length(inversion: Inversion) -> float:
    # A model that predicts the target without any pattern is a poor model, not a backdoored one.
    return inversion.length if inversion.reached and inversion.baseline < WANTED else np.inf


def _needed(inversion: Inversion) -> str:
    length = _length(inversion)
    if not np.isfinite(length):
        return f"no pattern was found that makes the model predict {inversion.target}"
    return f"a pattern of length {length:.2g} makes the model predict {inversion.target}"


def _in_words(targets: Sequence[TargetFinding], suspects: Sequence[TargetFinding]) -> str:
    if not all(finding.reference_lengths for finding in targets):
        return " and ".join(_needed(finding.inversion) for finding in targets)
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
