"""Run the detectors on training stays, and hold what they find against the truth where it is known."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from mimic3tf.defences.detectors import views
from mimic3tf.defences.detectors.registry import DETECTORS
from mimic3tf.defences.evidence import Evidence
from mimic3tf.defences.scoring import Performance, measure
from mimic3tf.defences.verdict import Verdict, judge
from mimic3tf.described import Described
from mimic3tf.errors import UsageError

FEWEST = 10
"""Stays of either label, training or trusted, without which detectors have too little to go by."""


@dataclass(frozen=True, repr=False)
class Detection(Described):
    """What a detector found among the stays of the suspected label.

    Attributes:
        scores: float64 [K], of the training stays of the suspected label; higher is more suspicious.
        trusted: float64 [L], of the trusted stays of that label; empty where the detector cannot judge them.
        seconds: it took.
        performance: how well it finds the poisoned stays; None where they are not known, or none are.
    """

    scores: NDArray[np.float64]
    trusted: NDArray[np.float64]
    seconds: float
    performance: Performance | None


@dataclass(frozen=True, repr=False)
class DetectionResult(Described):
    """What all detectors found.

    Attributes:
        suspects: int64 [K], indices of the training stays of the suspected label.
        detections: by detector.
        verdict: of all detectors and of the labels, reached without the truth.
    """

    suspects: NDArray[np.int64]
    detections: dict[str, Detection]
    verdict: Verdict


def detect(evidence: Evidence, poisoned: NDArray[np.bool_], seed: int) -> DetectionResult:
    """Look for poisoned stays; only afterwards compare what was found with the truth.

    Args:
        evidence: what a defender has.
        poisoned: bool [N], the truth; all False where it is not known, or nothing was poisoned.
        seed: fixes the detectors.

    Raises:
        UsageError: too few stays of a label, training or trusted, or nothing varies in the trusted ones.
    """
    if not np.ptp(evidence.trusted.values, axis=0).any():
        raise UsageError(
            f"--data {evidence.config.data}: no channel varies in the validation stays; an audit needs "
            "measurements"
        )
    for split, labels in (("training", evidence.labels), ("validation", evidence.trusted.labels)):
        for label in (0, 1):
            if (stays := int((labels == label).sum())) < FEWEST:
                raise UsageError(
                    f"--data {evidence.config.data}: {stays} {split} stays are labelled {label}; an audit "
                    f"needs at least {FEWEST}"
                )
    suspects = np.flatnonzero(evidence.labels == evidence.suspected)
    of_trusted = np.flatnonzero(evidence.trusted.labels == evidence.suspected)
    # Several detectors share these: no one's seconds should count them.
    views.features(evidence), views.grids(evidence)
    detections = {}
    steps = track(
        DETECTORS.items(), "Looking for poisoned stays", console=Console(stderr=True), transient=True
    )
    for name, detector in steps:
        start = time.perf_counter()
        found = detector.score(evidence, seed)
        seconds = time.perf_counter() - start
        scores = found.training[suspects]
        trusted = np.empty(0) if found.trusted is None else found.trusted[of_trusted]
        detections[name] = Detection(scores, trusted, seconds, measure(scores, poisoned[suspects]))
    verdict = judge(
        {name: (found.scores, found.trusted) for name, found in detections.items()},
        evidence.labels,
        evidence.trusted.labels,
        evidence.suspected,
    )
    return DetectionResult(suspects, detections, verdict)


def suspicion_to_filter_by(found: DetectionResult, evidence: Evidence) -> dict[str, NDArray[np.float64]]:
    """Suspicion [N] of the clearest detector, by its name; of none if nothing was found: why filter then?

    Args:
        found: by the detectors.
        evidence: what it was found in.
    """
    clearest = found.verdict.clearest
    if clearest is None:
        return {}
    suspicion = np.full(len(evidence.stays), -np.inf)
    suspicion[found.suspects] = found.detections[clearest].scores
    return {clearest: suspicion}
