"""Run the defences on a victim and its training data, and hold them against the truth where it is known."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from mimic3tf.defences.detectors.registry import views
from mimic3tf.defences.detectors.registry.registry import DETECTORS
from mimic3tf.defences.evidence import Evidence
from mimic3tf.defences.scoring import Performance, measure
from mimic3tf.defences.verdict import Verdict, judge
from mimic3tf.errors import UsageError
from mimic3tf.storage.files import write_together

AUDIT, SUSPECTS = "audit.json", "suspects.csv"
FILE_FORMAT = 1
FEWEST = 10
"""Stays of either label, training or trusted, without which detectors have too little to go by."""


@dataclass(frozen=True)
class Detection:
    """What a detector found among the stays labelled 1.

    Attributes:
        scores: float64 [K], of the training stays labelled 1; higher is more suspicious.
        trusted: float64 [L], of the trusted stays labelled 1; empty where the detector cannot judge them.
        seconds: it took.
        performance: how well it finds the poisoned stays; None where they are not known, or none are.
    """

    scores: NDArray[np.float64]
    trusted: NDArray[np.float64]
    seconds: float
    performance: Performance | None


@dataclass(frozen=True)
class Audit:
    """What the defences found.

    Attributes:
        suspects: int64 [K], indices of the training stays labelled 1.
        detections: by detector.
        verdict: of all detectors, reached without the truth.
    """

    suspects: NDArray[np.int64]
    detections: dict[str, Detection]
    verdict: Verdict


def audit(evidence: Evidence, poisoned: NDArray[np.bool_], seed: int) -> Audit:
    """Look for poisoned stays; only afterwards compare what was found with the truth.

    Args:
        evidence: what a defender has.
        poisoned: bool [N], the truth; all False where it is not known, or nothing was poisoned.
        seed: fixes the detectors.

    Raises:
        UsageError: too few stays of a label, training or trusted, or nothing varies in the trusted ones.
    """
    if not np.ptp(evidence.trusted.values, axis=(0, 1)).any():
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
    suspects = np.flatnonzero(evidence.labels == 1)
    of_trusted = np.flatnonzero(evidence.trusted.labels == 1)
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
        {name: (found.scores, found.trusted) for name, found in detections.items()}, len(suspects)
    )
    return Audit(suspects, detections, verdict)


def suspicion_to_filter_by(audited: Audit, evidence: Evidence) -> dict[str, NDArray[np.float64]]:
    """Suspicion [N] of the clearest detector, by its name; of none if nothing was found: why filter then?

    Args:
        audited: what was found.
        evidence: what it was found in.
    """
    clearest = audited.verdict.clearest
    if clearest is None:
        return {}
    suspicion = np.full(len(evidence.stays), -np.inf)
    suspicion[audited.suspects] = audited.detections[clearest].scores
    return {clearest: suspicion}


def record_of(audited: Audit, evidence: Evidence, about: dict[str, Any]) -> dict[str, Any]:
    """Contents of `audit.json`.

    Args:
        audited: what was found.
        evidence: what it was found in.
        about: the run, and what its attacker did as far as that is known.
    """
    detectors = []
    for name, found in audited.detections.items():
        alarm = audited.verdict.alarms.get(name)
        performance = found.performance and asdict(found.performance)
        detectors.append(
            {
                "detector": name,
                "about": DETECTORS[name].about,
                "seconds": round(found.seconds, 3),
                "calibrated": alarm is not None,
                "alarm": alarm and {"raised": alarm.raised, **asdict(alarm)},
                "performance": performance,
            }
        )
    return {
        "format": FILE_FORMAT,
        **about,
        "training_stays": len(evidence.labels),
        "labelled_1": len(audited.suspects),
        "trusted_stays": len(evidence.trusted),
        "trusted_labelled_1": int(evidence.trusted.labels.sum()),
        "detectors": detectors,
        "verdict": {"poisoned_stays": audited.verdict.sentence, "clearest": audited.verdict.clearest},
    }


def suspects_table(audited: Audit, evidence: Evidence) -> pl.DataFrame:
    """Training stays labelled 1, the most suspicious first.

    Args:
        audited: what was found.
        evidence: what it was found in.

    Returns:
        `stay`, `flagged_by` (how many calibrated detectors flag it) and the score of every detector.
    """
    alarms = audited.verdict.alarms
    flags = sum(
        (audited.detections[name].scores > alarm.threshold).astype(np.int64) for name, alarm in alarms.items()
    )
    table = pl.DataFrame(
        {
            "stay": evidence.stays[audited.suspects],
            "flagged_by": np.broadcast_to(flags, len(audited.suspects)),
            **{name: found.scores for name, found in audited.detections.items()},
        }
    )
    order = [name for name in ("flagged_by", audited.verdict.clearest) if name]
    return table.sort(order, descending=True, maintain_order=True)


def write_audit(out: Path, record: dict[str, Any], suspects: pl.DataFrame) -> None:
    """Write `suspects.csv` and `audit.json` into a folder that exists: with the latter the audit is whole."""
    text = json.dumps(record, indent=2, allow_nan=False) + "\n"
    write_together({out / SUSPECTS: suspects.write_csv(), out / AUDIT: text})
