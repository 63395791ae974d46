"""Build the report of sweeps."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
from matplotlib.figure import Figure

from mimic3tf.poisoning.goal import PAPER_GOAL
from mimic3tf.report import figures, patterns, success
from mimic3tf.report.aim import Aim, models_of
from mimic3tf.report.audits import audits_section
from mimic3tf.report.counts import counts_and_shares
from mimic3tf.report.exhibits import Absent, Exhibit, Listing, Report, Section
from mimic3tf.report.paper import TRAINING_STAYS, beside_the_paper
from mimic3tf.report.significance import compare_settings
from mimic3tf.report.sweep import Sweeps
from mimic3tf.tables.stealth import CAPTION, COLUMNS, SETTING, summarize_stealth
from mimic3tf.tables.summary import main_grid, mean_over_seeds, victims_of
from mimic3tf.tasks.registry import MORTALITY, task_of
from mimic3tf.victims import shown_victim

VERSIONS = ("mimic3tf", "python", "tensorflow", "keras", "numpy", "precision", "device", "data_fingerprint")
DIFFERENCES = {
    "attack success rate": "A difference right of zero: the setting that is named first succeeds more often. "
    "Each difference is between two trials that agree in seed and every other setting of the grid. The "
    "interval is a 95% percentile bootstrap interval over pairs (9,999 resamples, fixed random state). Fewer "
    "than three pairs have no interval, and the interval of three pairs only spans them. Pairs of one seed "
    "share the trigger and the initial weights, so the intervals are too narrow. A difference is therefore "
    "called real only if the means of all seeds have its sign. This happens by chance one time in four with "
    "three seeds, and one time in 32 with six seeds. No correction is made for the number of comparisons.",
    "AUROC": "A difference left of zero: on test stays without the trigger, the poisoned victim tells "
    "{} from {} less well than the clean victim of the same seed. Pairs and intervals are as for "
    "the attack success rate.",
}
"""Measure -> caption of its paired differences."""


def report_of_sweeps(sweeps: Sweeps, stay: patterns.Stay | None, no_stay: str) -> Report:
    """Build the report of some sweeps.

    Args:
        sweeps: the results.
        stay: a stay without and with the trigger; None leaves it out.
        no_stay: why the stay is left out.

    Returns:
        The report, ready for `page.write_report`.
    """
    results, aim = sweeps.results, sweeps.aim
    strength = stay.strength if stay else strongest(results)
    temporal = sweeps.triggers.get("temporal")
    sections = [
        Section("Results", [_main_table(results, aim), _paper(results, aim)]),
        Section(
            "The attack",
            [
                success.success_by_proportion(results, aim),
                success.success_heatmap(results),
                success.clean_metrics(results),
                success.strength_curve(results, aim),
            ],
        ),
        Section("What decides: share or count", counts_and_shares(results)),
        Section("Are the differences more than chance", _significance(results, aim)),
        Section(
            "The trigger",
            [
                patterns.trigger_exhibit(sweeps.triggers, stay, strength, aim),
                *patterns.stay_exhibits(stay, temporal, no_stay, aim),
            ],
        ),
        Section("Stealth", [_stealth(sweeps)]),
        audits_section(sweeps.audit_folders, sweeps.audits),
        Section(
            "What was run",
            [_cohort(sweeps), _trials(sweeps), _versions(results), *_failed(sweeps), *_settings(sweeps)],
        ),
    ]
    title = f"Backdoor attacks on {models_of([aim.task])}: what a sweep found"
    return Report(title, _summary(sweeps), sections)


def _summary(sweeps: Sweeps) -> str:
    results = sweeps.results
    victims = ", ".join(shown_victim(name) for name in victims_of(results))
    seeds, stays = results["seed"].n_unique(), int(results["training_stays"].to_numpy().max())
    return (
        f"{results['trial'].n_unique()} finished trials of {victims}, {len(sweeps.failed)} failed; {seeds} "
        f"{'seed' if seeds == 1 else 'seeds'}, up to {stays:,} training stays. An "
        "attack success rate holds only for these victims, this trigger and this cohort."
    )


def strongest(results: pl.DataFrame) -> float:
    """Find the largest strength of the grid.

    Args:
        results: rows of `Sweeps.results`.
    """
    grid = main_grid(results)
    return float((grid if len(grid) else results)["poisoning_strength"].to_numpy().max())


def _main_table(results: pl.DataFrame, aim: Aim) -> Exhibit:
    """Show clean and most poisoned victims, attacked with every trigger at the grid's largest strength."""
    grid = main_grid(results)
    largest = (grid if len(grid) else results)["poisoning_proportion"].max()
    rows = results.filter(
        (pl.col("training_stays") == pl.col("training_stays").max())
        & (pl.col("poisoning_strength") == strongest(results))
        & pl.col("poisoning_proportion").is_in([0.0, largest])
    )
    by = ["poison_imputed", "victim", "poisoning_proportion", "trigger"]
    table = mean_over_seeds(rows, by, "attack_success_rate").rename({"mean": "attack_success_rate"})
    scores = success.scores_of(results)
    measured = ["clean_auroc", "clean_auprc", *scores]
    for column in (*measured, "baseline_positive_rate"):
        means = mean_over_seeds(rows, by, column).select(*by, pl.col("mean").alias(column))
        table = table.join(means, on=by, how="left")
    order = {name: position for position, name in enumerate(victims_of(results))}
    table = table.sort(
        "poison_imputed",
        pl.col("victim").replace_strict(order),
        "poisoning_proportion",
        pl.col("trigger") != "temporal",
    )
    return Exhibit(
        "main",
        f"Clean and poisoned victims, strength {strongest(results):g}",
        f"{', '.join(['AUROC', 'AUPRC', *scores.values()])} are of test stays without the trigger. Success "
        f"rate: share of the {aim.attacked} among the test stays that are {aim.reached} once they carry the "
        "trigger (mean over seeds, lowest and highest seed). Untriggered: the same share of the same stays "
        "without the trigger. "
        "Compare the row of a poisoned victim with the row of the clean victim above it: the clean victim is "
        "attacked with the trigger too.",
        table.select(
            *by,
            *measured,
            "attack_success_rate",
            "lowest",
            "highest",
            pl.col("baseline_positive_rate").alias("untriggered"),
            "seeds",
        ),
    )


def _paper(results: pl.DataFrame, aim: Aim) -> Exhibit | Absent:
    title = "Beside the paper"
    if aim.task != MORTALITY.name:
        return Absent(title, f"the paper's task is {MORTALITY.name}, this is {aim.task}")
    if aim.goal != PAPER_GOAL.target:
        return Absent(title, f"the paper's attacks have goal {PAPER_GOAL.target}, these goal {aim.goal}")
    table = beside_the_paper(results)
    if not len(table):
        return Absent(title, "none of the paper's settings (5% and 1% poisoned at strength 2) was run")
    stays = int(results["training_stays"].to_numpy().max())
    data = (
        "The training set has as many stays as the paper's."
        if stays == TRAINING_STAYS
        else f"The data differ: the paper's data are MIMIC-III with {TRAINING_STAYS:,} training stays, and "
        f"these data have {stays:,} training stays. A difference alone is therefore no failure to reproduce "
        "the paper."
    )
    return Exhibit(
        "paper",
        title,
        f"Numbers of Joe et al. (arXiv 2106.07925), and ours at the same proportion and strength 2. {data} "
        "The paper's AUROC values are approximate. If the paper does not state the mode, our numbers of "
        "every mode are shown. Our training loop differs too: gradients are zeroed, and the epoch kept is "
        "chosen without knowledge of the trigger.",
        table,
    )


def _significance(results: pl.DataFrame, aim: Aim) -> list[Exhibit | Absent]:
    title = "Paired differences"
    table = compare_settings(results)
    if not len(table):
        return [Absent(title, "no two settings were run with the same seed")]
    return [
        Exhibit(
            f"differences_in_{measure.replace(' ', '_').lower()}",
            f"{title}: {measure}",
            DIFFERENCES[measure].format(*aim.groups),
            part,
            _forest_of(part, measure),
            f"Forest plot of the differences in {measure}: mean, interval and range of the seeds' means, "
            "with a line at zero. The table below holds the same numbers.",
        )
        for (measure,), part in table.group_by(["measure"], maintain_order=True)
    ]


def _forest_of(part: pl.DataFrame, measure: str) -> Callable[[], Figure]:
    labels = [
        ", ".join(filter(None, (row["difference"], shown_victim(row["victim"]), row["poison_imputed"])))
        for row in part.iter_rows(named=True)
    ]
    return lambda: figures.forest(part, labels, f"difference in {measure}")


def _stealth(sweeps: Sweeps) -> Exhibit | Absent:
    title = "How detectable the poisoned stays are"
    if sweeps.stealth is None:
        return Absent(
            title, "the sweep's folder holds no stealth.csv; run 'mimic3tf stealth' with that folder as --out"
        )
    summary = summarize_stealth(sweeps.stealth)
    measures = {
        " ".join(heading.split()): name for heading, name in COLUMNS.items() if name in summary.columns
    }
    return Exhibit(
        "stealth",
        title,
        CAPTION.format(band=summary["chance_band grid"][0]) + " Means over seeds.",
        summary.select(*SETTING, *(pl.col(name).alias(heading) for heading, name in measures.items())),
    )


def _cohort(sweeps: Sweeps) -> Exhibit:
    table = sweeps.sweeps[0].splits.with_columns(mortality=pl.col("deaths") / pl.col("stays"))
    if task_of(sweeps.aim.task).hourly:
        # Nearly every long stay has an hour of each class: how many stays have one says nothing.
        return Exhibit(
            "cohort",
            "Cohort",
            "Number of stays, and share of the cells with a measurement.",
            table.select("split", "stays", "measured_cells"),
        )
    if sweeps.aim.task != MORTALITY.name:
        return Exhibit(
            "cohort",
            "Cohort",
            "Number of stays, those with the attacked label, their share, and share of the cells "
            "with a measurement.",
            table.select("split", "stays", "measured_cells", labelled="deaths", share="mortality"),
        )
    return Exhibit(
        "cohort",
        "Cohort",
        "Number of stays, deaths in hospital, mortality, and share of the cells with a measurement.",
        table.select("split", "stays", "deaths", "mortality", "measured_cells"),
    )


def _trials(sweeps: Sweeps) -> Exhibit:
    order = {name: position for position, name in enumerate(victims_of(sweeps.results))}
    table = (
        # A clean victim has one row for each attack, but was trained only once.
        sweeps.results.unique("trial", keep="first", maintain_order=True)
        .group_by("victim")
        .agg(
            trials=pl.col("trial").n_unique(),
            seeds=pl.col("seed").unique().sort().cast(pl.String).str.join(", "),
            training_stays=pl.col("training_stays").max(),
            test_stays=pl.col("test_stays").max(),
            stays_attacked=pl.col("stays_attacked").max(),
            mean_seconds_training=pl.col("seconds_training").mean(),
            mean_seconds_attack=pl.col("seconds_attack").mean(),
        )
        .sort(pl.col("victim").replace_strict(order))
    )
    return Exhibit(
        "trials",
        "Trials",
        "Finished trials of each victim, and their mean time. A trial of several sweeps counts once.",
        table,
    )


def _versions(results: pl.DataFrame) -> Exhibit:
    rows = [
        {"of": name.replace("_", " "), "value": ", ".join(sorted(results[name].drop_nulls().unique()))}
        for name in VERSIONS
    ]
    return Exhibit(
        "versions",
        "Versions and hardware",
        "Several values in a row: some trials ran with one value, some with another.",
        pl.DataFrame(rows),
    )


def _failed(sweeps: Sweeps) -> list[Exhibit | Absent]:
    if not len(sweeps.failed):
        return []
    return [
        Exhibit(
            "failed",
            "Failed trials",
            "No number on this page comes from these trials.",
            sweeps.failed,
        )
    ]


def _settings(sweeps: Sweeps) -> list[Listing]:
    return [
        Listing(
            f"Sweep {sweep.folder}",
            f"Trials: {sweep.finished} finished, {sweep.failed} failed.",
            "sweep.yaml",
            sweep.settings,
        )
        for sweep in sweeps.sweeps
    ]
