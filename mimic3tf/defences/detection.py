"""Run the detectors on the training stays, and compare their findings with the truth if it is known."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimic3tf.defences.detectors import views
from mimic3tf.defences.detectors.registry import DETECTORS, Detector
from mimic3tf.defences.evidence import Evidence
from mimic3tf.defences.scoring import Performance, measure
from mimic3tf.defences.verdict import TOP, OwnTest, Verdict, judge
from mimic3tf.described import Described
from mimic3tf.errors import UsageError
from mimic3tf.progress import track

DROPPED = 0.10
"""Share of the training stays that a filter drops by a detector without a test of its own."""
FEWEST = 10
"""Fewest stays of each label that detectors need, in the training and in the validation split."""


@dataclass(frozen=True, repr=False)
class Detection(Described):
    """What a detector found among the stays of the suspected label.

    Attributes:
        scores: float64 [K] of the training stays of the suspected label; higher is more suspicious.
        trusted: float64 [L] of the trusted stays of that label; empty if the detector cannot judge them.
        seconds: running time of the detector.
        performance: how well the scores find the poisoned stays; None if no stay is known to be poisoned.
        own_test: the detector's own test, if it makes one.
    """

    scores: NDArray[np.float64]
    trusted: NDArray[np.float64]
    seconds: float
    performance: Performance | None
    own_test: OwnTest | None


@dataclass(frozen=True, repr=False)
class Suspicion(Described):
    """Which training stays a repair drops.

    Attributes:
        scores: float64 [N] of all training stays; the highest are dropped first.
        dropped: share of all training stays to drop.
    """

    scores: NDArray[np.float64]
    dropped: float


@dataclass(frozen=True, repr=False)
class DetectionResult(Described):
    """The findings of all detectors.

    Attributes:
        suspects: int64 [K], indices of the training stays of the suspected label.
        detections: the findings of each detector that was used, by its name.
        not_run: what each of the other detectors needs, by its name.
        verdict: tests of scores and labels, made without the truth.
    """

    suspects: NDArray[np.int64]
    detections: dict[str, Detection]
    not_run: dict[str, str]
    verdict: Verdict


def detect(
    evidence: Evidence, poisoned: NDArray[np.bool_], seed: int, *, all_detectors: bool = False
) -> DetectionResult:
    """Look for poisoned stays, and then compare the findings with the truth.

    Args:
        evidence: the victim, its training stays and the trusted stays.
        poisoned: bool [N], which training stays are poisoned; all False if this is not known.
        seed: fixes the random choices of the detectors.
        all_detectors: whether to use the detectors that are no default, too.

    Returns:
        The scores of every detector, and the verdict from them.

    Raises:
        UsageError: a split has too few stays of a label, or no channel varies in the trusted stays.
    """
    if not np.ptp(evidence.trusted.values, axis=0).any():
        raise UsageError(
            f"{evidence.source}: no channel varies in the trusted stays; an audit needs measurements"
        )
    for split, labels in (("training", evidence.labels), ("trusted", evidence.trusted.labels)):
        for label in (0, 1):
            if (stays := int((labels == label).sum())) < FEWEST:
                raise UsageError(
                    f"{evidence.source}: {stays} of the {split} stays are "
                    f"{evidence.trusted.task.words.group[label]}; an audit needs at least {FEWEST}"
                )
    suspects = np.flatnonzero(evidence.labels == evidence.suspected)
    of_trusted = np.flatnonzero(evidence.trusted.labels == evidence.suspected)
    # Several detectors share these cached arrays: the seconds of the first one must not include them.
    views.features(evidence), views.grids(evidence)
    detections: dict[str, Detection] = {}
    used, not_run = _chosen(evidence, all_detectors=all_detectors)
    for name, detector in track(used.items(), "Looking for poisoned stays"):
        start = time.perf_counter()
        found = detector.score(evidence, seed)
        seconds = time.perf_counter() - start
        scores = found.training[suspects]
        trusted = np.empty(0) if found.trusted is None else found.trusted[of_trusted]
        detections[name] = Detection(
            scores, trusted, seconds, measure(scores, poisoned[suspects]), found.test
        )
    verdict = judge(
        {name: (found.scores, found.trusted) for name, found in detections.items()},
        evidence.labels,
        evidence.trusted.labels,
        evidence.suspected,
        {name: found.own_test for name, found in detections.items() if found.own_test},
    )
    return DetectionResult(suspects, detections, not_run, verdict)


def _chosen(evidence: Evidence, *, all_detectors: bool) -> tuple[dict[str, Detector], dict[str, str]]:
    """Return the detectors to use, and what each of the others that were wanted needs."""
    # Where a model gives predictions and no activations, they are looked at instead.
    instead = evidence.lacks("activations") and not evidence.lacks("predictions")
    used, not_run = {}, {}
    for name, detector in DETECTORS.items():
        if not (detector.default or all_detectors or (instead and "predictions" in detector.needs)):
            continue
        lacking = next(filter(evidence.lacks, detector.needs), None)
        if lacking is None:
            used[name] = detector
        else:
            model = evidence.model
            more = f", and so {model.needed}" if model and model.needed else ""
            not_run[name] = f"needs {lacking}{more}"
    return used, not_run


def suspicion_to_filter_by(found: DetectionResult, evidence: Evidence) -> dict[str, Suspicion]:
    """Return the stays that the detectors suspect, for a repair that filters training stays.

    Poisoned stays that are left keep the backdoor alive, so that a filter drops widely: all that any detector
    suspects that raises an alarm. A detector with a test of its own tells poisoned stays from sound ones
    well, and suspects every stay that scores above 99% of the trusted stays. Other detectors mix them, and
    suspect a fixed share of all stays.

    Args:
        found: findings of the detectors.
        evidence: the evidence that the detectors read.

    Returns:
        The suspicion by the detector's name, or by "all alarms" if several raise one, with scores of minus
        infinity for stays of the other label; empty if no detector raises an alarm, as there is no reason to
        filter then.
    """
    raised = [name for name, alarm in found.verdict.alarms.items() if alarm.raised]
    if not raised:
        return {}
    stays = len(evidence.stays)
    scores = np.full(stays, -np.inf)
    for detection in map(found.detections.__getitem__, raised):
        suspected = DROPPED * stays
        if detection.own_test is not None:
            suspected = (detection.scores > np.quantile(detection.trusted, 1 - TOP)).sum()
        order = np.argsort(-detection.scores, kind="stable")
        places = np.empty(len(order))
        places[order] = np.arange(len(order))
        # A stay that this detector suspects is less than one such number from its most suspicious stay.
        urgency = -places / max(suspected, 1)
        scores[found.suspects] = np.maximum(scores[found.suspects], urgency)
    name = raised[0] if len(raised) == 1 else "all alarms"
    return {name: Suspicion(scores, float((scores > -1).mean()))}
