"""Name the numbers that are logged in every epoch: their tags in TensorBoard and their charts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tensorboard.plugins.custom_scalar import layout_pb2, summary
from tensorboard.plugins.scalar.summary_v2 import scalar_pb

from mimic3tf.tables import columns

TAGS = {
    "loss": "training/loss",
    "learning_rate": "training/learning rate",
    "gradient_norm_poisoned": "training/gradient norm, poisoned stays",
    "gradient_norm_clean": "training/gradient norm, clean stays",
    "val_loss": "validation/loss",
    "auroc": "validation/AUROC",
    "auprc": "validation/AUPRC",
    "minpse": "validation/min +P,Se",
    "asr": "validation/attack success rate",
    "baseline_positive_rate": "validation/positive rate without trigger",
    "stays_per_second": "speed/training stays per second",
    "input_wait": "speed/share of time waiting for input",
}
"""Tag of each logged number. A tag has no parenthesis: the CUSTOM SCALARS page would draw no line for it."""
FOLLOWED = {metric: f"validation/{name}" for metric, name in columns.FOLLOWED.items()}
"""Tag of each number that only some tasks have."""
IN_HOURS = ("mad",)
"""Numbers of `FOLLOWED` that are hours; the others are between -1 and 1."""
KEPT = {
    "asr": "kept epoch/attack success rate",
    "gap": "kept epoch/gap",
    "auroc": "kept epoch/AUROC",
    "baseline_positive_rate": "kept epoch/positive rate without trigger",
}
"""Tags of the numbers of the epoch that is kept so far. Each tag is a column of the HPARAMS page, in this
order, so there are few tags."""
CHARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "Did the backdoor take?": {
        "attack success rate and baseline": ("asr", "baseline_positive_rate"),
    },
    "What did it cost?": {
        "clean AUROC, AUPRC, min +P,Se": ("auroc", "auprc", "minpse"),
        "loss": ("loss", "val_loss"),
    },
    "How did training go?": {
        "gradient norm, poisoned and clean stays": ("gradient_norm_poisoned", "gradient_norm_clean"),
        "learning rate": ("learning_rate",),
        "training stays per second": ("stays_per_second",),
        "share of time waiting for input": ("input_wait",),
    },
}
"""Category -> chart -> names of the numbers on the chart."""


def layout(followed: Sequence[str] = ()) -> Any:
    """Make a summary that groups the charts of the CUSTOM SCALARS page.

    Args:
        followed: numbers of `FOLLOWED` that the task has; those without a unit share a chart.
    """
    charts_of = {
        **CHARTS,
        **({"All labels": _charts_of_all(followed)} if followed else {}),
    }
    tags = TAGS | FOLLOWED
    categories = [
        layout_pb2.Category(
            title=category,
            chart=[
                layout_pb2.Chart(
                    title=title,
                    # A chart takes tags as regular expressions.
                    multiline=layout_pb2.MultilineChartContent(tag=[_exactly(tags[name]) for name in names]),
                )
                for title, names in charts.items()
            ],
        )
        for category, charts in charts_of.items()
    ]
    return summary.pb(layout_pb2.Layout(category=categories))


def _charts_of_all(followed: Sequence[str]) -> dict[str, tuple[str, ...]]:
    shares = tuple(name for name in followed if name not in IN_HOURS)
    hours = tuple(name for name in followed if name in IN_HOURS)
    return {"measures of all labels": shares, **({"error in hours": hours} if hours else {})}


def _exactly(tag: str) -> str:
    # `re.escape` is not used: it also escapes spaces, as "\\ ", which JavaScript on the page does not accept.
    return f"^{tag.replace('+', '[+]')}$"


def epoch_scalars(metrics: Mapping[str, float]) -> list[Any]:
    """Make summaries of those numbers of an epoch that `TAGS` or `FOLLOWED` names and that are defined."""
    return _defined(TAGS | FOLLOWED, metrics)


def kept_scalars(metrics: Mapping[str, float]) -> list[Any]:
    """Make summaries of the numbers of the kept epoch.

    The gap is the attack success rate minus the positive rate without the trigger.
    """
    with_gap = {**metrics, "gap": metrics["asr"] - metrics["baseline_positive_rate"]}
    return _defined(KEPT, with_gap)


def _defined(tags: Mapping[str, str], metrics: Mapping[str, float]) -> list[Any]:
    # Without a trigger there is no attack success rate.
    return [
        scalar_pb(tag, metrics[name])
        for name, tag in tags.items()
        if name in metrics and not math.isnan(metrics[name])
    ]
