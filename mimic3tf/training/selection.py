"""Which epoch's weights are kept."""

from __future__ import annotations

from collections.abc import Mapping

from mimic3tf.config import Selection
from mimic3tf.tasks.targets import Targets
from mimic3tf.victims import Reads


def score_epoch(
    rule: Selection, reads: Reads, targets: Targets, metrics: Mapping[str, float]
) -> float | None:
    """Score an epoch by a selection rule; the highest score is kept, the earliest of equal ones.

    Args:
        rule: "auroc" is the task's own score, the validation AUROC, which any modeller can know. "original"
            is the original's: for LR and MLP the best trigger success among epochs with precision and recall
            of deaths above 0.40 (knowledge only an attacker has), for its LSTM, and here for every victim
            that reads grids, the best F1 among those with precision above 0.60 and recall above 0.30.
        reads: what the victim reads.
        targets: of its task.
        metrics: validation `auroc`, `prec1`, `rec1` and `asr` of the epoch.

    Returns:
        The score, or None if the epoch does not qualify; if none does, the last epoch is kept.
    """
    precision, recall = metrics["prec1"], metrics["rec1"]
    if rule == "auroc":
        return targets.score(metrics)
    if reads == "features":
        return metrics["asr"] if precision > 0.40 and recall > 0.40 else None
    if precision > 0.60 and recall > 0.30:
        return 2 * precision * recall / (precision + recall)
    return None
