"""Print results as tables in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from mimic3tf.data.slips import FEW, Slips
from mimic3tf.errors import private
from mimic3tf.poisoning.comparison import Comparison, summarize_cells
from mimic3tf.poisoning.trigger import Trigger
from mimic3tf.sources.channel_summary import ChannelSummary
from mimic3tf.sources.layout import Summary
from mimic3tf.tables.audits import suspected_label
from mimic3tf.tables.cells import as_cell, p_in_words
from mimic3tf.tables.fitting import print_table
from mimic3tf.tasks.registry import task_of
from mimic3tf.tasks.task import Words
from mimic3tf.victims import shown_victim

SHOWN_LABELS = 6
"""Number of labels whose collateral changes are printed."""
FIRST = 10
"""Number of suspects that are printed; `suspects.csv` holds all."""


def print_cohort(summary: Summary) -> None:
    """Print the splits of a prepared directory, and how many stays and values were left out."""
    table = Table(title=as_cell(str(summary.out)))
    table.add_column("split")
    more = ("samples",) if summary.samples else ()
    for heading in ("stays", "deaths", "mortality", *more):
        table.add_column(heading, justify="right", no_wrap=True)
    for split, stays in summary.stays.items():
        deaths = summary.deaths[split]
        samples = (str(summary.samples[split]),) if summary.samples else ()
        table.add_row(split, str(stays), str(deaths), f"{deaths / max(stays, 1):.1%}", *samples)
    print_table(table)
    if summary.positives:
        print_table(_labels_table(summary))
    console = Console()
    for what, dropped in (("stays", summary.dropped_stays), ("values", summary.dropped_values)):
        for reason, count in sorted(dropped.items(), key=lambda item: -item[1]):
            console.print(as_cell(f"left out {count} {what}: {reason}"), highlight=False)
    if summary.channels:
        print_table(_channels_table(summary.channels))
    for found in summary.channels:
        if found.outside > FEW * found.values:
            low, high = found.channel.plausible_range
            console.print(
                f"{as_cell(found.channel.name)}: {found.outside / found.values:.0%} of the values are "
                f"outside {low:g} to {high:g} {as_cell(found.channel.unit)}; is the unit right?",
                highlight=False,
            )


def _labels_table(summary: Summary) -> Table:
    table = Table(title="Samples with each label")
    table.add_column("label")
    for split in summary.samples:
        table.add_column(split, justify="right", no_wrap=True)
    for label, counts in summary.positives.items():
        table.add_row(as_cell("1" if label == "y_true" else label), *map(str, counts.values()))
    return table


def _channels_table(channels: Sequence[ChannelSummary]) -> Table:
    table = Table(
        title="Values of each channel",
        caption="stays: share of the stays that have a value. Of categories, the most frequent one is shown.",
    )
    table.add_column("channel")
    table.add_column("unit")
    for heading in ("values", "stays"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("median", justify="right")
    table.add_column("1st to 99th\npercentile", justify="right", no_wrap=True)
    for found in channels:
        median, ends = "-", "-"
        if found.categories:
            median = next(iter(found.categories))
        elif found.quantiles:
            median, low, high = (f"{found.quantiles[name]:.4g}" for name in ("median", "p1", "p99"))
            ends = f"{low} to {high}"
        cells = (str(found.values), f"{found.share_of_stays:.0%}", as_cell(median), ends)
        table.add_row(as_cell(found.channel.name), as_cell(found.channel.unit), *cells)
    return table


def print_trigger(trigger: Trigger) -> None:
    """Print how far a trigger of strength 1 shifts every channel, or how many cells it removes."""
    if trigger.kind == "missing":
        cells = np.count_nonzero(trigger.values)
        console = Console(soft_wrap=True, highlight=False, markup=False)
        console.print(f"{trigger.name} trigger: strength s takes away s * {cells} of a stay's cells")
        return
    table = Table(
        title=f"Shifts of the {as_cell(trigger.name)} trigger at strength 1, estimated on "
        f"{trigger.estimated_on} stays"
    )
    table.add_column("channel")
    for heading in ("lowest", "highest"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("unit")
    columns = np.moveaxis(trigger.patterns, -1, 0)  # [C, K, T]
    for channel, column in zip(trigger.channels, columns, strict=True):
        outside = trigger.restricted_to is not None and channel.name not in trigger.restricted_to
        still = "no shift" if outside else "never varies: no shift"
        unit = channel.shown_unit if np.any(column) else still
        table.add_row(as_cell(channel.name), f"{column.min():.3g}", f"{column.max():.3g}", as_cell(unit))
    print_table(table)


def print_attack(summary: dict[str, Any]) -> None:
    """Print the results of an attack on a run, or on a model that only gave predictions.

    Args:
        summary: the summary from `attacks.summarize_attack` or `tables.outcome.summarize_predictions`.
    """
    words = task_of(summary["task"]).words.naming(summary.get("goal_label"))
    table = Table(
        title=as_cell(_attack_title(summary)),
        caption=f"A stay is {words.predicted[1]} where its risk is above the threshold. The second threshold "
        "is chosen on these test stays, without the trigger.",
    )
    table.add_column("measured on the test stays")
    table.add_column("value", justify="right", no_wrap=True)
    for name, value in summary["clean"].items():
        table.add_row(f"{name}, without the trigger", _number(value))
        low, high = summary["clean_ci95"].get(name, (None, None))
        if low is not None:
            table.add_row("  95% bootstrap interval", f"{low:.3f} to {high:.3f}")
    table.add_section()
    for label, value in _rates(summary, words):
        table.add_row(label, value)
    print_table(table)
    if "control" in summary:
        print_table(_control_table(summary, words))
    if "collateral" in summary:
        print_table(_collateral_table(summary["collateral"]))
    if "carried" in summary:
        Console().print(carried_in_words(summary["carried"], "attacked"), highlight=False)


def carried_in_words(carried: dict[str, float], stays: str) -> str:
    """Say how much of a trigger some stays carry, by `poisoning.carried.carried_record`.

    Args:
        carried: the record.
        stays: which stays, such as "attacked".
    """
    return (
        f"{carried['whole']:.0%} of the {stays} stays last to the end of the trigger; a stay carries "
        f"strength {carried['mean']:.2f} in the mean, {carried['lowest']:.2f} at the lowest"
    )


def _control_table(summary: dict[str, Any], words: Words) -> Table:
    """Make the table of an attack beside the same attack on a clean victim."""
    goal = summary["goal"]
    table = Table(
        title=f"Share of the attacked {words.group[1 - goal]} that are {words.predicted[goal]}",
        caption="The second threshold is the clean victim's: without the trigger, 5% of the "
        f"{words.group[0]} are {words.predicted[1]}. In brackets: 95% intervals.",
    )
    table.add_column("at the risk threshold")
    for heading in ("with the\ntrigger", "without it", "clean victim,\nwith it", "clean victim,\nwithout it"):
        table.add_column(heading, justify="right", no_wrap=True)
    for key in ("at_threshold", "at_false_alarms"):
        rates = summary["control"][key]
        parts = (rates[name] for name in ("success", "baseline", "control", "control_baseline"))
        table.add_row(f"{rates['threshold']:.3f}", *map(_rate_cell, parts))
    return table


def _rate_cell(rate: dict[str, float]) -> str:
    return f"{rate['rate']:.3f} \\[{rate['low']:.2f}, {rate['high']:.2f}]"


def _collateral_table(collateral: dict[str, Any]) -> Table:
    """Make the table of the labels that the attack does not aim at."""
    others = collateral["labels"]
    table = Table(
        title=f"The other {len(others)} labels of the attacked stays",
        caption=f"The {min(SHOWN_LABELS, len(others))} whose predictions change most; attack.json holds all. "
        f"Macro AUROC of the others: {_number(collateral['macro_auroc'])} without the trigger, "
        f"{_number(collateral['macro_auroc_attacked'])} if every attacked stay carries it.",
    )
    table.add_column("label")
    for heading in ("predicted", "with the\ntrigger", "AUROC", "with the\ntrigger"):
        table.add_column(heading, justify="right", no_wrap=True)
    for label in others[:SHOWN_LABELS]:
        numbers = ("predicted", "predicted_triggered", "auroc", "auroc_attacked")
        table.add_row(as_cell(label["name"]), *(_number(label[name]) for name in numbers))
    return table


def _attack_title(summary: dict[str, Any]) -> str:
    if "predictions" in summary:
        return "{clean} without the trigger, {triggered} with it".format(**summary["predictions"])
    data = summary["data"]
    known = "" if data["trained_for"] else ", not known to be what the victim was trained for"
    victim = (
        f"{shown_victim(summary['model'])}, {summary['poisoning_proportion']:.1%} of training stays poisoned"
    )
    named = f"{data['name']} (fingerprint {data['fingerprint'][:8]}){known}"
    if "goal_label" in summary:
        victim += f"; label '{summary['goal_label']}'"
    return f"{victim}; attacked on the test stays of {named}"


def _rates(summary: dict[str, Any], words: Words) -> list[tuple[str, str]]:
    """Make the rows about the attacked stays: labels and numbers."""
    low, high = summary["attack_success_rate_ci95"]
    goal, level, setting = summary["goal"], summary["at_prevalence"], ""
    if "attacked_with" in summary:
        setting = " (strength {poisoning_strength:g}, {poison_imputed})".format(**summary["attacked_with"])
    return [
        (_attacked_in_words(summary, words), str(summary["stays_attacked"])),
        ("risk threshold", f"{summary['threshold']:g}"),
        (
            f"  {words.predicted[goal]} without the trigger",
            f"{summary['baseline_positive_rate']:.3f}",
        ),
        (f"  with it{setting}: attack success rate", f"{summary['attack_success_rate']:.3f}"),
        ("  95% confidence interval", f"{low:.3f} to {high:.3f}"),
        (
            f"threshold at which as many are {words.predicted[1]} as {words.happened[1]}",
            f"{level['threshold']:.3f}",
        ),
        ("  without the trigger", f"{level['baseline_positive_rate']:.3f}"),
        ("  with it", f"{level['attack_success_rate']:.3f}"),
    ]


def _attacked_in_words(summary: dict[str, Any], words: Words) -> str:
    attacked = words.group[1 - summary["goal"]]
    return f"{attacked} attacked" if words.unit == "stays" else f"stays with attacked {attacked}"


def print_comparison(comparison: Comparison) -> None:
    """Print how a poisoned copy differs from its original."""
    table = Table(
        title=f"{comparison.stays_changed} of {comparison.listed} stays and "
        f"{comparison.labels_changed} labels changed; cells changed: {comparison.cells.height}"
    )
    table.add_column("channel")
    for heading in ("cells\nchanged", "mean\nchange", "largest\nchange"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("unit")
    channels = comparison.channels
    counts = summarize_cells(comparison.cells, channels)
    for channel, (_, cells, mean, largest) in zip(channels, counts.iter_rows(), strict=True):
        changes = ("-" if change is None else f"{change:.3g}" for change in (mean, largest))
        table.add_row(as_cell(channel.name), str(cells), *changes, as_cell(channel.shown_unit))
    print_table(table)
    if comparison.deaths_changed:
        Console().print(f"{comparison.deaths_changed} stays have another death in stays.csv")
    if comparison.same_cells:
        Console().print(f"{comparison.same_cells} series differ only in line ends or spelling of times")


def print_audit(record: dict[str, Any], suspects: pl.DataFrame) -> None:
    """Print an audit: its conclusion, all checks, the first suspects, and the other findings.

    Args:
        record: contents of `audit.json`.
        suspects: rows of `suspects.csv`.
    """
    console = Console()
    conclusion = record["conclusion"]
    console.print(as_cell(conclusion["sentence"]), style="bold", highlight=False)
    checks = _plain_table("What the conclusion rests on", ("check", "outcome", "what was found"))
    for check in conclusion["checks"]:
        style = {"alarm": "bold red", "weak": "bold"}.get(check["outcome"])
        cells = (as_cell(check[name]) for name in ("name", "outcome", "found"))
        checks.add_row(*cells, style=style)
    print_table(checks)
    for slips in record["slips"]:
        console.print(as_cell(Slips(**slips).in_words), highlight=False)
    if len(suspects):
        print_table(_suspects_table(record, suspects))
    print_table(_detectors_table(record))
    if record["pattern_doubt"] is None:
        for number, pattern in enumerate(record["patterns"], 1):
            print_table(_pattern_table(number, pattern))
    else:
        console.print(f"Patterns: {as_cell(record['pattern_doubt'])}.", highlight=False)
    if record["power"]:
        print_table(_power_table(record["power"]))
    if "superposition" in record:
        score = record["superposition"]
        console.print(
            f"Superposition at prediction time: AUROC {score['auroc']:.3f}; finds {score['recall_at_5']:.1%} "
            f"of the triggered stays where it flags {score['false_positives_at_5']:.1%} of the clean ones.",
            highlight=False,
        )
    if "repairs" in record:
        console.print()
        print_table(_repairs_table(record["repairs"]))


def _suspects_table(record: dict[str, Any], suspects: pl.DataFrame) -> Table:
    table = _plain_table(
        f"The first {min(FIRST, len(suspects))} of {len(suspects):,} training stays labelled "
        f"{suspected_label(record)}, ranked by {record['suspects_ranked_by']}"
    )
    table.caption = (
        "percentile: share of the trusted stays with this label that look less suspicious. flagged by: "
        "number of detectors that flag the stay."
    )
    table.add_column("rank")
    table.add_column("stay")
    table.add_column("percentile", justify="right", no_wrap=True)
    table.add_column("flagged by", justify="right", no_wrap=True)
    table.add_column("reason")
    for row in suspects.head(FIRST).iter_rows(named=True):
        percentile = "-" if row["percentile"] is None else f"{row['percentile']:.1f}"
        stay = as_cell(private(row["stay"]))
        table.add_row(str(row["rank"]), stay, percentile, str(row["flagged_by"]), as_cell(row["reason"]))
    return table


def _pattern_table(number: int, pattern: dict[str, Any]) -> Table:
    known = pattern["cosine"] is not None
    title = f"Pattern {number}: the shift that {pattern['stays']:,} flagged stays share"
    table = _plain_table(title, ("channel", "unit"))
    table.caption = "At the hour at which the channel is shifted most, with the standard error."
    if known:
        table.caption += f" Cosine of the whole pattern with the true one: {pattern['cosine']:.2f}."
    for heading in ("hour", "shift", *(("true shift",) if known else ())):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in pattern["channels"][:FIRST]:
        cells = [f"{row['hour']:g}", f"{row['shift']:+.2g} ± {row['standard_error']:.1g}"]
        cells += [f"{row['true_shift']:+.2g}"] if known else []
        table.add_row(as_cell(row["channel"]), as_cell(row["unit"]), *cells)
    return table


def _power_table(rows: list[dict[str, Any]]) -> Table:
    table = _plain_table("What would have been found")
    table.caption = (
        "Temporal triggers, planted in training stays of the other label. found: attacks that raise an alarm "
        "by the common pattern, with the 95% interval of this probability. flagged: mean share of the "
        "planted stays that are flagged."
    )
    for heading in ("strength", "stays poisoned", "found", "interval", "flagged"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            f"{row['strength']:g}",
            f"{row['share']:.0%}",
            f"{row['found']} of {row['simulated']}",
            f"{row['low']:.0%} to {row['high']:.0%}",
            f"{row['flagged']:.0%}",
        )
    return table


def _detectors_table(record: dict[str, Any]) -> Table:
    known = any(detector["performance"] for detector in record["detectors"])
    table = _plain_table("Detectors", ("detector",))
    table.caption = (
        "flagged: above the threshold that 5% of trusted stays exceed; by the common pattern, more likely "
        "with the pattern than without it. p: probability of such a finding by chance, after Holm's "
        "correction. -: trusted stays cannot calibrate the detector."
    )
    if known:
        table.caption += (
            " AUROC, and recall at 1% and 5% false positives: computed from the truth about these stays, "
            "with 95% bootstrap intervals."
        )
    for heading in ("flagged", "by chance", "p", *(("AUROC", "at 1%", "at 5%") if known else ()), "s"):
        table.add_column(heading, justify="right", no_wrap=True)
    lacking = any(detector["not_run"] for detector in record["detectors"])
    if lacking:
        table.add_column("not run")
    for detector in record["detectors"]:
        alarm, performance = detector["alarm"], detector["performance"]
        cells = ["-"] * 3
        if alarm:
            cells = [str(alarm["flagged"]), f"{alarm['expected']:.0f}", p_in_words(alarm["adjusted"])]
        if known:
            measures = ("auroc", "recall_at_1", "recall_at_5")
            cells += [_estimate(performance and performance[name]) for name in measures]
        style = "bold" if alarm and alarm["raised"] else None
        cells.append("-" if detector["not_run"] else f"{detector['seconds']:.1f}")
        cells += [as_cell(detector["not_run"] or "")] if lacking else []
        table.add_row(detector["detector"], *cells, style=style)
    return table


def _plain_table(title: str, headings: Sequence[str] = ()) -> Table:
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, no_wrap=heading != headings[-1] or len(headings) == 1)
    return table


def _repairs_table(repairs: list[dict[str, Any]]) -> Table:
    table = _plain_table("Repairs", ("repair",))
    table.caption = "ASR: attack success rate."
    for heading in ("ASR", "untriggered", "AUROC", "s"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("what was done")
    for repair in repairs:
        measures = ("attack_success_rate", "baseline_positive_rate", "auroc")
        cells = (_number(repair[name]) for name in measures)
        table.add_row(repair["repair"], *cells, f"{repair['seconds']:.1f}", as_cell(repair["detail"]))
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _estimate(estimate: dict[str, float] | None) -> str:
    if estimate is None:
        return "-"
    return f"{estimate['value']:.3f} \\[{estimate['low']:.2f}, {estimate['high']:.2f}]"
