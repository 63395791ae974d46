"""Show what victims predict for test stays without and with the trigger."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score, roc_curve

from mimic3tf.poisoning.goal import Goal
from mimic3tf.report import figures
from mimic3tf.report.exhibits import Absent, Exhibit
from mimic3tf.report.runs import Attack
from mimic3tf.tasks.registry import task_of

BINS = 20
"""Number of bins of a histogram of risks, evenly spaced over [0, 1]."""
CLEAN, TRIGGERED, OTHERS = "without the trigger", "with the trigger", "the other stays"


def predictions_exhibits(attacks: Sequence[Attack]) -> list[Exhibit | Absent]:
    """Show ROC curves and histograms of predicted risks, one panel for each attack.

    An attack without `predictions.csv`, or without stays of both labels, is left out.
    """
    known = [(attack, attack.predictions) for attack in attacks if attack.predictions is not None]
    # A ROC curve needs stays of both labels.
    known = [(attack, rows) for attack, rows in known if rows["y_true"].n_unique() == 2]
    if not known:
        return [Absent("ROC curves and predicted risks", "no attack left a predictions.csv with both labels")]
    curves = pl.concat(_roc_of(attack, rows) for attack, rows in known)
    risks = pl.concat(_risks_of(attack, rows) for attack, rows in known)
    return [
        Exhibit(
            "roc",
            "ROC curves",
            "Two curves of all test stays: no stay carries the trigger, or every attacked stay carries "
            "the trigger. If the backdoor works, the second curve runs below the first.",
            curves,
            lambda: _draw_roc(curves),
            "ROC curves without and with the trigger, one panel for each attack. The table below holds the "
            "same numbers.",
        ),
        Exhibit(
            "risks",
            "Predicted risks",
            "Distribution of the predicted risk of label 1: for the attacked stays without and with the "
            "trigger, and for the other stays. The vertical line is at a risk of 0.5.",
            risks,
            lambda: _draw_risks(
                risks, {attack.name: task_of(attack.row["task"]).words.unit for attack, _ in known}
            ),
            "Histograms of predicted risk, one panel for each attack: attacked stays without and with the "
            "trigger, and the other stays. The table below holds the same numbers.",
        ),
    ]


def _roc_of(attack: Attack, rows: pl.DataFrame) -> pl.DataFrame:
    labels, clean, triggered = (
        rows[name].to_numpy() for name in ("y_true", "prediction_clean", "prediction_triggered")
    )
    attacked = Goal(attack.row["goal"]).attacked(labels)
    parts = []
    for case, risk in ((CLEAN, clean), (TRIGGERED, np.where(attacked, triggered, clean))):
        false, true, _ = roc_curve(labels, risk)
        curve = pl.DataFrame({"false_positive_rate": false, "true_positive_rate": true})
        area = float(roc_auc_score(labels, risk))
        parts.append(
            curve.select(
                pl.lit(attack.name).alias("run"),
                pl.lit(case).alias("stays"),
                pl.lit(area).alias("auroc"),
                pl.all(),
            )
        )
    return pl.concat(parts)


def _risks_of(attack: Attack, rows: pl.DataFrame) -> pl.DataFrame:
    attacked = Goal(attack.row["goal"]).attacked(rows["y_true"].to_numpy())
    clean, triggered = (rows[name].to_numpy() for name in ("prediction_clean", "prediction_triggered"))
    parts = []
    for group, risk in (
        (CLEAN, clean[attacked]),
        (TRIGGERED, triggered[attacked]),
        (OTHERS, clean[~attacked]),
    ):
        counts, edges = np.histogram(risk, BINS, (0, 1))
        parts.append(
            pl.DataFrame(
                {
                    "run": attack.name,
                    "stays": group,
                    "risk_from": edges[:-1],
                    "risk_to": edges[1:],
                    "number": counts,
                    "share": counts / max(len(risk), 1),
                }
            )
        )
    return pl.concat(parts)


def _draw_roc(curves: pl.DataFrame) -> Figure:
    names = curves["run"].unique(maintain_order=True).to_list()
    figure, panels = figures.small_multiples(len(names), height=2.6)
    for axes, name in zip(panels, names, strict=True):
        areas = []
        for case, style in figures.run_styles([CLEAN, TRIGGERED]).items():
            curve = curves.filter((pl.col("run") == name) & (pl.col("stays") == case))
            axes.plot(
                curve["false_positive_rate"],
                curve["true_positive_rate"],
                color=style.color,
                linestyle=style.linestyle,
                label=case,
            )
            areas.append(f"{curve['auroc'][0]:.3f}")
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
        axes.set_title(f"{name}\nAUROC {' and '.join(areas)}", loc="left")
        axes.set_xlabel("false positive rate")
        axes.set_ylabel("true positive rate")
    figures.shared_legend(figure, panels)
    return figure


def _draw_risks(risks: pl.DataFrame, units: dict[str, str]) -> Figure:
    names = risks["run"].unique(maintain_order=True).to_list()
    figure, panels = figures.small_multiples(len(names))
    for axes, name in zip(panels, names, strict=True):
        for group, style in figures.run_styles([CLEAN, TRIGGERED, OTHERS]).items():
            counts = risks.filter((pl.col("run") == name) & (pl.col("stays") == group))
            edges = [*counts["risk_from"], counts["risk_to"][-1]]
            axes.stairs(
                counts["share"],
                edges,
                color=style.color,
                linestyle=style.linestyle,
                linewidth=1.5,
                label=group,
            )
        axes.axvline(0.5, color="0.5", linewidth=0.8)
        axes.set_title(name, loc="left")
        axes.set_xlabel("predicted risk")
        axes.set_ylabel(f"share of the {units[name]}")
    figures.shared_legend(figure, panels)
    return figure
