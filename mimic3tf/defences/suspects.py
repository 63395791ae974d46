"""Tables of the suspects: the training stays of the suspected label."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimic3tf.defences.array_evidence import OWN_LABELS
from mimic3tf.defences.detection import DetectionResult
from mimic3tf.defences.detectors.outliers import NEIGHBOURS
from mimic3tf.defences.detectors.registry import DETECTORS
from mimic3tf.defences.evidence import Evidence

DIGITS = 4
"""Significant digits of a score; a fifth digit would say nothing about a stay."""


def suspects_table(found: DetectionResult, evidence: Evidence) -> pl.DataFrame:
    """Rank the suspects by the leading detector.

    Args:
        found: findings of the detectors.
        evidence: the evidence that the detectors read.

    Returns:
        One row per suspect, the most suspicious first: `rank`, `stay`, `percentile` (percentage of the
        trusted stays of the suspected label that the leading detector scores lower; null if it cannot judge
        them), `flagged_by` (number of calibrated detectors that flag the stay) and `reason` in words.
    """
    leading, alarms = found.verdict.leading, found.verdict.alarms
    detection = found.detections[leading]
    flags = np.zeros(len(found.suspects), np.int64)
    for name, alarm in alarms.items():
        flags += found.detections[name].scores > alarm.threshold
    rows = _scores(found).with_columns(
        stay=pl.Series(evidence.stays[found.suspects]),
        percentile=pl.Series(_percentiles(detection.scores, detection.trusted), dtype=pl.Float64),
        flagged_by=pl.Series(flags),
    )
    return (
        # Names break ties, because the order of the listfile may reveal which stays are poisoned.
        rows.sort(leading, "flagged_by", "stay", descending=[True, True, False])
        .with_row_index("rank", 1)
        .select("rank", "stay", "percentile", "flagged_by", reason=_reason(leading, evidence))
    )


def scores_table(found: DetectionResult, evidence: Evidence) -> pl.DataFrame:
    """List the scores of the suspects by every detector, in the order of the training stays.

    Args:
        found: findings of the detectors.
        evidence: the evidence that the detectors read.

    Returns:
        `stay`, and one column per detector with four significant digits; higher is more suspicious.
    """
    scores = _scores(found).select(pl.all().round_sig_figs(DIGITS))
    return scores.insert_column(0, pl.Series("stay", evidence.stays[found.suspects]))


def _scores(found: DetectionResult) -> pl.DataFrame:
    return pl.DataFrame({name: detection.scores for name, detection in found.detections.items()})


def _percentiles(scores: NDArray[np.float64], trusted: NDArray[np.float64]) -> list[float | None]:
    if not len(trusted):
        return [None] * len(scores)
    below = np.searchsorted(np.sort(trusted), scores) / len(trusted)
    return [float(share) for share in np.round(100 * below, 1)]


def _reason(detector: str, evidence: Evidence) -> pl.Expr:
    """Give a detector's reason for the rank of a stay, from the columns of scores and `percentile`."""
    words, label = evidence.trusted.task.words, evidence.suspected
    # The words of a user's own labels are these labels.
    own = evidence.trusted.task.name == OWN_LABELS.name
    happened = words.happened[label]
    given = pl.lit(f"the training label is {happened if own else f'{label} ({happened})'}")
    # "easy to learn" holds log odds of the suspected label, "unexpected death" those of the other label.
    towards = 1 if label == 1 else -1
    # "model disagreement" is the sum of the two.
    easy = pl.col("easy to learn")
    if detector == "model disagreement":
        easy = pl.col("model disagreement") - pl.col("unexpected death")
    training = _risk_by("the other training stays", towards * easy)
    trusted = _risk_by("the trusted stays", -towards * pl.col("unexpected death"))
    if detector == "unexpected death":
        return pl.format("{}; {}", trusted, given)
    if detector == "easy to learn":
        return pl.format("{}; {}", training, given)
    if detector == "model disagreement":
        return pl.format("{}, {}; {}", trusted, training, given)
    if detector == "neighbours survived":
        others = (pl.col(detector) * NEIGHBOURS).round().cast(pl.Int64)
        near = f"{{}} of the {NEIGHBOURS} stays most like it are {words.group[1 - label]}; {{}}"
        return pl.format(near, others, given)
    more = f"{DETECTORS[detector].about}: more so than {{}}% of the trusted {words.group[label]}; {{}}"
    return pl.format(more, pl.col("percentile"), given)


def _risk_by(stays: str, log_odds: pl.Expr) -> pl.Expr:
    risk = (1 / (1 + (-log_odds).exp())).round(2)
    return pl.format(f"a model of {stays} gives a risk of {{}}", risk)
