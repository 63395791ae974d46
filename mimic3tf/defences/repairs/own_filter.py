"""Repair a user's model: drop suspicious training stays, and train again with the user's function."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from mimic3tf.defences.detection import Suspicion
from mimic3tf.defences.evidence import Evidence, Floats
from mimic3tf.defences.repairs.filtering import keep_least_suspicious
from mimic3tf.defences.repairs.registry import RepairOutcome
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.goal import Goal

Refit = Callable[[NDArray[np.bool_]], tuple[Any, Floats]]
"""Which training stays to keep [N] -> a model trained on them, and its risks [M] for trusted stays."""


def filter_own(evidence: Evidence, suspicion: Mapping[str, Suspicion], refit: Refit) -> list[RepairOutcome]:
    """Drop the most suspicious training stays, train again, and compare AUROCs on the trusted stays.

    Args:
        evidence: the training stays, the trusted stays and the model.
        suspicion: which training stays to drop, by detector; none if no detector raises an alarm.
        refit: trains the model again.

    Returns:
        The outcome without a repair, then that of the filter, which says so if `refit` raised an error.
    """
    labels = evidence.trusted.labels
    before = None
    if evidence.model is not None and (risk := evidence.model.risk()) is not None:
        before = float(roc_auc_score(labels, risk(exposures.clean(evidence.trusted))))
    outcomes = [RepairOutcome("none", None, None, before, 0.0, "the model without a repair")]
    for name, by in suspicion.items():
        start = time.perf_counter()
        kept = keep_least_suspicious(evidence.labels, by.scores, Goal(evidence.suspected), by.dropped)
        try:
            model, risks = refit(kept)
            auroc = float(roc_auc_score(labels, risks))
        except Exception as error:  # a user's function can raise any error, and the audit is finished
            detail = f"failed: fit, or what it returned, raised {type(error).__name__}: {error}"
            seconds = time.perf_counter() - start
            outcomes.append(RepairOutcome(f"filter by {name}", None, None, None, seconds, detail))
            continue
        seconds = time.perf_counter() - start
        detail = f"dropped {(~kept).sum()} of {len(kept)} training stays, all of label {evidence.suspected}"
        outcomes.append(RepairOutcome(f"filter by {name}", None, None, auroc, seconds, detail, model, kept))
    if not suspicion:
        detail = "not applicable: no detector raises an alarm, so that no stay is dropped"
        outcomes.append(RepairOutcome("filter", None, None, None, 0.0, detail))
    return outcomes
