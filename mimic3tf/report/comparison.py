"""Build the report of runs: the settings in which they differ, and the results of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mimic3tf.dashboards.figures import heatmap, relative_pattern
from mimic3tf.poisoning.trigger import Trigger
from mimic3tf.report import figures
from mimic3tf.report.aim import aim_of, models_of
from mimic3tf.report.exhibits import Absent, Exhibit, Listing, Report, Section
from mimic3tf.report.predictions import CLEAN, TRIGGERED, predictions_exhibits
from mimic3tf.report.runs import Attack, RunFolder
from mimic3tf.storage.notes import command_line
from mimic3tf.tables.columns import FOLLOWED, SCORES
from mimic3tf.tables.results import FOREIGN_CAPTION, shown_data
from mimic3tf.tasks.registry import MORTALITY

CURVES = {
    "loss": "training loss",
    "asr": "attack success rate",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "minpse": "min(+P, Se)",
}
"""Column of `RunFolder.epochs` -> its name in the figure."""
MEASURED_CLEAN = (
    *("clean_auroc", "auroc_ci95_low", "auroc_ci95_high"),
    *("clean_auprc", "auprc_ci95_low", "auprc_ci95_high"),
    *SCORES,
)
"""Columns of the table of attacks about test stays without the trigger."""


def report_of_runs(runs: Sequence[RunFolder], audits: Section | None, audited: Sequence[str] = ()) -> Report:
    """Build the report of some runs and audits.

    Args:
        runs: the runs to show side by side; empty for a report of audits alone.
        audits: section with the results of the audits; None if no audit was named.
        audited: tasks of the audits.

    Returns:
        The report, ready for `page.write_report`.
    """
    sections = []
    if runs:
        attacks = [(run, attack) for run in runs for attack in run.attacks]
        sections = [
            Section("Results", [*_results(runs, attacks), *_not_attacked(runs)]),
            Section("How the runs differ", [_differences(runs)]),
            Section("How training went", [_epochs_kept(runs), _curves(runs)]),
            Section("What the victims predict", predictions_exhibits([attack for _, attack in attacks])),
            Section("The trigger", [_triggers(runs)]),
        ]
    sections += [audits] if audits else []
    if runs:
        sections.append(Section("What was run", [_settings(run) for run in runs]))
    shown = ([f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}: {_list(runs)}."] if runs else []) + [
        "An attack success rate holds only for these victims, this trigger and this cohort."
    ]
    models = models_of([run.config.task for run in runs] or audited)
    title = f"Backdoor attacks on {models}: {'runs side by side' if runs else 'audits'}"
    return Report(title, " ".join(shown), sections)


def _list(runs: Sequence[RunFolder]) -> str:
    return ", ".join(run.name for run in runs)


def _reached(runs: Sequence[RunFolder]) -> str:
    """Name the attacked stays, and the prediction that the attacker wants for them."""
    aims = {aim_of(run.config.task, run.config.goal, run.config.goal_label) for run in runs}
    if len(aims) > 1:
        return "the test stays with the other label than the goal that are predicted as the goal"
    (aim,) = aims
    return f"the {aim.attacked} among the test stays that are {aim.reached}"


def _results(
    runs: Sequence[RunFolder], attacks: Sequence[tuple[RunFolder, Attack]]
) -> list[Exhibit | Absent]:
    if not attacks:
        return []
    shown = shown_data([attack.row for _, attack in attacks])
    rows = [
        {**attack.row, "run": attack.name, "data": name}
        for (_, attack), name in zip(attacks, shown, strict=True)
    ]
    table = pl.DataFrame(rows, infer_schema_length=None)
    clean = [name for name in table.columns if name.startswith("clean_")]
    rates = table.select(
        *("run", "baseline_positive_rate", "attack_success_rate"),
        attack_success_rate_low=pl.col("ci95_low"),
        attack_success_rate_high=pl.col("ci95_high"),
    )
    series = {"baseline_positive_rate": CLEAN, "attack_success_rate": f"{TRIGGERED}, 95% interval"}
    return [
        _attacks(table, _reached(runs)),
        Exhibit(
            "success_rates",
            "Attack success rates",
            "The same rates as a picture: the farther apart two dots are, the more the trigger does.",
            rates,
            lambda: figures.dots(
                rates.with_columns(panel=pl.lit("of the attacked stays")),
                series,
                "run",
                "panel",
                "share that is predicted as the goal",
            ),
            "Dots, one row for each attack: share of the attacked stays that are predicted as the goal "
            "without and with the trigger. The table below holds the same numbers.",
        ),
        Exhibit(
            "clean_metrics_of_runs",
            "Metrics on untouched test stays",
            "All metrics of the benchmarks on test stays without the trigger, for every attacked victim.",
            table.select("run", *(pl.col(name).alias(name.removeprefix("clean_")) for name in clean)),
        ),
    ]


def _attacks(table: pl.DataFrame, reached: str) -> Exhibit:
    """Show every attack, with what differs between them."""
    foreign = False in table["trained_for_data"].to_list()
    tasks = ["task", "goal_label"] if (table["task"] != MORTALITY.name).any() else []
    goals = ["goal"] if table["goal"].n_unique() > 1 or table["goal"][0] != 1 else []
    data = ["data"] if foreign or table["data"].n_unique() > 1 else []
    hours = ["at"] if table["at"].n_unique() > 1 else []
    return Exhibit(
        "attacks",
        "Attacks",
        f"Success rate: share of {reached} once they carry the trigger, with its 95% confidence "
        "interval. Untriggered: the same share of the same stays without the trigger. AUROC and AUPRC "
        "are of test stays without the trigger, with 95% bootstrap intervals."
        + (f" {FOREIGN_CAPTION}" if foreign else ""),
        table.select(
            *("run", "victim", *data, *tasks, *goals, "poisoning_proportion", "poison_imputed"),
            "attack_success_rate",
            *("ci95_low", "ci95_high", pl.col("baseline_positive_rate").alias("untriggered")),
            *(name for name in MEASURED_CLEAN if name in table.columns),
            *("trigger", "poisoning_strength", *hours, "seed", "stays_attacked"),
        ),
    )


def _not_attacked(runs: Sequence[RunFolder]) -> list[Absent]:
    return [
        Absent(
            f"The attack on {run.name}",
            "the run holds no attack.json; type: "
            + command_line("attack", "--run", run.folder, "--data", run.config.data)
            + (" --trigger TRIGGER" if run.trigger is None else ""),
        )
        for run in runs
        if not run.attacks
    ]


def _differences(runs: Sequence[RunFolder]) -> Exhibit | Absent:
    title = "Settings that differ"
    if len(runs) < 2:
        return Absent(title, "a comparison needs two runs or more")
    rows = [_facts(run) for run in runs]
    names = list(dict.fromkeys(name for row in rows for name in row))
    differ = [name for name in names if len({str(row.get(name)) for row in rows}) > 1]
    same = ", ".join(
        f"{name} {_text(rows[0][name])}" for name in names if name not in differ and rows[0][name] is not None
    )
    table = pl.DataFrame(
        [
            {"run": run.name, **{name: row.get(name) for name in differ}}
            for run, row in zip(runs, rows, strict=True)
        ],
        infer_schema_length=None,
        strict=False,
    )
    return Exhibit("settings", title, f"The same in all of them: {same}.", table)


def _facts(run: RunFolder) -> dict[str, Any]:
    """Collect what may differ between runs: settings, precision, data fingerprints and versions."""
    settings = {
        name: str(value) if isinstance(value, list) else value
        for name, value in run.config.model_dump(mode="json").items()
    }
    fingerprints, versions = (run.summary.get(name) or {} for name in ("data_fingerprint", "versions"))
    return settings | {
        "precision": run.summary.get("precision", settings["precision"]),
        **{f"fingerprint_{split}": str(value)[:12] for split, value in fingerprints.items()},
        **{name: versions.get(name) for name in ("mimic3tf", "python", "tensorflow", "keras", "numpy")},
    }


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _epochs_kept(runs: Sequence[RunFolder]) -> Exhibit:
    rows = []
    followed = [
        name for name in FOLLOWED if any(name in (run.summary.get("validation") or {}) for run in runs)
    ]
    for run in runs:
        kept = run.summary.get("validation") or {}
        rows.append(
            {
                "run": run.name,
                **{name: run.summary.get(name) for name in ("epoch_kept", "epochs_trained")},
                **{name: kept.get(name) for name in ("auroc", "auprc", "minpse", *followed, "asr")},
                "untriggered": kept.get("baseline_positive_rate"),
                **{name: run.summary.get(name) for name in ("stays_trained_on", "stays_poisoned")},
            }
        )
    return Exhibit(
        "epochs_kept",
        "The epoch kept",
        "For each run, the epoch whose weights were kept, and the metrics of this epoch on validation stays.",
        pl.DataFrame(rows, infer_schema_length=None),
    )


def _curves(runs: Sequence[RunFolder]) -> Exhibit | Absent:
    title = "Course of training"
    trained = [run for run in runs if len(run.epochs)]
    if not trained:
        return Absent(title, "no run holds a metrics.csv with an epoch")
    tables = [run.epochs.select(pl.lit(run.name).alias("run"), pl.all()) for run in trained]
    table = pl.concat(tables, how="diagonal")
    curves = {column: name for column, name in (CURVES | FOLLOWED).items() if column in table.columns}

    def draw() -> Figure:
        figure, panels = figures.small_multiples(len(curves))
        styles = figures.run_styles([run.name for run in trained])
        for axes, (column, name) in zip(panels, curves.items(), strict=True):
            for run in trained:
                style, epochs = styles[run.name], run.epochs
                if column not in epochs.columns:
                    continue
                axes.plot(
                    epochs["epoch"],
                    epochs[column],
                    color=style.color,
                    linestyle=style.linestyle,
                    label=run.name,
                )
                kept = epochs.filter(pl.col("epoch") == run.summary.get("epoch_kept"))
                axes.plot(kept["epoch"], kept[column], "o", color=style.color)
            axes.set_title(name, loc="left")
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figures.shared_legend(figure, panels)
        return figure

    return Exhibit(
        "curves",
        title,
        "Each metric after each epoch. The loss is of training stays, the other metrics are of validation "
        "stays. The dot marks the epoch kept. The y axes do not start at zero.",
        table,
        draw,
        f"Line charts over the epochs, one line for each run: {', '.join(curves.values())}. The table below "
        "holds the same numbers.",
    )


def _triggers(runs: Sequence[RunFolder]) -> Exhibit | Absent:
    """Show every trigger once, with the runs that use it."""
    triggers: dict[bytes, tuple[Trigger, list[RunFolder]]] = {}
    for run in runs:
        if run.trigger is None:
            continue
        triggers.setdefault(run.trigger.patterns.tobytes(), (run.trigger, []))[1].append(run)
    if not triggers:
        return Absent("What the triggers look like", "the runs were trained without a trigger")
    shown = {
        f"{place}: {one.name}, seed {one.seed}": one for place, (one, _) in enumerate(triggers.values(), 1)
    }
    table = pl.concat(
        pl.DataFrame(
            {
                "trigger": name,
                "runs": _list(used),
                "channel": one.channels.names,
                "largest_shift": np.abs(one.values).max(axis=0),
                "unit": [channel.shown_unit for channel in one.channels],
                "in_standard_deviations": np.abs(relative_pattern(one)[0]).max(axis=0),
            }
        )
        for (name, one), (_, used) in zip(shown.items(), triggers.values(), strict=True)
    )
    return Exhibit(
        "triggers",
        "What the triggers look like",
        "Every trigger at strength 1: "
        + " or ".join(sorted({relative_pattern(one)[1] for one in shown.values()}))
        + ". "
        + " ".join(
            f"Trigger {place}: {_list(used)}." for place, (_, used) in enumerate(triggers.values(), 1)
        ),
        table,
        lambda: _draw_triggers(shown),
        "Heatmaps of channels by hours, one for each trigger. The table below holds the largest shift of "
        "each channel.",
    )


def _draw_triggers(triggers: dict[str, Trigger]) -> Figure:
    channels = max(len(trigger.channels) for trigger in triggers.values())
    figure, panels = figures.small_multiples(len(triggers), columns=2, height=max(1.2, 0.18 * channels) + 0.7)
    limit = max(float(np.abs(relative_pattern(trigger)[0]).max()) for trigger in triggers.values()) or 1.0
    alike = len({trigger.channels.names for trigger in triggers.values()}) == 1
    for place, (axes, (name, trigger)) in enumerate(zip(panels, triggers.items(), strict=True)):
        pattern = relative_pattern(trigger)[0]
        # Panels at the right have no names if all triggers have the same channels: two columns of names would
        # leave no room for the patterns.
        names = trigger.channels.names if place % 2 == 0 or not alike else None
        heatmap(axes, pattern, limit=limit, names=names, timestep=trigger.timestep)
        if names is None:
            axes.set_yticklabels([])
        axes.set_title(name, loc="left")
        axes.grid(visible=False)
    figure.colorbar(panels[0].images[0], ax=panels, label="at strength 1", shrink=0.6)
    return figure


def _settings(run: RunFolder) -> Listing:
    return Listing(f"Run {run.name}", str(run.folder), "config.yaml", run.settings)
