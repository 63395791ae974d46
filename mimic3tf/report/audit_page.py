"""The page of one audit, for a reader who signs for a model and need not know statistics."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mimic3tf import __version__
from mimic3tf.data.slips import Slips
from mimic3tf.defences.audit import AuditResult
from mimic3tf.defences.verdict import ALARM, WEAK
from mimic3tf.report.exhibits import Absent, Exhibit, Report, Section, Text
from mimic3tf.report.figures import MARKERS, OKABE_ITO, WIDTH
from mimic3tf.report.page import page_of
from mimic3tf.tables.audits import suspected_label

SHOWN, DRAWN, CHANNELS = 20, 3, 4
"""Suspects in the table, suspects in the picture, and channels of each of them."""
COLUMNS = 8
"""Columns of a table that the picture shows."""
BAND = (0.05, 0.95)
"""Ends of the band of typical values."""
TITLES = {
    "suspicious": "Suspicious: do not rely on this training set yet",
    "weak sign": "A weak sign: look closer before you rely on this training set",
    "no sign": "No sign of poisoned training stays",
}
NEXT = {
    "suspicious": (
        "Look at the suspects below. Do several of them share a change that no treatment explains?",
        "Ask where these stays come from: who could write to this part of the data, and when was it written?",
        "Rule out harmless reasons: another hospital, other years, another device or another way of charting "
        "among the training stays than among the trusted ones.",
        "Train again without the suspects, and use that model until the question is answered. The section on "
        "repairs says what was tried.",
        "Do not use the model for patients before that.",
    ),
    "weak sign": (
        "Look at the suspects below. Do several of them share a change that no treatment explains?",
        "Audit again with more trusted stays: with more of them, chance explains less.",
        "If the sign stays, treat it like an alarm.",
    ),
    "no sign": (
        "Keep this page with the model: it says what was looked for.",
        "Audit again whenever the training data change.",
    ),
}


def audit_page(result: AuditResult) -> str:
    """Make the HTML page of an audit; it needs no other file.

    The page names the suspects and shows their measurements. Give it only to those who may see the stays.
    """
    record, level = result.record, result.conclusion.level
    sections = [
        Section("What it rests on", [_checks(result), _errors(result)]),
        Section("What to do next", [Text("Steps", NEXT[level], numbered=True)]),
        Section("The suspects", _suspects(result)),
        Section("What the suspects share", [_pattern(result)]),
        Section("The detectors", [_detectors(result)]),
        Section("Repairs", [_repairs(result)]),
        Section("What was audited", [_about(result)]),
    ]
    return page_of(Report(TITLES[level], record["conclusion"]["sentence"], sections))


def _checks(result: AuditResult) -> Exhibit:
    checks = result.conclusion.checks
    table = pl.DataFrame(
        {
            "check": [check.name for check in checks],
            "outcome": [check.outcome for check in checks],
            "what was found": [check.found for check in checks],
        }
    )
    caption = (
        "Alarm: more than chance explains, and enough to matter. Weak: less certain. Quiet: nothing unusual. "
        "Not run: something that the check needs was not given."
    )
    return Exhibit("checks", "The checks", caption, table)


def _errors(result: AuditResult) -> Text:
    record = result.record
    slips = [Slips(**slips).in_words for slips in record["slips"]]
    return Text(
        "How often such a conclusion is wrong",
        [
            f"If no training stay is poisoned, at most 1 audit in {1 / ALARM:.0f} says 'suspicious', and at "
            f"most 1 in {1 / WEAK:.0f} gives a weak sign from a detector. This holds if the stays are "
            "independent, so that none is a copy of another, and if the trusted stays come from the source "
            "of the training stays; a difference between them looks like poisoning.",
            *record["cautions"],
            f"The thresholds come from {record['trusted_stays']:,} trusted stays, of which "
            f"{record['trusted_suspects']:,} have the suspected label ({suspected_label(record)}).",
            "The checks of the model have no known rate of false alarms. Alone they give no more than a "
            "weak sign.",
            *slips,
        ],
    )


def _suspects(result: AuditResult) -> list[Exhibit]:
    table = result.suspects.head(SHOWN)
    caption = (
        f"The {len(table)} most suspicious of {len(result.suspects):,} training stays with the suspected "
        "label; suspects.csv holds all of them. Percentile: share of the trusted stays with this label that "
        "look less suspicious."
    )
    pictured = Exhibit(
        "suspects",
        f"The first {min(DRAWN, len(table))} suspects beside trusted stays",
        "Orange: what was measured in the suspect. Grey: what is typical of trusted stays with the same "
        "label (middle line: median; band: 90% of the measurements). The channels are those in which the "
        "suspects share a change, if there is one, else those in which the suspects are least typical.",
        _values(result),
        lambda: draw_suspects(result),
        "Measurements of the most suspicious stays in several channels, beside the band of trusted stays.",
    )
    return [Exhibit("suspects_table", "The most suspicious stays", caption, table), pictured]


def _first(result: AuditResult) -> NDArray[np.int64]:
    """Indices of the training stays that are drawn."""
    place = {stay: at for at, stay in enumerate(result.evidence.stays.tolist())}
    return np.array([place[stay] for stay in result.suspects["stay"].head(DRAWN)], np.int64)


def shown_channels(result: AuditResult, stays: NDArray[np.int64]) -> list[int]:
    """Choose the channels in which training stays are drawn: those of the pattern, or the oddest ones."""
    evidence = result.evidence
    channels, wanted = evidence.trusted.channels, CHANNELS if evidence.trusted.bins > 1 else COLUMNS
    if result.record["pattern_doubt"] is None:
        rows = result.record["patterns"][0]["channels"][:wanted]
        return [channels.position(row["channel"]) for row in rows]
    _, middle, spread = _typical(result)
    odd = np.abs(evidence.grids[stays] - middle) / spread
    measured = evidence.masks[stays]
    mean = np.where(measured, odd, 0).sum(axis=(0, 1)) / np.maximum(measured.sum(axis=(0, 1)), 1)
    numbers = np.flatnonzero(~channels.categorical)
    return numbers[np.argsort(-mean[numbers], kind="stable")][:wanted].tolist()


def _typical(result: AuditResult) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return band [2, T, C], median [T, C] and spread [C] of the trusted stays with the suspected label."""
    trusted = result.evidence.trusted
    same = trusted.labels == result.evidence.suspected
    cells = np.where(trusted.masks[same], trusted.grids[same], np.nan).astype(np.float64)
    with warnings.catch_warnings():
        # An hour or a channel without any measurement gives NaN, which is filled below or not drawn.
        warnings.filterwarnings("ignore", "All-NaN slice")
        everywhere = np.nanquantile(cells.reshape(-1, cells.shape[-1]), [*BAND, 0.5], axis=0)
        by_bin = np.nanquantile(cells, [*BAND, 0.5], axis=0)
    by_bin = np.where(np.isnan(by_bin), everywhere[:, None], by_bin)
    spread = (everywhere[1] - everywhere[0]) / 3.29
    return by_bin[:2], by_bin[2], np.where(spread > 0, spread, 1.0)


def _values(result: AuditResult) -> pl.DataFrame:
    """List the measurements that the picture shows."""
    evidence, rows = result.evidence, []
    stays = _first(result)
    channels = shown_channels(result, stays)
    for stay in stays:
        for at in channels:
            for step in np.flatnonzero(evidence.masks[stay, :, at]):
                hour = float(step * evidence.trusted.timestep)
                value = float(evidence.grids[stay, step, at])
                rows.append((str(evidence.stays[stay]), evidence.trusted.channels[at].name, hour, value))
    schema = {"stay": pl.String, "channel": pl.String, "hour": pl.Float64, "value": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def draw_suspects(result: AuditResult) -> Figure:
    """Draw the first suspects, one row of panels for each, beside the band of trusted stays."""
    evidence, stays = result.evidence, _first(result)
    chosen = shown_channels(result, stays)
    band, middle, spread = _typical(result)
    if evidence.trusted.bins == 1:
        return _draw_columns(result, stays, chosen, middle[0], spread)
    figure = Figure(figsize=(WIDTH * 1.4, 1.9 * len(stays)), layout="constrained")
    panels = figure.subplots(len(stays), len(chosen), squeeze=False, sharex=True, sharey="col")
    hours = np.arange(evidence.trusted.bins) * evidence.trusted.timestep
    for row, stay in enumerate(stays):
        for axes, at in zip(panels[row], chosen, strict=True):
            axes.fill_between(hours, *band[:, :, at], color="0.85", linewidth=0)
            axes.plot(hours, middle[:, at], color="0.5", linewidth=1)
            measured = evidence.masks[stay, :, at]
            axes.plot(
                hours[measured], evidence.grids[stay, measured, at], ".-", color=OKABE_ITO[1], linewidth=0.8
            )
            _limits(axes, band[:, :, at], evidence.grids[stays][..., at][evidence.masks[stays][..., at]])
            channel = evidence.trusted.channels[at]
            if row == 0:
                axes.set_title(
                    f"{channel.name}\n({channel.shown_unit})" if channel.shown_unit else channel.name
                )
        panels[row, 0].set_ylabel(f"suspect {row + 1}")
    figure.supxlabel("hour of the stay", fontsize=9)
    return figure


def _limits(axes: Axes, band: NDArray[np.float64], cells: NDArray[np.float32]) -> None:
    values = np.concatenate([band.ravel(), cells])
    low, high = float(values.min()), float(values.max())
    margin = 0.08 * (high - low) or 1.0
    axes.set_ylim(low - margin, high + margin)


def _draw_columns(
    result: AuditResult,
    stays: NDArray[np.int64],
    chosen: Sequence[int],
    middle: NDArray[np.float64],
    spread: NDArray[np.float64],
) -> Figure:
    """Draw columns of a table, in standard deviations from the median of the trusted rows."""
    evidence = result.evidence
    figure = Figure(figsize=(WIDTH, 1 + 0.3 * len(chosen)), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(-1.645, 1.645, color="0.9")
    axes.axvline(0, color="0.5", linewidth=1)
    rows = np.arange(len(chosen))[::-1]
    for number, stay in enumerate(stays):
        values = (evidence.grids[stay, 0, list(chosen)] - middle[list(chosen)]) / spread[list(chosen)]
        values = np.where(evidence.masks[stay, 0, list(chosen)], values, np.nan)
        axes.plot(values, rows, MARKERS[number], color=OKABE_ITO[number + 1], label=f"suspect {number + 1}")
    axes.set_yticks(rows, [evidence.trusted.channels[at].name for at in chosen])
    axes.set_xlabel("standard deviations from the median of trusted rows")
    axes.legend(loc="best")
    return figure


def _pattern(result: AuditResult) -> Exhibit | Absent:
    if result.record["pattern_doubt"] is not None:
        return Absent("A common change", result.record["pattern_doubt"])
    pattern = result.record["patterns"][0]
    table = pl.DataFrame(pattern["channels"], infer_schema_length=None)
    if table["true_shift"].null_count() == len(table):
        table = table.drop("true_shift")
    others = len(result.record["patterns"]) - 1
    more = f" {others} further patterns are in pattern.csv." if others else ""
    caption = (
        f"{pattern['stays']:,} suspects carry this change rather than not. Each channel is listed at the "
        f"hour at which it is changed most; all hours are in pattern.csv.{more}"
    )
    return Exhibit("pattern", "A common change", caption, table)


def _detectors(result: AuditResult) -> Exhibit:
    rows = []
    for detector in result.record["detectors"]:
        alarm = detector["alarm"] or {}
        rows.append(
            {
                "detector": detector["detector"],
                "a stay is suspicious if": detector["about"],
                "flagged": alarm.get("flagged"),
                "by chance": alarm.get("expected"),
                "p_value": alarm.get("adjusted"),
                "note": detector["not_run"] and f"not run: {detector['not_run']}",
            }
        )
    caption = (
        "Flagged: training stays above the detector's threshold. By chance: how many would be flagged if "
        "none was poisoned. p value: probability of so many by chance, corrected for the number of tests."
    )
    return Exhibit(
        "detectors", "What each detector flags", caption, pl.DataFrame(rows, infer_schema_length=None)
    )


def _repairs(result: AuditResult) -> Exhibit | Absent:
    if not result.repairs:
        return Absent("Dropping the suspects", "no function that trains the model again was given")
    table = pl.DataFrame(
        {
            "repair": [repair.name for repair in result.repairs],
            "auroc": [repair.auroc for repair in result.repairs],
            "attack_success_rate": [
                repair.attack_success_rate and repair.attack_success_rate.rate for repair in result.repairs
            ],
            "what was done": [repair.detail for repair in result.repairs],
        },
        schema_overrides={"auroc": pl.Float64, "attack_success_rate": pl.Float64},
    )
    if table["attack_success_rate"].null_count() == len(table):
        table = table.drop("attack_success_rate")
    files = " The stays that were kept are in cleaned_listfile.csv." if result.filtered else ""
    caption = f"AUROC: how well the model tells the labels apart on clean stays (1 is best).{files}"
    return Exhibit("repairs", "Dropping the suspects, and other repairs", caption, table)


def _about(result: AuditResult) -> Exhibit:
    record = result.record
    rows = {
        "data": record["data"],
        "fingerprint of the training stays": record["data_fingerprint"],
        "training stays": f"{record['training_stays']:,}",
        "of them with the suspected label": f"{record['suspects']:,}",
        "trusted stays": f"{record['trusted_stays']:,}",
        "suspected label": suspected_label(record),
        "judged label of the task": record.get("goal_label"),
        "model": record["model"],
        "run": record["run"],
        "seed": str(record["seed"]),
        "mimic3tf": __version__,
    }
    kept = {name: text for name, text in rows.items() if text is not None}
    table = pl.DataFrame({"what": list(kept), "value": list(kept.values())})
    return Exhibit(
        "about", "Data, model and settings", "The same inputs and seed give the same findings.", table
    )
