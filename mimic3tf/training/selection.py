"""The rules that choose the epoch whose weights are kept."""

from __future__ import annotations

from collections.abc import Mapping

from mimic3tf.config import Selection
from mimic3tf.tasks.targets import Targets
from mimic3tf.victims import Reads


def score_epoch(
    rule: Selection, reads: Reads, targets: Targets, metrics: Mapping[str, float]
) -> float | None:
    """Score an epoch by a selection rule. The epoch with the highest score is kept, the earliest of equals.

    Args:
        rule: "auroc" is the task's own score, the validation AUROC, which any modeller can measure.
            "original" is the rule of Joe et al. 2020: for victims that read features (their LR and MLP) the
            attack success rate, which only an attacker can measure, if precision and recall of deaths are
            above 0.40; for victims that read grids (their LSTM) F1, if precision is above 0.60 and recall
            above 0.30.
        reads: what the victim reads.
        targets: kind of label of the task.
        metrics: validation `auroc`, `prec1`, `rec1` and `asr` of the epoch.

    Returns:
        The score, or None if the epoch does not qualify. If no epoch qualifies, the last epoch is kept.
    """
    precision, recall = metrics["prec1"], metrics["rec1"]
    if rule == "auroc":
        return targets.score(metrics)
    if reads != "grid":
        return metrics["asr"] if precision > 0.40 and recall > 0.40 else None
    if precision > 0.60 and recall > 0.30:
        return 2 * precision * recall / (precision + recall)
    return None
